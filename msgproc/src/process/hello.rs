//! The first message to a process that is no fork of its frontend.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use shmring::{named::Ledger, os, transfer::Descriptor};

use super::{
    again::RestartCause,
    frontend::Start,
    options::{OnPanic, Settings},
};
use crate::{
    channel::Limits,
    error::{Error, Result},
    message::VERSION,
    start::{Hygiene, Place, Stdio, Stream, Streams, Surroundings, TextFile, lifelines, nowhere},
};

/// What such a process learns before all else. PROTOCOL.md describes it for other languages.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The versions of the protocol that the frontend speaks.
    pub(super) oldest: u32,
    pub(super) newest: u32,
    pub(super) name: String,
    pub(super) frontend: u32,
    pub(super) restarts: u32,
    pub(super) cause: Option<Box<RestartCause>>,
    pub(super) send_timeout: Duration,
    pub(super) queue_messages: u64,
    pub(super) queue_bytes: u64,
    pub(super) go_on_after_panic: bool,
    pub(super) ignore_sigint: bool,
    pub(super) die_at_once: bool,
    pub(super) page: Descriptor,
    pub(super) names: Descriptor,
    pub(super) lifelines: Vec<Descriptor>,
    /// What the process puts in the place of its standard streams.
    pub(super) streams: [Option<Descriptor>; 3],
    /// What it writes that is captured: it gives the memory of old text back.
    pub(super) texts: Vec<Descriptor>,
    pub(super) surroundings: Option<Surroundings>,
    /// The function that is its life, where it runs the same program.
    pub(super) entry: Option<Place>,
}

impl Hello {
    /// What the backend does by itself depends on how it starts: it takes on the streams and the
    /// surroundings unless it found them when it was executed.
    pub(super) fn new(
        settings: &Settings,
        start: &Start,
        page: Descriptor,
        streams: &Streams,
        texts: &Texts,
        executed: bool,
        entry: Option<Place>,
    ) -> Result<Hello> {
        let failed = || Error::io("hand descriptors to a new process");
        let duplicate = |fd: &Arc<OwnedFd>| fd.try_clone().map(Descriptor::from);
        let mut handed = [None, None, None];
        if !executed {
            for (to, from) in handed.iter_mut().zip(&streams.fds) {
                *to = from.as_ref().map(duplicate).transpose().map_err(failed())?;
            }
        }
        let names = Ledger::ours()?;
        let names = os::duplicate(names.as_fd()).map_err(failed())?;
        let lifelines = lifelines().map_err(failed())?;
        let texts = texts.iter().map(|text| text.to_fd().map(Descriptor::from));
        Ok(Hello {
            oldest: VERSION,
            newest: VERSION,
            name: start.name.clone(),
            frontend: start.frontend,
            restarts: start.restarts,
            cause: start.cause.clone(),
            send_timeout: settings.send_timeout,
            queue_messages: settings.limits.messages as u64,
            queue_bytes: settings.limits.bytes as u64,
            go_on_after_panic: settings.on_panic == OnPanic::Continue,
            ignore_sigint: settings.hygiene.ignore_sigint,
            die_at_once: settings.hygiene.die_at_once,
            page,
            names: names.into(),
            lifelines: lifelines.into_iter().map(Descriptor::from).collect(),
            streams: handed,
            texts: texts.collect::<io::Result<_>>().map_err(failed())?,
            surroundings: match (executed, &entry) {
                (false, _) => Some(settings.surroundings.clone()),
                (true, Some(_)) => Some(settings.surroundings.beside_program()),
                (true, None) => None,
            },
            entry,
        })
    }

    pub(super) fn start(&self) -> Start {
        Start {
            name: self.name.clone(),
            restarts: self.restarts,
            frontend: self.frontend,
            cause: self.cause.clone(),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            messages: usize::try_from(self.queue_messages).unwrap_or(usize::MAX),
            bytes: usize::try_from(self.queue_bytes).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn on_panic(&self) -> OnPanic {
        if self.go_on_after_panic { OnPanic::Continue } else { OnPanic::Stop }
    }

    pub(super) fn hygiene(&self) -> Hygiene {
        Hygiene { ignore_sigint: self.ignore_sigint, die_at_once: self.die_at_once }
    }
}

/// The captured streams of a process: of stdout and stderr, whichever are.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) out: Option<TextFile>,
    pub(super) err: Option<TextFile>,
}

impl Texts {
    pub(super) fn iter(&self) -> impl Iterator<Item = &TextFile> {
        self.out.iter().chain(&self.err)
    }

    /// The same files, for the process that writes them.
    pub(super) fn for_writer(&self) -> io::Result<Vec<TextFile>> {
        self.iter().map(|text| text.to_fd().map(TextFile::from_fd)).collect()
    }
}

/// What the standard streams of a new process are to be, and what is captured of them.
pub(super) fn streams(stdio: &[Stdio; 3]) -> io::Result<(Streams, Texts)> {
    let mut streams = Streams::default();
    let mut texts = Texts::default();
    for (number, (Stdio(stream), place)) in stdio.iter().zip(&mut streams.fds).enumerate() {
        *place = match stream {
            Stream::Inherit => None,
            Stream::Fd(fd) => Some(fd.clone()),
            Stream::Capture(_) if number > 0 => {
                let text = TextFile::new()?;
                let fd = text.to_fd()?;
                *if number == 1 { &mut texts.out } else { &mut texts.err } = Some(text);
                Some(Arc::new(fd))
            }
            Stream::Capture(_) | Stream::Null => Some(Arc::new(nowhere()?)),
        };
    }
    Ok((streams, texts))
}

/// How many of the last captured lines are kept for the end.
pub(super) fn lines_of(stdio: &Stdio) -> usize {
    match stdio.0 {
        Stream::Capture(lines) => lines,
        _ => 0,
    }
}
