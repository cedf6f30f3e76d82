//! Fork to the first handled message, beside a bare fork with one message.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    time::Instant,
};

use msgproc::prelude::*;
use nix::{
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair},
        wait::waitpid,
    },
    unistd::{ForkResult, fork},
};

use super::{pair::Result, stats};

const STARTS: u32 = 40;

struct First;

#[backend]
impl First {
    fn c__answer(&mut self) -> u8 {
        7
    }
}

pub(crate) fn measure(repetitions: u32) -> Result {
    println!("\nStart to the first answer:");
    let (mut ours, mut bares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let mut bare = 0.0;
        let mut full = 0.0;
        for _ in 0..STARTS {
            bare += bare_start()?;
            full += full_start()?;
        }
        let (bare, full) = (bare / f64::from(STARTS), full / f64::from(STARTS));
        ratios.push(full / bare);
        ours.push(full);
        bares.push(bare);
    }
    println!(
        "  MessageProcess::fork {}, bare fork and message {}, ratio {:.2}",
        stats::time(stats::median(&mut ours)),
        stats::time(stats::median(&mut bares)),
        stats::median(&mut ratios),
    );
    Ok(())
}

fn full_start() -> Result<f64> {
    let began = Instant::now();
    let mut process = MessageProcess::fork("bench-first", |_| First)?;
    assert_eq!(process.answer().wait()?, 7);
    let took = stats::nanoseconds(began.elapsed());
    process.stop()?;
    Ok(took)
}

fn bare_start() -> Result<f64> {
    let began = Instant::now();
    let (ours, theirs): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Child => {
            let mut byte = [0u8];
            let answered = recv(theirs.as_raw_fd(), &mut byte, MsgFlags::empty())
                .and_then(|_| send(theirs.as_raw_fd(), &[7], MsgFlags::MSG_NOSIGNAL));
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(answered.is_err())) }
        }
        ForkResult::Parent { child } => {
            send(ours.as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL)?;
            let mut byte = [0u8];
            recv(ours.as_raw_fd(), &mut byte, MsgFlags::empty())?;
            let took = stats::nanoseconds(began.elapsed());
            assert_eq!(byte, [7]);
            waitpid(child, None)?;
            Ok(took)
        }
    }
}
