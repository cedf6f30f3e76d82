//! How the ends of rings travel inside messages.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::Ring;
use crate::{
    error::Result,
    face::Sent,
    ring::role::Role,
    segment::{Kind, Segment},
    transfer::{self, NoteKind},
    wait::WaitStrategy,
};

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
    let from = end.role().send_away().map_err(transfer::refuse(ser::Error::custom))?;
    let (ring, which) = (Sent::from(end.ring()), end.which());
    let (segment, number) = (ring.segment.clone(), ring.number);
    let note = Note { segment, number, kind: E::Ring::KIND as u32, which, from };
    let note = postcard::to_stdvec(&note).map_err(ser::Error::custom)?;
    transfer::note(E::WHAT, NoteKind::End, &note).map_err(transfer::refuse(ser::Error::custom))?;
    SentEnd { ring, index: which.index, from }.serialize(serializer)
}

pub(crate) fn deserialize_end<'de, E: End, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<E, D::Error> {
    let SentEnd { ring, index, from } = SentEnd::deserialize(deserializer)?;
    let end = ring.ring().and_then(|ring| E::receive(ring, index, from));
    end.map_err(transfer::refuse(de::Error::custom))
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
