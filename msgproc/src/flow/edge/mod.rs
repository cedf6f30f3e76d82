//! Edges: how items get from the workers of one node to those of another.
//!
//! An edge is a lane from each sender to each receiver. Only this folder knows what a lane is: a
//! call, where both are in one thread; a ring on the heap between threads; a ring in shared memory
//! between processes, and within one that is replaced when it dies.

pub(crate) mod deal;
mod exits;
mod heap;
mod inlet;
mod lanes;
mod link;
mod long;
mod plain;
mod shared;
mod spill;

use std::fmt;

pub use self::shared::Wire;
pub(crate) use self::{
    exits::{Branched, Exits, Output, Turn, Turned, Way},
    heap::{Bound, HeapLane, Size},
    inlet::{Begun, Early, Inlet, Taken},
    lanes::{Lanes, Manner, OutState},
    link::{
        AnyEdge, Callees, Dealing, Edge, EdgeOptions, EdgePlan, LaneKind, LanePlan, MakeRing, Room,
    },
    spill::{ALIGN, SpillFile},
};

/// What goes over a lane: items that were gathered, and where they belong.
pub(crate) struct Batch<T> {
    pub(crate) head: Head,
    pub(crate) items: Vec<T>,
}

impl<T> Batch<T> {
    /// For how much it counts in its lane. An end does not: nothing comes behind it that could lack
    /// the room.
    pub(crate) fn weight(&self) -> u64 {
        if self.head.end { 0 } else { self.items.len().max(1) as u64 }
    }
}

/// What is said of the items of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Head {
    /// Which message of its sender on this edge it is: dealt anew after a death, it has the same.
    pub(crate) id: u64,
    /// Which number it has where order is kept, and whether it is the last one with that number.
    pub(crate) number: u64,
    pub(crate) last: bool,
    /// How many items its sender has sent on this edge before.
    pub(crate) first: u64,
    /// Whether nothing comes after it.
    pub(crate) end: bool,
}

impl Head {
    /// Whether it is the last message with this number.
    fn passes(&self, number: u64) -> bool {
        self.last && !self.end && self.number == number
    }
}

/// Why a lane did not take a message.
pub(crate) enum Refused<T> {
    /// There is no room now.
    Full(Batch<T>),
    /// So many items are too long for one message, or have too many blocks: half as many may not.
    TooMany(Batch<T>),
    /// It cannot travel.
    Unsendable(String),
}

/// A lane's sending end.
pub(crate) trait Tx<T> {
    /// Takes a message if there is room now. Gives how many bytes it became, where it did.
    fn try_put(&mut self, batch: Batch<T>) -> Result<usize, Refused<T>>;

    /// What it did not take is not put there again.
    fn withdraw(&mut self) {}

    /// Whether whom it calls can be called; true where nobody is.
    fn can_call(&self) -> bool {
        true
    }

    /// Whether a message of the usual length will find room.
    fn is_roomy(&self) -> bool {
        true
    }

    /// Whether whom it calls sends into a gated edge.
    fn leads_to_gate(&self) -> bool {
        false
    }
}

/// What becomes of a message that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It is done with.
    Done,
    /// It stays: the run is being stopped, or has failed over it.
    Keep,
}

/// A lane's receiving end.
pub(crate) trait Rx<T> {
    /// Whether there is a message that was not looked at.
    fn is_ready(&self) -> bool;

    /// The next message that was not looked at, if there is one. It stays in the lane until it is
    /// released. Of one that `is_known` its items may be missing.
    fn look(&mut self, is_known: &dyn Fn(&Head) -> bool) -> Result<Option<Batch<T>>, String>;

    /// Of those that were looked at, the first is done with.
    fn release(&mut self) -> Result<(), String>;
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("head", &self.head).field("items", &self.items.len()).finish()
    }
}
