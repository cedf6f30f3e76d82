//! Carriers: rings and channels that hold blocks which are on their way.
//!
//! A carrier's first word says who it is: 0 nobody, a small number (no pid in its upper half) the
//! ring with that object number plus one, else the sender of a post as a process word. A post's
//! second word is its receiver; a ring's third is where in the segment its head is. A ring whose
//! blocks lie in places has a carrier for each eight of them, which also says which eight:
//! `places.rs`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    BlockPool,
    flight::End,
    geometry::{PEER, RELEASED, WHO},
};
use crate::{
    error::{Error, Result},
    fault::fault,
    liveness::{self, Id, Peer},
    segment::{Kind, Object, Segment},
    sync::Ordering,
};

/// A ring, as a carrier knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    /// Its number in its segment.
    pub(crate) object: u32,
    /// Where in the segment it says how far it is released.
    pub(crate) head: usize,
}

fn ring_tag(ring: u32) -> u64 {
    u64::from(ring) + 1
}

fn is_post(who: u64) -> bool {
    who >> 32 != 0
}

pub(super) fn who(pool: &BlockPool, carrier: usize) -> u64 {
    let at = pool.geometry().carrier(carrier) + WHO;
    pool.region().u64(at).load(Ordering::Acquire)
}

fn peer(pool: &BlockPool, carrier: usize) -> u64 {
    let at = pool.geometry().carrier(carrier) + PEER;
    pool.region().u64(at).load(Ordering::Acquire)
}

fn set_peer(pool: &BlockPool, carrier: usize, peer: u64) {
    let at = pool.geometry().carrier(carrier) + PEER;
    pool.region().u64(at).store(peer, Ordering::Release);
}

fn change(pool: &BlockPool, carrier: usize, from: u64, to: u64) -> bool {
    let at = pool.geometry().carrier(carrier) + WHO;
    pool.region().u64(at).compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

fn carriers(pool: &BlockPool) -> std::ops::Range<usize> {
    0..pool.geometry().carriers
}

fn no_place(pool: &BlockPool) -> Error {
    Error::NoPlace {
        action: "send a block: its pool can be carried by so many rings and channels (Options::carriers)"
            .into(),
        limit: pool.geometry().carriers,
    }
}

/// The carrier of a pool that stands for a ring, if there is one.
pub(super) fn of_ring(pool: &BlockPool, ring: u32) -> Option<usize> {
    carriers(pool).find(|carrier| who(pool, *carrier) == ring_tag(ring))
}

/// The same, made if there is none; only the ring's producer makes it. It stays for good, as rings
/// do.
pub(super) fn for_ring(pool: &BlockPool, ring: Ring) -> Result<usize> {
    let carrier = of_ring(pool, ring.object)
        .or_else(|| carriers(pool).find(|carrier| change(pool, *carrier, 0, ring_tag(ring.object))))
        .ok_or_else(|| no_place(pool))?;
    // Also for one that its maker did not live to finish.
    let at = pool.geometry().carrier(carrier) + RELEASED;
    pool.region().u64(at).store(ring.head as u64, Ordering::Release);
    Ok(carrier)
}

/// How far the ring that a carrier stands for is released; `None` for a post.
pub(super) fn released(pool: &BlockPool, carrier: usize) -> Option<u64> {
    let region = pool.region();
    let at = region.u64(pool.geometry().carrier(carrier) + RELEASED).load(Ordering::Acquire);
    let at = usize::try_from(at).ok()?;
    let possible = at != 0 && at % 8 == 0 && at < region.len() - 8;
    possible.then(|| region.u64(at).load(Ordering::SeqCst))
}

/// Whether whoever has a participant's index now is dead.
pub(super) fn is_dead(segment: &Segment, index: usize) -> bool {
    let participants = segment.0.participants();
    let found = participants.attached().find(|(id, ..)| id.index() == index);
    found.is_some_and(|(id, ..)| !segment.lives(Peer::Participant(id)))
}

/// What stands in a carrier for eight places of a ring.
fn places_tag(ring: u32, eight: usize) -> u64 {
    (eight as u64 + 1) << 16 | ring_tag(ring)
}

/// Whether a carrier stands for these eight places of a ring; its number may come from a liar.
pub(super) fn is_of_places(pool: &BlockPool, carrier: usize, ring: u32, eight: usize) -> bool {
    carrier < pool.geometry().carriers && who(pool, carrier) == places_tag(ring, eight)
}

/// The carriers of a pool that stand for eight places of a ring. There are two when two processes
/// made one at the same moment; both count.
pub(super) fn of_places(
    pool: &BlockPool,
    ring: u32,
    eight: usize,
) -> impl Iterator<Item = usize> + '_ {
    carriers(pool).filter(move |carrier| is_of_places(pool, *carrier, ring, eight))
}

/// The carriers of a pool that stand for places of a ring, each with the number of its eight.
pub(super) fn of_all_places(
    pool: &BlockPool,
    ring: u32,
) -> impl Iterator<Item = (usize, usize)> + '_ {
    carriers(pool).filter_map(move |carrier| {
        let who = who(pool, carrier);
        let eight = (who >> 16).checked_sub(1).filter(|_| who & 0xffff == ring_tag(ring))?;
        (!is_post(who)).then_some((carrier, eight as usize))
    })
}

/// The carriers for all places of a ring, made where there are none. They stay for good.
pub(super) fn for_places(pool: &BlockPool, ring: u32, eights: usize) -> Result<Vec<usize>> {
    let no_room = || Error::NoPlace {
        action: format!(
            "send a block: the ring takes {eights} carriers of its pool, one for each 8 places (Options::carriers)"
        ),
        limit: pool.geometry().carriers,
    };
    let known = |eight| of_places(pool, ring, eight).next();
    let missing = (0..eights).filter(|eight| known(*eight).is_none()).count();
    if missing > carriers(pool).filter(|carrier| who(pool, *carrier) == 0).count() {
        return Err(no_room());
    }
    let make = |eight| {
        let tag = places_tag(ring, eight);
        known(eight).or_else(|| carriers(pool).find(|carrier| change(pool, *carrier, 0, tag)))
    };
    (0..eights).map(|eight| make(eight).ok_or_else(no_room)).collect()
}

/// Whether a carrier stands for a ring; its number may come from a liar.
pub(super) fn is_of_ring(pool: &BlockPool, carrier: usize, ring: u32) -> bool {
    carrier < pool.geometry().carriers && who(pool, carrier) == ring_tag(ring)
}

/// Empties what a ring holds, by one of its ends.
pub(super) fn empty(pool: &BlockPool, carrier: usize, end: End) -> usize {
    let words = pool.words();
    if let Some(released) = released(pool, carrier) {
        words.give_back(carrier, released, &|index| is_dead(pool.segment(), index));
    }
    let freed = words.empty(carrier, end);
    if freed > 0 {
        pool.wake();
    }
    freed
}

/// All pools of a segment.
pub(super) fn pools(segment: &Segment) -> impl Iterator<Item = BlockPool> + '_ {
    segment
        .objects()
        .filter(|(_, kind)| *kind == Some(Kind::Pool))
        .filter_map(move |(index, _)| BlockPool::attach(segment, index).ok())
}

// Posts.

/// A post of this process. Messages on their way to being sent keep it, so that it is not given
/// another receiver meanwhile.
pub(super) struct Post {
    pub(super) carrier: usize,
}

struct Known {
    segment: u64,
    object: u32,
    sender: u64,
    receiver: u64,
    post: Arc<Post>,
}

static POSTS: Mutex<Vec<Known>> = Mutex::new(Vec::new());

fn posts() -> MutexGuard<'static, Vec<Known>> {
    POSTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The post by which this process sends blocks of a pool to another process.
pub(super) fn post_to(pool: &BlockPool, receiver: u64) -> Result<Arc<Post>> {
    let sender = liveness::own_word();
    let (segment, object) = (pool.segment().0.layout.uid, pool.object());
    let mut posts = posts();
    // In a forked child these are the parent's.
    posts.retain(|known| known.sender == sender);
    let ours = |known: &Known| known.segment == segment && known.object == object;
    if let Some(known) = posts.iter().find(|known| ours(known) && known.receiver == receiver) {
        return Ok(known.post.clone());
    }
    let make = || {
        let carrier = carriers(pool).find(|carrier| change(pool, *carrier, 0, sender))?;
        fault!("block.post.claimed");
        set_peer(pool, carrier, receiver);
        Some(Arc::new(Post { carrier }))
    };
    // One whose receiver has ended, and that no message of ours uses. Under the repair lock: a
    // repairer that found the receiver dead must not empty it for the next one.
    let again = |posts: &mut Vec<Known>| {
        let unused = |posts: &[Known]| {
            posts.iter().position(|known| {
                ours(known)
                    && Arc::strong_count(&known.post) == 1
                    && !liveness::word_lives(known.receiver)
            })
        };
        unused(posts)?;
        let taken = pool.segment().exclusively_soon(|| {
            let at = unused(posts)?;
            let post = posts.swap_remove(at).post;
            empty(pool, post.carrier, End::Put);
            set_peer(pool, post.carrier, receiver);
            Some(post)
        });
        taken.flatten()
    };
    let post = again(&mut posts).or_else(make);
    let post = match post {
        Some(post) => post,
        None => {
            pool.segment().exclusively_soon(|| repair_posts(pool));
            make().ok_or_else(|| no_place(pool))?
        }
    };
    posts.push(Known { segment, object, sender, receiver, post: post.clone() });
    Ok(post)
}

/// A process has ended, and everything that it sent to this one over its channel has been
/// received: gives back the blocks that it held or had loaned, those in messages that it never
/// took, and those in messages that never came.
///
/// Whoever reads a channel calls this once both is so. It does nothing while that process lives.
pub fn drained(pid: u32) {
    let me = liveness::own_word();
    let died = |word: u64| (word >> 32) as u32 == pid && !liveness::word_lives(word);
    for segment in Segment::all() {
        for pool in pools(&segment) {
            let mut left = false;
            for carrier in carriers(&pool).filter(|carrier| is_post(who(&pool, *carrier))) {
                let peer = peer(&pool, carrier);
                if died(who(&pool, carrier)) && peer == me {
                    // From now on it is anybody's to empty.
                    set_peer(&pool, carrier, 0);
                    left = true;
                }
                left |= died(peer);
            }
            if left {
                segment.exclusively_soon(|| repair_posts(&pool));
            }
        }
        segment.repair_after(pid);
    }
}

// Repair.

/// Gives back what a dead participant held in a pool.
pub(crate) fn repair(segment: &Segment, object: Object, dead: Id) {
    let Ok(pool) = BlockPool::attach(segment, object.index) else { return };
    if pool.words().repair(dead.index(), |carrier| released(&pool, carrier)) > 0 {
        pool.wake();
    }
    repair_posts(&pool);
}

/// Empties posts that nobody will read. Under the repair lock.
pub(super) fn repair_posts(pool: &BlockPool) {
    for carrier in carriers(pool) {
        let who = who(pool, carrier);
        if !is_post(who) || liveness::word_lives(peer(pool, carrier)) {
            continue;
        }
        let sender_lives = liveness::word_lives(who);
        if sender_lives && peer(pool, carrier) == 0 {
            continue; // It is being made.
        }
        empty(pool, carrier, End::Got);
        fault!("block.post.emptied");
        if !sender_lives {
            // First: the next sender has no receiver until it says so.
            set_peer(pool, carrier, 0);
            change(pool, carrier, who, 0);
        }
    }
}
