//! What the two sides say to each other.
//!
//! A message is a header and a body. The header is one of the two enums below, in postcard; the
//! body is the value that travels (arguments, result, event, failure), in postcard too, and
//! nothing follows it. A body of another type than expected leaves bytes over or lacks some:
//! both are errors.

use std::{
    cell::Cell,
    fmt, thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shmring::transfer::{self, Parcel};

use crate::error::{Error, Result, Trace};

/// Changes whenever the meaning of a message changes: PROTOCOL.md says it for other programs, and
/// so the variants here and their fields keep their order.
pub(crate) const VERSION: u32 = 1;

/// The longest header, in bytes: an enum, some numbers, and the name of a command.
pub(crate) const MAX_HEADER: usize = 1024;

/// Room that is made for a header before it is written, in bytes.
const USUAL: usize = 128;

/// The most room that a thread keeps for the next value that it sends, in bytes.
const SPARED: usize = 16 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// From the frontend to the backend.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
pub(crate) enum Down<'a> {
    /// Run a handler; the body is the tuple of its arguments.
    Command {
        call: u64,
        name: &'a str,
        wants_reply: bool,
        /// Whether it overtakes those that are not.
        urgent: bool,
        /// 1, and one more for each process that had begun it and died.
        attempt: u32,
        /// When it need not begin any more, in nanoseconds of the monotonic clock; 0 for never.
        until: u64,
    },
    /// Leave when all before this is done.
    Stop,
    /// The first message to a process that is no fork of its frontend; the body says who it is.
    Hello,
    /// The second message to such a process; the body is the state for its constructor.
    Start,
    /// Answer at once, with nothing. Urgent.
    Probe { call: u64 },
}

/// From the backend to the frontend.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
pub(crate) enum Up {
    /// `pre_run` is done. The body is a list of the commands, or nothing where the frontend knows
    /// them: it is the same program.
    Ready { version: u32 },
    /// There will be no loop; the body is a [`Failure`].
    StartFailed,
    /// The handler is done; the body is its result.
    Reply { call: u64 },
    /// The handler did not come to a result; the body is a [`Failure`].
    ReplyFailed { call: u64 },
    /// The body is an event of the backend.
    Event,
    /// Something failed that nobody waits for; the body is a [`Failure`].
    Failed,
    /// It has written to a stream that is captured.
    Wrote,
}

/// Why there is no result.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// The command, or the stage of the start.
    pub(crate) at: String,
    pub(crate) message: String,
    pub(crate) chain: Vec<String>,
    pub(crate) location: Option<String>,
    pub(crate) backtrace: Option<String>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug, Clone, Copy)]
pub(crate) enum FailureKind {
    Failed,
    Panicked,
    Unknown,
    BadArguments,
    Cancelled,
    Stopped,
    Unsendable,
    /// Its deadline passed before it began.
    Late,
}

impl Failure {
    /// A failure that is said in one sentence.
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Box<Failure> {
        Box::new(Failure {
            kind,
            at: String::new(),
            message: message.into(),
            chain: Vec::new(),
            location: None,
            backtrace: None,
        })
    }

    pub(crate) fn at(mut self: Box<Self>, at: &str) -> Box<Failure> {
        self.at = at.into();
        self
    }

    fn split(self) -> (String, Box<Trace>) {
        let trace = Trace { chain: self.chain, location: self.location, backtrace: self.backtrace };
        (self.message, Box::new(trace))
    }

    /// What the one who waits for the start sees.
    pub(crate) fn into_start_error(self, process: &str) -> Error {
        let stage = self.at.clone();
        let (message, trace) = self.split();
        Error::PreRun { process: process.into(), stage, message, trace }
    }

    /// What the caller sees.
    pub(crate) fn into_error(self, process: &str) -> Error {
        let process = process.to_owned();
        let command = self.at.clone();
        match self.kind {
            FailureKind::Failed => {
                let (message, trace) = self.split();
                Error::Failed { process, command, message, trace }
            }
            FailureKind::Panicked => {
                let (message, trace) = self.split();
                Error::Panicked { process, command, message, trace }
            }
            FailureKind::Unknown => Error::UnknownCommand { process, command },
            FailureKind::BadArguments => {
                Error::BadArguments { process, command, reason: self.message }
            }
            FailureKind::Unsendable => Error::BadReply { process, command, reason: self.message },
            FailureKind::Cancelled => Error::Cancelled { process, command },
            FailureKind::Stopped => Error::Stopped { process },
            FailureKind::Late => Error::Late { process, command },
        }
    }
}

/// Puts a value and what travels beside it into bytes, for the process `to`.
pub(crate) fn encode<T: Serialize>(
    what: fmt::Arguments<'_>,
    to: u32,
    value: &T,
) -> Result<(Vec<u8>, Parcel)> {
    let room = SPARE.try_with(Cell::take).unwrap_or_default();
    let (bytes, parcel) = transfer::collect_for(to, || postcard::to_extend(value, room));
    let bytes = bytes.map_err(|error| {
        let reason = transfer::take_reason().unwrap_or_else(|| error.to_string());
        Error::Unsendable { what: what.to_string(), reason }
    })?;
    Ok((bytes, parcel))
}

/// The same, after a wait where too many messages with a block of the value are on their way: until
/// some have arrived, as one waits for room.
pub(crate) fn encode_until<T: Serialize>(
    what: fmt::Arguments<'_>,
    to: u32,
    value: &T,
    until: Option<Instant>,
) -> Result<(Vec<u8>, Parcel)> {
    loop {
        match encode(what, to, value) {
            Err(_)
                if transfer::take_crowded() && until.is_none_or(|until| Instant::now() < until) =>
            {
                thread::sleep(Duration::from_micros(100));
            }
            encoded => return encoded,
        }
    }
}

/// Takes the bytes of a value back that have been sent.
pub(crate) fn sent(mut bytes: Vec<u8>) {
    if bytes.capacity() <= SPARED {
        bytes.clear();
        // A thread that is ending keeps none.
        let _ = SPARE.try_with(|spare| spare.set(bytes));
    }
}

/// Puts a header into bytes.
pub(crate) fn header<T: Serialize>(header: &T) -> Result<Vec<u8>> {
    postcard::to_extend(header, Vec::with_capacity(USUAL)).map_err(Error::other)
}

/// Reads a value and what came beside it; bytes left over are an error.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], parcel: Parcel) -> Result<T, String> {
    match transfer::supply(parcel, || postcard::take_from_bytes::<T>(bytes)) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} of {} bytes are left over", rest.len(), bytes.len())),
        Err(error) => Err(match transfer::take_reason() {
            Some(reason) => reason,
            None => format!("{error} ({} bytes)", bytes.len()),
        }),
    }
}

/// Reads bytes as all that stands in a message.
pub(crate) fn take_apart(bytes: &[u8]) {
    let _ = postcard::take_from_bytes::<Down<'_>>(bytes);
    let _ = postcard::take_from_bytes::<Up>(bytes);
    let _ = decode::<Failure>(bytes, Parcel::default());
    let _ = decode::<(String, Vec<u64>, Option<f64>)>(bytes, Parcel::default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shmring::transfer::Descriptor;

    use super::*;

    #[test]
    fn bytes_left_over_are_refused() {
        let (mut bytes, parcel) = encode(format_args!("a value"), 1, &(1u8, "x")).unwrap();
        bytes.push(0);
        let error = decode::<(u8, String)>(&bytes, parcel).unwrap_err();
        assert_eq!(error, "1 of 4 bytes are left over");
        assert!(decode::<(u8, String, u8)>(&bytes[..3], Parcel::default()).is_err());
    }

    #[test]
    fn a_descriptor_that_did_not_come_is_refused() {
        let bytes = postcard::to_stdvec(&0u32).unwrap();
        assert!(decode::<Descriptor>(&bytes, Parcel::default()).is_err());
    }

    proptest! {
        #[test]
        fn headers_survive(
            call: u64, name in "[a-z_]{1,40}", wants_reply: bool, urgent: bool, attempt: u32,
            until: u64,
        ) {
            let header = Down::Command { call, name: &name, wants_reply, urgent, attempt, until };
            let bytes = postcard::to_stdvec(&header).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Down<'_>>(&bytes).unwrap(), header);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            take_apart(&bytes);
        }
    }
}
