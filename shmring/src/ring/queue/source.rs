//! An end of a queue as a selector sees it.

use std::sync::Arc;

use super::{
    Queue,
    seats::{Others, Seat, Whereabouts},
};
use crate::{
    liveness::{Id, Peer},
    ring::{
        face::Side,
        role,
        select::source::{Look, Source},
    },
    segment::Segment,
    sync::local::{AtomicU64, Ordering},
};

struct Outside {
    queue: Queue,
    side: Side,
    seat: Arc<Whereabouts>,
    /// What the count of the others' changes was, and one more, when they had not all closed.
    open: AtomicU64,
}

/// How to look at an end's queue from elsewhere.
pub(super) fn source(seat: &Seat) -> Source {
    let outside = Outside {
        queue: seat.queue.clone(),
        side: seat.side(),
        seat: seat.whereabouts(),
        open: AtomicU64::new(0),
    };
    Source::new(&seat.queue.segment, seat.queue.object.index, outside)
}

impl Outside {
    /// Whether our end still has its seat.
    fn holds(&self) -> bool {
        self.seat.is_taken(&self.queue, self.side)
    }

    fn is_over(&self) -> bool {
        let mark = self.queue.changes(self.side.other()).wrapping_add(1);
        if self.open.load(Ordering::Relaxed) == mark {
            return false;
        }
        if self.queue.sitting(self.side.other()) != Others::Closed {
            self.open.store(mark, Ordering::Relaxed);
            return false;
        }
        self.queue.nothing_comes_back(self.side)
    }
}

impl Look for Outside {
    fn is_held(&self, _segment: &Segment) -> bool {
        self.holds()
    }

    fn is_ready(&self, _segment: &Segment, _want: usize) -> bool {
        let ready = self.queue.lists().is_empty(self.side) != Ok(true) || self.is_over();
        ready && self.holds()
    }

    fn has_ended(&self, segment: &Segment, lives: &mut dyn FnMut(Peer) -> bool) -> bool {
        if !self.holds() {
            return false;
        }
        self.queue.ask_who_lives();
        // Somebody may have died between closing and counting it.
        self.open.store(0, Ordering::Relaxed);
        let other = self.side.other();
        let mut dead = false;
        for number in 0..self.queue.geometry.seats {
            match role::peer_of(segment, self.queue.geometry.seat(other, number)) {
                Some(peer) if lives(peer) => return false,
                Some(_) => dead = true,
                None => {}
            }
        }
        dead && self.queue.nothing_comes_back(self.side)
    }

    /// Also those on our own side: what they have in their hands comes back.
    fn peers(&self, segment: &Segment, each: &mut dyn FnMut(Peer)) {
        if !self.holds() {
            return;
        }
        let ours = self.seat.number();
        for side in [self.side.other(), self.side] {
            let others = (0..self.queue.geometry.seats)
                .filter(|number| side != self.side || *number != ours);
            let places = others.map(|number| self.queue.geometry.seat(side, number));
            places.filter_map(|place| role::peer_of(segment, place)).for_each(&mut *each);
        }
    }

    fn somebody_died(&self, _segment: &Segment) {
        self.queue.look_after();
    }

    fn arm(&self, _segment: &Segment, _me: Id) {
        if self.holds() {
            self.queue.asleep(self.side).set_polling(self.seat.number());
        }
    }
}
