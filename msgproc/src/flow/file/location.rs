use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Where a node computes: `host:process:thread`, read from the right.
///
/// `"1"` is the thread 1 of the process that runs the graph, `"2:1"` the thread 1 of the process
/// 2, and `""` the thread that runs the graph. Processes and threads are called by any text;
/// nodes of the same location share it.
///
/// # Examples
///
/// ```
/// use msgproc::flow::file::Location;
///
/// let location: Location = "2:1".parse()?;
/// assert_eq!((location.process(), location.thread()), (Some("2"), Some("1")));
/// assert_eq!(location.to_string(), "2:1");
/// assert_eq!("".parse(), Ok(Location::default()));
/// assert!("a:b:c:d".parse::<Location>().is_err());
/// # Ok::<(), msgproc::flow::file::LocationError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    host: Option<String>,
    process: Option<String>,
    thread: Option<String>,
}

/// Why a text is not a [`Location`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no location: host:process:thread has at most three parts, so write \"\", \"1\" or \"2:1\""
)]
pub struct LocationError {
    text: String,
}

impl Location {
    /// The machine; none is this one.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The process; none is the one that runs the graph.
    pub fn process(&self) -> Option<&str> {
        self.process.as_deref()
    }

    /// The thread; none is the first one of its process.
    pub fn thread(&self) -> Option<&str> {
        self.thread.as_deref()
    }

    /// Whether it is on the machine of this name: its host is not given, is `localhost` or
    /// `this_host`, which may be the long name where the file has the short one.
    pub fn is_on(&self, this_host: &str) -> bool {
        self.host().is_none_or(|host| {
            host == "localhost" || host == this_host || this_host.split('.').next() == Some(host)
        })
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let mut parts = text.rsplit(':').map(|part| {
            let part = part.trim();
            (!part.is_empty()).then(|| part.to_owned())
        });
        let mut part = || parts.next().flatten();
        let location = Location { thread: part(), process: part(), host: part() };
        match parts.next() {
            Some(_) => Err(LocationError { text: text.to_owned() }),
            None => Ok(location),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [host, process, thread] =
            [&self.host, &self.process, &self.thread].map(|part| part.as_deref().unwrap_or(""));
        if self.host.is_some() {
            write!(f, "{host}:{process}:{thread}")
        } else if self.process.is_some() {
            write!(f, "{process}:{thread}")
        } else {
            f.write_str(thread)
        }
    }
}

impl Serialize for Location {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
