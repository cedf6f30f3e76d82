//! Many tells from one frontend to one backend, beside the same bytes through a bare socket pair.

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

const TELLS: u32 = 100_000;

struct Counter(u64);

#[backend]
impl Counter {
    fn pre_run(&mut self, _ctx: &mut Context) -> msgproc::Result<()> {
        pair::pin(1).map_err(|error| msgproc::Error::other(error.to_string()))
    }

    fn c__note(&mut self, text: String) {
        self.0 += text.len() as u64;
    }

    fn c__sum(&self) -> u64 {
        self.0
    }
}

pub(crate) fn measure(repetitions: u32) -> Result {
    println!("\n{TELLS} tells, one way:");
    pair::pin(0)?;
    for len in [8usize, 64, 1024] {
        let text = "x".repeat(len);
        let counter = MessageProcess::fork("bench-counter", |_| Counter(0))?;
        // The envelope of a tell, so that both carry the same bytes.
        let envelope = 17;
        let (mut tells, mut bares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for repetition in 1..=u64::from(repetitions) {
            let bare = bare(len + envelope)?;
            let began = Instant::now();
            for _ in 0..TELLS {
                counter.note(text.clone()).tell()?;
            }
            assert_eq!(counter.sum().wait()?, repetition * u64::from(TELLS) * len as u64);
            let tell = stats::nanoseconds(began.elapsed()) / f64::from(TELLS);
            ratios.push(bare / tell);
            tells.push(tell);
            bares.push(bare);
        }
        println!(
            "  {len:>5} B  tell {}, socket pair {}, {:.2} of its speed",
            stats::time(stats::median(&mut tells)),
            stats::time(stats::median(&mut bares)),
            stats::median(&mut ratios),
        );
    }
    pair::unpin()
}

/// The time of one message, until the last has been received.
fn bare(len: usize) -> Result<f64> {
    let (ours, theirs): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let mut took = 0.0;
    let receive = || {
        let mut buffer = vec![0u8; len];
        for _ in 0..TELLS {
            recv(theirs.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        }
        send(theirs.as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    };
    pair::run(receive, || {
        let message = vec![1u8; len];
        let began = Instant::now();
        for _ in 0..TELLS {
            send(ours.as_raw_fd(), &message, MsgFlags::MSG_NOSIGNAL)?;
        }
        recv(ours.as_raw_fd(), &mut [0u8], MsgFlags::empty())?;
        took = stats::nanoseconds(began.elapsed()) / f64::from(TELLS);
        Ok(())
    })?;
    Ok(took)
}
