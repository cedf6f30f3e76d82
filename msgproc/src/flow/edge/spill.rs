//! The spill file of a run: where items lie that are too long for a message.
//!
//! It is a file without a name, in memory, and is never mapped: where there is no memory for it, a
//! write says so. Each item has an extent of its own. Its pages are there from the write until a hole
//! is punched, and no offset is given out twice.

use std::{
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt, MetadataExt},
    },
    sync::Arc,
};

use nix::fcntl::{FallocateFlags, fallocate};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use shmring::{os, transfer::Descriptor};

/// As it shows among the descriptors of a process.
const NAME: &str = "msgproc-spill";

/// What extents are rounded up to: a multiple of every length that a page has.
pub(crate) const ALIGN: u64 = 1 << 16;

/// A part of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// The file, in each process of its run.
#[derive(Clone, Debug)]
pub(crate) struct SpillFile(Arc<File>);

impl SpillFile {
    /// An empty one, which has no memory yet.
    pub(crate) fn create() -> io::Result<SpillFile> {
        os::memfd(NAME).map(|fd| SpillFile(Arc::new(fd.into())))
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    /// Reads an extent into the first bytes of a buffer.
    pub(super) fn read(&self, extent: Extent, buffer: &mut Vec<u8>) -> io::Result<()> {
        let Extent { offset, len } = extent;
        let held = self.0.metadata()?;
        // No more is asked for than there is.
        let end = offset.checked_add(len).filter(|end| *end <= held.size());
        let len = usize::try_from(len).ok().filter(|_| len <= held.blocks().saturating_mul(512));
        let (Some(len), Some(_)) = (len, end) else {
            return Err(io::Error::other("a long item is not where its message says"));
        };
        if buffer.len() < len {
            buffer.try_reserve_exact(len - buffer.len())?;
            buffer.resize(len, 0);
        }
        self.0.read_exact_at(&mut buffer[..len], offset)
    }

    /// Gives the memory of an extent back.
    pub(super) fn punch(&self, extent: Extent) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let len = extent.len.checked_next_multiple_of(ALIGN);
        let (Ok(offset), Some(Ok(len))) = (extent.offset.try_into(), len.map(i64::try_from)) else {
            return Err(io::Error::other("a message says of a long item what cannot be"));
        };
        loop {
            match fallocate(&*self.0, flags, offset, len) {
                Err(nix::errno::Errno::EINTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }
}

impl Serialize for SpillFile {
    /// Travels only inside a message over a control channel, as what a process needs of its run.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let file = self.0.try_clone().map_err(ser::Error::custom)?;
        Descriptor::from(OwnedFd::from(file)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SpillFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SpillFile, D::Error> {
        let file = Descriptor::deserialize(deserializer)?.into_inner();
        Ok(SpillFile(Arc::new(file.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(file: &SpillFile) -> u64 {
        file.0.metadata().unwrap().blocks()
    }

    #[test]
    fn memory_is_there_from_the_write_to_the_hole() {
        let file = SpillFile::create().unwrap();
        let bytes: Vec<u8> = (0..300_001_u32).map(|n| n as u8).collect();
        let extents = [0, 5 * ALIGN].map(|offset| Extent { offset, len: bytes.len() as u64 });
        assert_eq!(pages(&file), 0);
        for extent in extents {
            file.write(extent.offset, &bytes).unwrap();
        }
        file.punch(extents[0]).unwrap();
        let mut buffer = vec![1; 10];
        file.read(extents[1], &mut buffer).unwrap();
        assert!(buffer[..bytes.len()] == bytes);
        file.punch(extents[1]).unwrap();
        assert_eq!(pages(&file), 0);
    }

    #[test]
    fn nothing_is_read_that_is_not_there() {
        let file = SpillFile::create().unwrap();
        file.write(1 << 40, b"something").unwrap();
        let refused = [
            Extent { offset: u64::MAX, len: 9 },
            Extent { offset: 0, len: u64::MAX },
            // The file is as long as that, and has no such memory.
            Extent { offset: 0, len: 1 << 39 },
            Extent { offset: (1 << 40) + 8, len: 9 },
        ];
        for extent in refused {
            let mut buffer = Vec::new();
            assert!(file.read(extent, &mut buffer).is_err(), "{extent:?}");
            assert!(buffer.is_empty());
        }
        assert!(file.punch(Extent { offset: u64::MAX, len: 1 }).is_err());
        assert!(file.punch(Extent { offset: 0, len: u64::MAX }).is_err());
    }
}
