//! What a backend is: its commands and hooks.

use std::{backtrace::Backtrace, error::Error as StdError, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};
use shmring::transfer::Parcel;

use super::context::{Context, Token};
use crate::{
    error::{Result, causes},
    message::{self, Failure, FailureKind},
};

/// The side of a process that does the work. `#[backend]` writes this for an impl block.
pub trait Backend: Sized + 'static {
    /// Events the backend sends up; [`NoEvents`] when it sends none.
    type Event: Serialize + DeserializeOwned + Send + 'static;

    /// Names of the commands, in the order of the source.
    const COMMANDS: &'static [&'static str];

    /// Runs in the backend before its loop.
    ///
    /// # Errors
    ///
    /// An error ends the backend, `post_run` included, and reaches whoever started it.
    fn pre_run(&mut self, _ctx: &mut Context<Self::Event>) -> Result<()> {
        Ok(())
    }

    /// Runs in the backend after its loop: after a stop, a panic of a handler, the death of the
    /// frontend, and also when `pre_run` gave an error.
    fn post_run(&mut self, _ctx: &mut Context<Self::Event>) {}

    /// Runs when a descriptor is ready that [`Context::watch`] named by `token`.
    ///
    /// # Errors
    ///
    /// An error comes up as [`Event::Failed`](crate::Event::Failed); the backend lives on.
    fn on_ready(&mut self, _token: Token, _ctx: &mut Context<Self::Event>) -> Result<()> {
        Ok(())
    }

    /// Runs when a timer is due that [`Context::after`] or [`Context::every`] named by `token`.
    ///
    /// # Errors
    ///
    /// An error comes up as [`Event::Failed`](crate::Event::Failed); the backend lives on.
    fn on_timer(&mut self, _token: Token, _ctx: &mut Context<Self::Event>) -> Result<()> {
        Ok(())
    }

    /// Runs one command.
    fn dispatch(
        &mut self,
        command: &str,
        incoming: Incoming<'_>,
        ctx: &mut Context<Self::Event>,
    ) -> Outcome;
}

/// What a constructor may give: a backend, or a `Result` with one.
pub trait IntoBackend {
    /// The backend.
    type Backend: Backend;

    /// Gives it, or the reason why there is none.
    ///
    /// # Errors
    ///
    /// Those of the constructor.
    fn into_backend(self) -> Result<Self::Backend, Box<dyn StdError + Send + Sync>>;
}

impl<B: Backend> IntoBackend for B {
    type Backend = B;

    fn into_backend(self) -> Result<B, Box<dyn StdError + Send + Sync>> {
        Ok(self)
    }
}

impl<B, E> IntoBackend for Result<B, E>
where
    B: Backend,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    type Backend = B;

    fn into_backend(self) -> Result<B, Box<dyn StdError + Send + Sync>> {
        self.map_err(Into::into)
    }
}

/// The event type of a backend that sends no events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoEvents {}

impl Serialize for NoEvents {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }
}

impl<'de> Deserialize<'de> for NoEvents {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<NoEvents, D::Error> {
        Err(de::Error::custom("this backend has no events"))
    }
}

/// The arguments of a command, as they came.
#[derive(Debug)]
pub struct Incoming<'a> {
    body: Result<&'a [u8], String>,
    parcel: Parcel,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(body: Result<&'a [u8], String>, parcel: Parcel) -> Incoming<'a> {
        Incoming { body, parcel }
    }

    /// Reads the tuple of the arguments.
    ///
    /// # Errors
    ///
    /// The answer to give when they cannot be read, or when bytes are left over.
    pub fn arguments<A: DeserializeOwned>(self) -> Result<A, Outcome> {
        self.body
            .and_then(|bytes| message::decode(bytes, self.parcel))
            .map_err(|reason| Outcome::failure(Failure::new(FailureKind::BadArguments, reason)))
    }
}

/// A value that becomes bytes when it is sent, and lives until then.
pub(super) trait Encode {
    fn encode(&self, what: fmt::Arguments<'_>, to: u32) -> Result<(Vec<u8>, Parcel)>;
}

impl<T: Serialize> Encode for T {
    fn encode(&self, what: fmt::Arguments<'_>, to: u32) -> Result<(Vec<u8>, Parcel)> {
        message::encode(what, to, self)
    }
}

/// How a command ended.
pub struct Outcome(pub(super) Result<Box<dyn Encode>, Box<Failure>>);

impl Outcome {
    /// The handler gave this value.
    pub fn reply<T: Serialize + 'static>(value: T) -> Outcome {
        Outcome(Ok(Box::new(value)))
    }

    /// The handler gave this result. Of an error its text travels, and the texts of its sources.
    pub fn result<T, E>(result: Result<T, E>) -> Outcome
    where
        T: Serialize + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        match result {
            Ok(value) => Outcome::reply(value),
            Err(error) => Outcome::failure(failure_of(&*error.into())),
        }
    }

    /// There is no such command.
    pub fn unknown(command: &str) -> Outcome {
        let message = format!("no command {command:?}");
        Outcome::failure(Failure::new(FailureKind::Unknown, message))
    }

    fn failure(failure: Box<Failure>) -> Outcome {
        Outcome(Err(failure))
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(_) => f.write_str("Outcome::reply(..)"),
            Err(failure) => f.debug_tuple("Outcome").field(failure).finish(),
        }
    }
}

/// What travels of an error.
pub(super) fn failure_of(error: &(dyn StdError + 'static)) -> Box<Failure> {
    let mut failure = Failure::new(FailureKind::Failed, error.to_string());
    failure.chain.extend(causes(error).map(ToString::to_string));
    let backtrace = Backtrace::capture();
    failure.backtrace = matches!(backtrace.status(), std::backtrace::BacktraceStatus::Captured)
        .then(|| backtrace.to_string());
    failure
}
