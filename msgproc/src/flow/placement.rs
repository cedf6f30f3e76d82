//! Where nodes run.

use std::fmt;

use bytemuck::Pod;
use serde::{Serialize, de::DeserializeOwned};

use super::edge::Wire;

/// Where the workers of a node run.
///
/// A typed graph takes one of the markers [`Same`], [`Thread`], `Task` and [`Process`] in its place, and the
/// compiler then asks of the items only what that needs: `Send` within the program, serde across
/// processes. A placement that is known at run time only needs both.
///
/// More variants may come: `Host` is kept for other machines. A graph file that names one is refused
/// as long as there is no way there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Placement {
    /// In the thread of the caller: of whoever calls `run`, or for a run that was started of a
    /// thread that all such nodes share.
    #[default]
    Same,
    /// In a thread of this program for each worker.
    Thread,
    /// In the one thread that all such nodes of a run have together, beside a runtime of tokio's
    /// that they share. For nodes that mostly wait: those that await futures
    /// ([`map_async`](super::map_async)), whose futures run in that runtime. Any other node runs
    /// there as anywhere, and finds the runtime by [`tokio::runtime::Handle::current`]; one that
    /// keeps the thread busy holds up the others. What it spawns there and does not wait for is
    /// dropped at the end of the run. Feature `tokio`.
    #[cfg(feature = "tokio")]
    Task,
    /// In a process for each worker.
    Process,
    /// In a place with a number: a process (0 is this program) and a thread of it (0 is its main
    /// one). Nodes at the same place share it. When such a process is killed, it is replaced if all
    /// its nodes say so ([`OnError::retry`](super::OnError::retry)).
    At {
        /// Which process.
        process: u32,
        /// Which of its threads.
        thread: u32,
    },
}

impl Placement {
    /// Whether that is in the process of whoever runs the graph.
    pub(crate) fn is_in_program(self) -> bool {
        !matches!(self, Placement::Process | Placement::At { process: 1.., .. })
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Placement::Same => f.write_str("same"),
            Placement::Thread => f.write_str("thread"),
            #[cfg(feature = "tokio")]
            Placement::Task => f.write_str("task"),
            Placement::Process => f.write_str("process"),
            Placement::At { process, thread } => write!(f, "{process}:{thread}"),
        }
    }
}

/// In the caller's thread: see [`Placement::Same`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Same;

/// In threads: see [`Placement::Thread`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thread;

/// In a thread with a runtime: see [`Placement::Task`]. Feature `tokio`.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Task;

/// In processes: see [`Placement::Process`].
///
/// Items travel by serde, without the names of their fields and without their types: they are read
/// back field by field in the same order. What the attributes of serde make of a value must not
/// hang on its content then: `skip_serializing_if` leaves a field out, and the next one is taken for
/// it, in silence; `flatten`, `untagged` and `tag` are refused, since they need names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process;

/// In processes, for items that are plain data ([`bytemuck::Pod`]): they travel as they lie in
/// memory, and not by serde, which takes most of the time where items are small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainProcess;

/// A placement for a node with items of this type: how they get there.
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot be an item of a node at placement `{Self}`",
    note = "within the program items are `Send`; to processes they also travel by serde (`Serialize` and `DeserializeOwned`)"
)]
pub trait Place<T>: Copy {
    /// Where that is.
    fn placement(self) -> Placement;

    #[doc(hidden)]
    fn wire(self) -> Option<Wire<T>>;
}

impl<T: Send + 'static> Place<T> for Same {
    fn placement(self) -> Placement {
        Placement::Same
    }

    fn wire(self) -> Option<Wire<T>> {
        None
    }
}

impl<T: Send + 'static> Place<T> for Thread {
    fn placement(self) -> Placement {
        Placement::Thread
    }

    fn wire(self) -> Option<Wire<T>> {
        None
    }
}

#[cfg(feature = "tokio")]
impl<T: Send + 'static> Place<T> for Task {
    fn placement(self) -> Placement {
        Placement::Task
    }

    fn wire(self) -> Option<Wire<T>> {
        None
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Place<T> for Process {
    fn placement(self) -> Placement {
        Placement::Process
    }

    fn wire(self) -> Option<Wire<T>> {
        Some(Wire::new())
    }
}

impl<T: Pod + Send> Place<T> for PlainProcess {
    fn placement(self) -> Placement {
        Placement::Process
    }

    fn wire(self) -> Option<Wire<T>> {
        Some(Wire::plain())
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Place<T> for Placement {
    fn placement(self) -> Placement {
        self
    }

    fn wire(self) -> Option<Wire<T>> {
        Some(Wire::new())
    }
}
