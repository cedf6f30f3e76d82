//! The ledger: which names a process owns, readable by its children after it was killed.
//!
//! It is a small anonymous file that the process shares with those it starts, so that they also
//! know the names that were made later. A forked child keeps the value it took before the fork;
//! any other child gets the descriptor. One process writes; what the others read is checked.

#![allow(unsafe_code)] // Atomics in a mapping that several processes share.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    error::{Error, Result},
    names,
    os::{self, FileId, Mapping},
    sync::local::{AtomicU64, Ordering},
};

/// How many names it holds; more are removed by their owner only.
const ENTRIES: usize = 512;

// An entry is state, device, inode, length of the file name, and the file name.
const STATE: usize = 0;
const DEVICE: usize = 1;
const INODE: usize = 2;
const LENGTH: usize = 3;
const NAME: usize = 4;
const WORDS: usize = 32;
const NAME_BYTES: usize = (WORDS - NAME) * 8;
const BYTES: usize = ENTRIES * WORDS * 8;

const TAKEN: u64 = 1;

const _: () =
    assert!(NAME_BYTES >= names::PREFIX.len() + names::MAX_NAME + ".bell.4294967295".len());

/// The names that one process owns.
#[derive(Debug)]
pub struct Ledger {
    fd: OwnedFd,
    map: Mapping,
    /// Only the owner enters and strikes; its threads take turns.
    turn: Mutex<()>,
}

static OURS: Mutex<Option<(u32, Arc<Ledger>)>> = Mutex::new(None);

impl Ledger {
    /// The ledger of this process, made at the first call. A forked child gets one of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when no descriptor or memory is left.
    pub fn ours() -> Result<Arc<Ledger>> {
        let generation = os::fork_generation();
        let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
        match &*ours {
            Some((made_in, ledger)) if *made_in == generation => Ok(ledger.clone()),
            _ => {
                let ledger = Arc::new(Ledger::make().map_err(Error::io("make the list of names"))?);
                *ours = Some((generation, ledger.clone()));
                Ok(ledger)
            }
        }
    }

    fn make() -> std::io::Result<Ledger> {
        let fd = os::memfd("shmring.ledger")?;
        os::allocate(fd.as_fd(), BYTES as u64)?;
        os::seal(fd.as_fd())?;
        let map = Mapping::new(&fd, BYTES)?;
        Ok(Ledger { fd, map, turn: Mutex::new(()) })
    }

    /// The ledger of another process, by the descriptor it handed over.
    ///
    /// # Errors
    ///
    /// [`Error::NotASegment`] when it is not one; [`Error::Io`].
    pub fn from_fd(fd: OwnedFd) -> Result<Ledger> {
        let info = os::file_info(fd.as_fd()).map_err(Error::io("look at a list of names"))?;
        if info.len != BYTES as u64 || !os::sealed(fd.as_fd()) {
            return Err(Error::NotASegment {
                what: "a list of names".into(),
                reason: "it is not a sealed file of the right length".into(),
            });
        }
        let map = Mapping::new(&fd, BYTES).map_err(Error::io("map a list of names"))?;
        Ok(Ledger { fd, map, turn: Mutex::new(()) })
    }

    /// The names in it now, with the files they stood for.
    pub fn entries(&self) -> impl Iterator<Item = (PathBuf, FileId)> {
        (0..ENTRIES).filter_map(|at| self.entry(at))
    }

    /// Removes every name in it that still stands for the same file. Tells how many it removed.
    ///
    /// Only for somebody who knows that the owner has ended. Several may do it at once.
    pub fn remove_all(&self) -> usize {
        self.entries().filter(|(path, id)| super::remove_left(path, *id).unwrap_or(false)).count()
    }

    /// Writes a name down; tells where, or `None` when it is full or cannot stand in it.
    pub(super) fn enter(&self, path: &Path, id: FileId) -> Option<usize> {
        let name = path.file_name()?.as_bytes();
        let ours = path.parent()? == Path::new(os::SHM_DIR);
        if name.len() > NAME_BYTES || !ours {
            return None;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (0..ENTRIES).find(|&at| self.word(at, STATE).load(Ordering::Relaxed) != TAKEN)?;
        self.word(at, DEVICE).store(id.device, Ordering::Relaxed);
        self.word(at, INODE).store(id.inode, Ordering::Relaxed);
        self.word(at, LENGTH).store(name.len() as u64, Ordering::Relaxed);
        for (index, part) in name.chunks(8).enumerate() {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            self.word(at, NAME + index).store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        // SYNC entered: Release here, Acquire in Ledger::entry.
        self.word(at, STATE).store(TAKEN, Ordering::Release);
        Some(at)
    }

    pub(super) fn strike(&self, at: usize) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.word(at, STATE).store(0, Ordering::Release);
    }

    fn entry(&self, at: usize) -> Option<(PathBuf, FileId)> {
        // SYNC entered: Acquire here, Release in Ledger::enter.
        if self.word(at, STATE).load(Ordering::Acquire) != TAKEN {
            return None;
        }
        let length = self.word(at, LENGTH).load(Ordering::Relaxed);
        let length = usize::try_from(length).ok().filter(|&length| length <= NAME_BYTES)?;
        let mut bytes = [0; NAME_BYTES];
        for (index, part) in bytes.chunks_mut(8).enumerate() {
            let word = self.word(at, NAME + index).load(Ordering::Relaxed);
            part.copy_from_slice(&word.to_ne_bytes());
        }
        // Whatever stands there, only a file with a name of ours is ever touched.
        let name = std::str::from_utf8(&bytes[..length]).ok()?;
        names::parse(name)?;
        let id = FileId {
            device: self.word(at, DEVICE).load(Ordering::Relaxed),
            inode: self.word(at, INODE).load(Ordering::Relaxed),
        };
        Some((Path::new(os::SHM_DIR).join(OsStr::new(name)), id))
    }

    fn word(&self, at: usize, word: usize) -> &AtomicU64 {
        assert!(at < ENTRIES && word < WORDS);
        // SAFETY: the mapping has ENTRIES * WORDS words, sealed so that it cannot shrink, begins
        // at a page, lives as long as `self`, and is only ever accessed by such atomics.
        unsafe {
            let words = self.map.as_ptr().as_ptr().cast::<u64>();
            AtomicU64::from_ptr(words.add(at * WORDS + word))
        }
    }
}

impl AsFd for Ledger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
