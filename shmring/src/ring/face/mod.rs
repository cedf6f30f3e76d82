//! What all kinds of rings share: what they do when they are full, and how their ends travel inside
//! messages.
//!
//! How a ring is made and found, it shares with all that lies in a segment: `face.rs`. Each of its
//! ends holds one role ([`End`]), and the macro `end_travels` gives them what users see. How an end
//! is closed that came in a message and that nobody took out of it stands in the table of
//! `unread.rs`, one line for each kind.

mod travel;

pub(crate) use self::travel::{
    End, Side, Unread, Which, deserialize_end, end_travels, serialize_end,
};
pub(crate) use crate::face::{Make, Ring, Room, ring_verbs};

/// What `send` and `claim` do when a ring is full. A ring is made with it, for whoever sends.
///
/// The other verbs say themselves how long they wait, and a policy does not change them:
/// `try_send` and `try_claim` answer `Full`, those with a deadline wait for it and answer
/// `TimedOut`, and what they could not send they hand back.
///
/// None of them overwrites the oldest item: that is a matter of the kind of ring, not of what its
/// senders do. Where old items shall make way for new ones, use
///
/// - [`broadcast`](crate::ring::broadcast) with [lossy](crate::ring::broadcast::Join::lossy)
///   consumers: the producer never waits for them, and each is told how many items it missed, by
///   `Lapped`;
/// - [`latest`](crate::ring::latest), where only the newest value matters, and readers count what
///   they [missed](crate::ring::latest::Reader::missed).
///
/// Both copy an item out and then look whether it was overwritten meanwhile. The consumers of
/// records, cells and queues read in place, so nobody may overwrite what lies there before they
/// release it: the producer could not know which item somebody looks at just now, and one who is
/// killed there must get it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Policy {
    /// They wait, as long as somebody lives who can make room. Nothing is lost.
    #[default]
    Wait,
    /// They answer `Full` at once, and `send` hands the item back.
    Fail,
    /// `send` forgets the item and goes on as if it had been sent; `claim` answers `Full`. The loss
    /// is counted, and whoever receives sees it as a gap in the sequence numbers.
    DropNewest,
}

impl Policy {
    /// As it stands in a ring's header.
    pub(crate) fn number(self) -> u32 {
        match self {
            Policy::Wait => 0,
            Policy::Fail => 1,
            Policy::DropNewest => 2,
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Policy> {
        [Policy::Wait, Policy::Fail, Policy::DropNewest]
            .into_iter()
            .find(|policy| policy.number() == number)
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use super::*;

    #[test]
    fn policies_stand_in_headers() {
        for policy in [Policy::Wait, Policy::Fail, Policy::DropNewest] {
            assert_eq!(Policy::from_number(policy.number()), Some(policy));
        }
        assert_eq!(Policy::from_number(3), None);
    }
}
