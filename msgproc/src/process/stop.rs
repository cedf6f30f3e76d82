//! Stopping a backend in four steps, each bounded.

use std::time::{Duration, Instant};

use shmring::transfer::Parcel;

use super::link::{Link, Unmet, Wait};
use crate::{
    deadline,
    error::{Error, Result},
    exit::{Exit, StopStep},
    message::Down,
    start::{KILL, StopLevel, TERMINATE},
};

/// How long each step of a stop may take. A step of zero is passed over.
///
/// ```
/// use std::time::Duration;
/// let at_once = msgproc::StopOptions::default()
///     .graceful(Duration::ZERO)
///     .urgent(Duration::from_millis(100));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct StopOptions {
    graceful: Duration,
    urgent: Duration,
    terminate: Duration,
    kill: Duration,
}

impl Default for StopOptions {
    fn default() -> StopOptions {
        StopOptions {
            graceful: Duration::from_secs(5),
            urgent: Duration::from_secs(1),
            terminate: Duration::from_secs(1),
            kill: Duration::from_secs(5),
        }
    }
}

impl StopOptions {
    /// For the backend to finish what is queued; 5 seconds by default.
    pub fn graceful(mut self, timeout: Duration) -> Self {
        self.graceful = timeout;
        self
    }

    /// For the handler that runs now to come to its end; 1 second by default.
    pub fn urgent(mut self, timeout: Duration) -> Self {
        self.urgent = timeout;
        self
    }

    /// After SIGTERM; 1 second by default.
    pub fn terminate(mut self, timeout: Duration) -> Self {
        self.terminate = timeout;
        self
    }

    /// After SIGKILL; 5 seconds by default.
    pub fn kill(mut self, timeout: Duration) -> Self {
        self.kill = timeout;
        self
    }

    /// That it is killed, and waited for: by somebody after whom nobody could see to it.
    pub(crate) fn for_certain() -> StopOptions {
        let zero = Duration::ZERO;
        StopOptions::default().graceful(zero).urgent(zero).terminate(zero)
    }

    pub(crate) fn timeout(&self, step: StopStep) -> Duration {
        match step {
            StopStep::Graceful => self.graceful,
            StopStep::Urgent => self.urgent,
            StopStep::Terminate => self.terminate,
            StopStep::Kill => self.kill,
        }
    }
}

/// The steps of a stop.
pub(crate) const STEPS: [StopStep; 4] =
    [StopStep::Graceful, StopStep::Urgent, StopStep::Terminate, StopStep::Kill];

impl Link {
    /// Stops the backend, step after step, and says how it ended.
    pub(super) fn stop(&self, options: &StopOptions) -> Result<Exit> {
        self.check_ours()?;
        let since = Instant::now();
        for step in STEPS {
            if let Some(exit) = self.told_end() {
                return Ok(exit);
            }
            let timeout = options.timeout(step);
            if timeout.is_zero() {
                continue;
            }
            self.lock().stopping = Some(step);
            let until = deadline::after(Instant::now(), timeout);
            self.ask(step, until);
            match self.wait(until, Wait::End, |_| None::<()>) {
                Err(Unmet::Ended(_) | Unmet::Deadline) | Ok(()) => {}
                Err(unmet) => return Err(self.explain(unmet, "stop", since)),
            }
        }
        match self.told_end() {
            Some(exit) => Ok(exit),
            None => Err(self.explain(Unmet::Deadline, "stop", since)),
        }
    }

    fn ask(&self, step: StopStep, until: Option<Instant>) {
        let last_message = || postcard::to_stdvec(&Down::Stop).unwrap_or_default();
        match step {
            StopStep::Graceful => {
                self.page.ask_to_stop(StopLevel::Graceful);
                // Where there is no room until then, the next step does without.
                let _ = self.send(&last_message(), &[], &Parcel::default(), until, "stop");
            }
            StopStep::Urgent => {
                self.page.ask_to_stop(StopLevel::Urgent);
                // Wakes one that waits; one that has messages to read is awake.
                self.try_send(&last_message());
            }
            StopStep::Terminate => {
                self.child.signal(TERMINATE);
            }
            StopStep::Kill => {
                self.child.signal(KILL);
            }
        }
    }

    /// Begins a step of a stop and waits for nothing. `false` when there was no room for the
    /// message; the step begins when it is asked for again.
    pub(super) fn begin(&self, step: StopStep) -> bool {
        self.lock().stopping = Some(step);
        if step != StopStep::Graceful {
            self.ask(step, Some(Instant::now()));
            return true;
        }
        self.page.ask_to_stop(StopLevel::Graceful);
        let last_message = postcard::to_stdvec(&Down::Stop).unwrap_or_default();
        self.try_send(&last_message)
    }

    /// Asks the backend to leave, and does not wait for that.
    pub(super) fn request_stop(&self) -> Result<()> {
        self.check_ours()?;
        let mut state = self.lock();
        state.told_to_stop_late |= state.end.is_some();
        state.stopping.get_or_insert(StopStep::Graceful);
        drop(state);
        self.page.ask_to_stop(StopLevel::Graceful);
        let header = postcard::to_stdvec(&Down::Stop).unwrap_or_default();
        let until = deadline::after(Instant::now(), self.settings.send_timeout);
        match self.send(&header, &[], &Parcel::default(), until, "stop") {
            Err(Error::PeerDied { .. } | Error::Stopped { .. }) => Ok(()),
            other => other,
        }
    }

    /// Leaves nothing of a backend whose start failed. One that said why is leaving by itself.
    pub(super) fn after_failed_start(&self, error: &Error) {
        let _ = self.stop(&self.options_after_failed_start(error));
    }

    pub(super) fn options_after_failed_start(&self, error: &Error) -> StopOptions {
        let time_to_leave = match error {
            Error::PreRun { .. } => self.settings.stop.graceful,
            _ if self.child.is_thread() => Duration::from_millis(100),
            _ => Duration::ZERO,
        };
        StopOptions::for_certain().urgent(time_to_leave)
    }

    /// What a stop in order comes to.
    pub(super) fn verdict(&self, exit: Exit) -> Result<()> {
        if exit.is_clean() {
            return Ok(());
        }
        Err(Error::PeerDied { process: self.name().into(), exit: Box::new(exit) })
    }
}
