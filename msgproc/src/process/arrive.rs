//! How a process that is no fork of its frontend becomes a backend.

use std::{
    error::Error as StdError,
    os::fd::{AsFd, OwnedFd},
    process,
    sync::Arc,
};

use serde::de::DeserializeOwned;
use shmring::{
    named::Ledger,
    os::{self, PollFd},
    transfer::{Descriptor, Parcel},
};

use super::{
    backend::Backend,
    context::Core,
    frontend::Start,
    hello::Hello,
    inbox::Inbox,
    run::{self, FAILED},
};
use crate::{
    channel::{Message, Port, Received},
    message::{Down, Failure, FailureKind, Up, VERSION, decode},
    start::{self, KeptFd, Page, Streams, TextFile},
};

/// The exit code of a program that was told to be a backend by somebody who cannot.
const MISUSED: i32 = 2;

/// What came over the control channel before the life of the process begins.
#[derive(Debug)]
pub(super) struct Greeting {
    port: Port<KeptFd>,
    page: Arc<Page>,
    hello: Hello,
}

/// Looks whether this process was started to be a backend, or a fork server, of a program that
/// runs the same file; if so, it lives that life and ends here.
///
/// Call it first in `main`, before threads are started and arguments are read. Without it,
/// [`MessageProcess::spawn`](crate::MessageProcess::spawn) and
/// [`ForkServer`](crate::ForkServer) refuse to start anything: the new process would begin the
/// whole program all over.
///
/// ```no_run
/// fn main() -> msgproc::Result<()> {
///     msgproc::init();
///     // ... the program
/// #   Ok(())
/// }
/// ```
///
/// In a function under `#[tokio::main]` the runtime has started its threads already: each backend
/// would have them too, and a fork server refuses to start. Build the runtime in `main` behind
/// this; the module `tokio` (of the feature of that name) has an example.
pub fn init() {
    start::note_initialized();
    match start::spawned() {
        Ok(None) => {}
        Ok(Some(control)) => process::exit(arrive(control)),
        Err(reason) => {
            eprintln!("{reason}");
            process::exit(MISUSED);
        }
    }
}

/// Waits for the first message, or for the end of the server that has forked this ahead: then
/// there will be none. After that as [`arrive`].
pub(super) fn arrive_later(control: OwnedFd, server: OwnedFd) -> i32 {
    start::rename("spare");
    loop {
        let mut fds = [PollFd::readable(control.as_fd()), PollFd::readable(server.as_fd())];
        match os::poll(&mut fds, None) {
            // What has been sent while the server lived is a life.
            Ok(_) if fds[0].is_ready() => break,
            Ok(_) if fds[1].is_ready() => return 0,
            Ok(_) => {}
            Err(error) => return give_up(&error.to_string()),
        }
    }
    drop(server);
    arrive(control)
}

/// Says why there will be no life; gives the exit code.
fn give_up(reason: &str) -> i32 {
    eprintln!("a new process of msgproc gives up: {reason}");
    FAILED
}

/// Lives the life that the first message tells; gives the exit code.
pub(super) fn arrive(control: OwnedFd) -> i32 {
    let greeting = match Greeting::receive(control) {
        Ok(Some(greeting)) => greeting,
        // The frontend is gone already.
        Ok(None) => return 0,
        Err(reason) => return give_up(&reason),
    };
    let Some(entry) = greeting.hello.entry.clone() else {
        return greeting.refuse("it was not told what to do");
    };
    match entry.find::<Greeting, i32>() {
        Ok(function) => function(greeting),
        Err(reason) => greeting.refuse(&reason),
    }
}

impl Greeting {
    /// Receives the first message, and settles in. `None` where the frontend is gone.
    pub(super) fn receive(control: OwnedFd) -> Result<Option<Greeting>, String> {
        let mut port = Port::new(KeptFd::new(control)).map_err(text)?;
        let Some(mut message) = next(&mut port)? else { return Ok(None) };
        match postcard::take_from_bytes::<Down<'_>>(message.header()) {
            Ok((Down::Hello, [])) => {}
            _ => return Err("the first message is no greeting".into()),
        }
        let mut hello: Hello = read(&mut message)?;
        let page = Page::from_fd(&take(&mut hello.page)?).map_err(text)?;
        let mut greeting = Greeting { port, page: Arc::new(page), hello };
        match greeting.settle_in() {
            Ok(()) => Ok(Some(greeting)),
            Err(reason) => {
                greeting.send_failure(&reason);
                Err(reason)
            }
        }
    }

    fn settle_in(&mut self) -> Result<(), String> {
        let hello = &mut self.hello;
        if !(hello.oldest..=hello.newest).contains(&VERSION) {
            return Err(format!(
                "it speaks version {VERSION} of the protocol, its frontend {} to {}",
                hello.oldest, hello.newest
            ));
        }
        let names = Ledger::from_fd(take(&mut hello.names)?).map_err(text)?;
        let lifelines = std::mem::take(&mut hello.lifelines).into_iter().map(Into::into).collect();
        let mut streams = Streams::default();
        for (to, from) in streams.fds.iter_mut().zip(std::mem::take(&mut hello.streams)) {
            *to = from.map(|fd| Arc::new(fd.into_inner()));
        }
        // A fork server ignores it, and what it forks does as well until here.
        if hello.entry.is_some() && !hello.ignore_sigint {
            start::heed_sigint();
        }
        start::settle_in(&hello.name, hello.hygiene(), &self.page, lifelines, names, &streams)
            .map_err(|error| format!("cannot be set up: {error}"))
    }

    /// For which type the function was made that is the life of this process.
    pub(super) fn made_for(&self) -> Option<&str> {
        self.hello.entry.as_ref().map(|place| &place.of[..])
    }

    /// Tells the frontend that there will be no life; gives the exit code.
    pub(super) fn refuse(mut self, reason: &str) -> i32 {
        self.send_failure(reason);
        FAILED
    }

    fn send_failure(&mut self, reason: &str) {
        let failure = Failure::new(FailureKind::Failed, reason).at("its arrival");
        let header = postcard::to_stdvec(&Up::StartFailed);
        let (Ok(header), Ok(body)) = (header, postcard::to_stdvec(&failure)) else { return };
        let parcel = Parcel::default();
        if let Ok(outgoing) = self.port.outgoing(&header, &body, &parcel) {
            let _ = self.port.try_send(&outgoing);
        }
    }

    /// Lives the life of a backend that this constructor makes from its state.
    pub(super) fn live<B: Backend, S: DeserializeOwned>(
        mut self,
        construct: impl FnOnce(S, &Start) -> Result<B, Box<dyn StdError + Send + Sync>>,
    ) -> i32 {
        let state = match self.receive_state() {
            Ok(Some(state)) => state,
            Ok(None) => return 0,
            Err(reason) => return self.refuse(&reason),
        };
        let start = self.hello.start();
        let (on_panic, surroundings) = (self.hello.on_panic(), self.hello.surroundings.take());
        let core = self.into_core();
        run::live(core, on_panic, true, || {
            surroundings.map_or(Ok(()), |surroundings| surroundings.apply())?;
            construct(state, &start)
        })
    }

    /// The second message: the state.
    fn receive_state<S: DeserializeOwned>(&mut self) -> Result<Option<S>, String> {
        let Some(mut message) = next(&mut self.port)? else { return Ok(None) };
        match postcard::take_from_bytes::<Down<'_>>(message.header()) {
            Ok((Down::Start, [])) => {}
            _ => return Err("the second message has no state".into()),
        }
        read(&mut message).map(Some).map_err(|reason| format!("its state cannot be read: {reason}"))
    }

    fn into_core(self) -> Core {
        let inbox = Inbox::new(self.hello.limits());
        let texts = self.hello.texts.into_iter().map(|fd| TextFile::from_fd(fd.into_inner()));
        Core::new(
            &self.hello.name,
            self.hello.frontend,
            self.port,
            self.page,
            inbox,
            self.hello.send_timeout,
            texts.collect(),
        )
    }
}

/// Waits for a message; `None` where the frontend is gone.
fn next(port: &mut Port<KeptFd>) -> Result<Option<Message>, String> {
    loop {
        match port.receive(true).map_err(text)? {
            Received::Message(message) => return Ok(Some(message)),
            Received::Malformed(reason) => return Err(reason),
            Received::Nothing => {}
            Received::Closed => return Ok(None),
        }
    }
}

fn read<T: DeserializeOwned>(message: &mut Message) -> Result<T, String> {
    let parcel = std::mem::take(&mut message.parcel);
    message.body().and_then(|body| decode(body, parcel))
}

/// Takes a descriptor out of the greeting; what stays there is never looked at again.
fn take(place: &mut Descriptor) -> Result<OwnedFd, String> {
    place.as_fd().try_clone_to_owned().map_err(text)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
