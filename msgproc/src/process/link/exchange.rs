//! What goes out over a link, and how what came is taken.

use std::{io, time::Instant};

use shmring::transfer::Parcel;

use super::{CLOSED_BUT_ALIVE, Item, Link, State, Unmet, Wait};
use crate::{
    channel::{Message, Outgoing},
    error::{Error, Result},
    exit::Exit,
    message::{Failure, decode},
    process::context::is_closed,
};

impl Link {
    /// Sends a message; waits for room until the deadline, or not at all.
    pub(in crate::process) fn send(
        &self,
        header: &[u8],
        body: &[u8],
        parcel: &Parcel,
        until: Option<Instant>,
        action: &str,
    ) -> Result<()> {
        let since = Instant::now();
        let outgoing = self.lock().port.outgoing(header, body, parcel)?;
        let sent = self.wait(until, Wait::Room, |state| try_send(state, &outgoing));
        match sent {
            Ok(Ok(())) => Ok(()),
            // The channel is closed: the reason is about to be known.
            Ok(Err(error)) if is_closed(&error) => {
                let soon = Instant::now() + CLOSED_BUT_ALIVE;
                match self.wait(Some(soon), Wait::End, |_| None::<()>) {
                    Err(Unmet::Deadline) | Ok(()) => {
                        Err(self.explain(Unmet::Disconnected, action, since))
                    }
                    Err(unmet) => Err(self.explain(unmet, action, since)),
                }
            }
            Ok(Err(source)) => {
                Err(Error::Io { action: format!("send to process {:?}", self.name()), source })
            }
            Err(unmet) => Err(self.explain(unmet, action, since)),
        }
    }

    /// Sends a message if there is room now.
    pub(in crate::process) fn try_send(&self, header: &[u8]) -> bool {
        let state = self.lock();
        let parcel = Parcel::default();
        let outgoing = state.port.outgoing(header, &[], &parcel);
        outgoing.is_ok_and(|outgoing| state.port.try_send(&outgoing).unwrap_or(false))
    }

    /// Numbers a call; one whose reply is wanted gets a place for it.
    pub(in crate::process) fn number_call(&self, wants_reply: bool) -> u64 {
        let mut state = self.lock();
        state.last_call += 1;
        let call = state.last_call;
        if wants_reply {
            state.calls.insert(call, None);
        }
        call
    }

    // Taking.

    /// Takes the reply of a call, if it is there.
    pub(in crate::process) fn take_reply(state: &mut State, call: u64) -> Option<Message> {
        state.calls.get(&call)?.as_ref()?;
        state.replies -= 1;
        state.calls.remove(&call)?
    }

    /// Whether the reply of a call is there. Receives what there is.
    pub(in crate::process) fn has_reply(&self, call: u64) -> bool {
        let now = Some(Instant::now());
        let found = self.wait(now, Wait::Message, |state| {
            matches!(state.calls.get(&call), Some(Some(_))).then_some(())
        });
        match found {
            Ok(()) => true,
            // Otherwise a wait would end at once, with an error.
            Err(unmet) => !matches!(unmet, Unmet::Deadline),
        }
    }

    /// Whether a reply waits to be taken, and how many have come in all.
    pub(in crate::process) fn replies(&self) -> (bool, u64) {
        let state = self.lock();
        (state.replies > 0, state.replies_come)
    }

    /// Receives what has come, and leaves it to be taken; gives the end, if that has come.
    pub(in crate::process) fn pump(&self) -> Option<Exit> {
        match self.wait(Some(Instant::now()), Wait::End, |_| None::<()>) {
            Err(Unmet::Ended(exit)) => Some(exit),
            _ => None,
        }
    }

    /// Forgets a call: its reply is dropped, now or when it comes.
    pub(in crate::process) fn forget(&self, call: u64) {
        let mut state = self.lock();
        if let Some(Some(_)) = state.calls.remove(&call) {
            state.replies -= 1;
            self.settle(&mut state);
        }
    }

    /// Waits for something that nobody asked for.
    pub(in crate::process) fn next_item(&self, until: Option<Instant>) -> Result<Item, Unmet> {
        self.wait(until, Wait::Message, |state| {
            if let Some(reason) = state.malformed.pop_front() {
                return Some(Item::Malformed(reason));
            }
            if let Some(message) = state.events.pop() {
                return Some(Item::Message(message));
            }
            let exit = state.end.as_ref()?;
            std::mem::take(&mut state.end_untold).then(|| Item::Ended(exit.clone()))
        })
    }

    /// Another program numbers its commands in its own order.
    pub(super) fn note_commands(&self, mut message: Message) -> Result<()> {
        let parcel = std::mem::take(&mut message.parcel);
        let malformed = |reason| Error::Malformed { reason };
        let body = message.body().map_err(malformed)?;
        if !body.is_empty() {
            let _ = self.told_commands.set(decode(body, parcel).map_err(malformed)?);
        }
        Ok(())
    }

    pub(in crate::process) fn read_failure(&self, mut message: Message) -> Result<Failure> {
        let parcel = std::mem::take(&mut message.parcel);
        message
            .body()
            .and_then(|body| decode(body, parcel))
            .map_err(|reason| Error::Malformed { reason })
    }

    /// The end, once it is known; and from now on it counts as told.
    pub(in crate::process) fn told_end(&self) -> Option<Exit> {
        let mut state = self.lock();
        state.end_untold = false;
        self.settle(&mut state);
        state.end.clone()
    }

    /// The end, if it is known or can be seen now.
    pub(in crate::process) fn exit(&self) -> Option<Exit> {
        if let Some(exit) = &self.lock().end {
            return Some(exit.clone());
        }
        // What has come meanwhile stays where it is, and so does its bell.
        let looked = self.wait(Some(Instant::now()), Wait::Room, |_| None::<()>);
        match looked {
            Err(Unmet::Ended(exit)) => Some(exit),
            _ => None,
        }
    }
}

fn try_send(state: &mut State, outgoing: &Outgoing<'_>) -> Option<io::Result<()>> {
    match state.port.try_send(outgoing) {
        Ok(true) => Some(Ok(())),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    }
}
