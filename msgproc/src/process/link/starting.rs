//! A start that has begun: whether it has come to its end.

use super::{Link, Wait};
use crate::{
    channel::Message,
    error::{Error, Result},
    message::{Up, VERSION},
};

impl Link {
    /// Waits until the backend is ready for commands. Nothing is left of one that does not become
    /// ready.
    pub(in crate::process) fn finish_start(&self) -> Result<()> {
        let until = self.started + self.settings.start_timeout;
        let ready = self
            .wait(Some(until), Wait::Message, |state| state.start.take())
            .map_err(|unmet| self.explain(unmet, "become ready", self.started))
            .and_then(|message| self.read_start(message));
        ready.inspect_err(|error| self.after_failed_start(error))
    }

    fn read_start(&self, message: Message) -> Result<()> {
        match postcard::from_bytes::<Up>(message.header()) {
            Ok(Up::Ready { version: VERSION }) => Ok(()),
            Ok(Up::Ready { version }) => Err(Error::Start {
                process: self.name().into(),
                reason: format!("it speaks version {version}, this program version {VERSION}"),
            }),
            _ => Err(self.read_failure(message)?.into_start_error(self.name())),
        }
    }
}
