//! Where items come from.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use super::{
    Stages,
    build::{Build, Open},
    item::Item,
};
use crate::flow::{
    Cause, Flow, Node, Outlet, Same, Thread, WorkerInfo,
    edge::Room,
    pump::{Pump, Taken},
    source::{AHEAD, ahead, never_waits, send_rest},
};

/// A stream of what an iterator gives. It is asked in a thread of its own, and not before the run
/// begins; as many items as its [`capacity`](Stages::capacity) says are asked for ahead, or up to 1024,
/// and few where they take long, beside those that lie in front of the first stage.
///
/// A run that ends early waits for the answer that the iterator is about to give, up to two
/// seconds; a thread of one that never answers is left behind.
pub fn from_iter<I>(items: I) -> Stages<I::Item>
where
    I: IntoIterator + Send + 'static,
    I::IntoIter: 'static,
    I::Item: Send + 'static,
{
    from(items, Ok)
}

/// The same for an iterator that can fail: its first error fails the run.
pub fn try_from_iter<I, T, E>(items: I) -> Stages<T>
where
    I: IntoIterator<Item = Result<T, E>> + Send + 'static,
    I::IntoIter: 'static,
    T: Send + 'static,
    E: Into<Cause> + Send + 'static,
{
    from(items, |item| item.map_err(Into::into))
}

fn from<I, T>(items: I, check: fn(I::Item) -> Result<T, Cause>) -> Stages<T>
where
    I: IntoIterator + Send + 'static,
    I::IntoIter: 'static,
    I::Item: Send + 'static,
    T: Send + 'static,
{
    let build = move |build: &mut Build, _ordered: bool| {
        let expected = Arc::new(OnceLock::new());
        let asks = Asks { items, expected: expected.clone() };
        let (asks, ahead) = (Mutex::new(Some(asks)), build.ahead.take());
        let take = move || asks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let name = build.name(None, "source");
        let here = move |asks| Here { asks, items: None, check, index: 0 };
        let node = match build.is_local {
            true => build.graph.node(&name, Same, move |_: &WorkerInfo| here(take())).add(),
            false if never_waits::<I>() => {
                build.graph.node(&name, Thread, move |_: &WorkerInfo| here(take())).add()
            }
            false => {
                let make = move |_: &WorkerInfo| Apart {
                    asks: take(),
                    ahead,
                    pump: None,
                    check,
                    index: 0,
                };
                build.graph.node(&name, Thread, make).add()
            }
        };
        Open {
            outputs: vec![node.output()],
            room: Room::default(),
            is_numbered: false,
            expected: Some(vec![expected]),
        }
    };
    Stages::of_source(Box::new(build), true)
}

/// What is to be iterated over.
struct Asks<I> {
    items: I,
    expected: Arc<OnceLock<u64>>,
}

impl<I: IntoIterator> Asks<I> {
    fn begin(self) -> I::IntoIter {
        let items = self.items.into_iter();
        if let (least, Some(most)) = items.size_hint()
            && least == most
        {
            let _ = self.expected.set(most as u64);
        }
        items
    }
}

/// The source whose worker asks the iterator: in the caller's thread, where what follows is called, or
/// where it is known that the iterator never waits.
struct Here<I: IntoIterator, T> {
    asks: Option<Asks<I>>,
    items: Option<I::IntoIter>,
    check: fn(I::Item) -> Result<T, Cause>,
    index: u64,
}

impl<I, T> Node for Here<I, T>
where
    I: IntoIterator + 'static,
    I::IntoIter: 'static,
    I::Item: 'static,
    T: 'static,
{
    type In = ();
    type Out = Item<T>;

    #[inline]
    fn svc(&mut self, (): (), out: &mut Outlet<Item<T>>) -> Result<Flow, Cause> {
        if let Some(asks) = self.asks.take() {
            self.items = Some(asks.begin());
        }
        match self.items.as_mut().and_then(Iterator::next) {
            Some(item) => {
                let value = (self.check)(item)?;
                out.send(Item { index: self.index, value })?;
                self.index += 1;
                Ok(Flow::GoOn)
            }
            None => Ok(Flow::Eos),
        }
    }

    #[inline]
    fn may_wait(&self) -> bool {
        !never_waits::<I>()
    }

    fn at_item(&self) -> Option<u64> {
        Some(self.index)
    }
}

/// The source in a thread of its own, whose items are fetched by another.
struct Apart<I: IntoIterator, T> {
    asks: Option<Asks<I>>,
    ahead: Option<usize>,
    pump: Option<Pump<I::Item>>,
    check: fn(I::Item) -> Result<T, Cause>,
    index: u64,
}

impl<I, T> Node for Apart<I, T>
where
    I: IntoIterator + Send + 'static,
    I::IntoIter: 'static,
    I::Item: Send + 'static,
    T: 'static,
{
    type In = ();
    type Out = Item<T>;

    #[inline]
    fn svc(&mut self, (): (), out: &mut Outlet<Item<T>>) -> Result<Flow, Cause> {
        if let Some(asks) = self.asks.take() {
            let ahead = self.ahead.map_or((ahead(out), AHEAD), |ahead| (ahead, ahead));
            self.pump = Some(Pump::start(|| asks.begin(), ahead, out.bell())?);
        }
        let pump = self.pump.as_mut().ok_or("its items were taken before")?;
        if self.ahead.is_none() {
            pump.set_most(ahead(out));
        }
        let item = match pump.take() {
            Taken::Item(item) => item,
            Taken::Nothing => return Ok(Flow::Wait),
            Taken::End => return Ok(Flow::Eos),
        };
        let value = (self.check)(item)?;
        out.send(Item { index: self.index, value })?;
        self.index += 1;
        Ok(Flow::GoOn)
    }

    fn is_ready(&self) -> bool {
        self.pump.as_ref().is_some_and(Pump::is_ready)
    }

    /// It waits by its answer.
    #[inline]
    fn may_wait(&self) -> bool {
        false
    }

    fn has_helper() -> bool {
        true
    }

    fn helper_busy(&self) -> Option<Duration> {
        self.pump.as_ref().map(Pump::busy)
    }

    fn at_item(&self) -> Option<u64> {
        Some(self.index)
    }

    fn svc_end(&mut self, out: &mut Outlet<Item<T>>) -> Result<(), Cause> {
        let Apart { pump: Some(pump), check, index, .. } = self else { return Ok(()) };
        send_rest(pump, out, |item, out| {
            let value = check(item)?;
            out.send(Item { index: *index, value })?;
            *index += 1;
            Ok(())
        })
    }
}
