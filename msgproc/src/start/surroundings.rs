//! What a new process finds around itself: directory, variables, limits, processors, standard
//! streams.

#![allow(unsafe_code)] // prlimit, setpriority, affinity, dup2, variables of a process of one thread.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::PathBuf,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// Something of which the kernel lets a process have only so much.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Resource {
    /// Bytes of address space, mapped files included (`RLIMIT_AS`).
    AddressSpace,
    /// Bytes of a core file (`RLIMIT_CORE`).
    CoreFile,
    /// Seconds of processor time (`RLIMIT_CPU`): then SIGXCPU, and SIGKILL at the hard limit.
    CpuSeconds,
    /// Bytes of heap and data (`RLIMIT_DATA`).
    Data,
    /// Bytes of a file that it writes (`RLIMIT_FSIZE`): then SIGXFSZ.
    FileSize,
    /// Bytes that it locks into memory (`RLIMIT_MEMLOCK`).
    LockedMemory,
    /// Open descriptors (`RLIMIT_NOFILE`).
    OpenFiles,
    /// Processes and threads of its user (`RLIMIT_NPROC`).
    Processes,
    /// Bytes of its main thread's stack (`RLIMIT_STACK`).
    Stack,
}

// The C library gives this argument a type of its own, other libraries an int.
#[cfg(target_env = "gnu")]
pub(super) type ResourceNumber = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub(super) type ResourceNumber = libc::c_int;

impl Resource {
    pub(super) fn number(self) -> ResourceNumber {
        match self {
            Resource::AddressSpace => libc::RLIMIT_AS,
            Resource::CoreFile => libc::RLIMIT_CORE,
            Resource::CpuSeconds => libc::RLIMIT_CPU,
            Resource::Data => libc::RLIMIT_DATA,
            Resource::FileSize => libc::RLIMIT_FSIZE,
            Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
            Resource::OpenFiles => libc::RLIMIT_NOFILE,
            Resource::Processes => libc::RLIMIT_NPROC,
            Resource::Stack => libc::RLIMIT_STACK,
        }
    }
}

/// Where a standard stream of a process leads.
///
/// ```
/// use msgproc::Stdio;
/// let quiet = Stdio::null();
/// let kept = Stdio::capture(20); // the last 20 lines stand in its `Exit`
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stdio(pub(crate) Stream);

#[derive(Clone, Debug, Default)]
pub(crate) enum Stream {
    #[default]
    Inherit,
    Null,
    Capture(usize),
    Fd(Arc<OwnedFd>),
}

impl Stdio {
    /// Where it leads in the process that starts it; for a fork server, where it led when the
    /// server was started. So by default.
    pub fn inherit() -> Stdio {
        Stdio(Stream::Inherit)
    }

    /// Nowhere.
    pub fn null() -> Stdio {
        Stdio(Stream::Null)
    }

    /// Into memory, and from there line by line into `tracing`, with the name of the process as a
    /// field. The last `lines` of stdout and stderr stand in its [`Exit`](crate::Exit).
    ///
    /// The process never waits for somebody to read. What it writes while a handler runs stays in
    /// memory until that returns; then, and twice a second while it has nothing to do, all but the last
    /// 256 KiB are given back.
    pub fn capture(lines: usize) -> Stdio {
        Stdio(Stream::Capture(lines))
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Stdio {
        Stdio(Stream::Fd(Arc::new(fd)))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        Stdio::from(OwnedFd::from(file))
    }
}

/// A string that need not be UTF-8, on its way to another process.
type Bytes = Vec<u8>;

/// All but the standard streams.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Surroundings {
    clear: bool,
    variables: Vec<(Bytes, Option<Bytes>)>,
    directory: Option<Bytes>,
    nice: Option<i32>,
    cpus: Vec<usize>,
    limits: Vec<(Resource, u64, u64)>,
    oom_score: Option<i32>,
}

impl Surroundings {
    pub(crate) fn variable(&mut self, name: &OsStr, value: Option<&OsStr>) {
        let value = value.map(|value| value.as_bytes().to_vec());
        self.variables.push((name.as_bytes().to_vec(), value));
    }

    pub(crate) fn clear_variables(&mut self) {
        self.clear = true;
        self.variables.clear();
    }

    pub(crate) fn directory(&mut self, path: PathBuf) {
        self.directory = Some(path.into_os_string().into_vec());
    }

    pub(crate) fn nice(&mut self, nice: i32) {
        self.nice = Some(nice);
    }

    pub(crate) fn cpus(&mut self, cpus: Vec<usize>) {
        self.cpus = cpus;
    }

    pub(crate) fn limit(&mut self, resource: Resource, soft: u64, hard: u64) {
        self.limits.retain(|(other, ..)| *other != resource);
        self.limits.push((resource, soft, hard));
    }

    pub(crate) fn oom_score(&mut self, score: i32) {
        self.oom_score = Some(score);
    }

    /// Whether nothing was set.
    #[inline]
    pub(crate) fn are_ours(&self) -> bool {
        let Surroundings { clear, variables, directory, nice, cpus, limits, oom_score } = self;
        !clear
            && variables.is_empty()
            && directory.is_none()
            && nice.is_none()
            && cpus.is_empty()
            && limits.is_empty()
            && oom_score.is_none()
    }

    /// What a program does not have that was executed with its directory and its variables.
    pub(crate) fn beside_program(&self) -> Surroundings {
        let rest = self.clone();
        Surroundings { clear: false, variables: Vec::new(), directory: None, ..rest }
    }

    /// In a new process of one thread: takes all of it on.
    ///
    /// # Errors
    ///
    /// A sentence: what could not be set to what, and why.
    pub(crate) fn apply(&self) -> Result<(), String> {
        if self.clear {
            for (name, _) in env::vars_os() {
                // SAFETY: this process has one thread.
                unsafe { env::remove_var(name) };
            }
        }
        for (name, value) in &self.variables {
            let name = OsStr::from_bytes(name);
            check_variable(name, value.as_deref())?;
            match value {
                // SAFETY: this process has one thread.
                Some(value) => unsafe { env::set_var(name, OsStr::from_bytes(value)) },
                // SAFETY: as above.
                None => unsafe { env::remove_var(name) },
            }
        }
        if let Some(directory) = &self.directory {
            let directory = OsStr::from_bytes(directory);
            env::set_current_dir(directory).map_err(|error| no_directory(directory, &error))?;
        }
        self.apply_to(0)
    }

    /// Takes on what can be given to another process: limits, processors, priority, score. 0 means
    /// the caller.
    ///
    /// # Errors
    ///
    /// As [`Surroundings::apply`].
    pub(crate) fn apply_to(&self, pid: u32) -> Result<(), String> {
        if let Some(score) = self.oom_score {
            let process = if pid == 0 { "self".to_owned() } else { pid.to_string() };
            fs::write(format!("/proc/{process}/oom_score_adj"), score.to_string())
                .map_err(|error| format!("cannot set the OOM score to {score}: {error}"))?;
        }
        if !self.cpus.is_empty() {
            set_cpus(pid, &self.cpus).map_err(|error| {
                format!("cannot bind it to the processors {:?}: {error}", self.cpus)
            })?;
        }
        if let Some(nice) = self.nice {
            // The kernel would take the nearest one that can be.
            if !(-20..=19).contains(&nice) {
                return Err(format!("cannot set its nice value to {nice}: -20 to 19 are possible"));
            }
            // SAFETY: takes numbers, and touches no memory of ours.
            check(unsafe { libc::setpriority(libc::PRIO_PROCESS, pid, nice) })
                .map_err(|error| format!("cannot set its nice value to {nice}: {error}"))?;
        }
        for &(resource, soft, hard) in &self.limits {
            set_limit(pid, resource, soft, hard).map_err(|error| {
                format!("cannot set the limit of {resource:?} to {soft} of {hard}: {error}")
            })?;
        }
        Ok(())
    }

    /// Why a program could not be executed in its directory, if that is why.
    pub(crate) fn why_no_directory(&self) -> Option<String> {
        let directory = OsStr::from_bytes(self.directory.as_deref()?);
        let error = match fs::metadata(directory) {
            Ok(found) if found.is_dir() => return None,
            Ok(_) => io::ErrorKind::NotADirectory.into(),
            Err(error) => error,
        };
        Some(no_directory(directory, &error))
    }

    /// The directory and the variables of a program to be executed.
    pub(super) fn directory_and_variables(&self) -> io::Result<(Option<CString>, Vec<CString>)> {
        let directory = self.directory.clone().map(CString::new).transpose()?;
        let mut variables: Vec<(OsString, OsString)> =
            if self.clear { Vec::new() } else { env::vars_os().collect() };
        for (name, value) in &self.variables {
            let name = OsStr::from_bytes(name);
            check_variable(name, value.as_deref()).map_err(io::Error::other)?;
            variables.retain(|(other, _)| other != name);
            if let Some(value) = value {
                variables.push((name.to_owned(), OsStr::from_bytes(value).to_owned()));
            }
        }
        let variables = variables.into_iter().map(|(name, value)| {
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            CString::new(entry).map_err(io::Error::from)
        });
        Ok((directory, variables.collect::<io::Result<_>>()?))
    }
}

fn no_directory(directory: &OsStr, error: &io::Error) -> String {
    format!("cannot change to the directory {}: {error}", directory.display())
}

fn check_variable(name: &OsStr, value: Option<&[u8]>) -> Result<(), String> {
    if name.is_empty() || name.as_bytes().iter().any(|byte| matches!(byte, b'=' | 0)) {
        return Err(format!("{name:?} is no name of a variable"));
    }
    if value.is_some_and(|value| value.contains(&0)) {
        return Err(format!("the value of variable {name:?} has a zero byte in it"));
    }
    Ok(())
}

/// Lets the calling thread use these processors.
pub(crate) fn bind_thread(cpus: &[usize]) -> io::Result<()> {
    set_cpus(0, cpus)
}

/// `pid` may be a thread; 0 is the calling one.
fn set_cpus(pid: u32, cpus: &[usize]) -> io::Result<()> {
    // SAFETY: all zeros is an empty set; the macro checks the number against the set's length.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus {
            if cpu >= libc::CPU_SETSIZE as usize {
                return Err(io::Error::other(format!("there is no processor {cpu}")));
            }
            libc::CPU_SET(cpu, &mut set);
        }
        check(libc::sched_setaffinity(pid as i32, size_of_val(&set), &raw const set))
    }
}

fn set_limit(pid: u32, resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` lives through the call, and nothing is written back.
    check(unsafe {
        libc::prlimit64(pid as i32, resource.number(), &raw const limit, std::ptr::null_mut())
    })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a standard stream of this process mean another file.
pub(super) fn replace_stream(number: i32, fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a standard stream stays open, it only means another file.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.min(0))
}

/// What a standard stream means that leads nowhere.
pub(crate) fn nowhere() -> io::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    Ok(file.into())
}

/// The standard streams of a new process: what to put in the place of each, if anything.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) fds: [Option<Arc<OwnedFd>>; 3],
}

impl Streams {
    /// In a new process: takes them on.
    pub(crate) fn take_on(&self) -> io::Result<()> {
        for (number, fd) in (0..).zip(&self.fds) {
            if let Some(fd) = fd {
                replace_stream(number, fd.as_fd())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_added_changed_and_taken_away() {
        let mut surroundings = Surroundings::default();
        surroundings.clear_variables();
        surroundings.variable("A".as_ref(), Some("1".as_ref()));
        surroundings.variable("B".as_ref(), Some("2".as_ref()));
        surroundings.variable("A".as_ref(), Some("3".as_ref()));
        surroundings.variable("B".as_ref(), None);
        let (directory, variables) = surroundings.directory_and_variables().unwrap();
        assert_eq!((directory, variables), (None, vec![c"A=3".to_owned()]));
        surroundings.variable("a=b".as_ref(), Some("".as_ref()));
        assert!(surroundings.directory_and_variables().is_err());
    }

    #[test]
    fn a_limit_says_what_it_is_of() {
        let mut surroundings = Surroundings::default();
        surroundings.limit(Resource::OpenFiles, 2, 1);
        let error = surroundings.apply_to(0).unwrap_err();
        assert!(error.contains("OpenFiles to 2 of 1"), "{error}");
    }
}
