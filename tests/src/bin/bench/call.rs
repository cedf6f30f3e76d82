//! Call and reply over the control channel, beside a bare socket pair with the same bytes.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    time::Instant,
};

use msgproc::prelude::*;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::{
    pair::{self, Result},
    stats,
};

const TRIPS: u32 = 3000;

struct Echo;

#[backend]
impl Echo {
    fn pre_run(&mut self, _ctx: &mut Context) -> msgproc::Result<()> {
        pair::pin(1).map_err(|error| msgproc::Error::other(error.to_string()))
    }

    fn c__echo(&mut self, text: String) -> String {
        text
    }
}

/// How many others are alive in the last part.
const OTHERS: usize = 1000;

pub(crate) fn measure(repetitions: u32) -> Result {
    println!("\nCall and reply, both processes asleep in between:");
    for len in [8, 64, 1024] {
        beside(len, repetitions)?;
    }
    println!("  and with {OTHERS} other backends in a manager of the program");
    let server = ForkServer::start()?;
    let mut manager = Manager::new()?;
    for _ in 0..OTHERS {
        let other = MessageProcess::fork_from(&server, "bench-other", (), |(), _| Echo)?;
        manager.add(other)?;
    }
    beside(8, repetitions)?;
    for (_, exit) in manager.stop() {
        exit?;
    }
    Ok(())
}

fn beside(len: usize, repetitions: u32) -> Result {
    let text = "x".repeat(len);
    pair::pin(0)?;
    let echo = MessageProcess::fork("bench-echo", |_| Echo)?;
    let (mut calls, mut bares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut single, mut bare_single) = (Vec::new(), Vec::new());
    // The call's own envelope, so that both carry the same bytes.
    let envelope = 24;
    bare(len + envelope, repetitions, |bare_trip| {
        for _ in 0..repetitions {
            let began = Instant::now();
            for _ in 0..TRIPS {
                let began = Instant::now();
                bare_trip()?;
                bare_single.push(began.elapsed().as_nanos() as u64);
            }
            let bare = stats::nanoseconds(began.elapsed()) / f64::from(TRIPS);
            let began = Instant::now();
            for _ in 0..TRIPS {
                let began = Instant::now();
                let back = echo.echo(text.clone()).wait()?;
                assert_eq!(back.len(), len);
                single.push(began.elapsed().as_nanos() as u64);
            }
            let call = stats::nanoseconds(began.elapsed()) / f64::from(TRIPS);
            ratios.push(call / bare);
            calls.push(call);
            bares.push(bare);
        }
        Ok(())
    })?;
    println!(
        "  {len:>5} B  call {}, socket pair {}, ratio {:.2}",
        stats::time(stats::median(&mut calls)),
        stats::time(stats::median(&mut bares)),
        stats::median(&mut ratios),
    );
    println!("           call {}", stats::tail(&mut single));
    println!("           pair {}", stats::tail(&mut bare_single));
    pair::unpin()
}

/// Gives `body` a round trip over a bare socket pair.
fn bare(
    len: usize,
    repetitions: u32,
    body: impl FnOnce(&mut dyn FnMut() -> Result) -> Result,
) -> Result {
    let (ours, theirs): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let answer = || {
        let mut buffer = vec![0u8; len];
        for _ in 0..repetitions * TRIPS {
            let got = recv(theirs.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            send(theirs.as_raw_fd(), &buffer[..got], MsgFlags::MSG_NOSIGNAL)?;
        }
        Ok(())
    };
    pair::run(answer, || {
        let message = vec![1u8; len];
        let mut buffer = vec![0u8; len];
        body(&mut || {
            send(ours.as_raw_fd(), &message, MsgFlags::MSG_NOSIGNAL)?;
            let got = recv(ours.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            assert_eq!(got, len);
            Ok(())
        })
    })
}
