//! Work as a stream through stages, in processes, threads and tasks.
//!
//! ```
//! use msgproc::flow::stage::{from_iter, sync, thread};
//!
//! let stages = from_iter(0..10_u64)
//!     | thread::map(|n: u64| n * n).workers(2)
//!     | sync::filter(|n: &u64| n % 2 == 0);
//! let mut even: Vec<u64> = stages.collect()?;
//! even.sort();
//! assert_eq!(even, [0, 4, 16, 36, 64]);
//! # Ok::<(), msgproc::flow::Error>(())
//! ```
//!
//! A stream begins at [`from_iter`], [`try_from_iter`] or `from_stream`, and goes on by
//! [`Stages::then`] or `|` through stages of any [`mode`](Mode): [`process`], [`thread`], [`sync`],
//! and `task` with the feature `tokio`. Each has `map`, `filter`, `flat_map` and `each`, the same
//! with `try_` for functions that can fail, and `with` for what each worker makes when it begins:
//!
//! ```
//! use msgproc::flow::stage::{from_iter, thread};
//!
//! let words = ["stage", "stream", "step"];
//! let lines = from_iter(words)
//!     .then(
//!         thread::with(|worker| format!("worker {}", worker.index))
//!             .map(|at, word: &str| format!("{}: {word} by {}", at.index, at.resource))
//!             .workers(2)
//!             .capacity(100),
//!     )
//!     .ordered();
//! for line in lines {
//!     println!("{}", line?);
//! }
//! # Ok::<(), msgproc::flow::Error>(())
//! ```
//!
//! A stream is lazy: nothing starts before it is iterated over, awaited, collected or run. It is
//! used up by that. The first error of any stage ends the run and is what comes out of it; leaving
//! a loop early stops all workers.

#[cfg(feature = "tokio")]
mod awaited;
mod build;
mod calls;
mod item;
mod modes;
mod order;
#[cfg(feature = "progress")]
mod progress;
mod run;
mod source;
mod status;
mod step;
#[cfg(feature = "tokio")]
mod stream;
#[cfg(feature = "tokio")]
pub mod task;
mod through;

use std::{fmt, ops::BitOr, path::PathBuf};

use build::{Build, Upstream};
use through::Travel;

#[cfg(feature = "tokio")]
pub use self::awaited::RunStream;
#[cfg(feature = "progress")]
pub use self::progress::{Progress, progress, progress_in};
#[cfg(feature = "tokio")]
pub use self::stream::{from_stream, try_from_stream};
pub use self::{
    calls::{Calls, With},
    item::{At, StageStatus, TimedOut},
    modes::{process, sync, thread},
    order::{Order, concat, ordered},
    run::Run,
    source::{from_iter, try_from_iter},
    step::{Adds, Mode, Parallel, Step, Work},
};
use crate::flow::{Memory, edge::Room};
pub(crate) use item::Item;

/// A stream of items through stages, that has not begun.
///
/// ```compile_fail
/// use msgproc::flow::stage::{from_iter, thread};
///
/// let stages = from_iter(0..3_u64).then(thread::map(|n| n + 1));
/// stages.run()?;
/// stages.run()?; // used up
/// # Ok::<(), msgproc::flow::Error>(())
/// ```
#[must_use = "a stream does nothing until it is iterated over, awaited, collected or run"]
pub struct Stages<T> {
    build: Upstream<T>,
    /// Whether all stages run in the caller's thread.
    is_local: bool,
    said: Said,
    /// Whether it is a source alone.
    is_source: bool,
    /// How its processes make it, if they are no forks.
    travel: Option<Travel>,
}

/// What is said of the run.
#[derive(Clone, Default)]
struct Said {
    memory: Option<Memory>,
    trace: Option<PathBuf>,
}

impl Said {
    /// What was said of either of two.
    fn or(self, other: Said) -> Said {
        Said { memory: self.memory.or(other.memory), trace: self.trace.or(other.trace) }
    }
}

impl<T: Send + 'static> Stages<T> {
    fn new(build: Upstream<T>, is_local: bool) -> Stages<T> {
        Stages { build, is_local, said: Said::default(), is_source: false, travel: None }
    }

    fn of_source(build: Upstream<T>, is_local: bool) -> Stages<T> {
        Stages { is_source: true, ..Stages::new(build, is_local) }
    }

    /// Goes on with a stage; the same as `|`.
    pub fn then<M, O, R>(self, step: Step<M, T, O, R>) -> Stages<O>
    where
        M: Adds<T, O, R> + 'static,
        M::Body<T, O, R>: Send,
        O: Send + 'static,
        R: 'static,
    {
        let Stages { build: upstream, is_local, said, .. } = self;
        let is_local = is_local && M::IS_LOCAL;
        let build = move |build: &mut Build, ordered: bool| {
            build.ahead = None;
            M::add(step, upstream, build, ordered)
        };
        Stages { said, ..Stages::new(Box::new(build), is_local) }
    }

    /// The same as `then(ordered())`: see [`ordered`].
    pub fn ordered(self) -> Stages<T> {
        self.then(ordered())
    }

    /// One stream of this and another: see [`concat`](fn@concat).
    pub fn concat(self, other: Stages<T>) -> Stages<T> {
        concat([self, other])
    }

    /// The same as `then(progress(label))`: see [`progress`].
    #[cfg(feature = "progress")]
    pub fn progress(self, label: &str) -> Stages<T> {
        self.then(progress(label))
    }

    /// The memory that its processes share: for items with blocks in them, that of their pool.
    pub fn memory(mut self, memory: &Memory) -> Stages<T> {
        self.said.memory = Some(memory.clone());
        self
    }

    /// Writes into this file which stage was busy, waited for items or waited for room, and when: as
    /// [`Graph::trace_to`](crate::flow::Graph::trace_to).
    pub fn trace_to(mut self, file: impl Into<PathBuf>) -> Stages<T> {
        self.said.trace = Some(file.into());
        self
    }

    /// The same as [`Stages::capacity`].
    pub fn maxsize(self, items: usize) -> Stages<T> {
        self.capacity(items)
    }

    /// How many of the items that come out of what there is up to here may wait, for each worker
    /// that follows: for a source. A stage has [`Step::capacity`].
    pub fn capacity(self, items: usize) -> Stages<T> {
        let Stages { build: upstream, is_local, said, is_source, .. } = self;
        let build = move |build: &mut Build, ordered: bool| {
            build.ahead = Some(items);
            let open = upstream(build, ordered);
            build.ahead = None;
            build::Open { room: Room { items: Some(items), ..open.room }, ..open }
        };
        Stages { said, is_source, ..Stages::new(Box::new(build), is_local) }
    }

    /// How many bytes of them may wait, as
    /// [`EdgeBuilder::capacity_bytes`](crate::flow::EdgeBuilder::capacity_bytes) says.
    pub fn capacity_bytes(self, bytes: usize) -> Stages<T> {
        let Stages { build: upstream, is_local, said, is_source, .. } = self;
        let build = move |build: &mut Build, ordered: bool| {
            let open = upstream(build, ordered);
            build::Open { room: Room { bytes: Some(bytes), ..open.room }, ..open }
        };
        Stages { said, is_source, ..Stages::new(Box::new(build), is_local) }
    }
}

impl<M, T, O, R> BitOr<Step<M, T, O, R>> for Stages<T>
where
    T: Send + 'static,
    M: Adds<T, O, R> + 'static,
    M::Body<T, O, R>: Send,
    O: Send + 'static,
    R: 'static,
{
    type Output = Stages<O>;

    fn bitor(self, step: Step<M, T, O, R>) -> Stages<O> {
        self.then(step)
    }
}

impl<T> fmt::Debug for Stages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stages").finish_non_exhaustive()
    }
}
