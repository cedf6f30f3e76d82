//! The backend that most tests talk to.

use std::{
    io::Read,
    os::fd::OwnedFd,
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::prelude::*;
use serde::{Deserialize, Serialize};

/// Does what it is told, good or bad.
#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) calls: u64,
    pub(crate) kept: Vec<Descriptor>,
    pub(crate) watched: Option<std::fs::File>,
    /// Where `post_run` leaves a line.
    pub(crate) diary: Option<std::path::PathBuf>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
pub(crate) enum Said {
    Number(u64),
    Bytes(Vec<u8>),
    Read(String),
    Tick(usize),
}

#[backend(event = Said, calls = pub(crate) WorkerCalls)]
impl Worker {
    fn post_run(&mut self, _ctx: &mut Context<Said>) {
        if let Some(diary) = &self.diary {
            std::fs::write(diary, "post_run").unwrap();
        }
    }

    fn on_ready(&mut self, _token: Token, ctx: &mut Context<Said>) -> Result<()> {
        let mut bytes = [0; 64];
        let file = self.watched.as_mut().ok_or("nothing is watched")?;
        let len = file.read(&mut bytes)?;
        ctx.emit(Said::Read(String::from_utf8_lossy(&bytes[..len]).into()))
    }

    fn on_timer(&mut self, token: Token, ctx: &mut Context<Said>) -> Result<()> {
        if token == Token(13) {
            return Err("a bad number".into());
        }
        ctx.emit(Said::Tick(token.0))
    }

    fn c__ping(&mut self, parameter: String) -> String {
        self.calls += 1;
        format!("{parameter} {}", self.calls)
    }

    fn c__count(&self) -> u64 {
        self.calls
    }

    fn c__echo(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    fn c__process_id(&self) -> u32 {
        std::process::id()
    }

    fn c__fail(&mut self, what: String) -> Result<u32> {
        let inner = std::io::Error::other("no such thing");
        Err(Error::Io { action: what, source: inner })
    }

    fn c__panic(&mut self, what: String) {
        panic!("{what}");
    }

    fn c__sleep(&mut self, milliseconds: u64) {
        sleep(Duration::from_millis(milliseconds));
        self.calls += 1;
    }

    fn c__spin(&mut self) {
        loop {
            std::hint::spin_loop();
        }
    }

    /// Writes so many bytes to stderr, a little later and in a thread.
    fn c__chatter(&mut self, bytes: usize) {
        std::thread::spawn(move || {
            sleep(Duration::from_millis(50));
            let lines = "a word\n".repeat(bytes / 7);
            let _ = std::io::Write::write_all(&mut std::io::stderr(), lines.as_bytes());
        });
    }

    fn c__until_stopped(&mut self, ctx: &mut Context<Said>) {
        while !ctx.is_stopping() {
            sleep(Duration::from_millis(1));
        }
    }

    fn c__until_cancelled(&mut self, ctx: &mut Context<Said>) {
        while !ctx.is_cancelled() {
            sleep(Duration::from_millis(1));
        }
        self.calls += 1;
    }

    fn c__say(&mut self, count: u64, ctx: &mut Context<Said>) -> Result<()> {
        for number in 0..count {
            ctx.emit(Said::Number(number))?;
        }
        Ok(())
    }

    fn c__say_large(&mut self, count: usize, len: usize, ctx: &mut Context<Said>) -> Result<()> {
        for number in 0..count {
            ctx.emit(Said::Bytes(vec![number as u8; len]))?;
        }
        Ok(())
    }

    fn c__leave(&mut self, ctx: &mut Context<Said>) {
        ctx.stop();
    }

    fn c__exit_with(&mut self, code: i32) {
        std::process::exit(code);
    }

    fn c__keep(&mut self, descriptors: Vec<Descriptor>) -> usize {
        self.kept.extend(descriptors);
        self.kept.len()
    }

    fn c__give_back(&mut self) -> Vec<Descriptor> {
        std::mem::take(&mut self.kept)
    }

    fn c__watch(&mut self, descriptor: Descriptor, ctx: &mut Context<Said>) -> Result<()> {
        let file = std::fs::File::from(OwnedFd::from(descriptor));
        ctx.watch(&file, Interest::Readable, Token(1))?;
        self.watched = Some(file);
        Ok(())
    }

    fn c__unwatch(&mut self, ctx: &mut Context<Said>) -> bool {
        ctx.unwatch(Token(1))
    }

    fn c__after(&mut self, milliseconds: u64, token: usize, ctx: &mut Context<Said>) {
        ctx.after(Duration::from_millis(milliseconds), Token(token));
    }

    fn c__every(&mut self, milliseconds: u64, token: usize, ctx: &mut Context<Said>) {
        ctx.every(Duration::from_millis(milliseconds), Token(token));
    }

    fn c__cancel_timer(&mut self, token: usize, ctx: &mut Context<Said>) -> bool {
        ctx.cancel_timer(Token(token))
    }

    fn c__descriptors(&self) -> usize {
        testkit::fd_count()
    }

    fn c__print(&mut self, text: String) {
        println!("{text}");
    }

    fn c__complain(&mut self, text: String) {
        eprintln!("{text}");
    }
}

pub(crate) fn worker(name: &str) -> MessageProcess<Worker> {
    MessageProcess::fork(name, |_: &Start| Worker::default()).unwrap()
}

/// How long something may take that should be immediate, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Checks that something takes about no time.
pub(crate) fn at_once<R>(f: impl FnOnce() -> R) -> R {
    let since = Instant::now();
    let result = f();
    assert!(since.elapsed() < Duration::from_secs(1), "took {:?}", since.elapsed());
    result
}

/// The next event of the backend's own.
pub(crate) fn next(process: &MessageProcess<Worker>) -> Said {
    match process.next_event(SOON).unwrap() {
        Some(Event::Emitted(said)) => said,
        other => panic!("{other:?}"),
    }
}
