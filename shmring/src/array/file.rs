//! The file behind an array: made or opened, its header checked, mapped, with its lock.

use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::{Path, PathBuf},
    ptr::NonNull,
    sync::Arc,
    time::Duration,
};

use super::{
    lock::FileLock,
    npy::{Header, MAX_HEADER},
};
use crate::{
    error::{Error, Result},
    fault::fault,
    named::{self, Attached, Owner},
    names::{self, Kind},
    os::{self, Mapping},
};

/// An open array of any type.
///
/// What its methods in `payload` rely on: the mapping is `offset` plus the length of the data,
/// as the header has them, and the data begin where elements of its type are aligned.
#[derive(Debug)]
pub(super) struct ArrayFile {
    // First, so that the name goes while the file is still marked as in use.
    owner: Option<Owner>,
    pub(super) lock: Arc<FileLock>,
    pub(super) map: Arc<Mapping>,
    pub(super) header: Header,
    pub(super) offset: usize,
    name: Option<(String, PathBuf)>,
}

/// How a file is made.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Making {
    pub(super) keep: bool,
    pub(super) prefault: bool,
    pub(super) replace_stale: bool,
}

/// Writes the data of a new array; gets where they begin.
pub(super) type Fill<'a> = &'a mut dyn FnMut(NonNull<u8>);

impl ArrayFile {
    pub(super) fn create(
        name: &str,
        header: Header,
        making: Making,
        fill: Fill<'_>,
    ) -> Result<ArrayFile> {
        let path = names::path(name, Kind::Array)?;
        let what = format!("array {name:?}");
        let (text, len) = measure(&header, &what)?;
        if making.replace_stale && path.exists() {
            named::remove_if_stale(&path)?;
        }
        named::refuse_taken(&path)?;
        let (fd, map, owner) =
            named::publish(&path, len as u64, &what, |map| write(map, &text, making, fill, &what))?;
        let owner = if making.keep {
            owner.keep();
            None
        } else {
            Some(owner)
        };
        fault!("array.owned");
        let lock = open_lock(fd.as_fd(), &what)?;
        Ok(ArrayFile {
            owner,
            lock,
            map: Arc::new(map),
            header,
            offset: text.len(),
            name: Some((name.into(), path)),
        })
    }

    pub(super) fn anonymous(header: Header, making: Making, fill: Fill<'_>) -> Result<ArrayFile> {
        let what = "an anonymous array";
        let (text, len) = measure(&header, what)?;
        let out_of_memory = || Error::OutOfMemory {
            what: what.into(),
            needed: len as u64,
            available: os::memory_available().unwrap_or(0),
        };
        // The kernel would promise more than it has, and end somebody at the first touch.
        if os::memory_for(len as u64).is_err() {
            return Err(out_of_memory());
        }
        let action = |step: &str| Error::io(format!("{step} {what}"));
        let fd = os::memfd("shmring.npy").map_err(action("make the file of"))?;
        os::allocate(fd.as_fd(), len as u64).map_err(|_| out_of_memory())?;
        os::seal(fd.as_fd()).map_err(action("seal"))?;
        os::flock_shared(fd.as_fd()).map_err(action("mark as in use"))?;
        let map = Mapping::new(&fd, len).map_err(action("map"))?;
        write(&map, &text, making, fill, what)?;
        Ok(ArrayFile {
            owner: None,
            lock: open_lock(fd.as_fd(), what)?,
            map: Arc::new(map),
            header,
            offset: text.len(),
            name: None,
        })
    }

    pub(super) fn open(name: &str) -> Result<ArrayFile> {
        let path = names::path(name, Kind::Array)?;
        ArrayFile::from_attached(name, path.clone(), named::attach(&path, None)?)
    }

    pub(super) fn open_or_wait(name: &str, timeout: Duration) -> Result<ArrayFile> {
        let path = names::path(name, Kind::Array)?;
        ArrayFile::from_attached(name, path.clone(), named::open_or_wait(&path, timeout)?)
    }

    pub(super) fn open_or_create(
        name: &str,
        timeout: Duration,
        create: impl FnMut() -> Result<ArrayFile>,
    ) -> Result<ArrayFile> {
        let path = names::path(name, Kind::Array)?;
        named::open_or_create(
            &path,
            timeout,
            |attached| ArrayFile::from_attached(name, path.clone(), attached),
            create,
        )
    }

    fn from_attached(name: &str, path: PathBuf, (fd, _): Attached) -> Result<ArrayFile> {
        ArrayFile::from_fd(fd, Some((name.into(), path)))
    }

    /// An array that came with a message; `name` is what its sender called it.
    pub(super) fn received(fd: OwnedFd, name: Option<String>) -> Result<ArrayFile> {
        let what = "an array in a message";
        let info = os::file_info(fd.as_fd()).map_err(Error::io(format!("look at {what}")))?;
        let name = match name {
            Some(name) => {
                named::trusted(what, &info)?;
                let path = names::path(&name, Kind::Array)?;
                Some((name, path))
            }
            // Without a name it must be a file that nobody can shorten.
            None if os::sealed(fd.as_fd()) => None,
            None => {
                return Err(Error::NotASegment {
                    what: what.into(),
                    reason: "it has no name, and its size is not sealed".into(),
                });
            }
        };
        os::flock_shared(fd.as_fd()).map_err(Error::io(format!("mark {what} as in use")))?;
        ArrayFile::from_fd(fd, name)
    }

    /// Reads the header, once, and maps what it describes.
    fn from_fd(fd: OwnedFd, name: Option<(String, PathBuf)>) -> Result<ArrayFile> {
        let what = name
            .as_ref()
            .map_or_else(|| "an anonymous array".into(), |(_, path)| path.display().to_string());
        let action = |step: &str| Error::io(format!("{step} {what}"));
        let unusable = |reason: String| Error::NotASegment { what: what.clone(), reason };
        let found = os::file_info(fd.as_fd()).map_err(action("look at"))?.len;
        let mut text = vec![0; found.min(MAX_HEADER as u64 + 12) as usize];
        let fd = {
            let file = File::from(fd);
            let mut got = 0;
            // It may be shortened meanwhile: what is there is what counts.
            while got < text.len() {
                match file.read_at(&mut text[got..], got as u64) {
                    Ok(0) => break,
                    Ok(more) => got += more,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(action("read the header of")(error)),
                }
            }
            text.truncate(got);
            OwnedFd::from(file)
        };
        let (header, offset) = Header::parse(&text).map_err(|error| unusable(error.to_string()))?;
        let needed = header.bytes().map_err(|error| unusable(error.to_string()))? + offset;
        if found < needed as u64 {
            return Err(Error::TooShort { what, found, needed: needed as u64 });
        }
        if !offset.is_multiple_of(header.dtype.align()) {
            return Err(unusable(format!(
                "its data begin at byte {offset}, where {} is not aligned",
                header.dtype
            )));
        }
        Ok(ArrayFile {
            owner: None,
            lock: open_lock(fd.as_fd(), &what)?,
            map: Arc::new(Mapping::new(&fd, needed).map_err(action("map"))?),
            header,
            offset,
            name,
        })
    }

    /// A second handle that has its own lock, and does not own the name.
    pub(super) fn try_clone(&self) -> Result<ArrayFile> {
        let lock = self.lock.another().map_err(Error::io(format!("open {} again", self.what())))?;
        Ok(ArrayFile {
            owner: None,
            lock,
            map: self.map.clone(),
            header: self.header.clone(),
            offset: self.offset,
            name: self.name.clone(),
        })
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_ref().map(|(name, _)| name.as_str())
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.name.as_ref().map(|(_, path)| path.as_path())
    }

    /// What errors call it.
    pub(super) fn what(&self) -> String {
        match self.name() {
            Some(name) => format!("array {name:?}"),
            None => "an anonymous array".into(),
        }
    }

    pub(super) fn keep(&mut self) {
        if let Some(owner) = self.owner.take() {
            owner.keep();
        }
    }

    pub(super) fn unlink(&self) -> Result<bool> {
        let Some(path) = self.path() else {
            return Ok(false);
        };
        self.lock
            .with_fd(|fd| named::unlink(fd, path))
            .map_err(Error::io(format!("open {} again", self.what())))?
    }

    pub(super) fn prefault(&self) -> Result<()> {
        self.map.prefault().map_err(Error::io(format!("touch all of {}", self.what())))
    }
}

/// The header in bytes, and the length of the whole file.
fn measure(header: &Header, what: &str) -> Result<(Vec<u8>, usize)> {
    let bytes = header.bytes().map_err(|error| Error::BadParameters {
        action: format!("create {what}"),
        reason: error.to_string(),
    })?;
    let text = header.write();
    let len = text.len() + bytes;
    Ok((text, len))
}

/// Fills a file that nobody else can see yet.
fn write(map: &Mapping, text: &[u8], making: Making, fill: Fill<'_>, what: &str) -> Result<()> {
    if making.prefault {
        map.prefault().map_err(Error::io(format!("touch all of {what}")))?;
    }
    fill(super::payload::write_header(map, text));
    Ok(())
}

fn open_lock(fd: BorrowedFd<'_>, what: &str) -> Result<Arc<FileLock>> {
    FileLock::new(fd).map_err(Error::io(format!("open {what} again")))
}
