//! Items that come into a run from outside, and results that leave it, while it runs.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{
    graph::{Graph, Input, NodeRef, Output},
    node::{Cause, Flow, Node, from_fn},
    outlet::{Closed, Outlet, TrySendError},
    placement::{Place, Thread},
    plan::{DRAINING, STOPPING, Shared},
};
use crate::deadline;

/// How long a wait lasts before it looks whether the run is being stopped, which rings nobody here.
const SLICE: Duration = Duration::from_millis(100);

/// A bounded queue between the threads of this program and the threads of a run.
struct Channel<T> {
    state: Mutex<State<T>>,
    /// There is an item, or none will come.
    filled: Condvar,
    /// There is room, or nobody takes items.
    drained: Condvar,
    capacity: usize,
    /// The run, once it has begun.
    run: OnceLock<Shared>,
}

/// What the source of a run finds.
enum Fed<T> {
    Item(T),
    Nothing,
    Ended,
}

struct State<T> {
    items: VecDeque<T>,
    /// Nothing more comes.
    ended: bool,
    /// Nobody takes anything any more.
    closed: bool,
    senders: usize,
    receivers: Vec<Waker>,
    senders_awaiting: Vec<Waker>,
}

impl<T> State<T> {
    /// Whether nothing is put any more. What was put before its end is still taken; what came behind
    /// that might find nobody.
    fn is_shut(&self) -> bool {
        self.ended || self.closed
    }
}

impl<T> Channel<T> {
    fn new(capacity: usize) -> Arc<Channel<T>> {
        Arc::new(Channel {
            state: Mutex::new(State {
                items: VecDeque::new(),
                ended: false,
                closed: false,
                senders: 1,
                receivers: Vec::new(),
                senders_awaiting: Vec::new(),
            }),
            filled: Condvar::new(),
            drained: Condvar::new(),
            capacity: capacity.max(1),
            run: OnceLock::new(),
        })
    }

    fn is_stopped(&self) -> bool {
        self.run.get().is_some_and(|run| run.phase() >= STOPPING)
    }

    fn is_frozen(&self) -> bool {
        self.run.get().is_some_and(|run| run.is_frozen() && run.phase() < DRAINING)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, mut state: MutexGuard<'_, State<T>>, item: T) {
        state.items.push_back(item);
        let wakers = std::mem::take(&mut state.receivers);
        drop(state);
        self.filled.notify_one();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits for room until `stops` says so: it is asked now and then.
    fn send(&self, item: T, stops: impl Fn() -> bool) -> Result<(), Closed> {
        let mut state = self.state();
        while state.items.len() >= self.capacity && !state.is_shut() {
            if stops() || self.is_stopped() {
                return Err(Closed);
            }
            let waited = self.drained.wait_timeout(state, SLICE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.is_shut() || state.items.len() >= self.capacity {
            return Err(Closed);
        }
        self.put(state, item);
        Ok(())
    }

    fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let state = self.state();
        if state.is_shut() {
            return Err(TrySendError::Closed(item));
        }
        if state.items.len() >= self.capacity {
            return Err(TrySendError::Full(item));
        }
        self.put(state, item);
        Ok(())
    }

    fn poll_send(&self, item: &mut Option<T>, context: &Context<'_>) -> Poll<Result<(), Closed>> {
        let mut state = self.state();
        if state.is_shut() {
            return Poll::Ready(Err(Closed));
        }
        if state.items.len() >= self.capacity {
            add(&mut state.senders_awaiting, context.waker());
            return Poll::Pending;
        }
        if let Some(item) = item.take() {
            self.put(state, item);
        }
        Poll::Ready(Ok(()))
    }

    fn took(&self, mut state: MutexGuard<'_, State<T>>) {
        let wakers = std::mem::take(&mut state.senders_awaiting);
        drop(state);
        self.drained.notify_one();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// `None` when nothing more comes, or the deadline has passed.
    fn recv(&self, deadline: Option<Instant>) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(item) = state.items.pop_front() {
                self.took(state);
                return Some(item);
            }
            if state.ended {
                return None;
            }
            state = match deadline {
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    let waited = self.filled.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn try_recv(&self) -> Option<T> {
        let mut state = self.state();
        let item = state.items.pop_front();
        match item {
            Some(item) => {
                self.took(state);
                Some(item)
            }
            None => None,
        }
    }

    /// For the run's source: nothing while the run is frozen.
    fn take_in(&self) -> Fed<T> {
        if self.is_frozen() {
            return Fed::Nothing;
        }
        let mut state = self.state();
        match state.items.pop_front() {
            Some(item) => {
                self.took(state);
                Fed::Item(item)
            }
            None if state.ended => Fed::Ended,
            None => Fed::Nothing,
        }
    }

    /// Waits a while for what [`Channel::take_in`] may find.
    fn wait_for_more(&self) {
        let state = self.state();
        if !self.is_frozen() && !self.is_stopped() && state.items.is_empty() && !state.ended {
            drop(self.filled.wait_timeout(state, SLICE));
        }
    }

    fn poll_recv(&self, context: &Context<'_>) -> Poll<Option<T>> {
        let mut state = self.state();
        if let Some(item) = state.items.pop_front() {
            self.took(state);
            return Poll::Ready(Some(item));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        add(&mut state.receivers, context.waker());
        Poll::Pending
    }

    fn is_ended(&self) -> bool {
        let state = self.state();
        state.ended && state.items.is_empty()
    }

    /// Nothing more comes.
    fn end(&self) {
        self.shut(|state| state.ended = true);
    }

    /// Nobody takes anything any more.
    fn close(&self) {
        self.shut(|state| state.closed = true);
    }

    /// Tells all who wait.
    fn shut(&self, how: impl FnOnce(&mut State<T>)) {
        let mut state = self.state();
        how(&mut state);
        let mut wakers = std::mem::take(&mut state.receivers);
        wakers.append(&mut state.senders_awaiting);
        drop(state);
        self.filled.notify_all();
        self.drained.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A task that is polled often waits once.
fn add(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|known| known.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}

/// A door of a run, for the engine: which closes it when the run ends.
pub(crate) trait Door: Send + Sync {
    /// The run begins.
    fn open(&self, _run: &Shared) {}
    /// The run ends.
    fn shut(&self);
    /// Nothing more comes in.
    fn drain(&self);
}

/// The doors of a graph. They shut with it, also where it never ran: nobody waits at them then.
#[derive(Default)]
pub(crate) struct Doors(Vec<Arc<dyn Door>>);

impl Doors {
    pub(crate) fn add(&mut self, door: Arc<dyn Door>) {
        self.0.push(door);
    }

    /// The run begins.
    pub(crate) fn open(&self, run: &Shared) {
        self.0.iter().for_each(|door| door.open(run));
    }

    /// The run ends.
    pub(crate) fn shut(&self) {
        self.0.iter().for_each(|door| door.shut());
    }

    /// Nothing more comes in.
    pub(crate) fn drain(&self) {
        self.0.iter().for_each(|door| door.drain());
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.shut();
    }
}

struct Inward<T>(Arc<Channel<T>>);
struct Outward<T>(Arc<Channel<T>>);

impl<T: Send> Door for Inward<T> {
    fn open(&self, run: &Shared) {
        let _ = self.0.run.set(run.clone());
    }

    fn shut(&self) {
        self.0.end();
        self.0.close();
    }

    fn drain(&self) {
        self.0.end();
    }
}

impl<T: Send> Door for Outward<T> {
    fn open(&self, run: &Shared) {
        let _ = self.0.run.set(run.clone());
    }

    fn shut(&self) {
        self.0.end();
        self.0.close();
    }

    fn drain(&self) {}
}

/// Gives items to a run from outside. From [`Graph::feed`]. When all clones are gone, the run's
/// source ends.
pub struct Feed<T>(Arc<Channel<T>>);

impl<T> Feed<T> {
    /// Gives an item, waiting for room: this is what others call offload.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the run takes nothing any more, or somebody has said that nothing more comes.
    pub fn offload(&self, item: T) -> Result<(), Closed> {
        self.0.send(item, || false)
    }

    /// Gives an item if there is room now.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] hands it back.
    pub fn try_offload(&self, item: T) -> Result<(), TrySendError<T>> {
        self.0.try_send(item)
    }

    /// Gives an item in a task: pending while there is no room, `item` is taken when it has been
    /// given.
    pub fn poll_offload(
        &self,
        item: &mut Option<T>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Closed>> {
        self.0.poll_send(item, context)
    }

    /// Says that nothing more comes, whoever else has a clone: those are told so from now on. What was
    /// given before goes through.
    pub fn end(self) {
        self.0.end();
    }
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Feed<T> {
        self.0.state().senders += 1;
        Feed(self.0.clone())
    }
}

impl<T> Drop for Feed<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.senders -= 1;
        let last = state.senders == 0;
        drop(state);
        if last {
            self.0.end();
        }
    }
}

impl<T> fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

/// Takes the results of a run. From [`Graph::results`]. Dropping it ends those who send to it, as
/// one who needs no more does.
///
/// It iterates over what comes; it ends when the run does, well or not:
/// [`Running::wait`](super::Running::wait) tells which.
pub struct Results<T>(Arc<Channel<T>>);

impl<T> Results<T> {
    /// The next result; waits for it. `None` when no more comes.
    pub fn result(&self) -> Option<T> {
        self.0.recv(None)
    }

    /// The next result if there is one now.
    pub fn try_result(&self) -> Option<T> {
        self.0.try_recv()
    }

    /// The next result if one comes within that time.
    pub fn result_timeout(&self, timeout: Duration) -> Option<T> {
        self.0.recv(deadline::after(Instant::now(), timeout))
    }

    /// The next result in a task.
    pub fn poll_result(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(context)
    }

    /// Whether no more comes, and all that came was taken.
    pub fn is_ended(&self) -> bool {
        self.0.is_ended()
    }
}

impl<T> Iterator for Results<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.result()
    }
}

impl<T> Drop for Results<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> fmt::Debug for Results<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("ended", &self.is_ended()).finish_non_exhaustive()
    }
}

impl Graph {
    /// Adds a source whose items are given from outside, while the graph runs: at most `capacity` of
    /// them wait. It runs in a thread of its own. `place` is where the nodes are that take them, and
    /// says how they travel.
    pub fn feed<T, P>(&mut self, name: &str, place: P, capacity: usize) -> (Feed<T>, NodeRef<(), T>)
    where
        T: Send + 'static,
        P: Place<T>,
    {
        let channel = Channel::new(capacity);
        self.doors.add(Arc::new(Inward(channel.clone())));
        let source = channel.clone();
        let node = self.node_with_wire(name, place, move |_| Gives(CloseOnDrop(source.clone())));
        (Feed(channel), node)
    }

    /// Takes what an output sends out of the graph, while that runs: at most `capacity` items wait.
    /// A thread of its own does that.
    pub fn results<T>(&mut self, name: &str, from: Output<T>, capacity: usize) -> Results<T>
    where
        T: Send + 'static,
    {
        let (results, input) = self.results_of(name, capacity);
        self.connect(from, input);
        results
    }

    /// The same, before it is known whose results these are.
    pub(crate) fn results_of<T>(&mut self, name: &str, capacity: usize) -> (Results<T>, Input<T>)
    where
        T: Send + 'static,
    {
        let channel = Channel::new(capacity);
        self.doors.add(Arc::new(Outward(channel.clone())));
        let sink = channel.clone();
        let node = self
            .node(name, Thread, move |_| {
                let (channel, guard) = (sink.clone(), EndOnDrop(sink.clone()));
                from_fn(move |item: T, out: &mut Outlet<()>| {
                    let _ = &guard;
                    channel.send(item, || out.is_stopped())?;
                    Ok(Flow::GoOn)
                })
            })
            .add();
        (Results(channel), node.input())
    }
}

/// When the source is gone, nobody takes anything any more.
struct CloseOnDrop<T>(Arc<Channel<T>>);

impl<T> Drop for CloseOnDrop<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The source whose items are given from outside.
struct Gives<T>(CloseOnDrop<T>);

impl<T: 'static> Node for Gives<T> {
    type In = ();
    type Out = T;

    #[inline]
    fn svc(&mut self, (): (), out: &mut Outlet<T>) -> Result<Flow, Cause> {
        let Gives(CloseOnDrop(channel)) = self;
        match channel.take_in() {
            Fed::Item(item) => out.send(item)?,
            Fed::Nothing => {
                out.flush()?;
                channel.wait_for_more();
            }
            Fed::Ended => return Ok(Flow::Eos),
        }
        Ok(Flow::GoOn)
    }

    fn may_wait(&self) -> bool {
        false
    }
}

/// When the last node is gone, nothing more comes.
struct EndOnDrop<T>(Arc<Channel<T>>);

impl<T> Drop for EndOnDrop<T> {
    fn drop(&mut self) {
        self.0.end();
    }
}
