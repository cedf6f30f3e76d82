//! An end of a queue as a selector sees it.

use super::{
    Queue,
    seats::{Others, Seat},
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

struct Outside<H> {
    queue: Queue,
    side: Side,
    seat: usize,
    /// Whether our end still has the seat.
    holds: H,
    /// What the count of the others' changes was, and one more, when they had not all closed.
    open: AtomicU64,
}

/// How to look at an end's queue from elsewhere.
pub(super) fn source(seat: &Seat) -> Source {
    let outside = Outside {
        queue: seat.queue.clone(),
        side: seat.side(),
        seat: seat.number(),
        holds: seat.role().holds(),
        open: AtomicU64::new(0),
    };
    Source::new(&seat.queue.segment, seat.queue.object.index, outside)
}

impl<H> Outside<H> {
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

impl<H> Look for Outside<H>
where
    H: Fn(&Segment) -> bool + Send + Sync,
{
    fn is_held(&self, segment: &Segment) -> bool {
        (self.holds)(segment)
    }

    fn is_ready(&self, segment: &Segment, _want: usize) -> bool {
        let ready = self.queue.lists().is_empty(self.side) != Ok(true) || self.is_over();
        ready && (self.holds)(segment)
    }

    fn has_ended(&self, segment: &Segment, lives: &mut dyn FnMut(Peer) -> bool) -> bool {
        if !(self.holds)(segment) {
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
        if !(self.holds)(segment) {
            return;
        }
        for side in [self.side.other(), self.side] {
            let others = (0..self.queue.geometry.seats)
                .filter(|number| side != self.side || *number != self.seat);
            let places = others.map(|number| self.queue.geometry.seat(side, number));
            places.filter_map(|place| role::peer_of(segment, place)).for_each(&mut *each);
        }
    }

    fn somebody_died(&self, _segment: &Segment) {
        self.queue.look_after();
    }

    fn arm(&self, segment: &Segment, _me: Id) {
        if (self.holds)(segment) {
            self.queue.asleep(self.side).set_polling(self.seat);
        }
    }
}
