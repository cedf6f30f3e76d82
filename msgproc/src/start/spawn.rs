//! A new program: executed, with one descriptor of ours and nothing else of this process.
//!
//! By posix_spawn, which costs the same however large this process is, and which a program with
//! threads may call.

#![allow(unsafe_code)] // posix_spawn, dup.

use std::{
    env,
    ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_short},
    fs, io,
    mem::{MaybeUninit, transmute},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    Child,
    surroundings::{Streams, Surroundings},
};

/// The number of the control descriptor in a program that we execute.
pub(crate) const CONTROL: RawFd = 3;

/// What stands first among the arguments of this very program when it was executed to be a
/// backend or a fork server.
const SPAWNED: &str = "--msgproc-spawned=3";

/// What stands last among the arguments of another program that we execute.
pub(crate) const EXECUTED: &str = "--msgproc-control=3";

/// Where our own numbers go before they are put into their places.
const OUT_OF_THE_WAY: RawFd = 10;

/// What is executed.
pub(crate) struct Target<'a> {
    pub(crate) program: &'a OsStr,
    /// What it finds as its arguments, its own name included.
    pub(crate) arguments: &'a [OsString],
    /// Standard input may be nothing, as for a program that runs in the background.
    pub(crate) streams: &'a Streams,
    pub(crate) surroundings: &'a Surroundings,
    /// Whether SIGINT is blocked until it has seen to that.
    pub(crate) block_sigint: bool,
}

impl Target<'_> {
    /// Executes it with this control descriptor.
    ///
    /// # Errors
    ///
    /// The kernel's: that there is no such program, among others.
    pub(crate) fn start(&self, control: &OwnedFd) -> io::Result<Child> {
        super::flush();
        let (directory, variables) = self.surroundings.directory_and_variables()?;
        let arguments = self.arguments.iter().map(|argument| CString::new(argument.as_bytes()));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let program = CString::new(self.program.as_bytes())?;

        let mut actions = Actions::new()?;
        let mut kept = Vec::new();
        let control = Some(aside(control)?);
        let streams = self.streams.fds.iter().map(|fd| fd.as_ref().map(aside).transpose());
        let streams = streams.collect::<io::Result<Vec<_>>>()?;
        for (number, fd) in (0..).zip(streams.into_iter().chain([control])) {
            if let Some(fd) = fd {
                actions.duplicate(fd.as_raw_fd(), number)?;
                kept.push(fd);
            }
        }
        actions.close_from(CONTROL + 1)?;
        if let Some(directory) = &directory {
            actions.change_directory(directory)?;
        }
        let attributes = Attributes::new(self.block_sigint)?;
        let pid = actions.spawn(&attributes, &program, &arguments, &variables)?;
        Child::process(pid)
    }
}

/// A duplicate with a number that none of the new program's has.
fn aside(fd: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; the kernel gives a new descriptor, which is ours.
    unsafe {
        let raw = libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
        if raw == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(raw))
    }
}

/// What is done between the new process and the new program.
struct Actions(Box<MaybeUninit<libc::posix_spawn_file_actions_t>>);

type CloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;

impl Actions {
    fn new() -> io::Result<Actions> {
        let mut actions = Box::new(MaybeUninit::uninit());
        // SAFETY: initializes what it is given.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        Ok(Actions(actions))
    }

    fn duplicate(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        // SAFETY: the actions are initialized, here and below.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), from, to) })
    }

    fn change_directory(&mut self, path: &CStr) -> io::Result<()> {
        // SAFETY: the path is copied.
        check(unsafe {
            libc::posix_spawn_file_actions_addchdir_np(self.0.as_mut_ptr(), path.as_ptr())
        })
    }

    /// Closes all descriptors from this number on, also those that are not close-on-exec.
    fn close_from(&mut self, first: RawFd) -> io::Result<()> {
        // Newer C libraries have it, and a program need not be linked against one to run on one.
        let name = c"posix_spawn_file_actions_addclosefrom_np";
        // SAFETY: looks a name up; what it finds has this type in every library that has it.
        let close_from: Option<CloseFrom> = unsafe {
            let found = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
            (!found.is_null()).then(|| transmute::<*mut libc::c_void, CloseFrom>(found))
        };
        if let Some(close_from) = close_from {
            // SAFETY: as in `duplicate`.
            return check(unsafe { close_from(self.0.as_mut_ptr(), first) });
        }
        for entry in fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
            let Some(number) = number.filter(|number| *number >= first) else { continue };
            // SAFETY: takes numbers.
            let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
            if flags != -1 && flags & libc::FD_CLOEXEC == 0 {
                // SAFETY: as above.
                check(unsafe {
                    libc::posix_spawn_file_actions_addclose(self.0.as_mut_ptr(), number)
                })?;
            }
        }
        Ok(())
    }

    fn spawn(
        &self,
        attributes: &Attributes,
        program: &CStr,
        arguments: &[CString],
        variables: &[CString],
    ) -> io::Result<u32> {
        let pointers = |strings: &[CString]| -> Vec<*mut c_char> {
            let strings = strings.iter().map(|string| string.as_ptr().cast_mut());
            strings.chain([ptr::null_mut()]).collect()
        };
        let (arguments, variables) = (pointers(arguments), pointers(variables));
        let mut pid = 0;
        // SAFETY: all that it reads lives through the call, both lists end with a null, and
        // nothing of it is written to.
        check(unsafe {
            libc::posix_spawnp(
                &raw mut pid,
                program.as_ptr(),
                self.0.as_ptr(),
                attributes.0.as_ptr(),
                arguments.as_ptr(),
                variables.as_ptr(),
            )
        })?;
        Ok(pid as u32)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: they are initialized, and not used any more.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

/// No signal but SIGINT is blocked in the new program, and each does what it does by default.
struct Attributes(Box<MaybeUninit<libc::posix_spawnattr_t>>);

impl Attributes {
    fn new(block_sigint: bool) -> io::Result<Attributes> {
        let mut attributes = Box::new(MaybeUninit::uninit());
        // SAFETY: initializes what it is given.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        let mut attributes = Attributes(attributes);
        let mut blocked = MaybeUninit::<libc::sigset_t>::uninit();
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let flags = (libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF) as c_short;
        // SAFETY: the sets are filled before they are read, and the attributes are initialized.
        unsafe {
            libc::sigemptyset(blocked.as_mut_ptr());
            if block_sigint {
                libc::sigaddset(blocked.as_mut_ptr(), libc::SIGINT);
            }
            libc::sigfillset(all.as_mut_ptr());
            let attributes = attributes.0.as_mut_ptr();
            check(libc::posix_spawnattr_setsigmask(attributes, blocked.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(attributes, all.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(attributes, flags))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: they are initialized, and not used any more.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

/// These functions give the error's number instead of setting it.
fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// The path of this program's file, whatever stands at its name by now.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

/// The arguments of this program when it is executed anew to be the process of this name.
pub(crate) fn arguments_of_spawned(name: &str) -> Vec<OsString> {
    let program = env::args_os().next().unwrap_or_else(|| THIS_PROGRAM.into());
    // A null would end the list.
    vec![program, SPAWNED.into(), name.replace('\0', " ").into()]
}

static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// Notes that this program looks first whether it was executed to be a backend.
pub(crate) fn note_initialized() {
    INITIALIZED.store(true, Ordering::Relaxed);
}

/// Whether a process that runs this program anew becomes what we want, and does not start all
/// over.
pub(crate) fn is_initialized() -> bool {
    INITIALIZED.load(Ordering::Relaxed)
}

/// The control descriptor, where this process was executed by [`Target::start`] from the same
/// program.
///
/// # Errors
///
/// A sentence, where only the arguments say so.
pub(crate) fn spawned() -> Result<Option<OwnedFd>, String> {
    match env::args_os().nth(1) {
        Some(argument) if argument == SPAWNED => take_control().map(Some),
        _ => Ok(None),
    }
}

/// The control descriptor, where this process was executed by [`Target::start`] from another
/// program.
///
/// # Errors
///
/// A sentence, where only the arguments say so.
pub(crate) fn executed() -> Result<Option<OwnedFd>, String> {
    match env::args_os().next_back() {
        Some(argument) if argument == EXECUTED => take_control().map(Some),
        _ => Ok(None),
    }
}

/// Whether the arguments say so.
pub(crate) fn is_executed() -> bool {
    env::args_os().next_back().is_some_and(|argument| argument == EXECUTED)
}

fn take_control() -> Result<OwnedFd, String> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err("the control channel of this process has been taken already".into());
    }
    let mut kind: c_int = 0;
    let mut len = size_of_val(&kind) as libc::socklen_t;
    // SAFETY: `kind` and `len` are as long as we say.
    let result = unsafe {
        libc::getsockopt(
            CONTROL,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut len,
        )
    };
    if result == -1 || kind != libc::SOCK_SEQPACKET {
        return Err(format!(
            "descriptor {CONTROL} is no control channel: the argument is for processes that msgproc starts"
        ));
    }
    // SAFETY: the number is open, it is what our parent gave us, and it is taken once.
    let control = unsafe {
        libc::fcntl(CONTROL, libc::F_SETFD, libc::FD_CLOEXEC);
        OwnedFd::from_raw_fd(CONTROL)
    };
    Ok(control)
}
