//! A start that has begun: whether it has come to its end.

use std::time::Instant;

use super::{Link, State, Unmet, Wait};
use crate::{
    channel::Message,
    deadline,
    error::{Error, Result},
    message::{Up, VERSION},
    start::Lane,
};

impl Link {
    /// Waits until the backend is ready for commands. Nothing is left of one that does not become
    /// ready.
    pub(in crate::process) fn finish_start(&self) -> Result<()> {
        let until = deadline::after(self.started, self.settings.start_timeout);
        // What is touched between the message and the first command, while there is time.
        self.lock().port.expect();
        self.page.begun(Lane::Ordinary);
        let ready = self
            .wait(until, Wait::Message, State::take_start)
            .map_err(|unmet| self.explain(unmet, "become ready", self.started))
            .and_then(|message| self.read_start(message));
        ready.inspect_err(|error| self.after_failed_start(error))
    }

    /// Whether the backend has become ready, if that is known now; waits for nothing. One that
    /// did not become ready is still to be ended.
    pub(in crate::process) fn try_start(&self) -> Option<Result<()>> {
        match self.wait(Some(Instant::now()), Wait::Message, State::take_start) {
            Ok(message) => Some(self.read_start(message)),
            // It waits until some of its events are taken.
            Err(Unmet::Full(_)) => None,
            Err(Unmet::Deadline) if self.started.elapsed() < self.settings.start_timeout => None,
            Err(unmet) => Some(Err(self.explain(unmet, "become ready", self.started))),
        }
    }

    /// Nobody asks any more how the start comes out; a failure comes up like any other.
    pub(in crate::process) fn leave_start(&self) {
        let mut state = self.lock();
        state.start_awaited = false;
        if let Some(message) = state.start.take() {
            self.route(&mut state, message);
        }
        self.settle(&mut state);
    }

    fn read_start(&self, message: Message) -> Result<()> {
        match postcard::from_bytes::<Up>(message.header()) {
            Ok(Up::Ready { version: VERSION }) => self.note_commands(message),
            Ok(Up::Ready { version }) => Err(Error::Start {
                process: self.name().into(),
                reason: format!("it speaks version {version}, this program version {VERSION}"),
            }),
            _ => Err(self.read_failure(message)?.into_start_error(self.name())),
        }
    }
}

impl State {
    fn take_start(&mut self) -> Option<Message> {
        let message = self.start.take()?;
        self.start_awaited = false;
        Some(message)
    }
}
