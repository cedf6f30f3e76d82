//! The ways in which a backend comes to life, and what is common to them.

use std::{
    error::Error as StdError,
    ffi::OsString,
    fmt, io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use shmring::{os, transfer::Descriptor};

use super::{
    again::RestartCause,
    backend::{Backend, IntoBackend},
    context::Core,
    frontend::Start,
    hello::{Hello, streams},
    inbox::Inbox,
    link::{Link, Parts},
    options::Settings,
    recipe::{Program, Recipe, Stated},
    run,
    server::ForkServer,
    stop::StopOptions,
};
use crate::{
    channel::{self, Port},
    deadline,
    error::{Error, Result},
    message::{Down, MAX_HEADER, encode},
    start::{
        self, Child, EXECUTED, KeptFd, Page, Place, Streams, THIS_PROGRAM, Target, TextFile,
        arguments_of_spawned, check_limits, is_shortage,
    },
};

/// What makes a backend in a copy of this process, or in this process.
pub(super) type Construct<B> =
    Box<dyn FnMut(&Start) -> Result<B, Box<dyn StdError + Send + Sync>> + Send + 'static>;

/// Makes constructors of all kinds into one.
pub(super) fn construct<B, C, R>(mut constructor: C) -> Arc<Mutex<Construct<B>>>
where
    B: Backend,
    C: FnMut(&Start) -> R + Send + 'static,
    R: IntoBackend<Backend = B>,
{
    let construct: Construct<B> = Box::new(move |start| constructor(start).into_backend());
    Arc::new(Mutex::new(construct))
}

/// How a process is started, again and again.
pub(super) enum Way<B: Backend> {
    Fork(Arc<Mutex<Construct<B>>>),
    Thread(Arc<Mutex<Construct<B>>>),
    Spawn(Recipe),
    Served(ForkServer, Recipe),
    Exec(Program, Stated),
}

/// What both sides have before there is a process.
struct Prepared {
    parts: Parts,
    streams: Streams,
    start: Start,
}

/// The same, and the descriptor by which the process finds its control page.
type Greeted = (Prepared, OwnedFd);

impl<B: Backend> Way<B> {
    /// Starts a backend, and does not wait until it is ready.
    pub(super) fn launch(
        &mut self,
        settings: Settings,
        cause: Option<RestartCause>,
    ) -> Result<Arc<Link>> {
        self.begin(settings, cause).map(Arc::new)
    }

    fn begin(&mut self, settings: Settings, cause: Option<RestartCause>) -> Result<Link> {
        let start = Start {
            name: settings.name.clone(),
            restarts: cause.as_ref().map_or(0, |cause| cause.number),
            frontend: os::pid(),
            cause: cause.map(Box::new),
        };
        match self {
            Way::Fork(construct) => {
                let (prepared, theirs) = Prepared::for_copy(&settings, start)?;
                begin_fork(settings, prepared, theirs, construct)
            }
            Way::Thread(construct) => {
                let (prepared, theirs) = Prepared::for_copy(&settings, start)?;
                begin_thread(settings, prepared, theirs, construct)
            }
            Way::Spawn(Recipe { place, stated }) => {
                let (prepared, theirs) = Prepared::to_execute(&settings, start)?;
                let arguments = arguments_of_spawned(&settings.name);
                let start = |prepared: &Prepared, settings: &Settings| {
                    prepared.execute(theirs, settings, THIS_PROGRAM.as_ref(), &arguments)
                };
                greet::<B>(settings, prepared, Some(place.clone()), stated, true, start)
            }
            Way::Served(server, recipe) => begin_served::<B>(settings, &start, server, recipe),
            Way::Exec(program, stated) => {
                let (prepared, theirs) = Prepared::to_execute(&settings, start)?;
                let mut arguments: Vec<OsString> = vec![program.file.clone()];
                arguments.extend(program.arguments.iter().cloned());
                arguments.push(EXECUTED.into());
                let start = |prepared: &Prepared, settings: &Settings| {
                    let child = prepared.execute(theirs, settings, &program.file, &arguments)?;
                    // It knows nothing of them, so they are given to it from outside.
                    settings.surroundings.apply_to(child.pid()).map_err(|reason| {
                        child.end();
                        Error::Start { process: settings.name.clone(), reason }
                    })?;
                    Ok(child)
                };
                greet::<B>(settings, prepared, None, stated, true, start)
            }
        }
    }
}

/// How often a start is tried whose fork server ends meanwhile.
const SERVERS: usize = 4;

/// What the server has forked ends with it until it is greeted. So where the server has ended by
/// the time that the greeting is there, nobody may have read that: the start is made again by the
/// next server. What is greeted while its server lives outlives it.
fn begin_served<B: Backend>(
    settings: Settings,
    start: &Start,
    server: &ForkServer,
    Recipe { place, stated }: &mut Recipe,
) -> Result<Link> {
    let until = deadline::moment_after(Instant::now(), settings.start_timeout);
    for _ in 0..SERVERS {
        let unborn = match server.take(&settings.name, until) {
            Err(Error::PeerDied { .. }) => {
                server.revive()?;
                continue;
            }
            unborn => unborn?,
        };
        let parent = unborn.server;
        let prepared = Prepared::to_greet(&settings, start.clone(), unborn.control)?;
        let taken = |_: &Prepared, _: &Settings| Ok(unborn.child);
        let begun =
            greet::<B>(settings.clone(), prepared, Some(place.clone()), stated, false, taken);
        if server.lives(parent) {
            server.look_ahead();
            return begun;
        }
        if let Ok(link) = begun {
            link.after_failed_start(&server_ended(&settings.name));
        }
    }
    Err(server_ended(&settings.name))
}

fn server_ended(process: &str) -> Error {
    Error::Start { process: process.into(), reason: "its fork server ended meanwhile".into() }
}

/// Where the kernel has no more room, the error says of what, and how to get some.
fn failed(process: &str) -> impl Fn(io::Error) -> Error {
    move |error| match check_limits(1) {
        Err(limit) if is_shortage(&error) => limit,
        _ => Error::Start { process: process.into(), reason: error.to_string() },
    }
}

impl Prepared {
    /// For a backend that has the memory of this process; gives its end of the channel too.
    fn for_copy(settings: &Settings, start: Start) -> Result<(Prepared, OwnedFd)> {
        let prepare = || {
            let (ours, theirs) = channel::pair()?;
            let prepared = Prepared::new(settings, start, KeptFd::new(ours), Page::new()?)?;
            Ok((prepared, theirs))
        };
        prepare().map_err(failed(&settings.name))
    }

    /// For one that is greeted over a new channel; gives its end of that, too.
    fn to_execute(settings: &Settings, start: Start) -> Result<(Greeted, OwnedFd)> {
        let (ours, theirs) = channel::pair().map_err(failed(&settings.name))?;
        let (mut prepared, page) = Prepared::to_greet(settings, start, KeptFd::new(ours))?;
        prepared.parts.soon_ready = false;
        Ok(((prepared, page), theirs))
    }

    /// For one that is greeted over this channel.
    fn to_greet(settings: &Settings, start: Start, ours: KeptFd) -> Result<Greeted> {
        let prepare = || {
            let (page, page_fd) = Page::with_fd()?;
            Ok((Prepared::new(settings, start, ours, page)?, page_fd))
        };
        prepare().map_err(failed(&settings.name))
    }

    fn new(settings: &Settings, start: Start, ours: KeptFd, page: Page) -> io::Result<Prepared> {
        let socket = Arc::new(ours);
        let (streams, texts) = streams(&settings.stdio)?;
        let port = Port::new(socket.clone())?;
        let parts = Parts { port, socket, page: Arc::new(page), texts, soon_ready: true };
        Ok(Prepared { parts, streams, start })
    }

    /// Executes a program.
    fn execute(
        &self,
        theirs: OwnedFd,
        settings: &Settings,
        program: &std::ffi::OsStr,
        arguments: &[OsString],
    ) -> Result<Child> {
        let Settings { name, surroundings, hygiene, .. } = settings;
        let streams = &self.streams;
        let block_sigint = hygiene.ignore_sigint;
        let target = Target { program, arguments, streams, surroundings, block_sigint };
        target.start(&theirs).map_err(|error| {
            let otherwise = || format!("cannot execute {}: {error}", program.display());
            let reason = surroundings.why_no_directory().unwrap_or_else(otherwise);
            Error::Start { process: name.clone(), reason }
        })
    }
}

/// Greets a process that is no fork of this one, and is there once `start` has given it. The
/// greeting waits in the channel before, so that the new process need not wait for it; the state
/// follows when its receiver is known, for blocks in it are given to that one.
fn greet<B: Backend>(
    settings: Settings,
    (prepared, page): Greeted,
    entry: Option<Place>,
    stated: &mut Stated,
    executed: bool,
    start: impl FnOnce(&Prepared, &Settings) -> Result<Child>,
) -> Result<Link> {
    let name = settings.name.clone();
    let page = Descriptor::from(page);
    let hello = Hello::new(
        &settings,
        &prepared.start,
        page,
        &prepared.streams,
        &prepared.parts.texts,
        executed,
        entry,
    )?;
    let (body, parcel) = encode(format_args!("the greeting of a process"), 0, &hello)?;
    let header = header(&Down::Hello)?;
    let outgoing = prepared.parts.port.outgoing(&header, &body, &parcel)?;
    if !prepared.parts.port.try_send(&outgoing).map_err(failed(&name))? {
        return Err(Error::Start { process: name, reason: "its channel is full".into() });
    }
    drop(outgoing);

    let child = start(&prepared, &settings)?;
    let Prepared { parts, start, .. } = prepared;
    parts.page.keep_from_forks().map_err(failed(&name))?;
    let until = deadline::after(Instant::now(), settings.start_timeout);
    let link = Link::new(settings, B::COMMANDS, child, parts).map_err(failed(&name))?;
    // It would wait for its state until its time is over.
    let waiting = EndedOnDrop(Some(&link));
    let state = stated.encode(&start, link.child.pid())?;
    let header = self::header(&Down::Start)?;
    match link.send(&header, &state.bytes, &state.parcel, until, "take its state") {
        Ok(()) => {
            state.parcel.sent();
            waiting.keep();
            Ok(link)
        }
        // It may have said why it did not wait for its state.
        Err(
            error @ (Error::PeerDied { .. } | Error::Disconnected { .. } | Error::Stopped { .. }),
        ) => {
            waiting.keep();
            Err(match link.finish_start() {
                Err(said @ (Error::PreRun { .. } | Error::PeerDied { .. })) => said,
                _ => error,
            })
        }
        Err(error) => Err(error),
    }
}

/// A process that is ended if what it waits for does not come: also where that panics.
struct EndedOnDrop<'a>(Option<&'a Link>);

impl EndedOnDrop<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for EndedOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.0 {
            let _ = link.stop(&StopOptions::for_certain());
        }
    }
}

fn header(down: &Down<'_>) -> Result<Vec<u8>> {
    let header = postcard::to_stdvec(down).map_err(Error::other)?;
    debug_assert!(header.len() <= MAX_HEADER);
    Ok(header)
}

fn begin_fork<B: Backend>(
    settings: Settings,
    prepared: Prepared,
    theirs: OwnedFd,
    construct: &Mutex<Construct<B>>,
) -> Result<Link> {
    let Prepared { parts, streams, start } = prepared;
    let name = settings.name.clone();
    let texts = parts.texts.for_writer().map_err(failed(&name))?;
    let page = parts.page.clone();
    let body = || backend_side(&settings, theirs, page, texts, &start, construct, true);
    let child = start::fork(&name, settings.hygiene, &parts.page, &streams, body)?;
    Link::new(settings, B::COMMANDS, child, parts).map_err(failed(&name))
}

fn begin_thread<B: Backend>(
    settings: Settings,
    prepared: Prepared,
    theirs: OwnedFd,
    construct: &Arc<Mutex<Construct<B>>>,
) -> Result<Link> {
    let Prepared { parts, start, .. } = prepared;
    let name = settings.name.clone();
    if !settings.surroundings.are_ours() {
        let reason = "a thread has the surroundings of its program".into();
        return Err(Error::Start { process: name, reason });
    }
    let (page, construct, for_thread) = (parts.page.clone(), construct.clone(), settings.clone());
    let body =
        move || backend_side(&for_thread, theirs, page, Vec::new(), &start, &construct, false);
    // A thread is called what a process would be.
    let builder = thread::Builder::new().name(name.replace('\0', ""));
    let child = Child::thread(builder.spawn(body).map_err(failed(&name))?);
    Link::new(settings, B::COMMANDS, child, parts).map_err(failed(&name))
}

/// All that runs on the other side of a fork, or of a thread.
fn backend_side<B: Backend>(
    settings: &Settings,
    socket: OwnedFd,
    page: Arc<Page>,
    texts: Vec<TextFile>,
    start: &Start,
    construct: &Mutex<Construct<B>>,
    own_process: bool,
) -> i32 {
    let port = match Port::new(KeptFd::new(socket)) {
        Ok(port) => port,
        Err(error) => {
            eprintln!("process {:?} could not be set up: {error}", settings.name);
            return run::FAILED;
        }
    };
    let inbox = Inbox::new(settings.limits);
    let core =
        Core::new(&settings.name, start.frontend, port, page, inbox, settings.send_timeout, texts);
    run::live(core, settings.on_panic, false, || {
        // Looked at first: most have nothing to take on, and need not map the code that does.
        if own_process && !settings.surroundings.are_ours() {
            settings.surroundings.apply()?;
        }
        let mut construct = construct.lock().unwrap_or_else(PoisonError::into_inner);
        construct(start)
    })
}

impl<B: Backend> fmt::Debug for Way<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Fork(_) => "Fork",
            Way::Thread(_) => "Thread",
            Way::Spawn(_) => "Spawn",
            Way::Served(..) => "Served",
            Way::Exec(..) => "Exec",
        })
    }
}
