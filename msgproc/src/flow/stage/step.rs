//! A stage that is not yet part of a stream: what it does, and how.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use super::{
    build::{Build, Open, Upstream},
    item::{Item, StageStatus, TimedOut},
};
use crate::flow::{Cause, OnError, WorkerInfo, edge::Room};

/// Where a stage runs.
pub trait Mode: Sized {
    /// What it calls for each item.
    #[doc(hidden)]
    type Body<I, O, R>;

    /// Whether it runs in the caller's thread.
    #[doc(hidden)]
    const IS_LOCAL: bool = false;
}

/// A [`Mode`] of stages that do something to their items.
pub trait Work: Mode {
    #[doc(hidden)]
    fn limit<I: 'static, O: 'static, R: 'static, V: 'static>(
        body: Self::Body<I, O, R>,
        limit: Limit<I, O, V>,
    ) -> Self::Body<I, V, R>;
}

/// A [`Mode`] whose stages may have several workers.
pub trait Parallel: Work {}

/// A [`Mode`] for items of these types.
#[diagnostic::on_unimplemented(
    message = "a stage of mode `{Self}` cannot take `{I}` and send `{O}`",
    note = "items are `Send`; to and from processes they also travel by serde (`Serialize` and `DeserializeOwned`)"
)]
pub trait Adds<I, O, R>: Mode {
    #[doc(hidden)]
    fn add(
        step: Step<Self, I, O, R>,
        upstream: Upstream<I>,
        build: &mut Build,
        ordered: bool,
    ) -> Open<O>;
}

/// What is done with an item that takes too long.
#[doc(hidden)]
pub struct Limit<I, O, V> {
    pub(super) after: Duration,
    /// How often it is begun anew.
    pub(super) again: u32,
    pub(super) clone: Option<fn(&I) -> I>,
    /// What goes on in good time.
    pub(super) sends: fn(O) -> V,
    /// What goes on instead, if anything does.
    pub(super) late: fn(TimedOut) -> Option<V>,
}

pub(super) type Clones<I> = fn(&Item<I>) -> Item<I>;
pub(super) type Starter<R> = Arc<dyn Fn(&WorkerInfo) -> Result<R, Cause> + Send + Sync>;
pub(super) type Ender<R> = Arc<dyn Fn(StageStatus, &mut R) -> Result<(), Cause> + Send + Sync>;

/// A stage: from the functions in [`process`](super::process), [`thread`](super::thread),
/// [`sync`](super::sync) and `task`. It becomes part of a stream by
/// [`Stages::then`](super::Stages::then) or `|`.
#[must_use = "a stage does nothing until it is part of a stream that is run"]
pub struct Step<M: Mode, I, O, R = ()> {
    pub(super) body: M::Body<I, O, R>,
    pub(super) start: Starter<R>,
    pub(super) end: Option<Ender<R>>,
    pub(super) settings: Settings<I>,
    pub(super) types: PhantomData<fn(M)>,
}

pub(super) struct Settings<I> {
    pub(super) name: Option<String>,
    /// What it is called if nothing is said.
    pub(super) verb: &'static str,
    pub(super) workers: usize,
    pub(super) cpus: Vec<usize>,
    pub(super) room: Room,
    pub(super) on_error: OnError,
    pub(super) clone: Option<Clones<I>>,
    /// Whether one item goes on for each that comes.
    pub(super) keeps_count: bool,
}

impl<I> Settings<I> {
    pub(super) fn new(verb: &'static str, keeps_count: bool) -> Settings<I> {
        Settings {
            name: None,
            verb,
            workers: 1,
            cpus: Vec::new(),
            room: Room::default(),
            on_error: OnError::default(),
            clone: None,
            keeps_count,
        }
    }
}

impl<M: Mode, I, O, R> Step<M, I, O, R> {
    pub(super) fn new(
        body: M::Body<I, O, R>,
        start: Starter<R>,
        settings: Settings<I>,
    ) -> Step<M, I, O, R> {
        Step { body, start, end: None, settings, types: PhantomData }
    }
}

impl<M: Parallel, I, O, R> Step<M, I, O, R> {
    /// How many items it handles at a time: by so many processes or threads, or as so many tasks.
    /// 1 if nothing is said. What runs in the caller's thread has no workers.
    pub fn workers(mut self, count: usize) -> Self {
        self.settings.workers = count;
        self
    }

    /// Which processors its processes or threads may use; all if nothing is said. As
    /// [`NodeBuilder::cpus`](crate::flow::NodeBuilder::cpus).
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.settings.cpus = cpus.into_iter().collect();
        self
    }
}

impl<M: Work, I: 'static, O: 'static, R: 'static> Step<M, I, O, R> {
    /// How many of the items that it sends may wait, for each worker that follows; 1024 if nothing
    /// is said. When so many wait, it waits too, and so do those before it.
    pub fn capacity(mut self, items: usize) -> Self {
        self.settings.room.items = Some(items);
        self
    }

    /// The same as [`Step::capacity`].
    pub fn maxsize(self, items: usize) -> Self {
        self.capacity(items)
    }

    /// How many bytes of the items that it sends may wait, for each worker that follows, as
    /// [`EdgeBuilder::capacity_bytes`](crate::flow::EdgeBuilder::capacity_bytes) says.
    pub fn capacity_bytes(mut self, bytes: usize) -> Self {
        self.settings.room.bytes = Some(bytes);
        self
    }

    /// What it is called in errors and reports, and its processes in `ps`. By default after what it
    /// does.
    pub fn name(mut self, name: &str) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Leaves out, and counts as skipped, items over which it fails or panics. By default the first
    /// failure ends the run, and is what that gives.
    pub fn skip_errors(mut self) -> Self {
        self.settings.on_error = self.settings.on_error.or_skip();
        self
    }

    /// Handles an item again over which it failed or panicked, up to so many times; then the run
    /// fails, or with [`Step::skip_errors`] leaves it out. A process that died is replaced, and
    /// what it had is handled again by the new one.
    pub fn retry(mut self, times: u32) -> Self
    where
        I: Clone,
    {
        let skips = self.settings.on_error.skips();
        let retry = OnError::retry(times);
        self.settings.on_error = if skips { retry.or_skip() } else { retry };
        self.settings.clone = Some(Item::clone);
        self
    }

    /// Calls this in each worker before the first item flows anywhere. To make something that the
    /// worker's calls are handed, see `with` in the stage's module.
    ///
    /// Its error ends the run before it begins.
    pub fn on_start<E: Into<Cause>>(
        mut self,
        begin: impl Fn(&WorkerInfo) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        let start = self.start;
        self.start = Arc::new(move |worker| {
            begin(worker).map_err(Into::into)?;
            start(worker)
        });
        self
    }

    /// Calls this in each worker after its last item, with what the worker made. In tasks there is
    /// one call: they share one worker.
    ///
    /// It is not called where the run fails or is left early. What must be done in any case belongs
    /// into the `Drop` of what the worker makes.
    pub fn on_done(mut self, end: impl Fn(StageStatus, &mut R) + Send + Sync + 'static) -> Self {
        self.end = Some(Arc::new(move |status, resource| {
            end(status, resource);
            Ok(())
        }));
        self
    }

    /// The same as [`Step::on_done`].
    pub fn on_end(self, end: impl Fn(StageStatus, &mut R) + Send + Sync + 'static) -> Self {
        self.on_done(end)
    }

    /// Limits how long an item may take. What was made of one that took longer is dropped, and
    /// [`TimedOut`] goes on in its place.
    ///
    /// A task is dropped when its time is over. A call in a thread or a process cannot be taken back:
    /// it is let return, and is too late then. So a call that never returns is not ended by this; what
    /// `flat_map` makes one after the other is.
    pub fn timeout(self, limit: Duration) -> Step<M, I, Result<O, TimedOut>, R> {
        self.limited(Limit {
            after: limit,
            again: 0,
            clone: None,
            sends: Ok,
            late: |late| Some(Err(late)),
        })
    }

    /// As [`Step::timeout`], after it has begun the item anew up to so many times.
    pub fn timeout_retry(self, limit: Duration, times: u32) -> Step<M, I, Result<O, TimedOut>, R>
    where
        I: Clone,
    {
        self.limited(Limit {
            after: limit,
            again: times,
            clone: Some(I::clone),
            sends: Ok,
            late: |late| Some(Err(late)),
        })
    }

    /// As [`Step::timeout`], but nothing goes on in place of an item that took too long: it counts
    /// as skipped.
    pub fn timeout_drop(mut self, limit: Duration) -> Self {
        self.settings.keeps_count = false;
        self.limited(Limit {
            after: limit,
            again: 0,
            clone: None,
            sends: |item| item,
            late: |_| None,
        })
    }

    fn limited<V: 'static>(self, limit: Limit<I, O, V>) -> Step<M, I, V, R> {
        let Step { body, start, end, settings, types } = self;
        Step { body: M::limit(body, limit), start, end, settings, types }
    }
}

impl<M: Mode, I, O, R> fmt::Debug for Step<M, I, O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { name, verb, workers, .. } = &self.settings;
        f.debug_struct("Step")
            .field("name", &name.as_deref().unwrap_or(verb))
            .field("workers", workers)
            .finish_non_exhaustive()
    }
}
