//! Stages that call a function for each item: in processes, in threads, in the caller's thread.

use std::{
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    build::{Build, Open, Upstream, set},
    item::{At, Item, TimedOut},
    status::Active,
    step::{Adds, Ender, Limit, Mode, Parallel, Settings, Starter, Step, Work},
};
use crate::flow::{Cause, Closed, Flow, Node, Outlet, Place, Process, Same, Thread, WorkerInfo};

/// Where a function puts what it makes of an item.
#[doc(hidden)]
pub trait Sink<O> {
    fn send(&mut self, item: O) -> Result<(), Closed>;
    /// Comes between two that come of one item. Tells whether to go on.
    fn between(&mut self) -> Result<(), Closed>;
    fn note_skipped(&mut self);
    fn note_retried(&mut self);
}

#[doc(hidden)]
pub(super) type Call<I, O, R> =
    Arc<dyn Fn(At<'_, R>, I, &mut dyn Sink<O>) -> Result<(), Cause> + Send + Sync>;

/// A [`Mode`] whose stages call functions.
pub trait Calls: Mode {}

macro_rules! mode {
    ($($place:ident $is_local:literal)*) => {$(
        impl Mode for $place {
            type Body<I, O, R> = Call<I, O, R>;

            const IS_LOCAL: bool = $is_local;
        }

        impl Calls for $place {}

        impl Work for $place {
            fn limit<I: 'static, O: 'static, R: 'static, V: 'static>(
                body: Call<I, O, R>,
                limit: Limit<I, O, V>,
            ) -> Call<I, V, R> {
                limited(body, limit)
            }
        }

        impl<I, O, R> Adds<I, O, R> for $place
        where
            $place: Place<Item<I>> + Place<Item<O>>,
            I: Send + 'static,
            O: Send + 'static,
            R: 'static,
        {
            fn add(
                step: Step<$place, I, O, R>,
                upstream: Upstream<I>,
                build: &mut Build,
                ordered: bool,
            ) -> Open<O> {
                add($place, step, upstream, build, ordered)
            }
        }
    )*};
}

mode!(Process false Thread false Same true);

impl Parallel for Process {}

impl Parallel for Thread {}

fn add<P, I, O, R>(
    place: P,
    step: Step<P, I, O, R>,
    upstream: Upstream<I>,
    build: &mut Build,
    ordered: bool,
) -> Open<O>
where
    P: Place<Item<I>> + Place<Item<O>> + Mode<Body<I, O, R> = Call<I, O, R>>,
    I: Send + 'static,
    O: Send + 'static,
    R: 'static,
{
    let Step { body, start, end, settings, .. } = step;
    build.reserve(settings.name.as_ref());
    let open = upstream(build, ordered);
    let workers = settings.workers;
    let open = build.joined(open, workers, ordered);
    let expected = open.expected.clone();
    // Made here, so that all processes have the same.
    let end = end.map(|end| (end, Active::new(workers).map_err(|error| error.to_string())));
    let make = move |worker: &WorkerInfo| Caller {
        body: body.clone(),
        start: start.clone(),
        end: end.clone(),
        worker: worker.clone(),
        resource: None,
        at: None,
    };
    let name = build.name(settings.name.clone(), settings.verb);
    let node = set(build.graph.node(&name, place, make), &settings).ordered(ordered).add();
    let is_numbered = ordered && workers > 1;
    build.connect(open, node.input());
    Open::<I>::followed(node.output(), &settings, expected, is_numbered)
}

/// The node.
struct Caller<I, O, R> {
    body: Call<I, O, R>,
    start: Starter<R>,
    end: Option<(Ender<R>, Result<Active, String>)>,
    worker: WorkerInfo,
    resource: Option<R>,
    at: Option<u64>,
}

impl<I: 'static, O: 'static, R: 'static> Node for Caller<I, O, R> {
    type In = Item<I>;
    type Out = Item<O>;

    fn svc_init(&mut self, worker: &WorkerInfo) -> Result<(), Cause> {
        if let Some((_, Err(reason))) = &self.end {
            return Err(reason.clone().into());
        }
        self.resource = Some((self.start)(worker)?);
        Ok(())
    }

    #[inline]
    fn svc(&mut self, item: Item<I>, out: &mut Outlet<Item<O>>) -> Result<Flow, Cause> {
        let Item { index, value } = item;
        self.at = Some(index);
        let resource = self.resource.as_mut().ok_or("it has not begun")?;
        let at = At { resource, index, worker: &self.worker };
        (self.body)(at, value, &mut Sends { index, out })?;
        Ok(Flow::GoOn)
    }

    fn at_item(&self) -> Option<u64> {
        self.at
    }

    fn svc_end(&mut self, _out: &mut Outlet<Item<O>>) -> Result<(), Cause> {
        match (&self.end, &mut self.resource) {
            (Some((end, Ok(active))), Some(resource)) => {
                end(active.leave(self.worker.index), resource)
            }
            _ => Ok(()),
        }
    }
}

struct Sends<'a, O> {
    index: u64,
    out: &'a mut Outlet<Item<O>>,
}

impl<O> Sink<O> for Sends<'_, O> {
    #[inline]
    fn send(&mut self, value: O) -> Result<(), Closed> {
        self.out.send(Item { index: self.index, value })
    }

    #[inline]
    fn between(&mut self) -> Result<(), Closed> {
        self.out.breathe_between()
    }

    fn note_skipped(&mut self) {
        self.out.notes().skipped += 1;
    }

    fn note_retried(&mut self) {
        self.out.notes().retried += 1;
    }
}

/// Keeps what is made of an item until it is known whether that was in time.
struct Gathers<'a, O, V> {
    made: Vec<O>,
    began: Instant,
    limit: Duration,
    to: &'a mut dyn Sink<V>,
}

impl<O, V> Gathers<'_, O, V> {
    fn is_late(&self) -> bool {
        self.began.elapsed() > self.limit
    }
}

impl<O, V> Sink<O> for Gathers<'_, O, V> {
    fn send(&mut self, item: O) -> Result<(), Closed> {
        self.made.push(item);
        Ok(())
    }

    fn between(&mut self) -> Result<(), Closed> {
        self.to.between()?;
        // Nothing that comes now is wanted.
        if self.is_late() { Err(Closed) } else { Ok(()) }
    }

    fn note_skipped(&mut self) {
        self.to.note_skipped();
    }

    fn note_retried(&mut self) {
        self.to.note_retried();
    }
}

fn limited<I, O, R, V>(body: Call<I, O, R>, limit: Limit<I, O, V>) -> Call<I, V, R>
where
    I: 'static,
    O: 'static,
    R: 'static,
    V: 'static,
{
    Arc::new(move |at, item, sink| {
        let At { resource, index, worker } = at;
        let mut item = Some(item);
        for attempt in 0..=limit.again {
            let again = limit.clone.filter(|_| attempt < limit.again);
            let now = match (again, &item) {
                (Some(clone), Some(item)) => Some(clone(item)),
                _ => item.take(),
            };
            let Some(now) = now else { break };
            if attempt > 0 {
                sink.note_retried();
            }
            let (began, after) = (Instant::now(), limit.after);
            let mut gathers = Gathers { made: Vec::new(), began, limit: after, to: &mut *sink };
            let called = body(At { resource: &mut *resource, index, worker }, now, &mut gathers);
            let is_late = gathers.is_late();
            match called {
                // It was told to make no more, for that or because nobody takes any.
                Err(cause) if is_late && cause.is::<Closed>() => gathers.to.between()?,
                called => called?,
            }
            if !is_late {
                let made = gathers.made;
                made.into_iter().try_for_each(|item| sink.send((limit.sends)(item)))?;
                return Ok(());
            }
        }
        match (limit.late)(TimedOut { index, limit: limit.after }) {
            Some(late) => sink.send(late)?,
            None => sink.note_skipped(),
        }
        Ok(())
    })
}

/// A stage whose workers make something when they begin, for all their calls. From `with` and
/// `try_with` in [`process`](super::process), [`thread`](super::thread) and
/// [`sync`](super::sync).
#[must_use = "say what the stage does: map, filter, flat_map or each"]
pub struct With<M, R> {
    start: Starter<R>,
    mode: PhantomData<fn(M)>,
}

impl<M: Calls> With<M, ()> {
    pub(super) fn nothing() -> With<M, ()> {
        With::new(|_| Ok::<_, Cause>(()))
    }
}

impl<M: Calls, R: 'static> With<M, R> {
    pub(super) fn new<E: Into<Cause>>(
        make: impl Fn(&WorkerInfo) -> Result<R, E> + Send + Sync + 'static,
    ) -> With<M, R> {
        With { start: Arc::new(move |worker| make(worker).map_err(Into::into)), mode: PhantomData }
    }

    fn step<I, O, F>(self, verb: &'static str, keeps_count: bool, body: F) -> Step<M, I, O, R>
    where
        M: Mode<Body<I, O, R> = Call<I, O, R>>,
        F: Fn(At<'_, R>, I, &mut dyn Sink<O>) -> Result<(), Cause> + Send + Sync + 'static,
    {
        let body: Call<I, O, R> = Arc::new(body);
        Step::new(body, self.start, Settings::new(verb, keeps_count))
    }

    /// Sends what the function makes of each item.
    pub fn map<I, O, F>(self, function: F) -> Step<M, I, O, R>
    where
        M: Mode<Body<I, O, R> = Call<I, O, R>>,
        F: Fn(At<'_, R>, I) -> O + Send + Sync + 'static,
    {
        self.step("map", true, move |at, item, sink| Ok(sink.send(function(at, item))?))
    }

    /// The same with a function that can fail.
    pub fn try_map<I, O, E, F>(self, function: F) -> Step<M, I, O, R>
    where
        M: Mode<Body<I, O, R> = Call<I, O, R>>,
        E: Into<Cause>,
        F: Fn(At<'_, R>, I) -> Result<O, E> + Send + Sync + 'static,
    {
        self.step("map", true, move |at, item, sink| {
            Ok(sink.send(function(at, item).map_err(Into::into)?)?)
        })
    }

    /// Sends those items that the function wants.
    pub fn filter<I, F>(self, function: F) -> Step<M, I, I, R>
    where
        M: Mode<Body<I, I, R> = Call<I, I, R>>,
        F: Fn(At<'_, R>, &I) -> bool + Send + Sync + 'static,
    {
        self.try_filter(move |at, item| Ok::<_, Cause>(function(at, item)))
    }

    /// The same with a function that can fail.
    pub fn try_filter<I, E, F>(self, function: F) -> Step<M, I, I, R>
    where
        M: Mode<Body<I, I, R> = Call<I, I, R>>,
        E: Into<Cause>,
        F: Fn(At<'_, R>, &I) -> Result<bool, E> + Send + Sync + 'static,
    {
        self.step("filter", false, move |at, item, sink| {
            if function(at, &item).map_err(Into::into)? {
                sink.send(item)?;
            }
            Ok(())
        })
    }

    /// Sends all that the function makes of each item.
    pub fn flat_map<I, J, F>(self, function: F) -> Step<M, I, J::Item, R>
    where
        M: Mode<Body<I, J::Item, R> = Call<I, J::Item, R>>,
        J: IntoIterator,
        F: Fn(At<'_, R>, I) -> J + Send + Sync + 'static,
    {
        self.try_flat_map(move |at, item| Ok::<_, Cause>(function(at, item)))
    }

    /// The same with a function that can fail.
    pub fn try_flat_map<I, J, E, F>(self, function: F) -> Step<M, I, J::Item, R>
    where
        M: Mode<Body<I, J::Item, R> = Call<I, J::Item, R>>,
        J: IntoIterator,
        E: Into<Cause>,
        F: Fn(At<'_, R>, I) -> Result<J, E> + Send + Sync + 'static,
    {
        self.step("flat_map", false, move |at, item, sink| {
            for made in function(at, item).map_err(Into::into)? {
                sink.send(made)?;
                sink.between()?;
            }
            Ok(())
        })
    }

    /// Calls the function with each item, and sends nothing.
    pub fn each<I, F>(self, function: F) -> Step<M, I, (), R>
    where
        M: Mode<Body<I, (), R> = Call<I, (), R>>,
        F: Fn(At<'_, R>, I) + Send + Sync + 'static,
    {
        self.step("each", false, move |at, item, _| {
            function(at, item);
            Ok(())
        })
    }

    /// The same with a function that can fail.
    pub fn try_each<I, E, F>(self, function: F) -> Step<M, I, (), R>
    where
        M: Mode<Body<I, (), R> = Call<I, (), R>>,
        E: Into<Cause>,
        F: Fn(At<'_, R>, I) -> Result<(), E> + Send + Sync + 'static,
    {
        self.step("each", false, move |at, item, _| function(at, item).map_err(Into::into))
    }
}

impl<M, R> std::fmt::Debug for With<M, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("With").finish_non_exhaustive()
    }
}
