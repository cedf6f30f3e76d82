use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::value::{Map, Value};
use super::{
    Classes, Connection, Endpoint, Error, Location, OnError, Problem, Problems, SettingsError,
    Wiring, json, read, write, yaml,
};

/// A graph as it stands in a file: its nodes, and how they are connected.
///
/// What is written is read again as the same graph. Comments of a file are not kept.
///
/// # Examples
///
/// ```
/// use msgproc::flow::file::GraphFile;
///
/// let graph = GraphFile::from_yaml("
/// nodes:
///   camera: {class: Camera, settings: {fps: 30}}
///   view: {class: View}
/// connections: [camera.frames -> view]
/// ")?;
/// assert_eq!(graph.nodes[0].name, "camera");
/// assert_eq!(GraphFile::from_json(&graph.to_json()?)?, graph);
///
/// let wrong = GraphFile::from_yaml("nodes:\n  camera: {clas: Camera}\n").unwrap_err();
/// assert!(wrong.to_string().contains("line 2: node \"camera\" knows no \"clas\"; did you mean \"class\"?"));
/// # Ok::<(), msgproc::flow::file::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct GraphFile {
    /// The nodes; no two have the same name.
    pub nodes: Vec<Node>,
    /// The connections.
    pub connections: Vec<Connection>,
    pub(super) path: Option<PathBuf>,
}

/// Two are equal when they say the same, whichever file they come from.
impl PartialEq for GraphFile {
    fn eq(&self, other: &Self) -> bool {
        (&self.nodes, &self.connections) == (&other.nodes, &other.connections)
    }
}

/// A node as it stands in a file.
#[derive(Clone, Debug)]
pub struct Node {
    /// How it is called; unique in its graph, and of 255 bytes at most in a file.
    pub name: String,
    /// The name of its type; of 255 bytes at most in a file.
    pub class: String,
    /// What its type takes.
    pub settings: Map,
    /// Where it computes; for several workers it may be a location each. None is where the graph
    /// runs.
    pub compute_on: Vec<Location>,
    /// How many do its work.
    pub workers: Option<NonZeroUsize>,
    /// Whether the results of several workers keep the order of their items.
    pub ordered: bool,
    /// What is done when it fails on an item.
    pub on_error: OnError,
    pub(super) line: Option<u32>,
}

/// Two are equal when they say the same, wherever they stand.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        let how = |of: &Self| (of.workers, of.ordered, of.on_error);
        (&self.name, &self.class, &self.settings) == (&other.name, &other.class, &other.settings)
            && self.compute_on == other.compute_on
            && how(self) == how(other)
    }
}

impl Node {
    /// A node with a name and the name of its type.
    pub fn new(name: impl Into<String>, class: impl Into<String>) -> Self {
        Node {
            name: name.into(),
            class: class.into(),
            settings: Map::default(),
            compute_on: Vec::new(),
            workers: None,
            ordered: false,
            on_error: OnError::default(),
            line: None,
        }
    }

    /// Sets one of its settings.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key, value);
        self
    }

    /// Adds a location.
    pub fn on(mut self, location: Location) -> Self {
        self.compute_on.push(location);
        self
    }

    /// The line of the file it was read from, counted from 1.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// How many do its work: what it says, or one for each location.
    pub fn worker_count(&self) -> usize {
        self.workers.map_or(self.compute_on.len().max(1), NonZeroUsize::get)
    }

    /// Where the worker of this number computes.
    pub fn location_of(&self, worker: usize) -> Location {
        let own =
            if let [all] = &self.compute_on[..] { Some(all) } else { self.compute_on.get(worker) };
        own.cloned().unwrap_or_default()
    }

    /// Makes a type of its settings.
    ///
    /// # Errors
    ///
    /// Says which setting of which node does not fit, and on which line it stands.
    ///
    /// # Examples
    ///
    /// ```
    /// use msgproc::flow::file::Node;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Camera {
    ///     fps: u32,
    /// }
    ///
    /// let camera: Camera = Node::new("left", "Camera").set("fps", 30).parse_settings()?;
    /// assert_eq!(camera.fps, 30);
    ///
    /// let node = Node::new("left", "Camera").set("fps", "fast");
    /// let error = node.parse_settings::<Camera>().err().unwrap();
    /// assert_eq!((error.node(), error.key()), (Some("left"), "fps".to_owned()));
    /// # Ok::<(), msgproc::flow::file::SettingsError>(())
    /// ```
    pub fn parse_settings<S: DeserializeOwned>(&self) -> Result<S, SettingsError> {
        self.settings.parse().map_err(|error: SettingsError| error.of_node(&self.name, self.line))
    }
}

impl GraphFile {
    /// A graph without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node.
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// Adds a connection.
    pub fn connect(mut self, from: Endpoint, to: Endpoint) -> Self {
        self.connections.push(Connection::new(from, to));
        self
    }

    /// Reads YAML.
    ///
    /// # Errors
    ///
    /// Says all that is wrong, with lines.
    pub fn from_yaml(text: &str) -> Result<Self, Problems> {
        let (graph, problems) = read::graph(yaml::parse(text));
        Problems::or(problems, None, graph)
    }

    /// Reads JSON.
    ///
    /// # Errors
    ///
    /// Says all that is wrong, with lines.
    pub fn from_json(text: &str) -> Result<Self, Problems> {
        let (graph, problems) = read::graph(json::parse(text));
        Problems::or(problems, None, graph)
    }

    /// Reads the file, which is YAML or JSON by its name.
    ///
    /// # Errors
    ///
    /// If it cannot be read; says all that is wrong in it, with lines.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let (graph, problems) = Self::open(path)?;
        Ok(Problems::or(problems, Some(path), graph)?)
    }

    /// Reads the file and checks it, so that all that is wrong is told at once.
    ///
    /// # Errors
    ///
    /// Those of [`load`](Self::load) and [`check`](Self::check).
    pub fn load_checked(
        path: impl AsRef<Path>,
        classes: &dyn Classes,
    ) -> Result<(Self, Wiring), Error> {
        let path = path.as_ref();
        let (graph, mut problems) = Self::open(path)?;
        let (wiring, _) = super::check::check(&graph, classes, &mut problems);
        Ok(Problems::or(problems, Some(path), (graph, wiring))?)
    }

    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Problem>), Error> {
        let is_json = is_json(path)?;
        let text = fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let value = if is_json { json::parse(&text) } else { yaml::parse(&text) };
        let (mut graph, problems) = read::graph(value);
        graph.path = Some(path.to_owned());
        Ok((graph, problems))
    }

    /// The graph as YAML.
    pub fn to_yaml(&self) -> String {
        write::yaml(&write::graph(self))
    }

    /// The graph as JSON.
    ///
    /// # Errors
    ///
    /// If a setting is a number that JSON has not: infinite, or none.
    pub fn to_json(&self) -> Result<String, Problems> {
        let (text, problems) = write::json(self);
        Problems::or(problems, None, text)
    }

    /// Writes the file, as YAML or JSON by its name.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or those of [`to_json`](Self::to_json).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let text = if is_json(path)? { self.to_json()? } else { self.to_yaml() };
        fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    /// Holds the graph against the classes of the program, and says how the ports are wired.
    ///
    /// # Errors
    ///
    /// Says all that is wrong: nodes of the same name, unknown classes, hosts, nodes and ports,
    /// two connections into one input, items that the other end does not take, inputs that must be
    /// connected and are not, cycles without feedback.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use msgproc::flow::file::{ClassInfo, GraphFile};
    ///
    /// let classes = BTreeMap::from([
    ///     ("Camera".to_owned(), ClassInfo::new().output("frames", "Frame")),
    ///     ("View".to_owned(), ClassInfo::new().input("in", "Frame")),
    /// ]);
    /// let mut graph = GraphFile::from_yaml("
    /// nodes:
    ///   camera: {class: Camera}
    ///   view: {class: View}
    /// connections:
    ///   - camera -> view
    /// ")?;
    /// let wiring = graph.check(&classes)?;
    /// assert_eq!(wiring.wires.len(), 1);
    ///
    /// graph.connections[0].from.node = "camara".into();
    /// let wrong = graph.check(&classes).unwrap_err().to_string();
    /// assert!(wrong.contains("there is no node \"camara\"; did you mean \"camera\"?"));
    /// # Ok::<(), msgproc::flow::file::Problems>(())
    /// ```
    pub fn check(&self, classes: &dyn Classes) -> Result<Wiring, Problems> {
        let mut problems = Vec::new();
        let (wiring, _) = super::check::check(self, classes, &mut problems);
        Problems::or(problems, self.path.as_deref(), wiring)
    }

    /// The node of this name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

fn is_json(path: &Path) -> Result<bool, Error> {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    match extension.as_ref().and_then(|extension| extension.to_str()) {
        Some("json") => Ok(true),
        Some("yaml" | "yml") => Ok(false),
        _ => Err(Error::Extension { path: path.to_owned() }),
    }
}
