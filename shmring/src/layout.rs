//! Where things are in a segment. All numbers are little-endian, as on every machine we run on.
//!
//! ```text
//! 0    header, one line of constants and one of counters
//! 128  participants, 128 bytes each: who is attached, and their doorbells
//! ..   objects, 64 bytes each: rings and pools, where they are
//! ..   data: the objects themselves, each on a line of its own
//! ```

use crate::{
    error::{Error, Result},
    region::{LINE, Region},
    sync::Ordering,
};

/// `SHMRING` and a zero.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"SHMRING\0");
/// Counted up with every change of what is written where.
pub(crate) const VERSION: u32 = 4;

pub(crate) const MAX_PARTICIPANTS: usize = 255;
pub(crate) const MAX_OBJECTS: usize = 1 << 15;

// Header, first line: written before the segment is published, constant afterwards.
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const BELLS_AT: usize = 12;
const SIZE_AT: usize = 16;
const PARTICIPANTS_AT: usize = 24;
const OBJECTS_AT: usize = 28;
const UID_AT: usize = 32;
// Second line: changes.
/// Next free byte of the data part.
pub(crate) const NEXT_FREE: usize = 64;
/// Who repairs: 0, or the word of a process.
pub(crate) const REPAIR_LOCK: usize = 72;

const HEADER_LEN: usize = 128;
const PARTICIPANT_LEN: usize = 128;
const OBJECT_LEN: usize = 64;

// In a participant's entry.
/// `{pid: 32, generation: 24, phase: 8}`, changed in one step.
pub(crate) const STATE: usize = 0;
pub(crate) const START_TIME: usize = 8;
pub(crate) const NAMESPACE: usize = 16;
/// Number of its bell plus one; 0 is none.
pub(crate) const BELL: usize = 24;
// Its doorbell, on a line of its own.
pub(crate) const ARMED: usize = 64;
pub(crate) const EPOCH: usize = 68;
pub(crate) const PENDING: usize = 72;

// In an object's entry.
pub(crate) const OBJECT_STATE: usize = 0;
pub(crate) const OBJECT_KIND: usize = 8;
pub(crate) const OBJECT_OFFSET: usize = 16;
pub(crate) const OBJECT_SIZE: usize = 24;

/// The constants of a segment, checked once and then kept outside of shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) size: usize,
    pub(crate) participants: usize,
    pub(crate) objects: usize,
    pub(crate) bells: usize,
    pub(crate) uid: u64,
}

/// Whether a segment can have so many participants; if not, a sentence.
pub(crate) fn check_participants(count: usize) -> Result<(), String> {
    match count {
        1..=MAX_PARTICIPANTS => Ok(()),
        _ => Err(format!("{count} participants: 1 to {MAX_PARTICIPANTS} are possible")),
    }
}

impl Layout {
    /// The smallest segment with `data` bytes for objects.
    pub(crate) fn new(
        data: usize,
        participants: usize,
        objects: usize,
        bells: usize,
    ) -> Result<Layout> {
        let bad =
            |reason: String| Error::BadParameters { action: "create a segment".into(), reason };
        check_participants(participants).map_err(bad)?;
        if !(1..=MAX_OBJECTS).contains(&objects) {
            return Err(bad(format!("{objects} objects: 1 to {MAX_OBJECTS} are possible")));
        }
        if bells > participants {
            return Err(bad(format!("{bells} bells for {participants} participants")));
        }
        let mut layout = Layout { size: 0, participants, objects, bells, uid: 0 };
        let page = crate::os::page_size();
        layout.size = data
            .checked_add(layout.data_start() + page - 1)
            .filter(|size| *size <= isize::MAX as usize)
            .ok_or_else(|| bad(format!("{data} bytes are more than an address space holds")))?
            / page
            * page;
        Ok(layout)
    }

    /// Where the objects begin.
    pub(crate) fn data_start(&self) -> usize {
        self.object(self.objects).next_multiple_of(2 * LINE)
    }

    /// Where a participant's entry is.
    pub(crate) fn participant(&self, index: usize) -> usize {
        debug_assert!(index < self.participants);
        HEADER_LEN + index * PARTICIPANT_LEN
    }

    /// Where an object's entry is.
    pub(crate) fn object(&self, index: usize) -> usize {
        HEADER_LEN + self.participants * PARTICIPANT_LEN + index * OBJECT_LEN
    }

    /// Writes the header into fresh memory; magic last, though nobody can see it yet.
    pub(crate) fn write(&self, region: &Region) {
        region.u32(VERSION_AT).store(VERSION, Ordering::Relaxed);
        region.u32(BELLS_AT).store(self.bells as u32, Ordering::Relaxed);
        region.u64(SIZE_AT).store(self.size as u64, Ordering::Relaxed);
        region.u32(PARTICIPANTS_AT).store(self.participants as u32, Ordering::Relaxed);
        region.u32(OBJECTS_AT).store(self.objects as u32, Ordering::Relaxed);
        region.u64(UID_AT).store(self.uid, Ordering::Relaxed);
        region.u64(NEXT_FREE).store(self.data_start() as u64, Ordering::Relaxed);
        // SYNC ready: Release here, Acquire in `read`.
        region.u64(MAGIC_AT).store(MAGIC, Ordering::Release);
    }

    /// Copies a header once and checks the copy against the file's length.
    pub(crate) fn read(region: &Region, what: &str) -> Result<Layout> {
        let what = || what.to_owned();
        if region.len() < HEADER_LEN {
            let (found, needed) = (region.len() as u64, HEADER_LEN as u64);
            return Err(Error::TooShort { what: what(), found, needed });
        }
        if region.acquire(MAGIC_AT) != MAGIC {
            return Err(Error::NotASegment {
                what: what(),
                reason: "it does not begin with the magic number".into(),
            });
        }
        let found = region.u32(VERSION_AT).load(Ordering::Relaxed);
        if found != VERSION {
            return Err(Error::WrongVersion { what: what(), found, expected: VERSION });
        }
        let size = region.u64(SIZE_AT).load(Ordering::Relaxed);
        let layout = Layout {
            size: usize::try_from(size).unwrap_or(usize::MAX),
            participants: region.u32(PARTICIPANTS_AT).load(Ordering::Relaxed) as usize,
            objects: region.u32(OBJECTS_AT).load(Ordering::Relaxed) as usize,
            bells: region.u32(BELLS_AT).load(Ordering::Relaxed) as usize,
            uid: region.u64(UID_AT).load(Ordering::Relaxed),
        };
        let corrupt = |reason: &str| Err(Error::Corrupt { what: what(), reason: reason.into() });
        if !(1..=MAX_PARTICIPANTS).contains(&layout.participants) {
            return corrupt("the number of participants is impossible");
        }
        if !(1..=MAX_OBJECTS).contains(&layout.objects) {
            return corrupt("the number of objects is impossible");
        }
        if layout.bells > layout.participants {
            return corrupt("there are more bells than participants");
        }
        if layout.size > region.len() {
            return Err(Error::TooShort { what: what(), found: region.len() as u64, needed: size });
        }
        if layout.size < layout.data_start() {
            return corrupt("its tables do not fit into it");
        }
        Ok(layout)
    }
}

/// What LAYOUT.md says, for the tests that hold the constants of this crate against it.
#[cfg(all(test, not(shmring_loom)))]
pub(crate) mod page {
    /// Checks the offsets of fields in a section of the page.
    #[track_caller]
    pub(crate) fn says(section: &str, fields: &[(&str, usize)]) {
        let page = include_str!("../LAYOUT.md");
        let mut lines = page.lines();
        assert!(lines.any(|line| line.trim_start_matches('#').trim() == section), "{section}");
        let section: Vec<_> = lines.take_while(|line| !line.starts_with('#')).collect();
        for (field, offset) in fields {
            let rows = section.iter().map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
            let row = rows.into_iter().find(|cells| cells.get(3) == Some(field));
            let row = row.unwrap_or_else(|| panic!("no field {field}"));
            assert_eq!(row[1], offset.to_string(), "{field}");
        }
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_page_says_the_same() {
        let header = [
            ("magic", MAGIC_AT),
            ("version", VERSION_AT),
            ("bells", BELLS_AT),
            ("size", SIZE_AT),
            ("participants", PARTICIPANTS_AT),
            ("objects", OBJECTS_AT),
            ("uid", UID_AT),
            ("next_free", NEXT_FREE),
            ("repair_lock", REPAIR_LOCK),
        ];
        page::says("Segment header", &header);
        let participant = [
            ("state", STATE),
            ("start_time", START_TIME),
            ("namespace", NAMESPACE),
            ("bell", BELL),
            ("armed", ARMED),
            ("epoch", EPOCH),
            ("pending", PENDING),
        ];
        page::says("Participant", &participant);
        let object = [
            ("state", OBJECT_STATE),
            ("kind", OBJECT_KIND),
            ("offset", OBJECT_OFFSET),
            ("size", OBJECT_SIZE),
        ];
        page::says("Object", &object);
    }

    #[test]
    fn written_headers_read_back() {
        let layout = Layout { uid: 7, ..Layout::new(1000, 4, 8, 2).unwrap() };
        let region = Region::heap(layout.size);
        layout.write(&region);
        assert_eq!(Layout::read(&region, "test").unwrap(), layout);
    }

    #[test]
    fn each_lie_is_told_apart() {
        let layout = Layout::new(1000, 4, 8, 2).unwrap();
        let fresh = || {
            let region = Region::heap(layout.size);
            layout.write(&region);
            region
        };
        let region = fresh();
        region.u64(MAGIC_AT).store(0, Ordering::Relaxed);
        assert!(matches!(Layout::read(&region, "x"), Err(Error::NotASegment { .. })));
        let region = fresh();
        region.u32(VERSION_AT).store(9, Ordering::Relaxed);
        assert!(matches!(Layout::read(&region, "x"), Err(Error::WrongVersion { found: 9, .. })));
        let region = fresh();
        region.u64(SIZE_AT).store(u64::MAX, Ordering::Relaxed);
        assert!(matches!(Layout::read(&region, "x"), Err(Error::TooShort { .. })));
        assert!(matches!(Layout::read(&Region::heap(64), "x"), Err(Error::TooShort { .. })));
        let region = fresh();
        region.u32(OBJECTS_AT).store(u32::MAX, Ordering::Relaxed);
        assert!(matches!(Layout::read(&region, "x"), Err(Error::Corrupt { .. })));
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(words in prop::collection::vec(any::<u64>(), 5), len in 0usize..4096) {
            let region = Region::heap(len);
            for (at, word) in words.into_iter().enumerate() {
                if at * 8 + 8 <= region.len() {
                    // SAFETY: nobody else has this region.
                    #[allow(unsafe_code)]
                    unsafe { region.bytes_mut(at * 8, 8) }.copy_from_slice(&word.to_ne_bytes());
                }
            }
            region.u64(MAGIC_AT).store(MAGIC, Ordering::Relaxed);
            region.u32(VERSION_AT).store(VERSION, Ordering::Relaxed);
            if let Ok(layout) = Layout::read(&region, "x") {
                prop_assert!(layout.size <= region.len());
                prop_assert!(layout.data_start() <= layout.size);
            }
        }
    }
}
