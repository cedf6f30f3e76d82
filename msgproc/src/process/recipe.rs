//! What a process that is no fork of its frontend is made from.

use std::{
    any::type_name,
    ffi::{OsStr, OsString},
    fmt,
};

use serde::{Serialize, de::DeserializeOwned};
use shmring::transfer::Parcel;

use super::{
    arrive::Greeting,
    backend::{Backend, Encode, IntoBackend},
    frontend::Start,
};
use crate::{
    error::{Error, Result},
    start::{NotMainProgram, Place, conjure, is_initialized},
};

/// Another program, to be executed as a backend: its file and its arguments.
///
/// The file is looked for in `PATH` unless its name has a slash in it. After these arguments the
/// program finds one that says where its control channel is; `msgproc::worker::run` reads it, and
/// `PROTOCOL.md` tells what to do with it in other languages.
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) file: OsString,
    pub(super) arguments: Vec<OsString>,
}

impl Program {
    /// The program in this file, without arguments.
    pub fn new(file: impl AsRef<OsStr>) -> Program {
        Program { file: file.as_ref().to_owned(), arguments: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Program {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Program {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        self.arguments.extend(arguments);
        self
    }
}

/// A state in the form in which it travels; the value lives until it has been sent.
pub(super) struct Travelling {
    pub(super) bytes: Vec<u8>,
    pub(super) parcel: Parcel,
    _value: Option<Box<dyn Encode>>,
}

type MakeState = dyn FnMut(&Start, u32) -> Result<Travelling> + Send;

/// The state that the constructor is given.
pub(super) struct Stated(Box<MakeState>);

impl Stated {
    /// The same at each start.
    pub(super) fn kept<S: Serialize + Send + 'static>(state: S) -> Stated {
        Stated(Box::new(move |_, to| {
            let (bytes, parcel) = state.encode(format_args!("the state of a backend"), to)?;
            Ok(Travelling { bytes, parcel, _value: None })
        }))
    }

    /// Made anew at each start.
    pub(super) fn made<S, M>(mut make: M) -> Stated
    where
        S: Serialize + 'static,
        M: FnMut(&Start) -> S + Send + 'static,
    {
        Stated(Box::new(move |start, to| {
            let state = make(start);
            let (bytes, parcel) = state.encode(format_args!("the state of a backend"), to)?;
            Ok(Travelling { bytes, parcel, _value: Some(Box::new(state)) })
        }))
    }

    /// For the process `to`.
    pub(super) fn encode(&mut self, start: &Start, to: u32) -> Result<Travelling> {
        (self.0)(start, to)
    }
}

impl fmt::Debug for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stated")
    }
}

/// A constructor that another process of this program finds, and its state.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) place: Place,
    pub(super) stated: Stated,
}

impl Recipe {
    /// # Errors
    ///
    /// [`Error::NotInitialized`], [`Error::NotMainProgram`].
    pub(super) fn new<B, S, C, R>(process: &str, stated: Stated, constructor: C) -> Result<Recipe>
    where
        B: Backend,
        S: DeserializeOwned + 'static,
        C: Fn(S, &Start) -> R + Copy + 'static,
        R: IntoBackend<Backend = B>,
    {
        // First whether it would help to have called `init`.
        let recipe = Recipe::of_copy(process, stated, constructor)?;
        check_initialized(process)?;
        Ok(recipe)
    }

    /// For a copy of this process as it is now, which need not be told what it is.
    pub(super) fn of_copy<B, S, C, R>(process: &str, stated: Stated, _: C) -> Result<Recipe>
    where
        B: Backend,
        S: DeserializeOwned + 'static,
        C: Fn(S, &Start) -> R + Copy + 'static,
        R: IntoBackend<Backend = B>,
    {
        let place = place_in_copy(process, enter::<B, S, C, R>, type_name::<(B, S, C)>())?;
        Ok(Recipe { place, stated })
    }
}

/// The place of a function that is to run in another process of this program.
pub(super) fn place_of<A, T>(process: &str, function: fn(A) -> T, of: &str) -> Result<Place> {
    let place = place_in_copy(process, function, of)?;
    check_initialized(process)?;
    Ok(place)
}

fn check_initialized(process: &str) -> Result<()> {
    match is_initialized() {
        true => Ok(()),
        false => Err(Error::NotInitialized { process: process.into() }),
    }
}

/// The same for a copy of this process, which executes nothing anew.
fn place_in_copy<A, T>(process: &str, function: fn(A) -> T, of: &str) -> Result<Place> {
    Place::of(function, of)
        .map_err(|NotMainProgram| Error::NotMainProgram { process: process.into() })
}

/// The life of a backend whose process runs the same program: what its place stands for.
fn enter<B, S, C, R>(greeting: Greeting) -> i32
where
    B: Backend,
    S: DeserializeOwned,
    C: Fn(S, &Start) -> R + Copy + 'static,
    R: IntoBackend<Backend = B>,
{
    if greeting.made_for() != Some(type_name::<(B, S, C)>()) {
        return greeting.refuse("its constructor is of another type");
    }
    let constructor: C = conjure();
    greeting.live(move |state: S, start: &Start| constructor(state, start).into_backend())
}
