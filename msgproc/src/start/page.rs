//! The control page: what must not wait in a queue, and what can be read after any death.

#![allow(unsafe_code)] // Atomics in shared memory.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{
        AtomicU8, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use shmring::os::{self, monotonic};

/// The longest panic text that is kept.
const TEXT: usize = 2048;

/// How many calls may be on their way at once: a cancelled one is marked by the bit of its number
/// modulo this, so their numbers lie less than this apart.
pub(crate) const CALLS: u64 = 32 * 1024;

const WORDS: usize = CALLS as usize / 64;

/// Each field is written by one side: `stop`, `urgent` and `cancelled` by the frontend, the others
/// by the backend.
#[repr(C)]
struct Layout {
    stop: AtomicU32,
    doing: AtomicU32,
    call: AtomicU64,
    since: AtomicU64,
    /// How many messages the frontend has sent, or is about to send, for the urgent lane.
    urgent: AtomicU64,
    /// How many commands of each lane the backend has begun.
    begun: [AtomicU64; LANES],
    /// How many commands of each lane it has finished: they were answered, too.
    finished: [AtomicU64; LANES],
    text_len: AtomicU32,
    text: [AtomicU8; TEXT],
    cancelled: [AtomicU64; WORDS],
}

/// How many lanes commands go by.
pub(crate) const LANES: usize = 2;

/// The lane of a command: within each, commands are handled in the order in which they were sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    Ordinary,
    /// It overtakes what waits in the ordinary one.
    Urgent,
}

impl Lane {
    pub(crate) const ALL: [Lane; LANES] = [Lane::Urgent, Lane::Ordinary];

    pub(crate) fn of(urgent: bool) -> Lane {
        if urgent { Lane::Urgent } else { Lane::Ordinary }
    }
}

/// How urgently a backend should leave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum StopLevel {
    /// Not at all.
    None,
    /// When what is queued is done.
    Graceful,
    /// After the handler that runs now.
    Urgent,
}

/// What a backend is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doing {
    Waiting,
    Constructor,
    PreRun,
    PostRun,
    Descriptor,
    Timer,
    /// The command of this index.
    Command(u32),
    /// A command that it does not have.
    Other,
}

impl Doing {
    const FIRST_COMMAND: u32 = 16;

    fn to_word(self) -> u32 {
        match self {
            Doing::Waiting => 0,
            Doing::Constructor => 1,
            Doing::PreRun => 2,
            Doing::PostRun => 3,
            Doing::Descriptor => 4,
            Doing::Timer => 5,
            Doing::Other => 6,
            Doing::Command(index) => Doing::FIRST_COMMAND.saturating_add(index),
        }
    }

    fn from_word(word: u32) -> Doing {
        match word {
            0 => Doing::Waiting,
            1 => Doing::Constructor,
            2 => Doing::PreRun,
            3 => Doing::PostRun,
            4 => Doing::Descriptor,
            5 => Doing::Timer,
            word if word >= Doing::FIRST_COMMAND => Doing::Command(word - Doing::FIRST_COMMAND),
            _ => Doing::Other,
        }
    }
}

/// One page of memory that a frontend and its backend share.
#[derive(Debug)]
pub(crate) struct Page {
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    /// Found by a descriptor.
    File(os::Mapping),
    /// Found by forks alone.
    Shared(os::Shared),
}

impl Page {
    /// Makes a new one, all zeros: idle, not told to stop, no panic. For this process and its next
    /// fork.
    pub(crate) fn new() -> io::Result<Page> {
        Ok(Page { memory: Memory::Shared(os::Shared::new(size_of::<Layout>())?) })
    }

    /// The same with the descriptor by which another process finds it.
    pub(crate) fn with_fd() -> io::Result<(Page, OwnedFd)> {
        let memory = os::memfd("msgproc-control")?;
        os::allocate(memory.as_fd(), size_of::<Layout>() as u64)?;
        os::seal(memory.as_fd())?;
        let map = os::Mapping::new(&memory, size_of::<Layout>())?;
        Ok((Page { memory: Memory::File(map) }, memory))
    }

    /// The page that another process made. Its size cannot change, so it is checked once.
    pub(crate) fn from_fd(memory: &OwnedFd) -> io::Result<Page> {
        let info = os::file_info(memory.as_fd())?;
        if info.len != size_of::<Layout>() as u64 || !os::sealed(memory.as_fd()) {
            let reason = "it is not a sealed file of the right length";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(Page { memory: Memory::File(os::Mapping::new(memory, size_of::<Layout>())?) })
    }

    #[inline]
    fn start(&self) -> NonNull<u8> {
        match &self.memory {
            Memory::File(map) => map.as_ptr(),
            Memory::Shared(shared) => shared.as_ptr(),
        }
    }

    #[inline]
    fn layout(&self) -> &Layout {
        // SAFETY: the mapping is page-aligned, as long as a Layout, and lives as long as `self`;
        // a Layout is atomics only, for which any bytes are valid and any writer is allowed.
        unsafe { self.start().cast::<Layout>().as_ref() }
    }

    /// Takes the page out of processes forked from now on. They must not use it.
    #[inline]
    pub(crate) fn keep_from_forks(&self) -> io::Result<()> {
        // SAFETY: the range is our own mapping; the advice changes nothing in this process.
        let result = unsafe {
            let start = self.start().as_ptr().cast();
            libc::madvise(start, size_of::<Layout>(), libc::MADV_DONTFORK)
        };
        if result == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Asks the backend to leave, no less urgently than before.
    pub(crate) fn ask_to_stop(&self, level: StopLevel) {
        self.layout().stop.fetch_max(level as u32, Relaxed);
    }

    pub(crate) fn stop_level(&self) -> StopLevel {
        match self.layout().stop.load(Relaxed) {
            0 => StopLevel::None,
            1 => StopLevel::Graceful,
            _ => StopLevel::Urgent,
        }
    }

    /// Says what the backend does from now on, and for which call.
    pub(crate) fn begin(&self, doing: Doing, call: u64) {
        let layout = self.layout();
        layout.call.store(call, Relaxed);
        layout.since.store(monotonic(), Relaxed);
        // SYNC doing: Release here, Acquire in `doing`.
        layout.doing.store(doing.to_word(), Release);
    }

    /// Says that the backend waits for work.
    pub(crate) fn idle(&self) {
        self.layout().doing.store(Doing::Waiting.to_word(), Release);
    }

    /// What the backend does, since when (monotonic nanoseconds), and for which call.
    pub(crate) fn doing(&self) -> (Doing, u64, u64) {
        let layout = self.layout();
        let doing = Doing::from_word(layout.doing.load(Acquire));
        (doing, layout.since.load(Relaxed), layout.call.load(Relaxed))
    }

    /// Notes that the backend begins the command of this number in its lane; 1 is the first.
    pub(crate) fn note_begun(&self, lane: Lane, number: u64) {
        self.layout().begun[lane as usize].store(number, Relaxed);
    }

    /// Notes that it has finished it, its answer included.
    pub(crate) fn note_finished(&self, lane: Lane, number: u64) {
        // SYNC finished: Release here, Acquire in `finished`.
        self.layout().finished[lane as usize].store(number, Release);
    }

    /// How many commands of a lane have begun.
    pub(crate) fn begun(&self, lane: Lane) -> u64 {
        self.layout().begun[lane as usize].load(Relaxed)
    }

    /// How many commands of a lane are finished.
    pub(crate) fn finished(&self, lane: Lane) -> u64 {
        self.layout().finished[lane as usize].load(Acquire)
    }

    /// Lets the backend look for an urgent message between two handlers. Before it is sent.
    pub(crate) fn announce_urgent(&self) {
        self.layout().urgent.fetch_add(1, Relaxed);
    }

    /// Takes an announcement back: the message could not be sent.
    pub(crate) fn denounce_urgent(&self) {
        self.layout().urgent.fetch_sub(1, Relaxed);
    }

    /// How many urgent messages were announced.
    pub(crate) fn urgent(&self) -> u64 {
        self.layout().urgent.load(Relaxed)
    }

    /// Marks a call as no longer wanted.
    pub(crate) fn cancel(&self, call: u64) {
        let (word, bit) = self.mark_of(call);
        word.fetch_or(bit, Relaxed);
    }

    /// Takes the mark off that an earlier call has left, before the number is used again.
    pub(crate) fn unmark(&self, call: u64) {
        let (word, bit) = self.mark_of(call);
        if word.load(Relaxed) & bit != 0 {
            word.fetch_and(!bit, Relaxed);
        }
    }

    pub(crate) fn is_cancelled(&self, call: u64) -> bool {
        let (word, bit) = self.mark_of(call);
        call != 0 && word.load(Relaxed) & bit != 0
    }

    fn mark_of(&self, call: u64) -> (&AtomicU64, u64) {
        let place = (call % CALLS) as usize;
        (&self.layout().cancelled[place / 64], 1 << (place % 64))
    }

    /// Keeps the text of a panic; the end of a long one is cut off.
    pub(crate) fn note_panic(&self, text: &str) {
        let layout = self.layout();
        let mut end = text.len().min(TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        for (place, byte) in layout.text.iter().zip(&text.as_bytes()[..end]) {
            place.store(*byte, Relaxed);
        }
        // SYNC text: Release here, Acquire in `panic`.
        layout.text_len.store(end as u32, Release);
    }

    /// The text of the last panic.
    pub(crate) fn panic(&self) -> Option<String> {
        let layout = self.layout();
        let len = (layout.text_len.load(Acquire) as usize).min(TEXT);
        let bytes: Vec<u8> = layout.text[..len].iter().map(|byte| byte.load(Relaxed)).collect();
        (len > 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_going_on() {
        let page = Page::new().unwrap();
        assert_eq!(page.doing().0, Doing::Waiting);
        page.begin(Doing::Command(3), 7);
        let (doing, since, call) = page.doing();
        assert_eq!((doing, call), (Doing::Command(3), 7));
        assert!(since > 0 && since <= monotonic());
        page.idle();
        assert_eq!(page.doing().0, Doing::Waiting);
    }

    #[test]
    fn is_found_by_its_descriptor_and_by_no_other() {
        let (page, fd) = Page::with_fd().unwrap();
        let other = Page::from_fd(&fd).unwrap();
        page.cancel(3);
        assert!(other.is_cancelled(3));
        let short = os::memfd("msgproc-test").unwrap();
        assert!(Page::from_fd(&short).is_err());
    }

    #[test]
    fn a_stop_becomes_only_more_urgent() {
        let page = Page::new().unwrap();
        assert_eq!(page.stop_level(), StopLevel::None);
        page.ask_to_stop(StopLevel::Urgent);
        page.ask_to_stop(StopLevel::Graceful);
        assert_eq!(page.stop_level(), StopLevel::Urgent);
    }

    /// PROTOCOL.md says the same to other programs.
    #[test]
    fn lies_as_the_protocol_says() {
        use std::mem::offset_of;
        let offsets = [
            offset_of!(Layout, since),
            offset_of!(Layout, urgent),
            offset_of!(Layout, begun),
            offset_of!(Layout, finished),
            offset_of!(Layout, text_len),
            offset_of!(Layout, text),
            offset_of!(Layout, cancelled),
            size_of::<Layout>(),
        ];
        assert_eq!(offsets, [16, 24, 32, 48, 64, 68, 2120, 6216]);
        assert_eq!([Lane::Ordinary as usize, Lane::Urgent as usize], [0, 1]);
    }

    #[test]
    fn cancels_exactly_one_call() {
        let page = Page::new().unwrap();
        assert!(!page.is_cancelled(0) && !page.is_cancelled(5));
        let marked = [5, 6, 64, CALLS - 1, CALLS];
        marked.iter().for_each(|call| page.cancel(*call));
        for call in 1..=CALLS {
            assert_eq!(page.is_cancelled(call), marked.contains(&call), "{call}");
        }
        page.unmark(5 + CALLS);
        assert!(!page.is_cancelled(5) && page.is_cancelled(6));
        assert!(!page.is_cancelled(0), "no call at all");
    }

    #[test]
    fn each_lane_counts_for_itself() {
        let page = Page::new().unwrap();
        page.note_begun(Lane::Ordinary, 7);
        page.note_finished(Lane::Ordinary, 6);
        page.note_begun(Lane::Urgent, 2);
        assert_eq!([page.begun(Lane::Ordinary), page.finished(Lane::Ordinary)], [7, 6]);
        assert_eq!([page.begun(Lane::Urgent), page.finished(Lane::Urgent)], [2, 0]);
    }

    #[test]
    fn a_long_panic_is_cut_at_a_character() {
        let page = Page::new().unwrap();
        assert_eq!(page.panic(), None);
        page.note_panic("no film");
        assert_eq!(page.panic().unwrap(), "no film");
        page.note_panic(&"ü".repeat(TEXT));
        assert_eq!(page.panic().unwrap(), "ü".repeat(TEXT / 2));
    }
}
