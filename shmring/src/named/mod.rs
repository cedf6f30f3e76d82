//! The life of a named file in `/dev/shm`, the same for arrays and for segments of rings.
//!
//! - A file is complete when its name appears: it is made without one, filled, and linked last.
//! - "In use" is a shared `flock` on the open file description from which the file is mapped.
//!   It is never released by hand; it goes with the last mapping, however its processes end.
//! - Whoever made it removes its name again, unless told to keep it: when the [`Owner`] is
//!   dropped in the process that made it. Those who open it never do. [`unlink`] is for anybody
//!   who asks for it in words. What a killed process owned stands in its [`Ledger`], for its
//!   children; [`remove_if_stale`] is for what even they could not remove.
//!
//! README.md beside this file has the states, what a death leaves in each, and why of several who
//! come first at once all get the same file.

mod ledger;
mod patience;

use std::{
    fs::{File, Permissions},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    error::{Error, Result},
    fault::fault,
    os::{self, FileId, FileInfo, Mapping},
};

pub use ledger::Ledger;
pub(crate) use patience::Patience;

/// The only mode of a named file: for its user alone.
pub const MODE: u32 = 0o600;

/// How long an attacher lets somebody else hold a file exclusively when it has no deadline of
/// its own. A cleaner's probe takes microseconds.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// The longest pause between two looks for a file that is not there yet.
const FILE_PAUSE: Duration = Duration::from_millis(5);

/// How long one waits for its [`Turn`], where memory ran short.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

/// A file as somebody else made it: its own open file description, marked as in use.
pub type Attached = (OwnedFd, FileInfo);

/// Removes the name of a file when dropped in the process that made it.
#[derive(Debug)]
pub struct Owner {
    path: PathBuf,
    id: FileId,
    pid: u32,
    entry: Option<(Arc<Ledger>, usize)>,
}

impl Owner {
    /// Takes a file in whose name is about to appear at `path`.
    fn new(path: &Path, id: FileId) -> Owner {
        // A full or missing ledger loses only the removal after a kill -9.
        let entry =
            Ledger::ours().ok().and_then(|ledger| ledger.enter(path, id).map(|at| (ledger, at)));
        Owner { path: path.into(), id, pid: os::pid(), entry }
    }

    /// Lets the file stay when this is dropped, and after the process was killed.
    pub fn keep(mut self) {
        self.strike();
        self.pid = 0;
    }

    /// What it would remove.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn strike(&mut self) {
        if let Some((ledger, at)) = self.entry.take() {
            ledger.strike(at);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A forked child has a copy of the value, and of its parent's ledger.
        if self.pid == os::pid() {
            // Nobody is left to tell when this fails, and the file then shows up as stale.
            let _ = remove_same(&self.path, self.id);
            self.strike();
        }
    }
}

/// Makes a file of `len` bytes, all of them reserved and zero, has it filled, and lets it appear
/// at `path` last of all. `what` names it in errors: `array "frames"`.
///
/// The descriptor and the mapping share one open file description, marked as in use.
///
/// # Errors
///
/// [`Error::OutOfShm`], [`Error::OutOfMemory`] where `/dev/shm` promises more than the machine
/// has, [`Error::Exists`], [`Error::Stale`] when what exists is not in use, [`Error::Io`], and
/// whatever `fill` returns. Nothing is left behind in any of these cases.
pub fn publish(
    path: &Path,
    len: u64,
    what: &str,
    fill: impl FnOnce(&Mapping) -> Result<()>,
) -> Result<(OwnedFd, Mapping, Owner)> {
    let draft = Draft::new(len, what)?;
    fill(&draft.map)?;
    draft.publish(path)
}

/// A file that has its memory and is marked as in use, but has no name yet.
pub(crate) struct Draft {
    fd: OwnedFd,
    map: Mapping,
    id: FileId,
    what: String,
}

impl Draft {
    /// Makes a file of `len` bytes, all of them reserved and zero.
    ///
    /// # Errors
    ///
    /// As [`publish`].
    pub(crate) fn new(len: u64, what: &str) -> Result<Draft> {
        let action = |step: &str| Error::io(format!("{step} {what}"));
        let size = usize::try_from(len).map_err(|_| out_of_shm(what, len))?;
        // Asked first: reserving more than there is takes all of it, for the moment it lasts.
        if os::free_in(Path::new(os::SHM_DIR)).is_ok_and(|free| free < len) {
            return Err(out_of_shm(what, len));
        }
        os::memory_for(len).map_err(|available| Error::OutOfMemory {
            what: what.into(),
            needed: len,
            available,
        })?;
        let fd = os::tmpfile(Path::new(os::SHM_DIR)).map_err(action("make the file of"))?;
        fault!("named.made");
        os::allocate(fd.as_fd(), len).map_err(|error| match error.kind() {
            ErrorKind::StorageFull => out_of_shm(what, len),
            _ => action("reserve the memory of")(error),
        })?;
        let fd = private(fd).map_err(action("set the mode of"))?;
        fault!("named.allocated");
        // Nobody else can know a file without a name.
        os::flock_shared(fd.as_fd()).map_err(action("mark as in use"))?;
        fault!("named.locked");
        let map = Mapping::new(&fd, size).map_err(action("map"))?;
        let id = os::file_info(fd.as_fd()).map_err(action("look at"))?.id;
        Ok(Draft { fd, map, id, what: what.into() })
    }

    /// What will name the file, once it has a name.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Takes the draft apart, to make something of its mapping before it is published.
    pub(crate) fn into_parts(self) -> (OwnedFd, Mapping, Unnamed) {
        (self.fd, self.map, Unnamed { id: self.id, what: self.what })
    }

    fn publish(self, path: &Path) -> Result<(OwnedFd, Mapping, Owner)> {
        let (fd, map, unnamed) = self.into_parts();
        let owner = unnamed.publish(fd.as_fd(), path)?;
        Ok((fd, map, owner))
    }
}

/// The right to give a draft its name.
pub(crate) struct Unnamed {
    id: FileId,
    what: String,
}

impl Unnamed {
    /// Lets the file appear at `path`: the last step of all.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`], [`Error::Stale`], [`Error::NotASegment`] and [`Error::NotOurs`] for what
    /// else has that name, [`Error::Io`].
    pub(crate) fn publish(self, fd: BorrowedFd<'_>, path: &Path) -> Result<Owner> {
        fault!("named.filled");
        let owner = Owner::new(path, self.id);
        fault!("named.entered");
        os::link(fd, path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(path),
            _ => Error::io(format!("give a name to {}", self.what))(error),
        })?;
        fault!("named.linked");
        Ok(owner)
    }
}

/// The umask may have taken bits away that an attacher insists on.
fn private(fd: OwnedFd) -> io::Result<OwnedFd> {
    if os::file_info(fd.as_fd())?.mode == MODE {
        return Ok(fd);
    }
    let file = File::from(fd);
    file.set_permissions(Permissions::from_mode(MODE))?;
    Ok(file.into())
}

fn out_of_shm(what: &str, needed: u64) -> Error {
    Error::OutOfShm {
        what: what.into(),
        needed,
        free: os::free_in(Path::new(os::SHM_DIR)).unwrap_or(0),
    }
}

/// Refuses a name that something has, before anything is made for it. Somebody may be quicker
/// afterwards.
pub(crate) fn refuse_taken(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() { Err(exists(path)) } else { Ok(()) }
}

fn exists(path: &Path) -> Error {
    let path = path.to_path_buf();
    // What neither opening nor replacing would help against.
    match path.symlink_metadata() {
        Ok(meta) if meta.is_symlink() => return not_a_segment(&path, "it is a symbolic link"),
        Ok(meta) if meta.is_dir() => return not_a_segment(&path, "it is a directory"),
        Ok(meta) if !meta.is_file() => return not_a_segment(&path, "it is not a regular file"),
        Ok(meta) if meta.uid() != os::user_id() => {
            return not_ours(&path, format!("it belongs to user {}", meta.uid()));
        }
        _ => {}
    }
    let in_use = match (os::file_id(&path), os::flocked()) {
        (Ok(id), Ok(locked)) => locked.contains(&id),
        _ => true,
    };
    if in_use { Error::Exists { path } } else { Error::Stale { path } }
}

/// Opens a file that exists, checks that it can be trusted, and marks it as in use.
///
/// `patience` bounds the wait for somebody who holds it exclusively, [`PROBE_PATIENCE`] without
/// one. The length and content are not looked at.
///
/// # Errors
///
/// [`Error::Absent`]; [`Error::NotASegment`] for a symbolic link or anything but a regular file;
/// [`Error::NotOurs`] when the owner is not our effective user or the mode is not 0600;
/// [`Error::TimedOut`]; [`Error::Io`].
pub fn attach(path: &Path, patience: Option<Duration>) -> Result<Attached> {
    attach_by(open, path, patience)
}

/// The same for those who only look: they cannot write by this descriptor.
///
/// # Errors
///
/// As [`attach`].
pub fn attach_read_only(path: &Path) -> Result<Attached> {
    attach_by(open_read_only, path, None)
}

fn attach_by(
    open: fn(&Path) -> Result<OwnedFd>,
    path: &Path,
    patience: Option<Duration>,
) -> Result<Attached> {
    let mut patience = Patience::new(Some(patience.unwrap_or(PROBE_PATIENCE)), FILE_PAUSE);
    loop {
        let fd = open(path)?;
        let info = checked(path, fd.as_fd())?;
        let locked =
            os::flock_shared(fd.as_fd()).map_err(Error::io(format!("mark {path:?} as in use")))?;
        // A cleaner may have removed it between our open and our lock, and somebody made another.
        if locked && same_file(fd.as_fd(), path)? {
            return Ok((fd, info));
        }
        if !patience.pause() {
            return Err(Error::TimedOut {
                what: format!("{}, held exclusively by another process,", path.display()),
                waited: patience.waited(),
            });
        }
    }
}

/// Attaches as soon as the file is there.
///
/// # Errors
///
/// [`Error::NotReady`] when it has not appeared in time, and those of [`attach`].
pub fn open_or_wait(path: &Path, timeout: Duration) -> Result<Attached> {
    let mut patience = Patience::new(Some(timeout), FILE_PAUSE);
    loop {
        match attach(path, Some(patience.left().max(Duration::from_millis(1)))) {
            Err(Error::Absent { path }) => {
                if !patience.pause() {
                    return Err(Error::NotReady { path, waited: patience.waited() });
                }
            }
            other => return other,
        }
    }
}

/// Opens a file, or makes it where there is none: either side may come first.
///
/// `create` gives [`Error::Exists`] or [`Error::Stale`] when another process was faster, as
/// [`publish`] does; then that file is opened. Where it has no memory, others may be making the
/// same file: then they try again, one after the other.
///
/// # Errors
///
/// [`Error::TimedOut`] when the file kept coming and going, and those of both.
pub fn open_or_create<T>(
    path: &Path,
    timeout: Duration,
    open: impl FnMut(Attached) -> Result<T>,
    create: impl FnMut() -> Result<T>,
) -> Result<T> {
    replace_or_create(path, timeout, || Ok(()), open, create)
}

/// The same where `replace` removes first what nobody uses.
///
/// # Errors
///
/// As [`open_or_create`], and whatever `replace` returns.
pub fn replace_or_create<T>(
    path: &Path,
    timeout: Duration,
    mut replace: impl FnMut() -> Result<()>,
    mut open: impl FnMut(Attached) -> Result<T>,
    mut create: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut patience = Patience::new(Some(timeout), FILE_PAUSE);
    let mut turn = None;
    loop {
        replace()?;
        match attach(path, Some(patience.left().max(Duration::from_millis(1)))) {
            Ok(attached) => return open(attached),
            Err(Error::Absent { .. }) => {}
            Err(other) => return Err(other),
        }
        let turn = turn.get_or_insert_with(Turn::new);
        if !turn.has_come() {
            continue;
        }
        match create() {
            Err(Error::OutOfShm { .. } | Error::OutOfMemory { .. }) if turn.ask_alone() => {}
            Err(Error::Exists { .. } | Error::Stale { .. }) if patience.pause() => {}
            Err(Error::Exists { path } | Error::Stale { path }) => {
                return Err(Error::TimedOut {
                    what: format!("{}, made and removed again by others,", path.display()),
                    waited: patience.waited(),
                });
            }
            other => return other,
        }
    }
}

/// The right to make a file: beside others at first, and alone after there was no memory for it.
/// What several take at once may be too much where there is enough for each.
///
/// It is a lock of `/dev/shm` itself, and goes with its holder. Who does not get it in time goes on
/// without it.
struct Turn {
    folder: Option<OwnedFd>,
    is_alone: bool,
    patience: Patience,
}

impl Turn {
    fn new() -> Turn {
        Turn {
            folder: os::open_read_only(Path::new(os::SHM_DIR)).ok(),
            is_alone: false,
            patience: Patience::new(Some(TURN_PATIENCE), FILE_PAUSE),
        }
    }

    /// Whether it has come. There was a pause where it has not.
    fn has_come(&mut self) -> bool {
        let Some(folder) = &self.folder else { return true };
        let lock = if self.is_alone { os::flock_exclusive } else { os::flock_shared };
        !matches!(lock(folder.as_fd()), Ok(false)) || !self.patience.pause()
    }

    /// Asks to be alone; false for who was.
    fn ask_alone(&mut self) -> bool {
        self.folder.is_some() && !std::mem::replace(&mut self.is_alone, true)
    }
}

/// Removes the name at `path` if it is still that of `fd`. Tells whether it was.
///
/// The file lives on for those who have it.
///
/// # Errors
///
/// [`Error::Io`].
pub fn unlink(fd: BorrowedFd<'_>, path: &Path) -> Result<bool> {
    let id = os::file_info(fd).map_err(Error::io(format!("look at {path:?}")))?.id;
    remove_same(path, id)
}

/// Removes a file that nobody uses. Tells whether it did: not when it is in use or gone.
///
/// It holds the file exclusively meanwhile, so that nobody can attach to what is being removed.
/// Works on named pipes too.
///
/// # Errors
///
/// [`Error::NotOurs`], [`Error::NotASegment`], [`Error::Io`].
pub fn remove_if_stale(path: &Path) -> Result<bool> {
    let fd = match open(path) {
        Err(Error::Absent { .. }) => return Ok(false),
        other => other?,
    };
    let info = info(path, fd.as_fd())?;
    if info.user != os::user_id() {
        return Err(not_ours(path, format!("it belongs to user {}", info.user)));
    }
    if !info.regular && !info.fifo {
        return Err(not_a_segment(path, "it is neither a file nor a named pipe"));
    }
    let alone =
        os::flock_exclusive(fd.as_fd()).map_err(Error::io(format!("lock {path:?} exclusively")))?;
    Ok(alone && remove_same(path, info.id)?)
}

/// The names this process owns now: what goes with it when it ends in order.
pub fn owned() -> Vec<PathBuf> {
    Ledger::ours()
        .map_or_else(|_| Vec::new(), |ledger| ledger.entries().map(|(path, _)| path).collect())
}

// Between the look and the removal somebody else may remove the file and make another of that
// name. Linux has no call that does both; a cleaner has the exclusive lock meanwhile, and all
// others mark the file as in use: see README.md.
fn remove_same(path: &Path, id: FileId) -> Result<bool> {
    let result = match os::file_id(path) {
        Ok(found) if found == id => os::remove(path).map(|()| true),
        Ok(_) => Ok(false),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        other => other.map_err(Error::io(format!("remove {path:?}"))),
    }
}

/// Removes what a process owned that has ended. It is marked as in use meanwhile, so that nobody
/// replaces it between the look and the removal; who is at that already removes it for us.
fn remove_left(path: &Path, id: FileId) -> Result<bool> {
    let fd = match open(path) {
        Ok(fd) => fd,
        Err(Error::Absent { .. }) => return Ok(false),
        // No descriptor is left, for example: better removed than left.
        Err(_) => return remove_same(path, id),
    };
    let ours = info(path, fd.as_fd())?.id == id
        && os::flock_shared(fd.as_fd()).map_err(Error::io(format!("lock {path:?}")))?;
    Ok(ours && remove_same(path, id)?)
}

fn open(path: &Path) -> Result<OwnedFd> {
    os::open_read_write(path).map_err(why_not_open(path, "writing"))
}

fn open_read_only(path: &Path) -> Result<OwnedFd> {
    os::open_read_only(path).map_err(why_not_open(path, "reading"))
}

fn why_not_open(path: &Path, purpose: &str) -> impl FnOnce(io::Error) -> Error {
    move |error| match error.kind() {
        ErrorKind::NotFound => Error::Absent { path: path.into() },
        ErrorKind::PermissionDenied => {
            not_ours(path, format!("it may not be opened for {purpose}"))
        }
        ErrorKind::IsADirectory => not_a_segment(path, "it is a directory"),
        // The kind of ELOOP has no stable name.
        _ if path.is_symlink() => not_a_segment(path, "it is a symbolic link"),
        _ => Error::io(format!("open {path:?}"))(error),
    }
}

fn checked(path: &Path, fd: BorrowedFd<'_>) -> Result<FileInfo> {
    let info = info(path, fd)?;
    if !info.regular {
        return Err(not_a_segment(path, "it is not a regular file"));
    }
    trusted(&path.display().to_string(), &info)?;
    Ok(info)
}

/// Checks owner and mode.
///
/// # Errors
///
/// [`Error::NotOurs`].
pub(crate) fn trusted(what: &str, info: &FileInfo) -> Result<()> {
    let us = os::user_id();
    let reason = if info.user != us {
        format!("it belongs to user {}, and we are user {us}", info.user)
    } else if info.mode != MODE {
        format!("its mode is {:04o}, and should be 0600", info.mode)
    } else {
        return Ok(());
    };
    Err(Error::NotOurs { what: what.into(), reason })
}

fn info(path: &Path, fd: BorrowedFd<'_>) -> Result<FileInfo> {
    os::file_info(fd).map_err(Error::io(format!("look at {path:?}")))
}

fn same_file(fd: BorrowedFd<'_>, path: &Path) -> Result<bool> {
    os::same_file(fd, path).map_err(Error::io(format!("look at {path:?}")))
}

fn not_ours(path: &Path, reason: String) -> Error {
    Error::NotOurs { what: path.display().to_string(), reason }
}

fn not_a_segment(path: &Path, reason: &str) -> Error {
    Error::NotASegment { what: path.display().to_string(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
