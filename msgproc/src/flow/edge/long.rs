//! Items that are too long for a message: they lie in the spill file, and a message says where.
//!
//! The message itself is one as any other: it has the blocks of the item, is leased, and is dropped
//! where it is known. README.md has the argument.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use postcard::ser_flavors::Size;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeOwned},
    ser,
};

use super::{Batch, Head, spill::Extent};
use crate::{
    fault::fault,
    flow::plan::{Shared, lane},
};

/// Buffers of more bytes are not kept: what is longer costs more than their pages.
const KEPT: usize = 32 << 20;

thread_local! {
    /// What an item is serialized to.
    static WRITTEN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// What one is read into.
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The bytes of the item whose message is read next: how many, in a buffer.
    static FETCHED: Cell<Option<(Vec<u8>, usize)>> = const { Cell::new(None) };
}

fn keep(buffer: Vec<u8>, place: &'static std::thread::LocalKey<Cell<Vec<u8>>>) {
    if buffer.capacity() <= KEPT {
        place.set(buffer);
    }
}

/// What the end of a lane between processes knows of its run.
#[derive(Clone)]
pub(crate) struct LaneEnd {
    pub(crate) shared: Shared,
    /// Where the words of the lane begin.
    pub(crate) words: usize,
}

impl LaneEnd {
    fn load(&self, word: usize) -> u64 {
        self.shared.board().load(self.words + word)
    }

    fn store(&self, word: usize, value: u64) {
        self.shared.board().store(self.words + word, value);
    }

    /// Reads the item of a message before the message itself is read; `None` is for one that is
    /// known. Then the message has it.
    pub(super) fn fetch<R>(
        &self,
        extent: Option<Extent>,
        read: impl FnOnce() -> R,
    ) -> Result<R, String> {
        if let Some(extent) = extent {
            let mut buffer = READ.take();
            let file = self.shared.spill().ok_or("the run has no spill file")?;
            file.read(extent, &mut buffer).map_err(|error| error.to_string())?;
            FETCHED.set(Some((buffer, extent.len as usize)));
            fault!(TAKE_FETCHED);
        }
        let message = read();
        FETCHED.set(None);
        Ok(message)
    }

    /// Gives the memory of an item back.
    pub(super) fn punch(&self, extent: Extent) -> Result<(), String> {
        let file = self.shared.spill().ok_or("the run has no spill file")?;
        file.punch(extent).map_err(|error| error.to_string())
    }
}

/// A long item that is sent, alone in its message.
pub(super) struct Going<T> {
    pub(super) batch: Batch<T>,
    pub(super) draft: Rc<Draft>,
}

impl<T: Serialize> Serialize for Going<T> {
    /// Writes it into the spill file, if it is not there yet.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let extent = self.draft.lay_down(&self.batch.items);
        (self.batch.head, extent.map_err(ser::Error::custom)?).serialize(serializer)
    }
}

/// A long item that came, and is not read where its bytes were not fetched.
pub(super) struct Coming<T> {
    pub(super) head: Head,
    pub(super) extent: Extent,
    pub(super) items: Vec<T>,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Coming<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Coming<T>, D::Error> {
        let (head, extent) = Deserialize::deserialize(deserializer)?;
        let mut items = Vec::new();
        if let Some((buffer, len)) = FETCHED.take() {
            let Ok((item, [])) = postcard::take_from_bytes(&buffer[..len]) else {
                return Err(de::Error::custom("a long item is not what it should be"));
            };
            items.push(item);
            keep(buffer, &READ);
        }
        Ok(Coming { head, extent, items })
    }
}

/// What a sender has of the long item that it puts into its lane.
pub(super) struct Draft {
    end: LaneEnd,
    now: Cell<Now>,
    /// Where it lies.
    filled: Cell<Option<(u64, Extent)>>,
    /// What kept it from being written.
    failure: RefCell<Option<Failure>>,
}

/// The long item that is being put.
#[derive(Clone, Copy, Default)]
struct Now {
    id: u64,
    /// The word that counts it as being in the lane.
    place: usize,
    /// How far the lane had got before.
    at: u64,
    /// What has fewer bytes is not long.
    least: usize,
}

pub(super) enum Failure {
    /// The item goes in a message as others do.
    Short,
    Because(String),
}

impl Draft {
    /// `at`: how far the lane has got. Gives back what one that died has written and not sent.
    pub(super) fn new(end: &LaneEnd, at: u64) -> Draft {
        let offset = end.load(lane::DRAFT).checked_sub(1);
        if let Some(offset) = offset.filter(|_| end.load(lane::DRAFT_AT) == at) {
            // Where that fails, it is there until the run ends.
            let _ = end.punch(Extent { offset, len: end.load(lane::DRAFT_LEN) });
            fault!(RECOVER_PUNCHED);
            let number = end.load(lane::DRAFT_NUMBER) + 1;
            for place in lane::LONG {
                if end.load(place) == number {
                    end.store(place, 0);
                }
            }
            fault!(RECOVER_NOT_LONG);
        }
        let (now, filled) = (Cell::default(), Cell::default());
        Draft { end: end.clone(), now, filled, failure: RefCell::default() }
    }

    /// Begins to put the item with this number. False where as many are in the lane as may be.
    pub(super) fn begin(&self, id: u64, at: u64, least: usize) -> bool {
        if self.filled.get().is_some_and(|(other, _)| other != id) {
            self.withdraw();
        }
        let next = self.end.load(lane::NEXT);
        let here = |place: &usize| self.end.load(*place) == id + 1;
        let done = |place: &usize| self.end.load(*place) <= next;
        let place = lane::LONG.into_iter().find(here);
        let Some(place) = place.or_else(|| lane::LONG.into_iter().find(done)) else {
            return false;
        };
        self.now.set(Now { id, place, at, least });
        true
    }

    /// Whether one more may be in the lane.
    pub(super) fn has_room(&self) -> bool {
        let next = self.end.load(lane::NEXT);
        lane::LONG.into_iter().any(|place| self.end.load(place) <= next)
    }

    /// It is in the lane. Gives how long it is.
    pub(super) fn sent(&self) -> usize {
        self.filled.take().map_or(0, |(_, extent)| extent.len as usize)
    }

    /// It is not put after all.
    pub(super) fn withdraw(&self) {
        if let Some((_, extent)) = self.filled.take() {
            let _ = self.end.punch(extent);
        }
    }

    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.failure.take()
    }

    /// Gives where the item lies. That is known from the second time on; then it is asked for its
    /// blocks alone, which each attempt to send takes anew.
    fn lay_down<T: Serialize>(&self, items: &[T]) -> Result<Extent, &'static str> {
        let Some(item) = items.first() else { return Err("there is no item") };
        if let Some((_, extent)) = self.filled.get() {
            return match postcard::serialize_with_flavor(item, Size::default()) {
                Ok(_) => Ok(extent),
                Err(_) => Err("it does not serialize"),
            };
        }
        let mut buffer = WRITTEN.take();
        buffer.clear();
        let Ok(bytes) = postcard::to_extend(item, buffer) else {
            return Err("it does not serialize");
        };
        let written = self.write(&bytes);
        keep(bytes, &WRITTEN);
        written.map_err(|failure| {
            self.failure.replace(Some(failure));
            "it was not written"
        })
    }

    fn write(&self, bytes: &[u8]) -> Result<Extent, Failure> {
        let Now { id, place, at, least } = self.now.get();
        if bytes.len() < least {
            return Err(Failure::Short);
        }
        let because = |reason: String| Failure::Because(format!("spill a long item: {reason}"));
        let end = &self.end;
        let file = end.shared.spill().ok_or_else(|| because("there is no file for it".into()))?;
        let len = bytes.len() as u64;
        let extent = Extent { offset: end.shared.reserve(len), len };
        // Whoever replaces this sender gives it back, if the lane has got no further by then.
        end.store(lane::DRAFT, 0);
        fault!(SPILL_NO_DRAFT);
        end.store(lane::DRAFT_AT, at);
        fault!(SPILL_AT);
        end.store(lane::DRAFT_LEN, len);
        fault!(SPILL_LEN);
        end.store(lane::DRAFT_NUMBER, id);
        fault!(SPILL_NUMBER);
        end.store(lane::DRAFT, extent.offset + 1);
        fault!(SPILL_DRAFT);
        self.filled.set(Some((id, extent)));
        file.write(extent.offset, bytes).map_err(|error| because(error.to_string()))?;
        fault!(SPILL_WRITTEN);
        end.store(place, id + 1);
        fault!(SPILL_LONG);
        Ok(extent)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.withdraw();
    }
}
