//! Whether the system has room for more processes.

#![allow(unsafe_code)] // getrlimit, geteuid.

use std::{fs, io, path::Path};

use super::Resource;
use crate::error::{Error, Result};

/// What a frontend keeps open of each process: channel, pidfd, and the two of its bell.
const DESCRIPTORS_EACH: u64 = 4;

/// What a start needs for a while, and the rest of the program too.
const DESCRIPTORS_BESIDE: u64 = 16;

/// Checks that this many processes can be started, as far as limits of the system say.
///
/// # Errors
///
/// [`Error::Limit`] with the first one that would not suffice.
pub(crate) fn check(processes: usize) -> Result<()> {
    let count = processes as u64;
    let (soft, hard) = limit(Resource::OpenFiles);
    let open = match fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.count() as u64,
        // There is not even one left to count them with.
        Err(error) if is_shortage(&error) => soft,
        Err(_) => 0,
    };
    let needed = count * DESCRIPTORS_EACH + DESCRIPTORS_BESIDE;
    let limits = [
        Limit {
            what: format!("of descriptors, {DESCRIPTORS_EACH} for each and some beside"),
            needed,
            used: open,
            limit: soft,
            advice: format!(
                "`ulimit -n {}` in the shell raises the limit, `LimitNOFILE=` in a service; the hard limit is {hard}",
                needed + open
            ),
        },
        of_user(count),
        of_cgroup(count),
        Limit {
            what: "of processes and threads on this machine, one for each".into(),
            needed: count,
            used: threads_of_machine(),
            limit: number_in("/proc/sys/kernel/threads-max")
                .min(number_in("/proc/sys/kernel/pid_max")),
            advice: "`sysctl kernel.threads-max` and `kernel.pid_max` are the limits".into(),
        },
    ];
    for Limit { what, needed, used, limit, advice } in limits {
        let free = limit.saturating_sub(used);
        if needed > free {
            return Err(Error::Limit { processes, what, needed, free, limit, advice });
        }
    }
    Ok(())
}

/// Whether the kernel says by this that a limit is reached.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::EAGAIN))
}

struct Limit {
    what: String,
    needed: u64,
    used: u64,
    limit: u64,
    advice: String,
}

/// The soft and the hard limit of this process.
fn limit(resource: Resource) -> (u64, u64) {
    let mut limit = libc::rlimit64 { rlim_cur: u64::MAX, rlim_max: u64::MAX };
    // SAFETY: `limit` lives through the call.
    unsafe { libc::prlimit64(0, resource.number(), std::ptr::null(), &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// The processes and threads of this user; of the superuser there is no limit.
fn of_user(needed: u64) -> Limit {
    // SAFETY: cannot fail, and touches no memory.
    let user = unsafe { libc::geteuid() };
    let (soft, hard) = limit(Resource::Processes);
    let limited = user != 0 && soft != u64::MAX;
    Limit {
        what: "of processes and threads of this user, one for each".into(),
        needed,
        used: if limited { threads_of(user) } else { 0 },
        limit: if limited { soft } else { u64::MAX },
        advice: format!(
            "`ulimit -u` in the shell raises the limit, `LimitNPROC=` in a service; the hard limit is {hard}"
        ),
    }
}

fn threads_of(user: u32) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let threads = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let owner = fs::metadata(path.join("task")).ok()?;
        // A folder for each thread, itself and its parent.
        (owner.uid() == user).then(|| owner.nlink().saturating_sub(2))
    });
    threads.sum()
}

/// The tightest limit of the control groups that this process is in.
fn of_cgroup(needed: u64) -> Limit {
    let mut tightest = (u64::MAX, 0, String::new());
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // The one of version 2 has neither a number of its own nor a controller's name.
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let root = Path::new("/sys/fs/cgroup");
    let mut group = own.map(|own| root.join(own));
    while let Some(path) = group.filter(|path| path.starts_with(root)) {
        let (limit, used) =
            (number_in(path.join("pids.max")), number_in(path.join("pids.current")));
        let free = limit.saturating_sub(used);
        if limit != u64::MAX && free < tightest.0.saturating_sub(tightest.1) {
            tightest = (limit, used, path.display().to_string());
        }
        group = path.parent().map(Path::to_owned);
    }
    let (limit, used, group) = tightest;
    Limit {
        what: "of processes and threads in a control group, one for each".into(),
        needed,
        used,
        limit,
        advice: format!("`{group}/pids.max` is the limit, `TasksMax=` in a service"),
    }
}

/// How many there are now: behind the slash in the fourth word.
fn threads_of_machine() -> u64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let count = load.split(' ').nth(3).and_then(|word| word.split('/').nth(1));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// The number in a file; without bounds where there is none, or it is a word.
fn number_in(path: impl AsRef<Path>) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_possible_and_all_of_the_world_are_not() {
        check(3).unwrap();
        let error = check(10_000_000).unwrap_err();
        let Error::Limit { needed, limit, .. } = &error else { panic!("{error}") };
        assert_eq!((*needed, *limit), (40_000_016, super::limit(Resource::OpenFiles).0));
        assert!(error.to_string().contains("ulimit -n"), "{error}");
        assert!(threads_of_machine() > 0 && threads_of(unsafe_user()) > 0);
    }

    fn unsafe_user() -> u32 {
        // SAFETY: cannot fail, and touches no memory.
        unsafe { libc::geteuid() }
    }
}
