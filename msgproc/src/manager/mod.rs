//! One loop over many processes, descriptors, timers and signals.
//!
//! A [`Manager`] owns processes of one backend type and tells what happens to them, one
//! [`Happening`] at a time:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use msgproc::{manager::Policy, prelude::*};
//!
//! struct Counter;
//!
//! #[backend(event = u64)]
//! impl Counter {
//!     fn c__count(&mut self, to: u64, ctx: &mut Context<u64>) -> msgproc::Result<()> {
//!         ctx.emit((1..=to).sum())
//!     }
//! }
//!
//! fn main() -> msgproc::Result<()> {
//!     let mut manager = Manager::new()?;
//!     for number in 0..5 {
//!         let counter = MessageProcess::fork(&format!("counter-{number}"), |_| Counter)?;
//!         manager.add_with(counter, Policy::transient())?;
//!     }
//!     manager.handle_signals()?;
//!     for (_, counter) in manager.iter() {
//!         counter.count(1_000_000).tell()?;
//!     }
//!     loop {
//!         match manager.next(Duration::from_secs(2))? {
//!             None => println!("still alive"),
//!             Some(Happening::Event { process, event: sum }) => {
//!                 println!("{} says {sum}", manager[process].name());
//!                 manager[process].count(sum % 1000).tell()?; // idle again: more work
//!             }
//!             Some(Happening::Ended { process, exit, .. }) => {
//!                 println!("{}: {exit}", manager[process].name());
//!             }
//!             Some(Happening::Signal(_)) => {
//!                 println!("will exit asap");
//!                 break;
//!             }
//!             Some(_) => {}
//!         }
//!     }
//!     for (process, exit) in manager.stop() {
//!         println!("{}: {}", manager[process].name(), exit?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Nobody starves: what has more to tell is asked again after all others. The cost of an event
//! does not depend on the number of processes.
//!
//! Processes of different types live in a manager each, or stand in a poll of the user's own: a
//! [`Manager`] and a [`MessageProcess`] both offer one descriptor, readable while there is
//! something to take. A poll that is edge-triggered, as mio's is, has to take until there is
//! nothing left. One descriptor can also be [watched](Manager::watch) by another manager.
//!
//! A process that ends is started again as its [`Policy`] says, and others with it as their
//! [`Group`] says. Restarts begin inside [`Manager::next`], which does not wait for them: that the
//! new backend is ready is told as [`Happening::Restarted`]. Commands that are sent to it before
//! are run once it is ready.

mod backoff;
mod crowd;
mod group;
mod happening;
mod poller;
mod queue;
mod restart;
mod slots;
mod stop;
mod supervision;
mod thread;
mod timers;

use std::{
    fmt,
    ops::Index,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use shmring::os;

use self::{
    group::Unit,
    poller::Poller,
    queue::{Queue, Source},
    restart::{Member, Phase},
    slots::Slots,
    thread::Wake,
    timers::Timers,
};
use crate::{
    deadline,
    error::{Error, Result},
    kernel::Busy,
    process::{Backend, Interest, MessageProcess, Token},
    start::Signals,
};

pub use self::{
    backoff::Backoff,
    group::{Group, GroupId},
    happening::{Happening, Signal},
    slots::ProcessId,
    supervision::{Policy, Restart},
    thread::{ManagerThread, Waker},
};

/// One loop over many processes of one type, descriptors, timers and signals: see the
/// [module](self).
///
/// Dropping it stops all its processes, as [`Manager::stop`] does.
pub struct Manager<B: Backend> {
    processes: Slots<Member<B>>,
    /// Those that are restarted together; a process without a group is a unit of its own.
    units: Slots<Unit>,
    /// How many of them have not been told to have ended.
    living: usize,
    queue: Queue,
    /// How many sources are looked at before the next poll.
    turns: usize,
    timers: Timers<Due>,
    poller: Poller,
    signals: Option<Signals>,
    wake: Arc<Wake>,
    maker: u32,
    generation: u32,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
enum Due {
    User(Token),
    /// A pause of its restarts is over.
    Unit(GroupId),
    /// A start has had its time.
    Start(ProcessId),
    /// A step of its stop has had its time.
    Stop(ProcessId),
    /// A handler of it may run too long.
    Watch(ProcessId),
}

impl Due {
    /// Whether it is for this process alone.
    fn is_of(self, id: ProcessId) -> bool {
        matches!(self, Due::Start(other) | Due::Stop(other) | Due::Watch(other) if other == id)
    }
}

impl<B: Backend> Manager<B> {
    /// Makes one without processes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when no descriptor is left.
    pub fn new() -> Result<Manager<B>> {
        let make = || {
            let poller = Poller::new()?;
            let wake = Arc::new(Wake::new()?);
            poller.add(wake.as_fd(), Source::Wake)?;
            Ok((poller, wake))
        };
        let (poller, wake) = make().map_err(Error::io::<std::io::Error>("make a manager"))?;
        Ok(Manager {
            processes: Slots::new(),
            units: Slots::new(),
            living: 0,
            queue: Queue::default(),
            turns: 0,
            timers: Timers::new(),
            poller,
            signals: None,
            wake,
            maker: os::pid(),
            generation: os::fork_generation(),
        })
    }

    fn check_ours(&self) -> Result<()> {
        if os::fork_generation() == self.generation {
            return Ok(());
        }
        Err(Error::NotOurs { process: "manager".into(), maker: self.maker })
    }

    // Processes.

    /// Takes over a process. It is not started again when it ends.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the kernel has no more room; the process is then stopped.
    pub fn add(&mut self, process: MessageProcess<B>) -> Result<ProcessId> {
        self.add_with(process, Policy::temporary())
    }

    /// Takes over a process, and says whether it is started again when it ends.
    ///
    /// # Errors
    ///
    /// As [`Manager::add`].
    pub fn add_with(&mut self, process: MessageProcess<B>, policy: Policy) -> Result<ProcessId> {
        self.check_ours()?;
        let unit = GroupId(self.units.insert(Unit::alone()));
        self.insert(process, policy, unit).inspect_err(|_| {
            self.units.remove(unit.0);
        })
    }

    fn register(&mut self, id: ProcessId) -> Result<()> {
        let process = &self[id];
        let source = Source::Process(id.index());
        self.poller
            .add(process.as_fd(), source)
            .map_err(Error::io(format!("take process {:?} into the poll", process.name())))?;
        self.living += 1;
        // It may have something to tell already.
        self.queue.push(source);
        self.look_after(id);
        Ok(())
    }

    /// Gives a process back; from now on its owner looks after it.
    pub fn remove(&mut self, id: ProcessId) -> Option<MessageProcess<B>> {
        self.forget(id);
        self.queue.remove(Source::Process(id.index()));
        let Member { process, unit, .. } = self.processes.remove(id)?;
        process.leave_start();
        match self.units.get_mut(unit.0) {
            Some(members) if members.is_group() => {
                members.remove(id);
                // The others may have waited for it.
                self.wake_unit(unit);
            }
            _ => {
                self.units.remove(unit.0);
                self.queue.remove(Source::Unit(unit.0.index()));
                self.timers.cancel(|due| matches!(due, Due::Unit(other) if *other == unit));
            }
        }
        Some(process)
    }

    /// Takes a process out of the poll, and takes back what is planned for it alone.
    fn forget(&mut self, id: ProcessId) {
        let Some(member) = self.processes.get_mut(id) else {
            return;
        };
        self.poller.remove(member.process.as_fd());
        member.leaving = None;
        if !matches!(std::mem::replace(&mut member.phase, Phase::Ended), Phase::Ended) {
            self.living -= 1;
        }
        self.timers.cancel(|due| due.is_of(id));
    }

    /// A process, unless it was removed. `manager[id]` does the same and panics instead.
    pub fn process(&self, id: ProcessId) -> Option<&MessageProcess<B>> {
        Some(&self.processes.get(id)?.process)
    }

    /// All processes, also those that have ended.
    pub fn iter(&self) -> impl Iterator<Item = (ProcessId, &MessageProcess<B>)> {
        self.processes.iter().map(|(id, member)| (id, &member.process))
    }

    /// How many processes it has, those that have ended included.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether it has no process.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many processes live, as far as it has been told.
    pub fn living(&self) -> usize {
        self.living
    }

    /// Stops what is left of a process, and starts it anew; waits until it is ready. What it has
    /// sent and was not taken yet is lost, and its old end is not told. Others of its group go on.
    ///
    /// # Errors
    ///
    /// As [`MessageProcess::restart`]; [`Error::Other`] for one that was removed.
    pub fn restart(&mut self, id: ProcessId) -> Result<()> {
        self.check_ours()?;
        self.forget(id);
        let Some(member) = self.processes.get_mut(id) else {
            return Err(format!("{id:?} was removed from its manager").into());
        };
        let unit = member.unit;
        let restarted = member.process.restart();
        member.replies_told = 0;
        let result = restarted.and_then(|()| self.register(id));
        if let Some(unit) = self.units.get_mut(unit.0) {
            match result {
                Ok(()) => unit.started_by_hand(id),
                Err(_) => unit.put_off(id),
            }
        }
        if let Some(member) = self.processes.get_mut(id) {
            if result.is_ok() {
                member.phase = Phase::Ready;
            } else if member.process.abandon() {
                // What was kept for it fails: nobody else starts it.
                self.queue.push(Source::Process(id.index()));
            }
        }
        self.wake_unit(unit);
        result
    }

    /// The processes whose handler, start or `post_run` has been running for longer than this:
    /// what they are in, since when, and where in the kernel.
    ///
    /// This only looks; [`Options::handler_timeout`](crate::Options::handler_timeout) also acts.
    pub fn stuck(&self, longer_than: Duration) -> Vec<(ProcessId, Busy)> {
        let busy = self.iter().filter_map(|(id, process)| {
            let busy = process.busy().filter(|busy| busy.since > longer_than)?;
            Some((id, process.busy_where().unwrap_or(busy)))
        });
        busy.collect()
    }

    // Descriptors, timers, signals.

    /// Tells [`Happening::Ready`] with this token while a descriptor is ready. A duplicate of it
    /// is watched, until [`Manager::unwatch`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: a regular file, for example, is always ready and cannot be watched.
    pub fn watch(&mut self, fd: impl AsFd, interest: Interest, token: Token) -> Result<()> {
        self.check_ours()?;
        self.poller
            .watch(fd.as_fd(), interest, token)
            .map_err(Error::io(format!("watch a descriptor for {token:?}")))
    }

    /// Ends the watches of this token; tells whether there were any.
    pub fn unwatch(&mut self, token: Token) -> bool {
        let ended = self.poller.unwatch(token);
        for index in &ended {
            self.queue.remove(Source::Watch(*index));
        }
        !ended.is_empty()
    }

    /// Tells [`Happening::Timer`] with this token once, when this time has passed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn after(&mut self, time: Duration, token: Token) -> Result<()> {
        self.set_timer(time, None, Due::User(token))
    }

    /// Tells [`Happening::Timer`] with this token each time this time has passed. Times that were
    /// missed are not made up for.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn every(&mut self, period: Duration, token: Token) -> Result<()> {
        let period = period.max(Duration::from_micros(1));
        self.set_timer(period, Some(period), Due::User(token))
    }

    /// Ends the timers of this token; tells whether there were any.
    pub fn cancel_timer(&mut self, token: Token) -> bool {
        // The kernel's timer may fire for nothing; then it is set anew.
        self.timers.cancel(|due| matches!(due, Due::User(other) if *other == token))
    }

    fn set_timer(&mut self, time: Duration, every: Option<Duration>, due: Due) -> Result<()> {
        self.check_ours()?;
        // One that is due after all time is never due.
        if let Some(at) = deadline::after(Instant::now(), time) {
            self.timers.add(at, every, due);
            self.arm()?;
        }
        Ok(())
    }

    fn arm(&mut self) -> Result<()> {
        self.poller.arm(self.timers.next_at()).map_err(Error::io("set a timer"))
    }

    /// Tells SIGINT and SIGTERM as [`Happening::Signal`], instead of what they do otherwise,
    /// until [`Manager::leave_signals`] or the manager's end. Starts no thread.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] while another manager of this process has them.
    pub fn handle_signals(&mut self) -> Result<()> {
        self.check_ours()?;
        if self.signals.is_some() {
            return Ok(());
        }
        let signals = Signals::new(&Signal::ALL.map(Signal::number));
        let take = || {
            signals.and_then(|signals| {
                self.poller.add(signals.as_fd(), Source::Signals)?;
                Ok(signals)
            })
        };
        self.signals = Some(take().map_err(Error::io("take over SIGINT and SIGTERM"))?);
        Ok(())
    }

    /// Gives SIGINT and SIGTERM back what they did before.
    pub fn leave_signals(&mut self) {
        self.signals = None;
        self.queue.remove(Source::Signals);
    }

    // The loop.

    /// Waits for what happens next: at most this long, or for ever with `None`.
    ///
    /// `Ok(None)` means that nothing happened in time; without a time limit, that nothing can
    /// happen any more, since there is no living process, timer, watched descriptor, handling of
    /// signals or [`Waker`]. So `while let Some(happening) = manager.next(None)?` ends with the
    /// last process.
    ///
    /// A planned restart begins here, and is told when it has come to its end: meanwhile, other
    /// things happen.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the kernel does not let us wait; [`Error::NotOurs`] in a fork. What
    /// goes wrong with one process is a [`Happening`].
    pub fn next(
        &mut self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Option<Happening<B::Event>>> {
        self.check_ours()?;
        let until = timeout.into().and_then(|timeout| deadline::after(Instant::now(), timeout));
        loop {
            while let Some(source) = self.next_turn() {
                if let Some(happening) = self.look_at(source)? {
                    self.poller.note_backlog();
                    return Ok(Some(happening));
                }
            }
            let timeout = if !self.queue.is_empty() {
                Some(Duration::ZERO)
            } else if self.may_happen() {
                until.map(|until| until.saturating_duration_since(Instant::now()))
            } else {
                return Ok(None);
            };
            let queue = &mut self.queue;
            self.poller
                .wait(timeout, |source| queue.push(source))
                .map_err(Error::io("wait for what happens"))?;
            // All that wait now have their turn before the kernel is asked again.
            self.turns = self.queue.len();
            if self.turns == 0 && until.is_some_and(|until| Instant::now() >= until) {
                return Ok(None);
            }
        }
    }

    fn next_turn(&mut self) -> Option<Source> {
        self.turns = self.turns.checked_sub(1)?;
        self.queue.pop()
    }

    pub(crate) fn may_happen(&self) -> bool {
        self.living > 0
            || !self.timers.is_empty()
            || self.signals.is_some()
            || self.poller.has_watches()
            || Arc::strong_count(&self.wake) > 1
    }

    fn look_at(&mut self, source: Source) -> Result<Option<Happening<B::Event>>> {
        Ok(match source {
            Source::Process(index) => self.processes.at(index).and_then(|id| self.ask(id)),
            Source::Unit(index) => self.units.at(index).and_then(|id| self.step(GroupId(id))),
            Source::Watch(index) => self.poller.tell(index).map(Happening::Ready),
            Source::Timers => self.take_timer()?,
            Source::Signals => self.take_signal(),
            Source::Wake => {
                self.wake.clear();
                Some(if self.wake.stops() { Happening::Stop } else { Happening::Woken })
            }
            Source::Backlog => None,
        })
    }

    fn take_timer(&mut self) -> Result<Option<Happening<B::Event>>> {
        let Some(due) = self.timers.pop_due(Instant::now()) else {
            self.arm()?;
            return Ok(None);
        };
        // Others may be due too.
        self.queue.push(Source::Timers);
        Ok(match due {
            Due::User(token) => Some(Happening::Timer(token)),
            Due::Unit(group) => self.step(group),
            Due::Start(id) => self.start_is_due(id),
            Due::Stop(id) => self.leave(id),
            Due::Watch(id) => {
                self.look_after(id);
                None
            }
        })
    }

    fn take_signal(&mut self) -> Option<Happening<B::Event>> {
        let number = self.signals.as_ref()?.take()?;
        self.queue.push(Source::Signals);
        Signal::from_number(number).map(Happening::Signal)
    }
}

impl<B: Backend> Index<ProcessId> for Manager<B> {
    type Output = MessageProcess<B>;

    /// # Panics
    ///
    /// Panics when the process was removed.
    #[track_caller]
    fn index(&self, id: ProcessId) -> &MessageProcess<B> {
        self.process(id).unwrap_or_else(|| panic!("{id:?} is not in this manager"))
    }
}

impl<B: Backend> AsFd for Manager<B> {
    /// One descriptor for any poll: readable while [`Manager::next`] may have something to tell.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.offer()
    }
}

impl<B: Backend> AsRawFd for Manager<B> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<B: Backend> Drop for Manager<B> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<B: Backend> fmt::Debug for Manager<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("processes", &self.len())
            .field("living", &self.living)
            .finish_non_exhaustive()
    }
}
