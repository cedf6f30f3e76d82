// A stand-in for msgproc, so that the macro is tested by itself: the backend lives in the same
// thread, but arguments and replies go through bytes as they do between processes.
//
// No inner attributes or documentation stand here, for examples include this file into a module.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[allow(unused_imports)]
pub mod __private {
    pub use super::{Backend, Call, Context, Incoming, MessageProcess, NoEvents, Outcome};
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller sees of a failure.
#[derive(Debug, PartialEq)]
pub enum Error {
    Unknown { command: String },
    BadArguments { reason: String },
    Failed { message: String },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl StdError for Error {}

pub trait Backend: Sized + 'static {
    type Event: Serialize + DeserializeOwned + Send + 'static;
    const COMMANDS: &'static [&'static str];
    fn pre_run(&mut self, _ctx: &mut Context<Self::Event>) -> Result<()> {
        Ok(())
    }
    fn post_run(&mut self, _ctx: &mut Context<Self::Event>) {}
    fn dispatch(
        &mut self,
        command: &str,
        incoming: Incoming<'_>,
        ctx: &mut Context<Self::Event>,
    ) -> Outcome;
}

#[derive(serde::Serialize, serde::Deserialize)]
pub enum NoEvents {}

pub struct Context<E = NoEvents> {
    pub events: Vec<E>,
}

impl<E> Context<E> {
    pub fn emit(&mut self, event: E) {
        self.events.push(event);
    }
}

pub struct Incoming<'a>(&'a [u8]);

impl Incoming<'_> {
    pub fn arguments<A: DeserializeOwned>(self) -> std::result::Result<A, Outcome> {
        match postcard::take_from_bytes(self.0) {
            Ok((arguments, [])) => Ok(arguments),
            Ok((_, rest)) => Err(Outcome(Err(Error::BadArguments {
                reason: format!("{} bytes left over", rest.len()),
            }))),
            Err(error) => Err(Outcome(Err(Error::BadArguments { reason: error.to_string() }))),
        }
    }
}

pub struct Outcome(Result<Vec<u8>>);

impl Outcome {
    pub fn reply<T: Serialize>(value: T) -> Outcome {
        Outcome(Ok(postcard::to_stdvec(&value).expect("the value serializes")))
    }

    pub fn result<T: Serialize, E>(result: std::result::Result<T, E>) -> Outcome
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        match result {
            Ok(value) => Outcome::reply(value),
            Err(error) => Outcome(Err(Error::Failed { message: error.into().to_string() })),
        }
    }

    pub fn unknown(command: &str) -> Outcome {
        Outcome(Err(Error::Unknown { command: command.to_owned() }))
    }
}

/// A backend in the same thread.
pub struct MessageProcess<B: Backend> {
    inner: RefCell<(B, Context<B::Event>)>,
}

impl<B: Backend> MessageProcess<B> {
    pub fn start(mut backend: B) -> Result<Self> {
        let mut context = Context { events: Vec::new() };
        backend.pre_run(&mut context)?;
        Ok(MessageProcess { inner: RefCell::new((backend, context)) })
    }

    pub fn call<A: Serialize, T: DeserializeOwned>(
        &self,
        command: &'static str,
        arguments: A,
    ) -> Call<T> {
        let bytes = postcard::to_stdvec(&arguments).expect("the arguments serialize");
        self.call_bytes(command, &bytes)
    }

    /// Runs a command with arguments that no macro has checked.
    pub fn call_bytes<T: DeserializeOwned>(&self, command: &str, bytes: &[u8]) -> Call<T> {
        let (backend, context) = &mut *self.inner.borrow_mut();
        Call { outcome: backend.dispatch(command, Incoming(bytes), context), reply: PhantomData }
    }

    pub fn stop(self) -> (B, Vec<B::Event>) {
        let (mut backend, mut context) = self.inner.into_inner();
        backend.post_run(&mut context);
        (backend, context.events)
    }
}

#[must_use]
pub struct Call<T> {
    outcome: Outcome,
    reply: PhantomData<T>,
}

impl<T: DeserializeOwned> Call<T> {
    pub fn wait(self) -> Result<T> {
        let bytes = self.outcome.0?;
        Ok(postcard::from_bytes(&bytes).expect("the reply has the type of the call"))
    }
}
