//! Where a node puts what it sends.

use std::{error::Error, fmt, rc::Rc, vec};

use shmring::os::coarse_millis;

use super::{
    edge::{Exits, Head},
    plan::{Bell, Executor},
};

/// Nobody takes what is sent any more: all that follow have ended, or the run is being stopped. A
/// node gives it back with `?`, and is ended by it without having failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody takes what is sent any more")
    }
}

impl Error for Closed {}

/// Why [`Outlet::try_send`] did not send; hands the item back.
#[derive(PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room now.
    Full(T),
    /// As [`Closed`].
    Closed(T),
}

impl<T> TrySendError<T> {
    /// Hands the item back.
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(item) | TrySendError::Closed(item) => item,
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full(..)",
            TrySendError::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrySendError::Full(_) => f.write_str("there is no room now"),
            TrySendError::Closed(_) => Closed.fmt(f),
        }
    }
}

impl<T> Error for TrySendError<T> {}

/// Where a node puts what it sends.
///
/// Items are gathered and go on together: at once when the next worker has nothing to do, else when
/// enough have come together, and always when the node has nothing more to do. So sending costs
/// little, and no item waits for others that do not come.
pub struct Outlet<T> {
    items: Vec<T>,
    limit: usize,
    /// That of the outlet behind a fused node whose first part has this one.
    limit_after: usize,
    /// When it was last looked between two things that come of one item whether somebody waits, and how
    /// many have come since.
    tick: u64,
    in_tick: u64,
    /// `None` inside of fused nodes: there it only gathers.
    exits: Option<Exits<T>>,
    executor: Option<Rc<Executor>>,
    sent: u64,
    /// Items that the node has left out: of no input in particular, and of each.
    discarded: u64,
    discarded_at: Vec<u64>,
    closed: bool,
    /// Whether items are being sent on. It stays if that panics: some of them are lost then.
    torn: bool,
    /// Whether nothing of what is sent goes anywhere.
    muted: bool,
    /// What is said of its items.
    notes: Notes,
}

/// What a node says of its items beside what it sends, or is said of them: it is counted with the
/// message that they are of.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Notes {
    /// Items that it left out.
    pub(crate) skipped: u64,
    /// How often it began an item anew.
    pub(crate) retried: u64,
}

impl<T> Outlet<T> {
    pub(crate) fn new(exits: Exits<T>, executor: &Rc<Executor>) -> Outlet<T> {
        let limit = exits.batch().max(1);
        Outlet {
            limit,
            exits: Some(exits),
            executor: Some(executor.clone()),
            ..Outlet::collecting()
        }
    }

    pub(crate) fn collecting() -> Outlet<T> {
        Outlet {
            items: Vec::new(),
            limit: usize::MAX,
            limit_after: usize::MAX,
            tick: 0,
            in_tick: 0,
            exits: None,
            executor: None,
            sent: 0,
            discarded: 0,
            discarded_at: Vec::new(),
            closed: false,
            torn: false,
            muted: false,
            notes: Notes::default(),
        }
    }
}

impl<T> Outlet<T> {
    /// Sends an item, to whichever worker the edge chooses. Waits for room.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    #[inline]
    pub fn send(&mut self, item: T) -> Result<(), Closed> {
        if self.closed {
            return Err(Closed);
        }
        self.items.push(item);
        if self.items.len() >= self.limit { self.put() } else { Ok(()) }
    }

    /// Sends an item if there is room now for it, whoever the edge would choose. One may wait all the
    /// same that is longer than a quarter of the bytes its lane may have.
    ///
    /// Where the node's items are handled again, or left out, when it fails over them
    /// ([`OnError`](super::OnError)), there is always room: what comes of an item goes on when that has
    /// not failed, and waits then.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] hands it back.
    pub fn try_send(&mut self, item: T) -> Result<(), TrySendError<T>> {
        if self.closed {
            return Err(TrySendError::Closed(item));
        }
        if self.items.len() + 1 >= self.limit && !self.makes_room() {
            return Err(TrySendError::Full(item));
        }
        match self.send(item) {
            // It was taken by then.
            Ok(()) | Err(Closed) => Ok(()),
        }
    }

    /// Sends as much of what was gathered as finds room now. Tells whether all of it does, and one item
    /// more.
    fn makes_room(&mut self) -> bool {
        let Some(exits) = &self.exits else { return true };
        let room = exits.room();
        if room > self.items.len() {
            return true;
        }
        let rest = self.items.split_off(room);
        if !self.items.is_empty() {
            // The next send tells.
            let _ = self.put();
        }
        self.items = rest;
        self.items.len() + 1 < self.limit
    }

    /// Sends an item to one of the workers that follow, from 0 to [`Outlet::workers`]; a number
    /// beyond counts on from 0 again.
    ///
    /// Where several workers follow that keep the order, it is the edge that says who gets an item: to
    /// send one to a worker fails the run there.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub fn send_to(&mut self, worker: usize, item: T) -> Result<(), Closed> {
        self.route(0, Some(worker), item)
    }

    /// Sends an item from one of the node's outputs; [`Outlet::send`] does from output 0.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub fn send_on(&mut self, output: usize, item: T) -> Result<(), Closed> {
        match output {
            0 => self.send(item),
            // Of two fused nodes the second takes output 0 of the first, and nobody takes the others.
            _ if self.exits.is_none() => Ok(()),
            _ => self.route(output, None, item),
        }
    }

    /// Sends a clone of an item to each of the workers that follow, of each node that does. As
    /// [`Outlet::send_to`], it fails the run where several of a node keep the order.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub fn broadcast(&mut self, item: T) -> Result<(), Closed>
    where
        T: Clone,
    {
        let workers = self.workers() as u64;
        self.pass_by(item, workers, |exits, item| exits.put_to_all(item, T::clone))
    }

    /// How many workers take what is sent; where several nodes do, those of the one that has most.
    pub fn workers(&self) -> usize {
        self.exits.as_ref().map_or(1, Exits::workers)
    }

    /// Sends on what has been gathered. Needed only where a node takes long from one thing that it
    /// makes of an item to the next, or waits by itself in between. In the first of two fused nodes it
    /// does nothing.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub fn flush(&mut self) -> Result<(), Closed> {
        if !self.items.is_empty() {
            self.put()?;
        }
        self.pass_on(|exits, _| exits.flush())
    }

    /// Counts items that the node leaves out by itself, such as those that found no partner: they
    /// stand in its report as discarded.
    pub fn discard(&mut self, items: u64) {
        self.discarded += items;
    }

    /// The same of items that came at one input of the node: they stand in its report by input.
    pub fn discard_at(&mut self, input: usize, items: u64) {
        if self.discarded_at.len() <= input {
            self.discarded_at.resize(input + 1, 0);
        }
        self.discarded_at[input] += items;
    }

    /// Counts here what another one was told.
    #[inline]
    pub(crate) fn discard_as<U>(&mut self, other: &mut Outlet<U>) {
        self.discarded += std::mem::take(&mut other.discarded);
        for (input, items) in other.discarded_at.drain(..).enumerate() {
            self.discard_at(input, items);
        }
    }

    fn route(&mut self, output: usize, worker: Option<usize>, item: T) -> Result<(), Closed> {
        self.pass_by(item, 1, |exits, item| exits.put_to(output, worker, item))
    }

    /// Puts an item that is not gathered with others, and counts as so many.
    fn pass_by(
        &mut self,
        item: T,
        count: u64,
        put: impl FnOnce(&mut Exits<T>, T) -> Result<(), Closed>,
    ) -> Result<(), Closed> {
        if self.closed {
            return Err(Closed);
        }
        if !self.items.is_empty() {
            self.put()?; // They were sent before this one.
        }
        if self.muted {
            return Ok(());
        }
        if self.exits.is_none() {
            self.items.push(item);
            return Ok(());
        }
        self.sent += count;
        self.pass_on(|exits, _| put(exits, item))
    }

    #[cold]
    #[inline(never)]
    fn put(&mut self) -> Result<(), Closed> {
        if self.muted {
            self.items.clear();
            return Ok(());
        }
        if self.exits.is_none() {
            return Ok(());
        }
        self.sent += self.items.len() as u64;
        let put = self.pass_on(Exits::put);
        self.items.clear();
        self.limit = self.exits.as_ref().map_or(self.limit, |exits| exits.batch().max(1));
        put
    }

    /// Lets the ways out take what they take, and remembers whether they panicked or take no more.
    fn pass_on(
        &mut self,
        act: impl FnOnce(&mut Exits<T>, &mut Vec<T>) -> Result<(), Closed>,
    ) -> Result<(), Closed> {
        let Some(exits) = &mut self.exits else { return Ok(()) };
        self.torn = true;
        let sent = act(exits, &mut self.items);
        self.torn = false;
        self.closed |= sent.is_err();
        sent
    }

    /// What came of one message is sent: all of it, where it goes on as one.
    pub(crate) fn finish(&mut self, head: &Head) -> Result<(), Closed> {
        self.pass_on(|exits, _| exits.finish(head))
    }

    /// Drops what is sent from now on, or no more. What was sent before goes on first.
    pub(crate) fn set_muted(&mut self, muted: bool) {
        if muted != self.muted {
            // The next send tells.
            let _ = self.flush();
            self.muted = muted;
        }
    }

    /// Keeps what is sent by [`Outlet::send`], however much, until [`Outlet::let_go`]: what comes of
    /// an item that may fail goes on when it has not.
    pub(crate) fn hold(&mut self) {
        self.limit = usize::MAX;
    }

    /// Sends on again.
    pub(crate) fn let_go(&mut self) {
        let Some(exits) = &self.exits else { return };
        self.limit = exits.batch().max(1);
        if self.items.len() >= self.limit {
            // The next send tells.
            let _ = self.put();
        }
    }

    /// After an item: sends on what has been gathered, if somebody waits for it.
    #[inline]
    pub(crate) fn breathe(&mut self) {
        if self.has_gathered() && self.exits.as_ref().is_some_and(Exits::is_hungry) {
            // The next send tells.
            let _ = match self.items.is_empty() {
                false => self.put(),
                true => self.pass_on(|exits, _| exits.send_to_idle()),
            };
        }
    }

    /// Whether there is something that only a flush sends for sure.
    #[inline]
    pub(crate) fn has_gathered(&self) -> bool {
        !self.items.is_empty() || self.exits.as_ref().is_some_and(Exits::holds_items)
    }

    /// The same between two things that come of one item, which may be many and slow: once in a tick
    /// of the coarse clock, with whether to go on. What comes quickly is gathered as ever.
    #[inline]
    pub(crate) fn breathe_between(&mut self) -> Result<(), Closed> {
        self.in_tick += 1;
        if self.in_tick > 32 && !self.in_tick.is_multiple_of(8) {
            return Ok(()); // To look at the clock costs as much as a send.
        }
        let tick = coarse_millis();
        if tick == self.tick {
            return Ok(());
        }
        (self.tick, self.in_tick) = (tick, 0);
        if self.limit < usize::MAX {
            self.breathe();
        }
        if self.is_stopped() || self.sees_closed() { Err(Closed) } else { Ok(()) }
    }

    /// Drops what has been gathered since `len` items were: of an item that failed.
    pub(crate) fn forget_since(&mut self, len: usize) {
        self.items.truncate(len);
    }

    /// How many items go on together; `None` where nobody knows.
    pub(crate) fn limit(&self) -> Option<usize> {
        let limit = if self.exits.is_some() { self.limit } else { self.limit_after };
        Some(limit).filter(|limit| *limit < usize::MAX)
    }

    /// Whether nobody else in its thread has something to do or to send on.
    pub(crate) fn others_rest(&self) -> bool {
        self.executor.as_ref().is_none_or(|executor| executor.others_rest())
    }

    /// Whether a node may have threads beside its worker's.
    pub(crate) fn may_have_helpers(&self) -> bool {
        self.executor.as_ref().is_some_and(|executor| executor.may_have_helpers)
    }

    /// How many items are gathered, for whichever receiver.
    pub(crate) fn gathered(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The same, for a node that sends nothing: whether its next send would tell.
    pub(crate) fn sees_closed(&mut self) -> bool {
        self.closed |= self.exits.as_ref().is_some_and(Exits::is_closed);
        self.closed
    }

    /// Whether it panicked while it sent items on: no policy of the node makes up for that.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Whether the run is being stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.executor.as_ref().is_some_and(|executor| executor.is_stopped())
    }

    /// Waits until `look` finds something, for a node that needs more than items to go on: a free
    /// block, a device. Where it does not at once, what was gathered is sent on before, and other
    /// nodes of the same thread go on meanwhile, which they do not while a node waits by itself.
    /// `look` is asked whenever items move on, and each 100 ms at least; it must be cheap.
    ///
    /// ```
    /// # use msgproc::flow::{Cause, Flow, Outlet};
    /// # use shmring::block::{Block, BlockPool};
    /// fn fill(pool: &BlockPool, byte: u8, out: &mut Outlet<Block>) -> Result<Flow, Cause> {
    ///     let mut loan = out.wait_for(|| pool.try_loan().ok())?;
    ///     loan.as_bytes_mut().fill(byte);
    ///     out.send(loan.freeze())?;
    ///     Ok(Flow::GoOn)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`]: the run is being stopped, or nobody takes what is sent.
    // Within a process, whoever brings it about rings the bell.
    pub fn wait_for<U>(&mut self, mut look: impl FnMut() -> Option<U>) -> Result<U, Closed> {
        if let Some(found) = look().filter(|_| !self.closed) {
            return Ok(found);
        }
        self.flush()?;
        let executor = self.executor.as_ref().filter(|_| !self.closed).ok_or(Closed)?;
        executor.wait_for(look).map_err(|_| Closed)
    }

    /// The same for one who must be the only one at work in its thread meanwhile.
    #[cfg(feature = "tokio")]
    pub(crate) fn wait_at_work<U>(&mut self, look: impl FnMut() -> Option<U>) -> Result<U, Closed> {
        self.flush()?;
        let executor = self.executor.as_ref().filter(|_| !self.closed).ok_or(Closed)?;
        executor.wait_at_work(look).map_err(|_| Closed)
    }

    /// Lets a node wait whose outlet only gathers: as the worker that has this one.
    #[inline]
    pub(crate) fn wait_as<U>(&mut self, other: &Outlet<U>) {
        if self.executor.is_none() {
            self.executor.clone_from(&other.executor);
        }
        self.limit_after = other.limit().unwrap_or(usize::MAX);
    }

    /// Wakes the worker, from any thread of its process.
    pub(crate) fn bell(&self) -> Option<Bell> {
        self.executor.as_ref().map(|executor| executor.bell())
    }

    pub(crate) fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    /// Closes it: the run is being stopped.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// How many items the node has given that [`Outlet::take_sent`] has not counted.
    pub(crate) fn given(&self) -> u64 {
        self.sent + self.items.len() as u64
    }

    /// How many items were sent since the last call.
    pub(crate) fn take_sent(&mut self) -> u64 {
        std::mem::take(&mut self.sent)
    }

    /// How many items the node has left out since the last call: of no input in particular, and of
    /// each.
    pub(crate) fn take_discarded(&mut self) -> (u64, Vec<u64>) {
        (std::mem::take(&mut self.discarded), std::mem::take(&mut self.discarded_at))
    }

    pub(crate) fn exits(&mut self) -> Option<&mut Exits<T>> {
        self.exits.as_mut()
    }

    /// Whether all whom it calls can be called, and no gate is shut.
    pub(crate) fn can_call(&self) -> bool {
        self.exits.as_ref().is_none_or(Exits::can_call)
    }

    /// Whether there is a gate on the way out, which a worker does not go through when it is shut.
    #[inline]
    pub(crate) fn leads_to_gate(&self) -> bool {
        self.exits.as_ref().is_some_and(Exits::leads_to_gate)
    }

    pub(crate) fn can_send_pending(&self) -> bool {
        self.exits.as_ref().is_some_and(Exits::can_send_pending)
    }

    /// Whether something was sent that has yet to find room.
    pub(crate) fn has_late(&self) -> bool {
        self.leads_to_gate() && self.exits.as_ref().is_some_and(Exits::has_late)
    }

    /// Whether it may find some now.
    pub(crate) fn can_send_late(&self) -> bool {
        self.leads_to_gate() && self.exits.as_ref().is_some_and(Exits::can_send_late)
    }

    /// Puts it where there is room. Tells whether there was some.
    pub(crate) fn send_late(&mut self) -> bool {
        self.exits.as_mut().is_some_and(Exits::send_late)
    }

    pub(crate) fn drain(&mut self) -> vec::Drain<'_, T> {
        self.items.drain(..)
    }
}

impl<T> fmt::Debug for Outlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("gathered", &self.items.len())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
