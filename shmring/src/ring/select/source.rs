//! What a selector knows of an end: how to look at its ring from outside.

use std::fmt;

use crate::{
    liveness::{Id, Peer},
    region::Region,
    ring::role::{self, Place, Role, State},
    segment::Segment,
};

/// An end of a ring that one can wait for together with others: by a [`super::Selector`], or in
/// async code.
///
/// All ends that can wait implement it. What holds an end can, by asking that end.
pub trait Selectable {
    /// How to look at the ring without the end.
    fn source(&self) -> Source;

    /// Lets the next `try_` of this end ask whether its peer lives. Otherwise an end that is polled
    /// asks once in a millisecond at most, since asking costs a system call.
    fn ask_again(&mut self);
}

/// One end of a ring, seen from outside: it may be asked from any thread while somebody else uses
/// the end. From [`Selectable::source`].
pub struct Source {
    segment: Segment,
    object: u32,
    look: Box<dyn Look>,
}

/// The questions that each kind of end answers, from what lies in the segment alone.
pub(crate) trait Look: Send + Sync {
    /// Whether this process still has the end: it was not dropped, or sent away.
    fn is_held(&self, segment: &Segment) -> bool;

    /// Whether a `try_` of this end would do something now: there is an item, or room, or the ring
    /// has ended or is corrupt. `want` is how many bytes of room a producer wants, where records
    /// vary in length; one that cannot be means the longest.
    fn is_ready(&self, segment: &Segment, want: usize) -> bool;

    /// Whether nothing will come any more because somebody died, so that a `try_` would say
    /// `PeerDied`. `lives` answers for those whose life matters now.
    fn has_ended(&self, segment: &Segment, lives: &mut dyn FnMut(Peer) -> bool) -> bool;

    /// All those whose death may let this end go on, now or after others have done something: it
    /// need not be the end of the ring.
    #[cfg_attr(not(any(feature = "stream", feature = "tokio")), allow(dead_code))]
    fn peers(&self, segment: &Segment, each: &mut dyn FnMut(Peer)) {
        // Where there is one other end, that asks for it.
        self.has_ended(segment, &mut |peer| {
            each(peer);
            true
        });
    }

    /// A process has died, one of those peers or another one: what it held in this ring has to come
    /// back now, where others go on with that.
    #[cfg_attr(not(any(feature = "stream", feature = "tokio")), allow(dead_code))]
    fn somebody_died(&self, _segment: &Segment) {}

    /// Tells the ringers of this object that participant `me` is about to sleep, where they do not
    /// look at each doorbell. Called after the doorbell is armed and before the last look; ends with
    /// a `fence(SeqCst)`.
    fn arm(&self, _segment: &Segment, _me: Id) {}
}

impl Source {
    pub(crate) fn new(segment: &Segment, object: u32, look: impl Look + 'static) -> Source {
        Source { segment: segment.clone(), object, look: Box::new(look) }
    }

    /// An end that holds `role` and waits for the one holder of `other`. `there` says whether there
    /// is an item, or so many bytes of room.
    pub(crate) fn of_role(
        segment: &Segment,
        object: u32,
        role: &Role,
        other: Place,
        there: impl Fn(&Region, usize) -> bool + Send + Sync + 'static,
    ) -> Source {
        Source::new(segment, object, TwoRoles { holds: role.holds(), other, there })
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(crate) fn object(&self) -> u32 {
        self.object
    }

    pub(crate) fn is_held(&self) -> bool {
        self.look.is_held(&self.segment)
    }

    pub(crate) fn is_ready(&self, want: usize) -> bool {
        self.look.is_ready(&self.segment, want)
    }

    pub(crate) fn has_ended(&self, lives: &mut dyn FnMut(Peer) -> bool) -> bool {
        self.look.has_ended(&self.segment, lives)
    }

    #[cfg(any(feature = "stream", feature = "tokio"))]
    pub(crate) fn peers(&self, each: &mut dyn FnMut(Peer)) {
        self.look.peers(&self.segment, each);
    }

    #[cfg(any(feature = "stream", feature = "tokio"))]
    pub(crate) fn somebody_died(&self) {
        self.look.somebody_died(&self.segment);
    }

    pub(crate) fn arm(&self) {
        if let Ok(me) = self.segment.me() {
            self.look.arm(&self.segment, me);
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("object", &self.object).finish_non_exhaustive()
    }
}

/// An end that waits for one other end.
struct TwoRoles<H, T> {
    /// Whether our end is still ours: nothing is reported for one that was dropped or sent away.
    holds: H,
    other: Place,
    there: T,
}

impl<H, T> Look for TwoRoles<H, T>
where
    H: Fn(&Segment) -> bool + Send + Sync,
    T: Fn(&Region, usize) -> bool + Send + Sync,
{
    fn is_held(&self, segment: &Segment) -> bool {
        (self.holds)(segment)
    }

    fn is_ready(&self, segment: &Segment, want: usize) -> bool {
        let ready = (self.there)(&segment.0.region, want)
            || role::state_of(segment, self.other) == State::Closed;
        ready && (self.holds)(segment)
    }

    fn has_ended(&self, segment: &Segment, lives: &mut dyn FnMut(Peer) -> bool) -> bool {
        (self.holds)(segment) && role::peer_of(segment, self.other).is_some_and(|peer| !lives(peer))
    }
}
