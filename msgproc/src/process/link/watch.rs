//! Handlers that run too long.
//!
//! A backend says on its control page which handler runs and since when, and rings no bell for
//! that. So it is looked at when a handler could be overdue at the earliest: one that runs, when
//! its time is over; and none that has not begun yet before the shortest limit has passed. That is
//! one look in the time of the shortest limit, and none is seen late.

use std::time::{Duration, Instant};

use shmring::os::monotonic;

use super::{CLOSED_BUT_ALIVE, LOOK_AGAIN, Link, State};
use crate::{
    deadline,
    error::Error,
    kernel::Busy,
    process::options::OnTimeout,
    start::{Doing, KILL},
};

/// What is known of handlers that ran too long.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When to look; `None` before the first look.
    next: Option<Instant>,
    /// When the last one began that was found to be overdue.
    found: u64,
    /// What the backend was killed for.
    pub(super) killed_for: Option<Box<Busy>>,
}

impl Link {
    /// How long this handler may run.
    fn limit_of(&self, doing: Doing) -> Option<Duration> {
        let settings = &self.settings;
        match doing {
            Doing::Command(index) => {
                let name = self.commands.get(index as usize);
                let own = |name: &&str| {
                    let mut own = settings.command_timeouts.iter().rev();
                    own.find(|(command, _)| command == name).map(|(_, limit)| *limit)
                };
                name.and_then(own).or(settings.handler_timeout)
            }
            Doing::Descriptor | Doing::Timer | Doing::Other => settings.handler_timeout,
            // A start and a stop have limits of their own.
            Doing::Waiting | Doing::Constructor | Doing::PreRun | Doing::PostRun => None,
        }
    }

    fn shortest_limit(&self) -> Option<Duration> {
        let own = self.settings.command_timeouts.iter().map(|(_, limit)| *limit);
        own.chain(self.settings.handler_timeout).min()
    }

    /// Looks for a handler that runs too long, where it is time to; does what is to be done then,
    /// and says when to look again.
    pub(super) fn watch(&self, state: &mut State) -> Option<Instant> {
        let shortest = self.shortest_limit()?;
        if state.end.is_some() {
            return None;
        }
        let now = Instant::now();
        if let Some(next) = state.watch.next
            && now < next
        {
            return Some(next);
        }
        let mut next = deadline::after(now, shortest.max(LOOK_AGAIN))?;
        let (doing, since, _call) = self.page.doing();
        if let Some(limit) = self.limit_of(doing)
            && since != state.watch.found
        {
            let runs = Duration::from_nanos(monotonic().saturating_sub(since));
            match limit.checked_sub(runs) {
                Some(left) if !left.is_zero() => next = next.min(now + left),
                _ => self.overdue(state, since, limit),
            }
        }
        state.watch.next = Some(next);
        Some(next)
    }

    fn overdue(&self, state: &mut State, since: u64, limit: Duration) {
        state.watch.found = since;
        // It may have come to its end in this moment.
        let Some(busy) = self.busy_where().map(Box::new) else {
            return;
        };
        if self.settings.on_timeout == OnTimeout::Kill && self.child.signal(KILL) {
            state.watch.killed_for = Some(busy);
            return;
        }
        let process = self.name().into();
        state.outbox.note_failed(Error::Overdue { process, busy, limit });
    }

    /// Looks after the backend's handlers, for one who does not wait; says when to look again, which
    /// is also when a closed channel is an error.
    pub(in crate::process) fn look_after(&self) -> Option<Instant> {
        let mut state = self.lock();
        let next = self.watch(&mut state);
        let closed =
            state.closed_at.filter(|_| state.end.is_none()).map(|at| at + CLOSED_BUT_ALIVE);
        self.settle(&mut state);
        next.into_iter().chain(closed.filter(|at| *at > Instant::now())).min()
    }
}
