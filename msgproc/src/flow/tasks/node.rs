//! The node that awaits a future for each item.

use std::{future::Future, ops::Range, pin::Pin, rc::Rc};

use super::{
    flight::Flight,
    line::Work,
    trouble::{Made, Policy, Trouble},
};
use crate::flow::{
    Cause, Flow, Node, OnError, Outlet, WorkerInfo,
    node::{Ahead, Duties},
};

type Making<O> = Pin<Box<dyn Future<Output = Result<Made<O>, Cause>>>>;

/// What futures are made of.
struct Calls<I, O> {
    begin: Box<dyn Fn(I) -> Making<O> + Send>,
    policy: Policy<I>,
}

impl<I: Send + 'static, O: Send + 'static> Work for Calls<I, O> {
    type Job = (u64, I);
    type Value = O;
    type Out = O;
    type Shared = Rc<Calls<I, O>>;

    fn start(self) -> Result<Rc<Calls<I, O>>, Cause> {
        Ok(Rc::new(self))
    }

    fn number((number, _): &(u64, I)) -> u64 {
        *number
    }

    fn handle(
        shared: &Rc<Calls<I, O>>,
        (_, item): (u64, I),
    ) -> impl Future<Output = Result<Made<O>, Trouble>> + 'static {
        let calls = shared.clone();
        async move { calls.policy.handle(item, |item| (calls.begin)(item)).await }
    }

    fn out(_: u64, value: O) -> O {
        value
    }

    fn end(_: Rc<Calls<I, O>>) -> Result<(), Cause> {
        Ok(())
    }
}

struct Awaits<I: Send + 'static, O: Send + 'static> {
    /// Until it begins.
    calls: Option<Calls<I, O>>,
    flight: Flight<Calls<I, O>>,
    /// The number of the item that comes next.
    coming: u64,
    /// Whether items begin before their turn.
    is_ahead: bool,
}

impl<I: Send + 'static, O: Send + 'static> Node for Awaits<I, O> {
    type In = I;
    type Out = O;

    fn keeps_items() -> bool {
        true
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead<I, O>> {
        if self.is_ahead { Some(self) } else { None }
    }

    fn take_over(&mut self, duties: Duties<I>) -> Result<bool, Cause> {
        let Duties { on_error, clone, ordered, ahead } = duties;
        self.is_ahead = ahead;
        if ordered {
            self.flight.keep_order();
        }
        if let Some(calls) = &mut self.calls {
            calls.policy = Policy { on_error, clone };
        }
        Ok(true)
    }

    fn message_begins(&mut self, first: u64) {
        self.coming = first;
    }

    fn svc_init(&mut self, worker: &WorkerInfo) -> Result<(), Cause> {
        let calls = self.calls.take().ok_or("it was begun before")?;
        self.flight.start(calls, &worker.node)
    }

    fn svc(&mut self, item: I, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        let number = self.coming;
        self.coming = number + 1;
        if self.is_ahead {
            // This one by itself.
            let place = self.flight.begin((number, item), out)?;
            self.flight.wait_at_work(place, out)?;
            self.flight.send_from(place, out)?;
        } else {
            self.flight.submit((number, item), out)?;
        }
        Ok(Flow::GoOn)
    }

    fn svc_idle(&mut self, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        if self.is_ahead {
            self.flight.gather()?;
        } else {
            self.flight.send_finished(out)?;
        }
        Ok(Flow::GoOn)
    }

    fn is_ready(&self) -> bool {
        self.flight.is_ready()
    }

    fn at_item(&self) -> Option<u64> {
        self.flight.at_item()
    }

    fn failed_at(&self) -> Option<u64> {
        self.flight.failed_at()
    }

    fn svc_end(&mut self, out: &mut Outlet<O>) -> Result<(), Cause> {
        self.flight.end(out)
    }
}

impl<I: Send + 'static, O: Send + 'static> Ahead<I, O> for Awaits<I, O> {
    fn at_once(&self) -> usize {
        self.flight.most()
    }

    fn has_room(&self) -> bool {
        self.flight.has_room()
    }

    fn begin(&mut self, item: I, number: u64, out: &mut Outlet<O>) -> Result<u64, Cause> {
        self.flight.begin((number, item), out)
    }

    fn gather(&mut self) -> Result<(), Cause> {
        self.flight.gather()
    }

    fn are_finished(&self, places: &Range<u64>) -> bool {
        self.flight.are_finished(places)
    }

    fn send(&mut self, place: u64, out: &mut Outlet<O>) -> Result<(), Cause> {
        self.flight.send_from(place, out)
    }

    fn forget(&mut self, places: &Range<u64>) {
        self.flight.forget(places);
    }
}

fn awaits<I, O, A>(most: usize, begin: impl Fn(I) -> A + Send + 'static) -> Awaits<I, O>
where
    I: Send + 'static,
    O: Send + 'static,
    A: Future<Output = Result<Vec<O>, Cause>> + 'static,
{
    let begin = move |item| -> Making<O> {
        let future = begin(item);
        Box::pin(async move { future.await.map(Made::from) })
    };
    let policy = Policy { on_error: OnError::fail(), clone: None };
    let calls = Calls { begin: Box::new(begin), policy };
    Awaits { calls: Some(calls), flight: Flight::new(most), coming: 0, is_ahead: false }
}

/// The node that sends what the future of each item gives. Up to `most` of them are on their way at
/// a time; while so many are, it takes nothing more. Feature `tokio`.
///
/// What is finished first goes on first, unless the node is
/// [ordered](crate::flow::NodeBuilder::ordered): then results wait for those before them, and count
/// as being on their way. [`OnError`] means the same as for any node, item by item. At the end of
/// the run, or when nobody takes what it sends, futures that are on their way are dropped.
///
/// At [`Task`](crate::flow::Task) all such nodes have one runtime together. At any other place each
/// of their workers has a runtime in a thread of its own, beside the worker's. The futures need not
/// be `Send`.
///
/// Where its process is replaced when it dies ([`OnError::retry`]), where it is one of several workers
/// that keep the order, and in a circle, items stay in their lanes until all of their message is
/// finished. The node reads ahead there, so that as many are on their way; what comes of them goes on
/// in their order, and no more are on their way than the capacity of the edge
/// ([`EdgeBuilder::capacity`](crate::flow::EdgeBuilder::capacity)). After a death nobody knows over
/// which of them it was: so those that had begun are awaited one by one, and if the process dies
/// again, that was it. A circle cannot begin with such a node.
///
/// ```
/// use std::time::Duration;
///
/// use msgproc::flow::{Pipeline, Same, Task, each, map_async};
///
/// let wait = async |n: u64| {
///     tokio::time::sleep(Duration::from_millis(n % 3)).await;
///     n + 1
/// };
/// let report = Pipeline::from(0..50_u64)
///     .stage("wait", Task, move |_| map_async(20, wait))
///     .stage("check", Same, |_| each(|n: u64| assert!(n > 0)))
///     .run()?;
/// assert_eq!(report.node("check").unwrap().items_in(), 50);
/// # Ok::<(), msgproc::flow::Error>(())
/// ```
pub fn map_async<I, O, A>(
    most: usize,
    function: impl Fn(I) -> A + Send + 'static,
) -> impl Node<In = I, Out = O>
where
    I: Send + 'static,
    O: Send + 'static,
    A: Future<Output = O> + 'static,
{
    awaits(most, move |item| {
        let future = function(item);
        async move { Ok(vec![future.await]) }
    })
}

/// [`map_async`] with a future that can fail: its error is the node's.
pub fn try_map_async<I, O, E, A>(
    most: usize,
    function: impl Fn(I) -> A + Send + 'static,
) -> impl Node<In = I, Out = O>
where
    I: Send + 'static,
    O: Send + 'static,
    E: Into<Cause>,
    A: Future<Output = Result<O, E>> + 'static,
{
    awaits(most, move |item| {
        let future = function(item);
        async move { Ok(vec![future.await.map_err(Into::into)?]) }
    })
}

/// The node that sends those items that the future wants, which has a clone of the item. As
/// [`map_async`].
pub fn filter_async<I, A>(
    most: usize,
    function: impl Fn(I) -> A + Send + 'static,
) -> impl Node<In = I, Out = I>
where
    I: Clone + Send + 'static,
    A: Future<Output = bool> + 'static,
{
    awaits(most, move |item: I| {
        let future = function(item.clone());
        async move { Ok(if future.await { vec![item] } else { Vec::new() }) }
    })
}

/// The node that sends all that the future of each item gives. As [`map_async`].
pub fn flat_map_async<I, R, A>(
    most: usize,
    function: impl Fn(I) -> A + Send + 'static,
) -> impl Node<In = I, Out = R::Item>
where
    I: Send + 'static,
    R: IntoIterator,
    R::Item: Send + 'static,
    A: Future<Output = R> + 'static,
{
    awaits(most, move |item| {
        let future = function(item);
        async move { Ok(future.await.into_iter().collect()) }
    })
}

/// The node that awaits a future for each item, and sends nothing. As [`map_async`].
pub fn each_async<I, A>(
    most: usize,
    function: impl Fn(I) -> A + Send + 'static,
) -> impl Node<In = I, Out = ()>
where
    I: Send + 'static,
    A: Future<Output = ()> + 'static,
{
    awaits(most, move |item| {
        let future = function(item);
        async move {
            future.await;
            Ok(Vec::new())
        }
    })
}

/// [`each_async`] with a future that can fail: its error is the node's.
pub fn try_each_async<I, E, A>(
    most: usize,
    function: impl Fn(I) -> A + Send + 'static,
) -> impl Node<In = I, Out = ()>
where
    I: Send + 'static,
    E: Into<Cause>,
    A: Future<Output = Result<(), E>> + 'static,
{
    awaits(most, move |item| {
        let future = function(item);
        async move { future.await.map(|()| Vec::new()).map_err(Into::into) }
    })
}
