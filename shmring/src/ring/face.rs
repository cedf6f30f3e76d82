//! What all kinds of rings share: how they are made and found, and how they and their ends travel
//! inside messages.
//!
//! A kind has a handle of the ring ([`Ring`]), options that make it ([`Make`]), and ends, each of
//! which holds one role ([`End`]). The macros `ring_verbs` and `end_travels` give them what users
//! see. How an end is closed that came in a message and that nobody took out of it stands in the
//! table of `unread.rs`, one line for each kind.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::role::Role;
use crate::{
    error::Result,
    segment::{Kind, Segment},
    transfer::{self, NoteKind},
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

/// A ring as it stands in a message.
#[derive(Serialize, Deserialize)]
struct Sent {
    segment: Segment,
    number: u32,
    strategy: u8,
}

impl Sent {
    fn from<R: Ring>(ring: &R) -> Sent {
        let (segment, number) = (ring.segment().clone(), ring.number());
        Sent { segment, number, strategy: ring.strategy().number() }
    }

    fn ring<R: Ring>(&self) -> Result<R> {
        R::attach(&self.segment, self.number, WaitStrategy::from_number(self.strategy))
    }
}

pub(crate) fn serialize<R: Ring, S: Serializer>(
    ring: &R,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    Sent::from(ring).serialize(serializer)
}

pub(crate) fn deserialize<'de, R: Ring, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<R, D::Error> {
    Sent::deserialize(deserializer)?.ring().map_err(de::Error::custom)
}

/// Which side of a ring an end is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Side {
    Producer,
    Consumer,
}

/// Which end of a ring: a side, and the place there of those kinds that have several.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Which {
    pub(crate) side: Side,
    pub(crate) index: u32,
}

impl Which {
    /// The only producer.
    pub(crate) const PRODUCER: Which = Which { side: Side::Producer, index: 0 };
    /// The only consumer.
    pub(crate) const CONSUMER: Which = Which { side: Side::Consumer, index: 0 };
}

/// An end of a ring: it holds a role, and can be sent to another process.
pub(crate) trait End: Sized {
    type Ring: Ring;
    /// What it is called in errors.
    const WHAT: &'static str;

    fn ring(&self) -> &Self::Ring;

    fn role(&self) -> &Role;

    fn which(&self) -> Which;

    /// Takes the end over that was sent here while its role's word was `from`.
    fn receive(ring: Self::Ring, index: u32, from: u64) -> Result<Self>;
}

/// An end as it stands in a message.
#[derive(Serialize, Deserialize)]
struct SentEnd {
    ring: Sent,
    index: u32,
    from: u64,
}

/// The same in the notes of the message, where nobody knows its type.
#[derive(Serialize, Deserialize)]
struct Note {
    segment: Segment,
    number: u32,
    kind: u32,
    which: Which,
    from: u64,
}

pub(crate) fn serialize_end<E: End, S: Serializer>(
    end: &E,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let from = end.role().send_away().map_err(ser::Error::custom)?;
    let (ring, which) = (Sent::from(end.ring()), end.which());
    let (segment, number) = (ring.segment.clone(), ring.number);
    let note = Note { segment, number, kind: E::Ring::KIND as u32, which, from };
    let note = postcard::to_stdvec(&note).map_err(ser::Error::custom)?;
    transfer::note(E::WHAT, NoteKind::End, &note).map_err(ser::Error::custom)?;
    SentEnd { ring, index: which.index, from }.serialize(serializer)
}

pub(crate) fn deserialize_end<'de, E: End, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<E, D::Error> {
    let SentEnd { ring, index, from } = SentEnd::deserialize(deserializer)?;
    ring.ring().and_then(|ring| E::receive(ring, index, from)).map_err(de::Error::custom)
}

/// An end that is sent in a message leaves this process once the message does.
macro_rules! end_travels {
    ([$($generics:tt)*] $end:ty) => {
        impl<$($generics)*> ::serde::Serialize for $end {
            /// Travels only inside a message that a port sends, and leaves this process with it.
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::ring::face::serialize_end(self, serializer)
            }
        }

        impl<'de, $($generics)*> ::serde::Deserialize<'de> for $end {
            fn deserialize<D: ::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$end, D::Error> {
                $crate::ring::face::deserialize_end(deserializer)
            }
        }
    };
}
pub(crate) use end_travels;

/// Where an end came from that nobody has taken out of its message.
pub(crate) struct Unread {
    pub(crate) segment: Segment,
    pub(crate) number: u32,
    pub(crate) kind: Option<Kind>,
    pub(crate) which: Which,
    pub(crate) from: u64,
}

impl Unread {
    /// Reads a note; gives the notes after it.
    pub(crate) fn read(notes: &[u8]) -> Option<(Unread, &[u8])> {
        let (note, rest) = postcard::take_from_bytes(notes).ok()?;
        let Note { segment, number, kind, which, from } = note;
        let kind = Kind::from_number(kind);
        Some((Unread { segment, number, kind, which, from }, rest))
    }

    /// Closes the end of a kind whose ends are `P` and `C`, as dropping it does. Does nothing
    /// where it was taken.
    pub(crate) fn close<P: End, C: End>(&self) {
        match self.which.side {
            Side::Producer => drop(self.take::<P>()),
            Side::Consumer => drop(self.take::<C>()),
        }
    }

    fn take<E: End>(&self) -> Result<E> {
        let ring = E::Ring::attach(&self.segment, self.number, WaitStrategy::default())?;
        E::receive(ring, self.which.index, self.from)
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use super::*;
    use crate::{
        Error,
        ring::role::{Owned, Place},
        segment::Object,
    };

    /// A kind with three consumers, which does nothing but hold their roles.
    #[derive(Clone)]
    struct Many {
        segment: Segment,
        object: Object,
        strategy: WaitStrategy,
    }

    impl Many {
        fn place(&self, index: u32) -> Result<Place> {
            let word = self.object.offset + index as usize * 16;
            let place = (index < 3).then_some(Place { word, destination: word + 8 });
            place.ok_or(Error::NoPlace { action: "take a consumer's end".into(), limit: 3 })
        }

        fn end(&self, index: u32) -> Result<One> {
            let role = Role::take(&self.segment, self.place(index)?, One::WHAT)?;
            Ok(One { ring: self.clone(), index, role })
        }
    }

    impl Ring for Many {
        const KIND: Kind = Kind::Broadcast;

        fn attach(segment: &Segment, number: u32, strategy: WaitStrategy) -> Result<Many> {
            let object = segment.object(number, Many::KIND)?;
            Ok(Many { segment: segment.clone(), object, strategy })
        }

        fn segment(&self) -> &Segment {
            &self.segment
        }

        fn number(&self) -> u32 {
            self.object.index
        }

        fn strategy(&self) -> WaitStrategy {
            self.strategy
        }
    }

    struct One {
        ring: Many,
        index: u32,
        role: Role,
    }

    impl End for One {
        type Ring = Many;
        const WHAT: &'static str = "one of many";

        fn ring(&self) -> &Many {
            &self.ring
        }

        fn role(&self) -> &Role {
            &self.role
        }

        fn which(&self) -> Which {
            Which { side: Side::Consumer, index: self.index }
        }

        fn receive(ring: Many, index: u32, from: u64) -> Result<One> {
            let role = Role::receive(&ring.segment, ring.place(index)?, from, One::WHAT)?;
            Ok(One { ring, index, role })
        }
    }

    impl Drop for One {
        fn drop(&mut self) {
            self.role.close();
        }
    }

    end_travels!([] One);

    #[test]
    fn policies_stand_in_headers() {
        for policy in [Policy::Wait, Policy::Fail, Policy::DropNewest] {
            assert_eq!(Policy::from_number(policy.number()), Some(policy));
        }
        assert_eq!(Policy::from_number(3), None);
    }

    #[test]
    fn an_end_of_several_arrives_at_its_own_place() {
        let segment = Segment::options().anonymous().unwrap();
        let object = segment.add(Many::KIND, 48, |_| Ok(())).unwrap();
        let ring = Many::attach(&segment, object.index, WaitStrategy::Park).unwrap();
        let mut ends: Vec<One> = (0..3).map(|index| ring.end(index).unwrap()).collect();
        let send = || postcard::to_stdvec(&ends[2]).unwrap();
        let (bytes, parcel) = transfer::collect(send);
        let notes = parcel.notes().to_vec();
        let fds = |parcel: &transfer::Parcel| {
            parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect::<Vec<_>>()
        };
        let (first, second) = (fds(&parcel), fds(&parcel));
        parcel.sent();
        assert_eq!(ends[2].role.own(), Owned::Not);
        let arrived = transfer::Parcel::from_fds(first);
        let mut there: One = transfer::supply(arrived, || postcard::from_bytes(&bytes)).unwrap();
        assert_eq!((there.index, there.ring.strategy), (2, WaitStrategy::Park));
        assert_eq!(there.role.own(), Owned::Still);
        assert_eq!(ends[1].role.own(), Owned::Still);

        // What the notes say of it is the same, and comes too late.
        let (unread, _) = transfer::lend(second, || Unread::read(&notes[1..]).unwrap().0);
        assert_eq!((unread.kind, unread.which), (Some(Many::KIND), there.which()));
        unread.close::<One, One>();
        assert_eq!(there.role.own(), Owned::Still);
    }

    #[test]
    fn an_end_that_is_not_read_is_closed_at_its_own_place() {
        let segment = Segment::options().anonymous().unwrap();
        let object = segment.add(Many::KIND, 48, |_| Ok(())).unwrap();
        let ring = Many::attach(&segment, object.index, WaitStrategy::Park).unwrap();
        let mut ends: Vec<One> = (0..3).map(|index| ring.end(index).unwrap()).collect();
        let (_bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&ends[1]).unwrap());
        let notes = parcel.notes().to_vec();
        let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
        parcel.sent();
        let (unread, _) = transfer::lend(fds, || Unread::read(&notes[1..]).unwrap().0);
        unread.close::<One, One>();
        assert_eq!(ends[0].role.own(), Owned::Still);
        assert_eq!(ends[2].role.own(), Owned::Still);
        assert!(matches!(ring.end(0), Err(Error::Busy { .. })));
        assert!(ring.end(1).is_ok(), "closed, so free to take");
    }
}
