//! Each way to start, to the first handled message, beside a bare fork with one message and a bare
//! spawn of `/bin/true`; and how soon another is there for one that was killed.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use msgproc::{manager::Policy, prelude::*};
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};

use super::{pair::Result, stats};

const STARTS: u32 = 40;

/// How often a process is killed in each repetition.
const KILLS: u32 = 20;

struct First;

#[backend]
impl First {
    fn c__answer(&mut self) -> u8 {
        7
    }
}

/// Heap that a large program holds.
const HEAP: usize = 1 << 30;

pub(crate) fn measure(repetitions: u32) -> Result {
    println!("\nStart to the first answer:");
    let server = ForkServer::start()?;
    println!("  a small program");
    compare(repetitions, STARTS, &server)?;
    // Touched, so that the pages are there.
    let heap = std::hint::black_box(vec![1u8; HEAP]);
    println!("  a program with {} MiB of heap", heap.len() >> 20);
    compare(repetitions.min(5), 5, &server)?;
    drop(heap);

    println!("\nkill -9 in a manager, to the event and to the first answer of the replacement:");
    replace("fork", repetitions, || MessageProcess::fork("bench-first", |_| First))?;
    replace("fork server", repetitions, || {
        MessageProcess::fork_from(&server, "bench-first", (), |(), _| First)
    })?;
    replace("spawn", repetitions, || MessageProcess::spawn("bench-first", (), |(), _| First))
}

/// Kills a process of a manager again and again; the median of all counts.
fn replace(
    way: &str,
    repetitions: u32,
    start: impl FnOnce() -> msgproc::Result<MessageProcess<First>>,
) -> Result {
    let mut manager = Manager::new()?;
    let kills = repetitions * KILLS;
    let often = Policy::permanent().at_most(kills as usize + 1, Duration::from_secs(3600));
    let id = manager.add_with(start()?, often)?;
    let (mut told, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..kills {
        assert_eq!(manager[id].answer().wait()?, 7);
        let began = Instant::now();
        kill(Pid::from_raw(manager[id].pid().try_into()?), Signal::SIGKILL)?;
        match manager.next(Duration::from_secs(10))? {
            Some(Happening::Ended { .. }) => told.push(stats::nanoseconds(began.elapsed())),
            other => return Err(format!("{other:?} instead of the end").into()),
        }
        match manager.next(Duration::from_secs(10))? {
            Some(Happening::Restarted { .. }) => {}
            other => return Err(format!("{other:?} instead of a replacement").into()),
        }
        assert_eq!(manager[id].answer().wait()?, 7);
        answered.push(stats::nanoseconds(began.elapsed()));
    }
    println!(
        "    {way:<22} {} and {}",
        stats::time(stats::median(&mut told)),
        stats::time(stats::median(&mut answered)),
    );
    for (_, exit) in manager.stop() {
        exit?;
    }
    Ok(())
}

fn compare(repetitions: u32, starts: u32, server: &ForkServer) -> Result {
    let ways: [(&str, &dyn Fn() -> Result<f64>); 5] = [
        ("bare fork and message", &bare_start),
        ("fork", &|| first(|| MessageProcess::fork("bench-first", |_| First))),
        ("fork server", &|| {
            first(|| MessageProcess::fork_from(server, "bench-first", (), |(), _| First))
        }),
        ("bare spawn of true", &bare_spawn),
        ("spawn", &|| first(|| MessageProcess::spawn("bench-first", (), |(), _| First))),
    ];
    let mut times = ways.map(|_| Vec::new());
    for _ in 0..repetitions {
        for ((_, start), times) in ways.iter().zip(&mut times) {
            let mut sum = 0.0;
            for _ in 0..starts {
                sum += start()?;
            }
            times.push(sum / f64::from(starts));
        }
    }
    let medians = times.each_mut().map(|times| stats::median(times));
    for ((name, _), median) in ways.iter().zip(medians) {
        println!("    {name:<22} {}", stats::time(median));
    }
    let [bare, fork, server, bare_spawn, spawn] = medians;
    println!(
        "    fork {:.2} of bare; fork server {:.2} of fork; spawn {} over bare",
        fork / bare,
        server / fork,
        stats::time(spawn - bare_spawn)
    );
    Ok(())
}

/// A start, timed to its first answer.
fn first(start: impl FnOnce() -> msgproc::Result<MessageProcess<First>>) -> Result<f64> {
    let began = Instant::now();
    let mut process = start()?;
    assert_eq!(process.answer().wait()?, 7);
    let took = stats::nanoseconds(began.elapsed());
    process.stop()?;
    Ok(took)
}

fn bare_spawn() -> Result<f64> {
    let began = Instant::now();
    let mut child = std::process::Command::new("/bin/true").spawn()?;
    child.wait()?;
    Ok(stats::nanoseconds(began.elapsed()))
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
