use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

/// A connection from an output of a node to an input of another.
///
/// As a text it is `A [Class].port -> B [Class].port`. Class and port may be left out, and what is
/// special about it stands in parentheses: `A -> B.mask (latest)`,
/// `A -> B (capacity 8, bytes 65536)`, `B -> A.more (feedback, credits 16)`.
///
/// # Examples
///
/// ```
/// use msgproc::flow::file::Connection;
///
/// let connection: Connection = "Data input [Sine].data -> View (latest)".parse()?;
/// assert_eq!(connection.from.class.as_deref(), Some("Sine"));
/// assert_eq!(connection.to.port, None);
/// assert!(connection.latest);
/// # Ok::<(), msgproc::flow::file::ConnectionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Connection {
    /// The output.
    pub from: Endpoint,
    /// The input.
    pub to: Endpoint,
    /// How many items may wait on it.
    pub capacity: Option<NonZeroUsize>,
    /// How many bytes may wait on it, as
    /// [`EdgeBuilder::capacity_bytes`](crate::flow::EdgeBuilder::capacity_bytes) says.
    pub bytes: Option<NonZeroUsize>,
    /// Only the newest item waits; a newer one replaces it.
    pub latest: bool,
    /// The last item stays, also after its sender has ended.
    pub sticky: bool,
    /// It leads back: without it there is no cycle.
    pub feedback: bool,
    /// Of feedback: while so many items are on their way in the cycle, nothing new comes into it.
    /// 1024 if nothing is said.
    pub credits: Option<NonZeroUsize>,
    pub(super) line: Option<u32>,
}

/// Two are equal when they say the same, wherever they stand.
impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        let counts = |of: &Self| (of.capacity, of.bytes, of.credits);
        let flags = |of: &Self| (of.latest, of.sticky, of.feedback);
        (&self.from, &self.to) == (&other.from, &other.to)
            && counts(self) == counts(other)
            && flags(self) == flags(other)
    }
}

/// One end of a [`Connection`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name of the node.
    pub node: String,
    /// Its class, which is only compared.
    pub class: Option<String>,
    /// The port; may be left out where there is one, or one is called `in` or `out`.
    pub port: Option<String>,
}

/// Why a text is not a [`Connection`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} in {text:?}: write \"A [Class].port -> B [Class].port\", or \"A -> B\"")]
pub struct ConnectionError {
    text: String,
    reason: &'static str,
}

impl Connection {
    /// A connection with nothing special.
    pub fn new(from: Endpoint, to: Endpoint) -> Self {
        Connection {
            from,
            to,
            capacity: None,
            bytes: None,
            latest: false,
            sticky: false,
            feedback: false,
            credits: None,
            line: None,
        }
    }

    /// The line of the file it was read from, counted from 1.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// Reads a text in which these names of nodes are known: such a name may have dots.
    pub(super) fn read(
        text: &str,
        is_node: impl Fn(&str) -> bool,
    ) -> Result<Self, ConnectionError> {
        let error = |reason| ConnectionError { text: text.to_owned(), reason };
        let count = |number: &str, or| number.parse().map(Some).map_err(|_| error(or));
        let (ends, markers) = match text.trim_end().strip_suffix(')').and_then(split_markers) {
            Some((ends, markers)) => (ends, markers),
            None => (text, Vec::new()),
        };
        let (from, to) = ends.split_once("->").ok_or_else(|| error("there is no ->"))?;
        if to.contains("->") {
            return Err(error("there is more than one ->"));
        }
        let [from, to] = [from, to].map(|end| Endpoint::read(end, &is_node));
        let none = || error("a node is missing");
        let mut connection = Connection::new(from.ok_or_else(none)?, to.ok_or_else(none)?);
        for marker in markers {
            match marker.split_whitespace().collect::<Vec<_>>()[..] {
                ["latest"] => connection.latest = true,
                ["sticky"] => connection.sticky = true,
                ["feedback"] => connection.feedback = true,
                ["capacity", number] => {
                    connection.capacity = count(number, "capacity is no number from 1 on")?;
                }
                ["bytes", number] => {
                    connection.bytes = count(number, "bytes are no number from 1 on")?;
                }
                ["credits", number] => {
                    connection.credits = count(number, "credits are no number from 1 on")?;
                }
                _ => return Err(error("what stands in parentheses is not known")),
            }
        }
        Ok(connection)
    }

    /// The ends, as messages name it.
    pub(super) fn ends(&self) -> String {
        format!("{} -> {}", self.from, self.to)
    }
}

/// Splits `A -> B (latest, sticky` if these are markers and not part of a name.
fn split_markers(text: &str) -> Option<(&str, Vec<&str>)> {
    let (ends, markers) = text.rsplit_once(" (")?;
    let markers: Vec<_> = markers.split(',').map(str::trim).collect();
    let known = |marker: &&str| {
        let word = marker.split_whitespace().next().unwrap_or("");
        ["latest", "sticky", "feedback", "capacity", "bytes", "credits"].contains(&word)
    };
    markers.iter().any(known).then_some((ends, markers))
}

impl FromStr for Connection {
    type Err = ConnectionError;

    fn from_str(text: &str) -> Result<Self, ConnectionError> {
        Connection::read(text, |_| false)
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)?;
        let named = [("latest", self.latest), ("sticky", self.sticky), ("feedback", self.feedback)];
        let mut markers: Vec<_> =
            named.iter().filter(|named| named.1).map(|named| named.0.to_owned()).collect();
        markers.extend(self.capacity.map(|capacity| format!("capacity {capacity}")));
        markers.extend(self.bytes.map(|bytes| format!("bytes {bytes}")));
        markers.extend(self.credits.map(|credits| format!("credits {credits}")));
        if markers.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", markers.join(", "))
    }
}

impl Endpoint {
    /// The end at this port of a node.
    pub fn new(node: impl Into<String>, port: impl Into<String>) -> Self {
        Endpoint { node: node.into(), class: None, port: Some(port.into()) }
    }

    /// The end at a node whose port goes without saying.
    pub fn of(node: impl Into<String>) -> Self {
        Endpoint { node: node.into(), class: None, port: None }
    }

    pub(super) fn read(text: &str, is_node: impl Fn(&str) -> bool) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        if is_node(text) {
            return Some(Endpoint::of(text));
        }
        if let Some((node, class, port)) = with_class(text) {
            let port = port.map(str::to_owned);
            return Some(Endpoint { node: node.to_owned(), class: Some(class.to_owned()), port });
        }
        match text.rsplit_once('.') {
            Some((node, port)) if !node.is_empty() && !port.is_empty() => {
                Some(Endpoint::new(node.trim_end(), port.trim_start()))
            }
            _ => Some(Endpoint::of(text)),
        }
    }
}

/// Splits `node [class].port`.
pub(super) fn with_class(text: &str) -> Option<(&str, &str, Option<&str>)> {
    let (node, rest) = text.rsplit_once(" [")?;
    let (class, rest) = rest.split_once(']')?;
    let port = match rest.strip_prefix('.') {
        None if rest.is_empty() => None,
        Some(port) if !port.is_empty() => Some(port),
        _ => return None,
    };
    (!node.is_empty() && !class.is_empty()).then_some((node, class, port))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node)?;
        if let Some(class) = &self.class {
            write!(f, " [{class}]")?;
        }
        self.port.as_ref().map_or(Ok(()), |port| write!(f, ".{port}"))
    }
}
