//! What a ringer does: steps R2 to R7.

use super::doorbell::{BELL, Doorbell, FUTEX, published};
#[cfg(not(shmring_loom))]
use crate::os;
use crate::{fault::fault, layout, liveness::Id, segment::Segment};

/// Steps R2 to R7: wakes a participant if it sleeps. `object` is what has news for it.
#[inline]
pub(crate) fn ring(segment: &Segment, id: Id, object: u32) {
    published();
    ring_unfenced(segment, id, object);
}

/// Has the ringers of a participant fence no more: they have for long, and nobody slept.
pub(crate) fn relax(segment: &Segment, id: Id) {
    let inner = &*segment.0;
    if inner.participants().knows(id) {
        Doorbell::at(&inner.region, inner.layout.participant(id.index())).relax();
    }
}

/// Counts a doubt: this process has taken a role, and who rings its holder may not know.
pub(crate) fn doubt(segment: &Segment, me: Id) {
    let inner = &*segment.0;
    Doorbell::at(&inner.region, inner.layout.participant(me.index())).doubt();
}

/// Where the word that step R3 reads is; `None` for an id that only a liar writes.
pub(crate) fn armed_word(segment: &Segment, id: Id) -> Option<usize> {
    let inner = &*segment.0;
    let known = inner.participants().knows(id);
    known.then(|| inner.layout.participant(id.index()) + layout::ARMED)
}

/// Steps R3 to R7, for those who have done R2. Tells whether it found somebody armed.
#[inline]
pub(crate) fn ring_unfenced(segment: &Segment, id: Id, object: u32) -> bool {
    let inner = &*segment.0;
    if !inner.participants().knows(id) {
        return false;
    }
    let doorbell = Doorbell::at(&inner.region, inner.layout.participant(id.index()));
    doorbell.is_armed() && ring_armed(segment, id, doorbell, object)
}

/// Steps R4 to R7.
#[cold]
#[inline(never)]
fn ring_armed(segment: &Segment, id: Id, doorbell: Doorbell<'_>, object: u32) -> bool {
    let how = doorbell.take_armed(object);
    if how != 0 {
        wake(segment, id, doorbell, how);
    }
    how != 0
}

fn wake(segment: &Segment, id: Id, doorbell: Doorbell<'_>, how: u32) {
    #[cfg(not(shmring_loom))]
    if how & FUTEX != 0 {
        // Fails only for an address that is not mapped, and this one is.
        let _ = os::futex_wake(doorbell.epoch());
    }
    #[cfg(shmring_loom)]
    let _ = doorbell;
    fault!("doorbell.futex.woken");
    if how & BELL != 0
        && let Some(number) = segment.0.participants().bell(id.index())
        && !segment.0.bells.set(number)
    {
        doorbell.put_back(BELL);
    }
}
