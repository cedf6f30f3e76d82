//! What processes left in `/dev/shm` that were killed before they could remove it.
//!
//! A file is stale when nobody has it open: see `flock` in the kernel's terms, a lock that goes
//! with the last process that uses the file, however that ends. `scripts/cleanup-shm` does the
//! same from a shell.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::PathBuf,
};

use crate::{
    error::{Error, Result},
    named,
    names::{self, Kind},
    os::{self, FileId},
};

/// A file of ours that nobody seems to use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stale {
    /// Its file.
    pub path: PathBuf,
    /// The name of its array or segment.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its length in bytes.
    pub len: u64,
}

/// Lists the files of this user that nobody seems to use, by path.
///
/// It only looks (at `/proc/locks`), and so disturbs nobody. Inside a container it does not see
/// the users outside, and may list what they use; [`Stale::remove`] finds that out.
///
/// # Errors
///
/// [`Error::Io`].
pub fn stale() -> Result<Vec<Stale>> {
    let files = fs::read_dir(os::SHM_DIR).map_err(Error::io(format!("list {}", os::SHM_DIR)))?;
    let mut found = Vec::new();
    for file in files {
        let file = file.map_err(Error::io(format!("list {}", os::SHM_DIR)))?;
        let file_name = file.file_name();
        let Some((name, kind)) = file_name.to_str().and_then(names::parse) else {
            continue;
        };
        let path = file.path();
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            // Somebody removed it since.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(format!("look at {path:?}"))(error)),
        };
        // A bell is a named pipe; nothing else than those and files is ever ours.
        let may_be = meta.is_file() || meta.file_type().is_fifo();
        if meta.uid() != os::user_id() || !may_be {
            continue;
        }
        let id = FileId { device: meta.dev(), inode: meta.ino() };
        let stale = Stale { name: name.into(), kind, len: meta.len(), path };
        found.push((id, stale));
    }
    // After the list, so that what was made since it began counts as in use.
    let used = os::flocked().map_err(Error::io("read /proc/locks"))?;
    let mut stale: Vec<Stale> =
        found.into_iter().filter(|(id, _)| !used.contains(id)).map(|(_, stale)| stale).collect();
    stale.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(stale)
}

impl Stale {
    /// Removes the file if really nobody uses it. Tells whether it did.
    ///
    /// # Errors
    ///
    /// [`Error::NotOurs`], [`Error::NotASegment`], [`Error::Io`].
    pub fn remove(&self) -> Result<bool> {
        named::remove_if_stale(&self.path)
    }
}

/// Removes every stale file of this user. Gives what it removed.
///
/// # Errors
///
/// The first that occurs; the other files are tried all the same, and [`stale`] lists what is left.
pub fn remove_stale() -> Result<Vec<Stale>> {
    let mut removed = Vec::new();
    let mut first = None;
    for stale in stale()? {
        match stale.remove() {
            Ok(true) => removed.push(stale),
            Ok(false) => {}
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        Some(error) => Err(error),
        None => Ok(removed),
    }
}
