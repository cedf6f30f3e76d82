//! A reply that is waited for in a poll, beside whatever else the program waits for.

use std::os::fd::AsRawFd;

use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use msgproc::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Pong {
    with: String,
}

struct Pinger;

#[backend]
impl Pinger {
    fn c__ping(&mut self) -> Pong {
        Pong { with: "some pudding".into() }
    }
}

fn main() -> Result<()> {
    let mut pinger = MessageProcess::fork("my-process", |_| Pinger)?;
    let mut reply = pinger.ping().send()?;

    let mut poll = Poll::new()?;
    let descriptor = pinger.as_raw_fd();
    poll.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE)?;

    println!("main: waiting reply from multiprocessing backend");
    let pong = loop {
        poll.poll(&mut Events::with_capacity(8), None)?;
        if let Some(pong) = reply.try_take()? {
            break pong;
        }
    };
    println!("main: got pong with {}", pong.with);
    pinger.stop()
}
