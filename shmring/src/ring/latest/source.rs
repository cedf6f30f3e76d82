//! A reader as a selector sees it.

use std::sync::Arc;

use super::{Board, cursor};
use crate::{
    liveness::{Id, Peer},
    ring::{
        role::{self, State},
        select::source::{Look, Source},
    },
    segment::Segment,
    sync::local::{AtomicU64, Ordering},
};

/// The version that a reader has seen, for those who look for it from other threads.
#[derive(Debug)]
pub(super) struct Seen(AtomicU64);

/// No version is ever so large: the reader is gone.
const GONE: u64 = u64::MAX;

impl Seen {
    pub(super) fn new(version: u64) -> Seen {
        Seen(AtomicU64::new(version))
    }

    #[inline]
    pub(super) fn set(&self, version: u64) {
        self.0.store(version, Ordering::Relaxed);
    }

    /// The reader was dropped.
    pub(super) fn end(&self) {
        self.set(GONE);
    }

    fn get(&self) -> Option<u64> {
        let version = self.0.load(Ordering::Relaxed);
        (version != GONE).then_some(version)
    }
}

struct NewValue {
    board: Board,
    seen: Arc<Seen>,
}

/// The source of a reader that tells what it has seen.
pub(super) fn of(board: &Board, seen: Arc<Seen>) -> Source {
    Source::new(&board.segment, board.object.index, NewValue { board: board.clone(), seen })
}

impl Look for NewValue {
    fn is_held(&self, _: &Segment) -> bool {
        self.seen.get().is_some()
    }

    fn is_ready(&self, segment: &Segment, _: usize) -> bool {
        self.seen.get().is_some_and(|seen| {
            cursor::newest(&segment.0.region, self.board.geometry) > seen
                || role::state_of(segment, self.board.place()) == State::Closed
        })
    }

    fn has_ended(&self, segment: &Segment, lives: &mut dyn FnMut(Peer) -> bool) -> bool {
        self.seen.get().is_some()
            && role::peer_of(segment, self.board.place()).is_some_and(|writer| !lives(writer))
    }

    fn arm(&self, _: &Segment, me: Id) {
        self.board.sleepers().add(me.index());
    }
}
