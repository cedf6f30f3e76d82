//! A backend that watches a descriptor of its own beside its commands, and sends events.

use std::{
    fs::File,
    io::{Read, Write, pipe},
    os::fd::OwnedFd,
};

use msgproc::prelude::*;
use serde::{Deserialize, Serialize};

const PIPE: Token = Token(0);

#[derive(Serialize, Deserialize)]
enum Heard {
    Text(String),
    End,
}

#[derive(Default)]
struct Listener {
    pipe: Option<File>,
    messages: u32,
}

#[backend(event = Heard)]
impl Listener {
    fn c__listen(&mut self, pipe: Descriptor, ctx: &mut Context<Heard>) -> Result<()> {
        let pipe = File::from(OwnedFd::from(pipe));
        ctx.watch(&pipe, Interest::Readable, PIPE)?;
        self.pipe = Some(pipe);
        Ok(())
    }

    // Runs whenever there is something to read.
    fn on_ready(&mut self, token: Token, ctx: &mut Context<Heard>) -> Result<()> {
        let mut bytes = [0; 64];
        let len = self.pipe.as_mut().ok_or("there is no pipe")?.read(&mut bytes)?;
        if len == 0 {
            ctx.unwatch(token);
            return ctx.emit(Heard::End);
        }
        self.messages += 1;
        ctx.emit(Heard::Text(String::from_utf8_lossy(&bytes[..len]).into()))
    }

    fn c__messages(&self) -> u32 {
        self.messages
    }
}

fn main() -> Result<()> {
    let mut listener = MessageProcess::fork("my-process", |_| Listener::default())?;

    let (reading, mut writing) = pipe()?;
    listener.listen(OwnedFd::from(reading).into()).wait()?;
    for text in ["one", "two"] {
        writing.write_all(text.as_bytes())?;
        if let Some(Event::Emitted(Heard::Text(text))) = listener.next_event(None)? {
            println!("main: the backend heard {text:?}");
        }
    }
    drop(writing);
    if let Some(Event::Emitted(Heard::End)) = listener.next_event(None)? {
        println!("main: the pipe is closed, {} messages", listener.messages().wait()?);
    }
    listener.stop()
}
