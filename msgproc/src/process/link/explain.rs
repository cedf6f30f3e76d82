//! Says in an error why something did not happen.

use std::time::{Duration, Instant};

use shmring::os::monotonic;

use super::{Link, Unmet};
use crate::{
    error::Error,
    kernel::{Busy, InKernel},
    start::Doing,
};

impl Link {
    /// Says in an error why something did not happen.
    pub(in crate::process) fn explain(&self, unmet: Unmet, action: &str, since: Instant) -> Error {
        let process = self.name().to_owned();
        match unmet {
            Unmet::Deadline => {
                let (action, after) = (action.into(), since.elapsed());
                let exit = self.lock().end.clone().map(Box::new);
                let busy = match exit {
                    Some(_) => None,
                    // Whoever only asks whether something is there does not wait for /proc.
                    None if after < Duration::from_millis(1) => self.busy(),
                    None => self.busy_where(),
                };
                Error::TimedOut { process, action, after, busy: busy.map(Box::new), exit }
            }
            Unmet::Ended(exit) if exit.stopped_by.is_some() && exit.is_clean() => {
                Error::Stopped { process }
            }
            Unmet::Ended(exit) => Error::PeerDied { process, exit: Box::new(exit) },
            Unmet::Full(count) => Error::QueueFull {
                process,
                reason: format!("{count} events have come and were not taken (`next_event`)"),
            },
            Unmet::Disconnected => Error::Disconnected { process },
            Unmet::Io(source) => {
                Error::Io { action: format!("wait for process {process:?}"), source }
            }
        }
    }

    /// What the backend is doing, by its control page. What one did that has ended is there too.
    pub(in crate::process) fn busy(&self) -> Option<Busy> {
        let (doing, since, _call) = self.page.doing();
        let with = match doing {
            Doing::Waiting => return None,
            Doing::Constructor => "its constructor".into(),
            Doing::PreRun => "pre_run".into(),
            Doing::PostRun => "post_run".into(),
            Doing::Descriptor => "on_ready".into(),
            Doing::Timer => "on_timer".into(),
            Doing::Other => "something else".into(),
            Doing::Command(index) => match self.command(index as usize) {
                Some(name) => format!("c__{name}"),
                None => "something else".into(),
            },
        };
        let since = Duration::from_nanos(monotonic().saturating_sub(since));
        Some(Busy { with, since, kernel: None })
    }

    /// The same, with where in the kernel it is.
    pub(in crate::process) fn busy_where(&self) -> Option<Busy> {
        let mut busy = self.busy()?;
        if !self.child.is_thread() {
            busy.kernel = InKernel::of(self.child.pid());
        }
        Some(busy)
    }

    /// The name of a command, by its number in the backend.
    fn command(&self, index: usize) -> Option<&str> {
        match self.told_commands.get() {
            Some(commands) => commands.get(index).map(String::as_str),
            None => self.commands.get(index).copied(),
        }
    }
}
