//! What all that lies in a segment shares: how it is made and found, and how it travels inside
//! messages: rings, boards, pools of blocks and sets of them.
//!
//! A kind has a handle ([`Ring`]) and options that make it ([`Make`]). The macro `ring_verbs` gives
//! them what users see. What rings have beyond that, their ends, stands in `ring/face`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    error::Result,
    segment::{Kind, Segment},
    transfer,
    wait::WaitStrategy,
};

/// A handle of a ring, or of what else lies in a segment: where it is, and how its ends wait.
pub(crate) trait Ring: Sized {
    /// What it is among the objects of its segment.
    const KIND: Kind;

    /// A handle of a ring that is there; checks everything that others have written.
    fn attach(segment: &Segment, number: u32, strategy: WaitStrategy) -> Result<Self>;

    fn segment(&self) -> &Segment;

    /// Its number among the objects of its segment.
    fn number(&self) -> u32;

    /// How its ends wait; of no meaning for what nobody waits at.
    fn strategy(&self) -> WaitStrategy {
        WaitStrategy::default()
    }
}

/// What a segment must be like that is made for one ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) len: usize,
    pub(crate) participants: usize,
    /// Places for rings and pools.
    pub(crate) objects: usize,
    pub(crate) prefault: bool,
    pub(crate) replace_stale: bool,
}

/// Options that make a ring.
pub(crate) trait Make: Clone {
    type Ring: Ring;

    fn room(&self) -> Result<Room>;

    fn strategy(&self) -> WaitStrategy {
        WaitStrategy::default()
    }

    fn make_in(self, segment: &Segment) -> Result<Self::Ring>;

    /// Whether a ring that somebody else has made is the one that these options mean.
    fn suits(&self, _ring: &Self::Ring) -> Result<()> {
        Ok(())
    }
}

fn segment_for(room: Room) -> crate::segment::Options {
    Segment::options()
        .len(room.len)
        .participants(room.participants)
        .objects(room.objects)
        .prefault(room.prefault)
        .replace_stale(room.replace_stale)
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

/// The first ring of its kind in a segment: the only one where the segment was made for it.
pub(crate) fn open<M: Make>(options: M, segment: &Segment) -> Result<M::Ring> {
    let mut objects = segment.objects();
    let first = objects.find(|(_, kind)| *kind == Some(M::Ring::KIND));
    // Where there is none, object 0 says what there is instead.
    open_in(options, segment, first.map_or(0, |(number, _)| number))
}

pub(crate) fn open_in<M: Make>(options: M, segment: &Segment, number: u32) -> Result<M::Ring> {
    let ring = M::Ring::attach(segment, number, options.strategy())?;
    options.suits(&ring)?;
    Ok(ring)
}

/// A ring as it stands in a message.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) segment: Segment,
    pub(crate) number: u32,
    strategy: u8,
}

impl Sent {
    pub(crate) fn from<R: Ring>(ring: &R) -> Sent {
        let (segment, number) = (ring.segment().clone(), ring.number());
        Sent { segment, number, strategy: ring.strategy().number() }
    }

    pub(crate) fn ring<R: Ring>(&self) -> Result<R> {
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
    Sent::deserialize(deserializer)?.ring().map_err(transfer::refuse(de::Error::custom))
}

/// The ways in which a user gets at a ring, or at what else lies in a segment: gives options and
/// handle of a kind their verbs.
///
/// The handle has `options()`, and the options have a field `replace_stale`.
macro_rules! ring_verbs {
    ([$($generics:tt)*] $options:ty => $ring:ty) => {
        impl<$($generics)*> $options {
            /// For [`create`](Self::create): removes a segment of that name first if no process
            /// uses it, what is in it included. Default no. `create_or_open` always does.
            pub fn replace_stale(mut self, yes: bool) -> Self {
                self.replace_stale = yes;
                self
            }

            /// Makes it in an anonymous segment of its own.
            ///
            /// # Errors
            ///
            /// [`Error::BadParameters`](crate::Error::BadParameters), and as
            /// [`crate::segment::Options::anonymous`].
            pub fn anonymous(self) -> $crate::Result<$ring> {
                $crate::face::anonymous(self)
            }

            /// Makes it in a named segment of its own, `/dev/shm/shmring.NAME.ring`, which
            /// unrelated processes open by its name. The name goes when the process that made it
            /// lets go of it.
            ///
            /// # Errors
            ///
            /// As [`crate::segment::Options::create_with`].
            pub fn create(self, name: &str) -> $crate::Result<$ring> {
                $crate::face::create(self, name)
            }

            /// Opens one that exists by the name of its segment. Of these options only how it
            /// waits says anything about it, and what must be the same; the rest is as it was
            /// made. In a segment that has several of its kind this is the first;
            /// [`open_in`](Self::open_in) opens the others.
            ///
            /// It joins whatever is there, also what has lost all its processes: what they left in
            /// it is then received.
            ///
            /// # Errors
            ///
            /// As [`crate::Segment::open`] and [`open_in`](Self::open_in).
            pub fn open(self, name: &str) -> $crate::Result<$ring> {
                $crate::face::open(self, &$crate::Segment::open(name)?)
            }

            /// Opens one as soon as its segment is there; see [`open`](Self::open).
            ///
            /// # Errors
            ///
            /// As [`crate::Segment::open_or_wait`] and [`open_in`](Self::open_in).
            pub fn open_or_wait(
                self,
                name: &str,
                timeout: ::std::time::Duration,
            ) -> $crate::Result<$ring> {
                $crate::face::open(self, &$crate::Segment::open_or_wait(name, timeout)?)
            }

            /// Opens one by its name, or makes it where there is none: whichever process comes
            /// first makes it, and its name goes when that process lets go of it. One that is
            /// there is opened as [`open`](Self::open) does.
            ///
            /// One that no living process has, because all of them were killed or because it was
            /// kept, counts as none: it is removed, and what is in it is lost. So a new run begins
            /// afresh, whatever became of the last. To go on with what a dead run left, `open` it.
            ///
            /// # Errors
            ///
            /// As [`crate::segment::Options::create_or_open_with`] and [`open_in`](Self::open_in).
            pub fn create_or_open(self, name: &str) -> $crate::Result<$ring> {
                $crate::face::create_or_open(self, name)
            }

            /// Makes it in a segment that may hold others.
            ///
            /// # Errors
            ///
            /// [`Error::BadParameters`](crate::Error::BadParameters);
            /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) and
            /// [`Error::NoPlace`](crate::Error::NoPlace) when the segment has no room for it.
            pub fn create_in(self, segment: &$crate::Segment) -> $crate::Result<$ring> {
                $crate::face::Make::make_in(self, segment)
            }

            /// Opens one by its number in a segment.
            ///
            /// # Errors
            ///
            /// [`Error::WrongType`](crate::Error::WrongType) when there is something else;
            /// [`Error::NotASegment`](crate::Error::NotASegment) when nothing is there, or not
            /// yet; [`Error::Corrupt`](crate::Error::Corrupt) when what it says about itself
            /// cannot be, or the segment has no such place.
            pub fn open_in(
                self,
                segment: &$crate::Segment,
                number: u32,
            ) -> $crate::Result<$ring> {
                $crate::face::open_in(self, segment, number)
            }
        }

        impl<$($generics)*> $ring {
            /// Opens the first of its kind in a named segment that exists: the only one, where the
            /// segment was made for it.
            ///
            /// It joins whatever is there, also what has lost all its processes.
            ///
            /// # Errors
            ///
            /// As [`crate::Segment::open`] and [`open_in`](Self::open_in).
            pub fn open(name: &str) -> $crate::Result<$ring> {
                <$ring>::options().open(name)
            }

            /// The same as soon as the segment is there.
            ///
            /// # Errors
            ///
            /// As [`crate::Segment::open_or_wait`] and [`open_in`](Self::open_in).
            pub fn open_or_wait(
                name: &str,
                timeout: ::std::time::Duration,
            ) -> $crate::Result<$ring> {
                <$ring>::options().open_or_wait(name, timeout)
            }

            /// Opens one by its number in a segment.
            ///
            /// # Errors
            ///
            /// [`Error::WrongType`](crate::Error::WrongType) when there is something else;
            /// [`Error::NotASegment`](crate::Error::NotASegment) when nothing is there, or not
            /// yet; [`Error::Corrupt`](crate::Error::Corrupt) when what it says about itself
            /// cannot be, or the segment has no such place.
            pub fn open_in(
                segment: &$crate::Segment,
                number: u32,
            ) -> $crate::Result<$ring> {
                <$ring>::options().open_in(segment, number)
            }

            /// Its number among the objects of its segment, by which others open it
            /// ([`open_in`](Self::open_in)). They are numbered from 0 in the order in which they
            /// are made, and keep their numbers; a set of pools comes after its pools.
            #[inline]
            pub fn number(&self) -> u32 {
                $crate::face::Ring::number(self)
            }

            /// The segment it lies in. Blocks travel over rings that are made in the segment of
            /// their pool.
            #[inline]
            pub fn segment(&self) -> &$crate::Segment {
                $crate::face::Ring::segment(self)
            }
        }

        impl<$($generics)*> ::serde::Serialize for $ring {
            /// Travels only inside a message that a port sends.
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::face::serialize(self, serializer)
            }
        }

        impl<'de, $($generics)*> ::serde::Deserialize<'de> for $ring {
            fn deserialize<D: ::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$ring, D::Error> {
                $crate::face::deserialize(deserializer)
            }
        }
    };
}
pub(crate) use ring_verbs;
