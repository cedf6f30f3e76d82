//! System calls for each item, while nobody sleeps: counted by tracing both processes.

use std::{collections::BTreeMap, io, mem, ptr, time::Duration};

use nix::{
    sys::{
        signal::{Signal, raise},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use shmring::{
    Segment, WaitStrategy,
    ring::{cells::Cells, records::Records},
};

use super::pair::{self, Result};

const ITEMS: u64 = 1_000_000;
/// So that both sides have begun when counting does.
const WARM_UP: u64 = 50_000;
/// A call that nothing else here makes: counting begins and ends with it.
const MARK: i64 = libc::SYS_getppid;
const LATE: Duration = Duration::from_secs(10);

pub(crate) fn measure(_: u32) -> Result {
    for wait in [WaitStrategy::Spin, WaitStrategy::Adaptive] {
        println!("\nSystem calls for {ITEMS} items of 64 B one way, {wait:?}:");
        let segment = Segment::options().len(1 << 20).prefault(true).anonymous()?;
        let records = Records::options().capacity(1 << 16).wait(wait).create_in(&segment)?;
        let send = || {
            let mut tx = records.producer()?;
            Ok(move || Ok(tx.send([7; 64])?))
        };
        let receive = || {
            let mut rx = records.consumer()?;
            Ok(move || Ok(rx.recv_timeout(LATE).map(drop)?))
        };
        traced("records", send, receive)?;
        let cells = Cells::<[u64; 8]>::options().wait(wait).create_in(&segment)?;
        let send = || {
            let mut tx = cells.producer()?;
            Ok(move || Ok(tx.send([7; 8])?))
        };
        let receive = || {
            let mut rx = cells.consumer()?;
            Ok(move || Ok(rx.recv_timeout(LATE).map(drop)?))
        };
        traced("cells", send, receive)?;
    }
    Ok(())
}

/// Runs both sides, each in a process of its own, and prints what they ask of the kernel.
fn traced<S: FnMut() -> Result, T: FnMut() -> Result>(
    what: &str,
    sender: impl Fn() -> Result<S>,
    receiver: impl Fn() -> Result<T>,
) -> Result {
    let mut sides = [
        Side::start("sender", 0, || work(sender()?))?,
        Side::start("receiver", 1, || work(receiver()?))?,
    ];
    while sides.iter().any(|side| !side.ended) {
        let status = waitpid(None, Some(WaitPidFlag::__WALL))?;
        if let Some(side) = sides.iter_mut().find(|side| Some(side.pid) == status.pid()) {
            side.handle(status)?;
        }
    }
    for Side { name, calls, .. } in sides {
        let all: u64 = calls.values().sum();
        let futex = calls.get(&(libc::SYS_futex as u64)).copied().unwrap_or(0);
        let barriers = calls.get(&(libc::SYS_membarrier as u64)).copied().unwrap_or(0);
        println!(
            "  {what:<8} {name:<9} {all:>5} calls  (sleeping and waking {futex}, barriers {barriers})"
        );
    }
    Ok(())
}

fn work(mut one: impl FnMut() -> Result) -> Result {
    for _ in 0..WARM_UP {
        one()?;
    }
    mark();
    for _ in 0..ITEMS {
        one()?;
    }
    mark();
    Ok(())
}

fn mark() {
    // SAFETY: asks for a number.
    unsafe { libc::syscall(MARK) };
}

/// A process that is traced.
struct Side {
    name: &'static str,
    pid: Pid,
    counts: bool,
    ended: bool,
    calls: BTreeMap<u64, u64>,
}

impl Side {
    fn start(name: &'static str, cpu: usize, work: impl Fn() -> Result) -> Result<Side> {
        // SAFETY: this program has one thread.
        match unsafe { fork()? } {
            ForkResult::Parent { child } => {
                Ok(Side { name, pid: child, counts: false, ended: false, calls: BTreeMap::new() })
            }
            ForkResult::Child => {
                let all = || -> Result {
                    pair::pin(cpu)?;
                    request(libc::PTRACE_TRACEME, Pid::from_raw(0), 0, 0)?;
                    raise(Signal::SIGSTOP)?;
                    work()
                };
                let code = all().inspect_err(|error| eprintln!("bench: {name}: {error}")).is_err();
                // SAFETY: ends the process without its parent's destructors.
                unsafe { libc::_exit(i32::from(code)) }
            }
        }
    }

    fn handle(&mut self, status: WaitStatus) -> Result {
        match status {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {
                let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
                request(libc::PTRACE_SETOPTIONS, self.pid, 0, options as usize)?;
            }
            WaitStatus::PtraceSyscall(_) => self.count()?,
            WaitStatus::Stopped(_, signal) => {
                request(libc::PTRACE_SYSCALL, self.pid, 0, signal as usize)?;
                return Ok(());
            }
            WaitStatus::Exited(_, 0) => {
                self.ended = true;
                return Ok(());
            }
            other => return Err(format!("{}: {other:?}", self.name).into()),
        }
        request(libc::PTRACE_SYSCALL, self.pid, 0, 0)
    }

    fn count(&mut self) -> Result {
        // SAFETY: numbers, for which zero is a value; the kernel fills in at most so many bytes.
        let info = unsafe {
            let mut info: libc::ptrace_syscall_info = mem::zeroed();
            let len = mem::size_of_val(&info);
            request(libc::PTRACE_GET_SYSCALL_INFO, self.pid, len, (&raw mut info).addr())?;
            info
        };
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return Ok(());
        }
        // SAFETY: by `op` it is this one.
        let number = unsafe { info.u.entry.nr };
        if number == MARK as u64 {
            self.counts = !self.counts;
        } else if self.counts {
            *self.calls.entry(number).or_default() += 1;
        }
        Ok(())
    }
}

fn request(request: libc::c_uint, pid: Pid, address: usize, data: usize) -> Result {
    let at = |address| ptr::without_provenance_mut::<libc::c_void>(address);
    // SAFETY: what the kernel writes goes where the caller's `data` is, if it is an address.
    let done = unsafe { libc::ptrace(request, pid.as_raw(), at(address), at(data)) };
    if done == -1 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}
