//! What `/proc` says about processes.

use std::{fs, io, os::fd::AsRawFd};

use nix::sys::signal::{self as nix_signal, Signal};
use nix::unistd::Pid;

/// The fields of `/proc/PID/stat` that we look at.
struct Stat {
    name: String,
    state: char,
    parent: u32,
    start: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name stands in parentheses and may itself hold spaces and
    /// parentheses, so the last closing one ends it.
    fn parse(line: &str) -> Option<Stat> {
        let (head, tail) = line.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let mut fields = tail.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // Field 22 of the line; state is the third and parent the fourth.
        let start = fields.nth(17)?.parse().ok()?;
        Some(Stat { name: name.to_owned(), state, parent, start })
    }

    fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// A process, told apart from a later one with the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    pid: u32,
    start: u64,
}

impl Process {
    /// Observes a process that lives now; `None` when there is none.
    pub fn observe(pid: u32) -> Option<Process> {
        let stat = Stat::read(pid).filter(Stat::lives)?;
        Some(Process { pid, start: stat.start })
    }

    /// Tells whether this very process still lives. A zombie does not.
    pub fn alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.lives() && stat.start == self.start)
    }

    /// Gives the pid that was observed.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// Tells whether a process with this pid lives. A zombie does not.
///
/// Pids are used again: where the process may be long dead, observe a
/// [`Process`] while it lives and ask that.
pub fn alive(pid: u32) -> bool {
    Process::observe(pid).is_some()
}

/// Gives the state letter of `/proc/PID/stat`: `R`, `S`, `D`, `T`, `Z`, …
pub fn state_of(pid: u32) -> Option<char> {
    Stat::read(pid).map(|stat| stat.state)
}

/// Gives the name of a process as the kernel keeps it, at most 15 bytes.
pub fn name_of(pid: u32) -> Option<String> {
    Stat::read(pid).map(|stat| stat.name)
}

/// Gives the parent of a process; `None` when there is no such process.
pub fn parent_of(pid: u32) -> Option<u32> {
    Stat::read(pid).map(|stat| stat.parent)
}

/// Lists the living children of a process, zombies left out.
pub fn children_of(pid: u32) -> Vec<u32> {
    living().into_iter().filter(|&(_, parent)| parent == pid).map(|(child, _)| child).collect()
}

/// Lists the living descendants of a process, parents before their children.
///
/// A child whose parent has died belongs to the nearest reaper above.
pub fn descendants_of(pid: u32) -> Vec<u32> {
    let all = living();
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(all.iter().filter(|entry| entry.1 == parent).map(|entry| entry.0));
        next += 1;
    }
    found.split_off(1)
}

/// All living processes, each with its parent.
fn living() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = Stat::read(pid).filter(Stat::lives)?;
        Some((pid, stat.parent))
    })
    .collect()
}

/// Counts the open descriptors of this process.
pub fn fd_count() -> usize {
    // The directory that is being read is a descriptor too.
    fd_count_of(std::process::id()).expect("/proc is mounted") - 1
}

/// The number that the next descriptor of this process gets: with a limit of that, it gets none.
pub fn first_free_fd() -> io::Result<i32> {
    Ok(fs::File::open("/dev/null")?.as_raw_fd())
}

/// Counts the open descriptors of another process; `None` when it is gone.
pub fn fd_count_of(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// Counts the threads of this process.
pub fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").expect("/proc is mounted").count()
}

/// Gives the proportional share of memory of a process, in bytes.
pub fn pss_of(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Sends SIGKILL; gives false when there is no such process.
pub fn kill9(pid: u32) -> bool {
    signal(pid, Signal::SIGKILL as i32)
}

/// Sends a signal by number; gives false when there is no such process.
///
/// # Panics
///
/// Panics when `pid` stands for more than one process, as 0 does.
pub fn signal(pid: u32, number: i32) -> bool {
    let pid = i32::try_from(pid).expect("a pid");
    assert!(pid > 0, "a pid of {pid} would signal more than one process");
    let signal = Signal::try_from(number).expect("the number of a signal");
    nix_signal::kill(Pid::from_raw(pid), signal).is_ok()
}

/// One line that says who a process is and what it is doing.
pub(crate) fn describe(pid: u32) -> String {
    let Some(stat) = Stat::read(pid) else {
        return format!("pid {pid} (gone)");
    };
    let wait = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let wait = if wait.is_empty() || wait == "0" { String::new() } else { format!(" in {wait}") };
    format!("pid {pid} \"{}\", parent {}, state {}{wait}", stat.name, stat.parent, stat.state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let line = "42 (a) b (c)) S 7 1 1 0 -1 0 1 2 3 4 5 6 7 8 9 10 11 0 555 6 7";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.state, stat.parent), ("a) b (c)", 'S', 7));
        assert_eq!(stat.start, 555);
    }

    #[test]
    fn this_process_lives() {
        let me = Process::observe(std::process::id()).unwrap();
        assert!(me.alive());
        assert!(!Process { start: me.start + 1, ..me }.alive());
    }

    #[test]
    fn pss_is_positive() {
        assert!(pss_of(std::process::id()).unwrap() > 4096);
    }

    #[test]
    fn a_new_descriptor_counts() {
        // Other tests of this file open files meanwhile: look until it is quiet.
        let seen = crate::wait_until(std::time::Duration::from_secs(5), || {
            let before = fd_count();
            let file = fs::File::open("/proc/self/stat").unwrap();
            let with = fd_count();
            drop(file);
            with == before + 1 && fd_count() == before
        });
        assert!(seen);
    }

    #[test]
    #[should_panic(expected = "more than one process")]
    fn pid_zero_is_refused() {
        kill9(0);
    }
}
