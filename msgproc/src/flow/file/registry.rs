//! The node types of a program.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::check::check;
use super::{
    ClassInfo, Classes, Error, GraphFile, Loaded, Node as FileNode, Problem, Problems,
    SettingsError,
};
use crate::flow::{Cause, Graph, Node, WorkerInfo};

/// The node types of a program, all over one type of items: what graph files are made of.
///
/// A class has a name, ports, and a constructor that makes a node from its settings. The node is
/// told the input an item came at by [`svc_on`](Node::svc_on), and sends from an output by
/// [`send_on`](crate::flow::Outlet::send_on), both numbered as the ports of the class are.
///
/// The items are most often an enum. The names of items that the ports declare are compared when a
/// file is checked, so that a node meets only the variants that it takes.
///
/// A constructor is called when a file is checked, to see whether the settings are right, and again
/// for each worker where that runs. So it must not take what is there once, such as a device:
/// [`svc_init`](Node::svc_init) is for that.
///
/// # How a graph of a file runs
///
/// - A node computes where `compute_on` says: `""` is the thread that runs the graph, `"1"` a thread
///   of this program, `"2:1"` the thread 1 of a process, `"2:"` its main thread. `0` is this program,
///   or a main thread. `"task"` is the thread with the runtime of tokio's (`Placement::Task`, feature
///   `tokio`; without it, a thread with that name).
/// - A node ends when all inputs have ended that it requires, or all, if it requires none.
/// - `sticky` connections lead to joins only.
/// - `feedback` leads back to a node further up, at an input of its own. `credits` says how many
///   items may be on their way in the cycle at a time: while so many are, nothing new comes in. What
///   comes back ends when nothing comes from outside any more and nothing is on its way. See
///   [`EdgeBuilder::feedback`](crate::flow::EdgeBuilder::feedback) for what a cycle asks of its nodes.
///
/// # Examples
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use msgproc::flow::{each, file::{ClassInfo, GraphFile, Registry}, map, source};
///
/// #[derive(serde::Deserialize)]
/// struct Count { to: u64 }
///
/// let sums = Arc::new(Mutex::new(0));
/// let copy = sums.clone();
/// let registry = Registry::<u64>::new()
///     .source("Count", ClassInfo::new().output("out", "Number"), |making| {
///         let Count { to } = making.settings()?;
///         Ok(source(0..to))
///     })
///     .node("Square", ClassInfo::new().input("in", "Number").output("out", "Number"), |_| {
///         Ok(map(|n: u64| n * n))
///     })
///     .sink("Sum", ClassInfo::new().input("in", "Number"), move |_| {
///         let sums = copy.clone();
///         Ok(each(move |n: u64| *sums.lock().unwrap() += n))
///     });
/// let graph = registry.check(GraphFile::from_yaml("
/// nodes:
///   numbers: {class: Count, settings: {to: 5}}
///   squares: {class: Square, compute_on: '1'}
///   sum: {class: Sum}
/// connections:
///   - numbers -> squares
///   - squares -> sum
/// ")?)?;
/// graph.run()?;
/// graph.run()?;
/// assert_eq!(*sums.lock().unwrap(), 2 * 30);
///
/// let wrong = "nodes:\n  numbers: {class: Count, settings: {to: many}}\n";
/// let wrong = registry.check(GraphFile::from_yaml(wrong)?).unwrap_err();
/// assert!(wrong.to_string().contains("line 2: setting to of node \"numbers\""), "{wrong}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Registry<T> {
    classes: BTreeMap<String, Arc<Class<T>>>,
}

/// A class: its ports, and how its nodes are made.
pub(super) struct Class<T> {
    pub(super) info: ClassInfo,
    pub(super) make: Make<T>,
    /// Whether it is a join: it keeps the last items of sticky inputs, and knows itself when it has
    /// ended.
    pub(super) joins: bool,
    /// Whether its nodes keep items that they have taken.
    pub(super) keeps: bool,
}

/// A node of a class.
pub(super) type Boxed<I, O> = Box<dyn Node<In = I, Out = O>>;

/// What makes one.
pub(super) type Maker<I, O> = Arc<dyn Fn(&Making<'_>) -> Result<Boxed<I, O>, Cause> + Send + Sync>;

pub(super) enum Make<T> {
    Source(Maker<(), T>),
    Node(Maker<T, T>),
    Sink(Maker<T, ()>),
}

/// A node that is being made: what its constructor is told.
#[derive(Debug)]
pub struct Making<'a> {
    pub(super) node: &'a FileNode,
    pub(super) info: &'a ClassInfo,
    pub(super) worker: &'a WorkerInfo,
    pub(super) inputs: &'a [Connected],
}

/// How an input is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Connected {
    No,
    Yes,
    Sticky,
}

impl Making<'_> {
    /// The settings of the node, as a type of its own.
    ///
    /// # Errors
    ///
    /// Says which setting does not fit, and on which line it stands.
    pub fn settings<S: DeserializeOwned>(&self) -> Result<S, SettingsError> {
        self.node.parse_settings()
    }

    /// The node as it stands in the file.
    pub fn node(&self) -> &FileNode {
        self.node
    }

    /// Which worker of the node this is.
    pub fn worker(&self) -> &WorkerInfo {
        self.worker
    }

    /// Whether a connection leads to the input of this name.
    pub fn is_connected(&self, input: &str) -> bool {
        let mut inputs = self.info.inputs.iter().zip(self.inputs);
        inputs.any(|(port, connected)| port.name == input && *connected != Connected::No)
    }
}

impl<T> Registry<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
{
    /// A registry without classes.
    pub fn new() -> Self {
        Registry { classes: BTreeMap::new() }
    }

    /// Adds a class of nodes that make items.
    ///
    /// # Panics
    ///
    /// If there is a class of this name, or the class has inputs.
    pub fn source<N, F>(self, name: &str, info: ClassInfo, make: F) -> Self
    where
        N: Node<In = (), Out = T>,
        F: Fn(&Making<'_>) -> Result<N, Cause> + Send + Sync + 'static,
    {
        assert!(info.inputs.is_empty(), "class {name:?} is a source and has inputs");
        self.add(name, info, Make::Source(boxed(make)), (false, N::keeps_items()))
    }

    /// Adds a class of nodes that take items and send some.
    ///
    /// # Panics
    ///
    /// If there is a class of this name, or the class has no inputs.
    pub fn node<N, F>(self, name: &str, info: ClassInfo, make: F) -> Self
    where
        N: Node<In = T, Out = T>,
        F: Fn(&Making<'_>) -> Result<N, Cause> + Send + Sync + 'static,
    {
        assert!(!info.inputs.is_empty(), "class {name:?} has no inputs and is no source");
        self.add(name, info, Make::Node(boxed(make)), (false, N::keeps_items()))
    }

    /// Adds a class of nodes that take items and send none.
    ///
    /// # Panics
    ///
    /// If there is a class of this name, or the class has no inputs, or has outputs.
    pub fn sink<N, F>(self, name: &str, info: ClassInfo, make: F) -> Self
    where
        N: Node<In = T, Out = ()>,
        F: Fn(&Making<'_>) -> Result<N, Cause> + Send + Sync + 'static,
    {
        assert!(!info.inputs.is_empty(), "class {name:?} has no inputs and is a sink");
        assert!(info.outputs.is_empty(), "class {name:?} is a sink and has outputs");
        self.add(name, info, Make::Sink(boxed(make)), (false, N::keeps_items()))
    }

    pub(super) fn add(
        mut self,
        name: &str,
        info: ClassInfo,
        make: Make<T>,
        (joins, keeps): (bool, bool),
    ) -> Self {
        let class = Arc::new(Class { info, make, joins, keeps });
        let before = self.classes.insert(name.to_owned(), class);
        assert!(before.is_none(), "class {name:?} was added before");
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Class<T>>> {
        self.classes.get(name)
    }

    /// Reads a graph file and checks it. What it gives can be run, as often as one likes.
    ///
    /// # Errors
    ///
    /// If the file cannot be read; says all that is wrong in it, with lines and nodes.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Loaded<T>, Error> {
        let (file, problems) = GraphFile::open(path.as_ref())?;
        Ok(self.checked(file, problems)?)
    }

    /// Checks a graph. What it gives can be run, as often as one likes.
    ///
    /// # Errors
    ///
    /// Says all that is wrong, as [`GraphFile::check`] does, and whose settings are not right.
    pub fn check(&self, file: GraphFile) -> Result<Loaded<T>, Problems> {
        self.checked(file, Vec::new())
    }

    /// Makes a graph of a file; [`check`](Self::check) gives one that can be run more than once.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub fn graph(&self, file: &GraphFile) -> Result<Graph, Problems> {
        Ok(self.check(file.clone())?.graph())
    }

    fn checked(&self, file: GraphFile, mut problems: Vec<Problem>) -> Result<Loaded<T>, Problems> {
        let is_read = problems.is_empty();
        let (wiring, inputs) = check(&file, self, &mut problems);
        let path = file.path.clone();
        // What could not be read may have been connections.
        let inputs = is_read.then_some(&inputs[..]);
        let loaded = Loaded::new(self, file, wiring, inputs, &mut problems);
        Problems::or(problems, path.as_deref(), loaded)
    }
}

fn boxed<N, F>(make: F) -> Maker<N::In, N::Out>
where
    N: Node,
    F: Fn(&Making<'_>) -> Result<N, Cause> + Send + Sync + 'static,
{
    Arc::new(move |making| Ok(Box::new(make(making)?)))
}

impl<T> Classes for Registry<T> {
    fn class(&self, name: &str) -> Option<ClassInfo> {
        self.classes.get(name).map(|class| class.info.clone())
    }

    fn names(&self) -> Vec<String> {
        self.classes.keys().cloned().collect()
    }
}

impl<T> Clone for Registry<T> {
    fn clone(&self) -> Self {
        Registry { classes: self.classes.clone() }
    }
}

impl<T> Default for Registry<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
{
    fn default() -> Self {
        Registry::new()
    }
}

impl<T> fmt::Debug for Registry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.classes.keys()).finish()
    }
}
