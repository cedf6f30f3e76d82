//! What all kinds of rings share: how they are made and found, and how they and their ends travel
//! inside messages.
//!
//! A kind has a handle of the ring ([`Ring`]), options that make it ([`Make`]), and ends, each of
//! which holds one role ([`End`]). The macros `ring_verbs` and `end_travels` give them what users
//! see. How an end is closed that came in a message and that nobody took out of it stands in the
//! table of `unread.rs`, one line for each kind.

mod travel;

pub(crate) use self::travel::{
    End, Side, Unread, Which, deserialize, deserialize_end, end_travels, serialize, serialize_end,
};
use crate::{
    error::Result,
    segment::{Kind, Segment},
    wait::WaitStrategy,
};

/// A handle of a ring: where it is, and how its ends wait.
pub(crate) trait Ring: Sized {
    /// What it is among the objects of its segment.
    const KIND: Kind;

    /// A handle of a ring that is there; checks everything that others have written.
    fn attach(segment: &Segment, number: u32, strategy: WaitStrategy) -> Result<Self>;

    fn segment(&self) -> &Segment;

    /// Its number among the objects of its segment.
    fn number(&self) -> u32;

    fn strategy(&self) -> WaitStrategy;
}

/// What a segment must be like that is made for one ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) len: usize,
    pub(crate) participants: usize,
    pub(crate) prefault: bool,
}

/// Options that make a ring.
pub(crate) trait Make: Clone {
    type Ring: Ring;

    fn room(&self) -> Result<Room>;

    fn strategy(&self) -> WaitStrategy;

    fn make_in(self, segment: &Segment) -> Result<Self::Ring>;

    /// Whether a ring that somebody else has made is the one that these options mean.
    fn suits(&self, _ring: &Self::Ring) -> Result<()> {
        Ok(())
    }
}

/// What `send` and `claim` do when a ring is full. A ring is made with it, for whoever sends.
///
/// The other verbs say themselves how long they wait, and a policy does not change them:
/// `try_send` and `try_claim` answer `Full`, those with a deadline wait for it and answer
/// `TimedOut`, and what they could not send they hand back.
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

fn segment_for(room: Room) -> crate::segment::Options {
    Segment::options()
        .len(room.len)
        .participants(room.participants)
        .objects(1)
        .prefault(room.prefault)
}

pub(crate) fn anonymous<M: Make>(options: M) -> Result<M::Ring> {
    let segment = segment_for(options.room()?).anonymous()?;
    options.make_in(&segment)
}

pub(crate) fn create<M: Make>(options: M, name: &str) -> Result<M::Ring> {
    let segment = segment_for(options.room()?);
    Ok(segment.create_with(name, |segment| options.make_in(segment))?.1)
}

pub(crate) fn create_or_open<M: Make>(options: M, name: &str) -> Result<M::Ring> {
    let segment = segment_for(options.room()?);
    let make = |segment: &Segment| options.clone().make_in(segment);
    match segment.create_or_open_with(name, make)? {
        (_, Some(ring)) => Ok(ring),
        (segment, None) => open(options, &segment),
    }
}

/// The ring that a segment of its own was made for.
pub(crate) fn open<M: Make>(options: M, segment: &Segment) -> Result<M::Ring> {
    let ring = M::Ring::attach(segment, 0, options.strategy())?;
    options.suits(&ring)?;
    Ok(ring)
}

/// The ways in which a user gets at a ring: gives options and handle of a kind their verbs.
///
/// The handle has `options()`, and the options have `wait`.
macro_rules! ring_verbs {
    ([$($generics:tt)*] $options:ty => $ring:ty) => {
        impl<$($generics)*> $options {
            /// Makes a ring in an anonymous segment of its own.
            ///
            /// # Errors
            ///
            /// As [`crate::segment::Options::anonymous`].
            pub fn anonymous(self) -> $crate::Result<$ring> {
                $crate::ring::face::anonymous(self)
            }

            /// Makes a named ring, `/dev/shm/shmring.NAME.ring`, which unrelated processes open by
            /// its name. The name goes when the process that made it lets go of the ring.
            ///
            /// # Errors
            ///
            /// As [`crate::segment::Options::create_with`].
            pub fn create(self, name: &str) -> $crate::Result<$ring> {
                $crate::ring::face::create(self, name)
            }

            /// Opens a named ring that exists. Of these options only [`wait`](Self::wait) says
            /// anything about it, and what must be the same.
            ///
            /// # Errors
            ///
            /// As [`crate::Segment::open`]; [`Error::WrongType`](crate::Error::WrongType) when it
            /// holds something else.
            pub fn open(self, name: &str) -> $crate::Result<$ring> {
                $crate::ring::face::open(self, &$crate::Segment::open(name)?)
            }

            /// Opens a named ring as soon as it is there; see [`open`](Self::open).
            ///
            /// # Errors
            ///
            /// As [`crate::Segment::open_or_wait`]; [`Error::WrongType`](crate::Error::WrongType)
            /// when it holds something else.
            pub fn open_or_wait(
                self,
                name: &str,
                timeout: ::std::time::Duration,
            ) -> $crate::Result<$ring> {
                $crate::ring::face::open(self, &$crate::Segment::open_or_wait(name, timeout)?)
            }

            /// Opens a named ring, or makes it where there is none: whichever process comes first
            /// makes it, and its name goes when that process lets go of the ring. One that is
            /// there is opened as [`open`](Self::open) does.
            ///
            /// # Errors
            ///
            /// As [`crate::segment::Options::create_or_open_with`];
            /// [`Error::WrongType`](crate::Error::WrongType) when it holds something else.
            pub fn create_or_open(self, name: &str) -> $crate::Result<$ring> {
                $crate::ring::face::create_or_open(self, name)
            }

            /// Makes a ring in a segment that may hold others.
            ///
            /// # Errors
            ///
            /// [`Error::BadParameters`](crate::Error::BadParameters);
            /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) and
            /// [`Error::NoPlace`](crate::Error::NoPlace) when the segment has no room for it.
            pub fn create_in(self, segment: &$crate::Segment) -> $crate::Result<$ring> {
                $crate::ring::face::Make::make_in(self, segment)
            }
        }

        impl<$($generics)*> $ring {
            /// Opens a named ring that exists.
            ///
            /// # Errors
            ///
            /// As [`crate::Segment::open`]; [`Error::WrongType`](crate::Error::WrongType) when it
            /// holds something else.
            pub fn open(name: &str) -> $crate::Result<$ring> {
                <$ring>::options().open(name)
            }

            /// Opens a named ring as soon as it is there.
            ///
            /// # Errors
            ///
            /// As [`crate::Segment::open_or_wait`]; [`Error::WrongType`](crate::Error::WrongType)
            /// when it holds something else.
            pub fn open_or_wait(
                name: &str,
                timeout: ::std::time::Duration,
            ) -> $crate::Result<$ring> {
                <$ring>::options().open_or_wait(name, timeout)
            }

            /// Its number among the objects of its segment.
            pub fn number(&self) -> u32 {
                $crate::ring::face::Ring::number(self)
            }

            /// The segment it lies in.
            pub fn segment(&self) -> &$crate::Segment {
                $crate::ring::face::Ring::segment(self)
            }
        }

        impl<$($generics)*> ::serde::Serialize for $ring {
            /// Travels only inside a message that a port sends.
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::ring::face::serialize(self, serializer)
            }
        }

        impl<'de, $($generics)*> ::serde::Deserialize<'de> for $ring {
            fn deserialize<D: ::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$ring, D::Error> {
                $crate::ring::face::deserialize(deserializer)
            }
        }
    };
}
pub(crate) use ring_verbs;

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
