//! Stages that await a future for each item. Feature `tokio`.
//!
//! A stage has a thread with a runtime of tokio's, in which all of its futures run:
//! [`workers`](Step::workers) says how many at a time. So they need not be `Send`, and the program
//! need not have a runtime. A future that is dropped, because its time is over or the run has ended,
//! is cancelled as any is. A function that captures something is written
//! `move |item| async move { .. }`.
//!
//! ```
//! use std::time::Duration;
//!
//! use msgproc::flow::stage::{from_iter, task};
//!
//! let answers = from_iter(0..50_u64).then(
//!     task::map(async |n: u64| {
//!         tokio::time::sleep(Duration::from_millis(n % 3)).await;
//!         n + 1
//!     })
//!     .workers(20),
//! );
//! let sum: u64 = answers.collect::<Vec<_>>()?.iter().sum();
//! assert_eq!(sum, 1275);
//! # Ok::<(), msgproc::flow::Error>(())
//! ```

mod node;

use std::{fmt, future::Future, pin::Pin, rc::Rc, sync::Arc};

use self::node::{Stage, Tasks as Node};
use super::{
    build::{Build, Open, Upstream},
    item::{Item, TimedOut},
    step::{Adds, Limit, Mode, Parallel, Settings, Starter, Step, Work},
};
pub use crate::flow::tasks::Made;
use crate::flow::{Cause, Place, Thread, WorkerInfo, tasks::Policy};

/// The mode of these stages.
#[derive(Clone, Copy, Debug)]
pub struct Tasks;

/// Where a future is made: with which resource, for which item.
#[derive(Debug)]
#[non_exhaustive]
pub struct At<R> {
    /// What the stage made when it began.
    pub resource: Rc<R>,
    /// Which of the source's items this one came of, from 0 on.
    pub index: u64,
}

impl<R> Clone for At<R> {
    fn clone(&self) -> At<R> {
        At { resource: self.resource.clone(), index: self.index }
    }
}

type Making<O> = Pin<Box<dyn Future<Output = Result<Made<O>, Cause>>>>;

#[doc(hidden)]
pub type Await<I, O, R> = Arc<dyn Fn(At<R>, I) -> Making<O> + Send + Sync>;

impl Mode for Tasks {
    type Body<I, O, R> = Await<I, O, R>;
}

impl Parallel for Tasks {}

impl Work for Tasks {
    fn limit<I: 'static, O: 'static, R: 'static, V: 'static>(
        body: Await<I, O, R>,
        limit: Limit<I, O, V>,
    ) -> Await<I, V, R> {
        let Limit { after, again, clone, sends, late } = limit;
        Arc::new(move |at, item| {
            let body = body.clone();
            Box::pin(async move {
                let mut item = Some(item);
                let mut retried = 0;
                loop {
                    let now = match (clone.filter(|_| retried < u64::from(again)), &item) {
                        (Some(clone), Some(item)) => Some(clone(item)),
                        _ => item.take(),
                    };
                    let now = now.ok_or("an item was begun too often")?;
                    if let Ok(made) = tokio::time::timeout(after, body(at.clone(), now)).await {
                        let Made { items, skipped, retried: before } = made?;
                        let items = items.into_iter().map(sends).collect();
                        return Ok(Made { items, skipped, retried: before + retried });
                    }
                    if item.is_none() {
                        break;
                    }
                    retried += 1;
                }
                let late = late(TimedOut { index: at.index, limit: after });
                let skipped = u64::from(late.is_none());
                Ok(Made { items: late.into_iter().collect(), skipped, retried })
            })
        })
    }
}

impl<I, O, R> Adds<I, O, R> for Tasks
where
    Thread: Place<Item<I>> + Place<Item<O>>,
    I: Send + 'static,
    O: Send + 'static,
    R: 'static,
{
    fn add(
        step: Step<Tasks, I, O, R>,
        upstream: Upstream<I>,
        build: &mut Build,
        ordered: bool,
    ) -> Open<O> {
        let Step { body, start, end, settings, .. } = step;
        build.reserve(settings.name.as_ref());
        let open = upstream(build, ordered);
        let expected = open.expected.clone();
        let name = build.name(settings.name.clone(), settings.verb);
        let policy = Policy { on_error: settings.on_error, clone: settings.clone };
        let stage = Arc::new(Stage { body, start, end, policy });
        let at_a_time = settings.workers;
        build.graph.check_workers(&name, at_a_time);
        let make = move |_: &WorkerInfo| Node::new(stage.clone(), at_a_time, ordered);
        let node = build.graph.node(&name, Thread, make).cpus(settings.cpus.iter().copied()).add();
        build.connect(open, node.input());
        Open::<I>::followed(node.output(), &settings, expected, false)
    }
}

/// A stage that makes something when it begins, for all its futures. From [`with`] and
/// [`try_with`].
#[must_use = "say what the stage does: map, filter, flat_map or each"]
pub struct With<R>(Starter<R>);

/// Makes something when the stage begins, in its runtime: all its futures share it.
pub fn with<R: 'static>(make: impl Fn(&WorkerInfo) -> R + Send + Sync + 'static) -> With<R> {
    With(Arc::new(move |worker| Ok(make(worker))))
}

/// The same with a function that can fail: then nothing begins.
pub fn try_with<R: 'static, E: Into<Cause>>(
    make: impl Fn(&WorkerInfo) -> Result<R, E> + Send + Sync + 'static,
) -> With<R> {
    With(Arc::new(move |worker| make(worker).map_err(Into::into)))
}

impl<R: 'static> With<R> {
    fn step<I, O, F, A>(
        self,
        verb: &'static str,
        keeps_count: bool,
        body: F,
    ) -> Step<Tasks, I, O, R>
    where
        F: Fn(At<R>, I) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Vec<O>, Cause>> + 'static,
    {
        let body = move |at: At<R>, item: I| -> Making<O> {
            let making = body(at, item);
            Box::pin(async move { making.await.map(Made::from) })
        };
        let body: Await<I, O, R> = Arc::new(body);
        Step::new(body, self.0, Settings::new(verb, keeps_count))
    }

    /// Sends what the future of each item gives.
    pub fn map<I, O, A, F>(self, function: F) -> Step<Tasks, I, O, R>
    where
        A: Future<Output = O> + 'static,
        F: Fn(At<R>, I) -> A + Send + Sync + 'static,
    {
        self.step("map", true, move |at, item| {
            let future = function(at, item);
            async move { Ok(vec![future.await]) }
        })
    }

    /// The same with a future that can fail.
    pub fn try_map<I, O, E, A, F>(self, function: F) -> Step<Tasks, I, O, R>
    where
        E: Into<Cause>,
        A: Future<Output = Result<O, E>> + 'static,
        F: Fn(At<R>, I) -> A + Send + Sync + 'static,
    {
        self.step("map", true, move |at, item| {
            let future = function(at, item);
            async move { Ok(vec![future.await.map_err(Into::into)?]) }
        })
    }

    /// Sends those items that the future wants. It has a clone of the item.
    pub fn filter<I, A, F>(self, function: F) -> Step<Tasks, I, I, R>
    where
        I: Clone + 'static,
        A: Future<Output = bool> + 'static,
        F: Fn(At<R>, I) -> A + Send + Sync + 'static,
    {
        self.step("filter", false, move |at, item: I| {
            let future = function(at, item.clone());
            async move { Ok(if future.await { vec![item] } else { Vec::new() }) }
        })
    }

    /// The same with a future that can fail.
    pub fn try_filter<I, E, A, F>(self, function: F) -> Step<Tasks, I, I, R>
    where
        I: Clone + 'static,
        E: Into<Cause>,
        A: Future<Output = Result<bool, E>> + 'static,
        F: Fn(At<R>, I) -> A + Send + Sync + 'static,
    {
        self.step("filter", false, move |at, item: I| {
            let future = function(at, item.clone());
            async move {
                let wanted = future.await.map_err(Into::into)?;
                Ok(if wanted { vec![item] } else { Vec::new() })
            }
        })
    }

    /// Sends all that the future of each item gives.
    pub fn flat_map<I, J, A, F>(self, function: F) -> Step<Tasks, I, J::Item, R>
    where
        J: IntoIterator,
        A: Future<Output = J> + 'static,
        F: Fn(At<R>, I) -> A + Send + Sync + 'static,
    {
        self.step("flat_map", false, move |at, item| {
            let future = function(at, item);
            async move { Ok(future.await.into_iter().collect()) }
        })
    }

    /// The same with a future that can fail.
    pub fn try_flat_map<I, J, E, A, F>(self, function: F) -> Step<Tasks, I, J::Item, R>
    where
        J: IntoIterator,
        E: Into<Cause>,
        A: Future<Output = Result<J, E>> + 'static,
        F: Fn(At<R>, I) -> A + Send + Sync + 'static,
    {
        self.step("flat_map", false, move |at, item| {
            let future = function(at, item);
            async move { Ok(future.await.map_err(Into::into)?.into_iter().collect()) }
        })
    }

    /// Awaits a future for each item, and sends nothing.
    pub fn each<I, A, F>(self, function: F) -> Step<Tasks, I, (), R>
    where
        A: Future<Output = ()> + 'static,
        F: Fn(At<R>, I) -> A + Send + Sync + 'static,
    {
        self.step("each", false, move |at, item| {
            let future = function(at, item);
            async move {
                future.await;
                Ok(Vec::new())
            }
        })
    }

    /// The same with a future that can fail.
    pub fn try_each<I, E, A, F>(self, function: F) -> Step<Tasks, I, (), R>
    where
        E: Into<Cause>,
        A: Future<Output = Result<(), E>> + 'static,
        F: Fn(At<R>, I) -> A + Send + Sync + 'static,
    {
        self.step("each", false, move |at, item| {
            let future = function(at, item);
            async move { future.await.map(|()| Vec::new()).map_err(Into::into) }
        })
    }
}

macro_rules! plain {
    ($($(#[$doc:meta])* $verb:ident <$($other:ident)?> $gives:ty => $sends:ty
        $(where ($($bounds:tt)+))?;)*
    ) => {$(
        $(#[$doc])*
        pub fn $verb<I, $($other,)? A, F>(function: F) -> Step<Tasks, I, $sends>
        where
            I: 'static,
            A: Future<Output = $gives> + 'static,
            F: Fn(I) -> A + Send + Sync + 'static,
            $($($bounds)+)?
        {
            with(|_| ()).$verb(move |_, item| function(item))
        }
    )*};
}

plain! {
    /// Sends what the future of each item gives.
    map <O> O => O;
    /// Sends those items that the future wants. It has a clone of the item.
    filter <> bool => I where (I: Clone);
    /// Sends all that the future of each item gives.
    flat_map <J> J => J::Item where (J: IntoIterator);
    /// Awaits a future for each item, and sends nothing.
    each <> () => ();
}

macro_rules! tried {
    ($($verb:ident <$($other:ident)?> $gives:ty => $sends:ty $(where ($($bounds:tt)+))?;)*) => {$(
        /// The same with a future that can fail.
        pub fn $verb<I, $($other,)? E, A, F>(function: F) -> Step<Tasks, I, $sends>
        where
            I: 'static,
            E: Into<Cause>,
            A: Future<Output = Result<$gives, E>> + 'static,
            F: Fn(I) -> A + Send + Sync + 'static,
            $($($bounds)+)?
        {
            with(|_| ()).$verb(move |_, item| function(item))
        }
    )*};
}

tried! {
    try_map <O> O => O;
    try_filter <> bool => I where (I: Clone);
    try_flat_map <J> J => J::Item where (J: IntoIterator);
    try_each <> () => ();
}

impl<R> fmt::Debug for With<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("With").finish_non_exhaustive()
    }
}
