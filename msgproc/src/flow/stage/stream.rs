//! Streams as sources.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Mutex, PoisonError},
    task::Poll,
    thread::{self, JoinHandle},
};

use futures_core::Stream;
use tokio::{
    runtime,
    sync::Semaphore,
    sync::mpsc::{Receiver, Sender, channel, error::TryRecvError},
};

use super::{
    Stages,
    build::{Build, Open},
    item::Item,
};
use crate::{
    flow::{Cause, Flow, Node, Outlet, Thread, WorkerInfo, edge::Room, plan::Bell},
    start::{Panic, catch_here},
};

/// How many items are asked for ahead of the first stage, if [`Stages::capacity`] says nothing.
const AHEAD: usize = 64;

/// A stream of what a `Stream` gives. Feature `tokio`.
///
/// It is polled in a thread of the run, in a runtime of tokio's that lives there, so the program
/// need not have one. When the run ends early it is dropped where it waits.
pub fn from_stream<S>(stream: S) -> Stages<S::Item>
where
    S: Stream + Send + 'static,
    S::Item: Send + 'static,
{
    from(stream, Ok)
}

/// The same for a stream that can fail: its first error fails the run.
pub fn try_from_stream<S, T, E>(stream: S) -> Stages<T>
where
    S: Stream<Item = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Into<Cause> + Send + 'static,
{
    from(stream, |item| item.map_err(Into::into))
}

fn from<S, T>(stream: S, check: fn(S::Item) -> Result<T, Cause>) -> Stages<T>
where
    S: Stream + Send + 'static,
    S::Item: Send + 'static,
    T: Send + 'static,
{
    let build = move |build: &mut Build, _ordered: bool| {
        let stream = Mutex::new(Some(stream));
        let ahead = build.ahead.unwrap_or(AHEAD).max(1);
        let make = move |_: &WorkerInfo| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            Source { stream, pump: None, check, index: 0, ahead }
        };
        let name = build.name(None, "source");
        let node = build.graph.node(&name, Thread, make).add();
        Open {
            outputs: vec![node.output()],
            room: Room::default(),
            is_numbered: false,
            expected: None,
        }
    };
    Stages::of_source(Box::new(build), false)
}

struct Source<S: Stream, T> {
    stream: Option<S>,
    pump: Option<Pump<S::Item>>,
    check: fn(S::Item) -> Result<T, Cause>,
    index: u64,
    /// How many items the stream may be ahead.
    ahead: usize,
}

/// The thread in which the stream is polled. Dropping it drops the stream.
struct Pump<T> {
    items: Option<Receiver<T>>,
    thread: Option<JoinHandle<Result<(), Panic>>>,
}

impl<T: Send + 'static> Pump<T> {
    fn start<S>(stream: S, ahead: usize, bell: Option<Bell>) -> Result<Pump<T>, Cause>
    where
        S: Stream<Item = T> + Send + 'static,
    {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (to, items) = channel(ahead.min(Semaphore::MAX_PERMITS));
        let ring = move || {
            if let Some(bell) = &bell {
                bell.ring();
            }
        };
        let body = move || {
            // Also where the stream panics: then nothing more comes, which is to be seen.
            let _rings = OnDrop(&ring);
            catch_here(|| runtime.block_on(pump(stream, to, &ring)))
        };
        let thread = thread::Builder::new().name("stages-stream".into()).spawn(body)?;
        Ok(Pump { items: Some(items), thread: Some(thread) })
    }
}

struct OnDrop<'a, F: Fn()>(&'a F);

impl<F: Fn()> Drop for OnDrop<'_, F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

async fn pump<S: Stream>(stream: S, to: Sender<S::Item>, ring: &impl Fn()) {
    let mut stream = pin!(stream);
    loop {
        let mut closed = pin!(to.closed());
        let next = poll_fn(|cx| match closed.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => stream.as_mut().poll_next(cx),
        });
        let Some(item) = next.await else { return };
        if to.send(item).await.is_err() {
            return;
        }
        ring();
    }
}

impl<T> Pump<T> {
    /// The next item, `Some(None)` at the end, `None` while there is none.
    fn look(&mut self) -> Option<Option<T>> {
        match self.items.as_mut().map(Receiver::try_recv) {
            Some(Ok(item)) => Some(Some(item)),
            Some(Err(TryRecvError::Empty)) => None,
            Some(Err(TryRecvError::Disconnected)) | None => Some(None),
        }
    }

    fn join(&mut self) -> Result<(), Panic> {
        self.items = None;
        let ended = self.thread.take().map(JoinHandle::join);
        ended.map_or(Ok(()), |ended| ended.map_err(Panic::of).flatten())
    }
}

impl<T> Drop for Pump<T> {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

impl<S, T> Node for Source<S, T>
where
    S: Stream + Send + 'static,
    S::Item: Send + 'static,
    T: 'static,
{
    type In = ();
    type Out = Item<T>;

    fn svc(&mut self, (): (), out: &mut Outlet<Item<T>>) -> Result<Flow, Cause> {
        if let Some(stream) = self.stream.take() {
            self.pump = Some(Pump::start(stream, self.ahead, out.bell())?);
        }
        let pump = self.pump.as_mut().ok_or("its stream was taken before")?;
        let next = match pump.look() {
            Some(next) => next,
            None => out.wait_for(|| pump.look())?,
        };
        let Some(item) = next else {
            if let Err(panic) = pump.join() {
                panic.raise();
            }
            return Ok(Flow::Eos);
        };
        let value = (self.check)(item)?;
        out.send(Item { index: self.index, value })?;
        self.index += 1;
        Ok(Flow::GoOn)
    }

    /// It waits by its outlet, which sends on what was gathered.
    fn may_wait(&self) -> bool {
        false
    }

    fn at_item(&self) -> Option<u64> {
        Some(self.index)
    }
}
