//! What a receiving end has there now, and receiving as an iterator: the same for all kinds.

use std::{fmt, thread};

use super::port::MessageError;
use crate::error::RecvError;

/// What an error means to somebody who receives one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Means {
    /// There is nothing now.
    Nothing,
    /// There is nothing, and nothing will come: the other side has closed its end.
    Closed,
    /// Something is lost, and the next can be received.
    GoOn,
    /// Nothing can be received any more.
    Over,
}

/// An error of receiving.
pub trait Told {
    /// What it means to somebody who receives one after the other.
    fn means(&self) -> Means;
}

impl Told for RecvError {
    fn means(&self) -> Means {
        match self {
            RecvError::Empty => Means::Nothing,
            RecvError::Closed => Means::Closed,
            RecvError::Lapped { .. } => Means::GoOn,
            _ => Means::Over,
        }
    }
}

impl Told for MessageError {
    fn means(&self) -> Means {
        match self {
            MessageError::Ring(error) => error.means(),
            // A message that cannot be read is gone.
            _ => Means::GoOn,
        }
    }
}

/// An end from which items are taken that outlive their places in the ring.
pub trait Receive {
    /// What is received.
    type Received;
    /// Why nothing is.
    type Error: Told;

    /// Receives the next; waits for it, or tells that there is none now.
    ///
    /// # Errors
    ///
    /// Those of the end's `recv` and `try_recv`.
    fn receive(&mut self, wait: bool) -> Result<Self::Received, Self::Error>;

    /// The iterator is gone, after what it gave last was done with or, where a panic goes by,
    /// perhaps not.
    fn leave(&mut self, _done: bool) {}
}

/// Receives one after the other. From `iter` and `try_iter` of an end that receives.
///
/// It ends where the ring is closed and empty; that of `try_iter` also where nothing is there now,
/// and can be asked again later. Any other end is told by one error, the last that it gives:
/// `PeerDied`, `Moved`, `Corrupt`. An error after which it goes on is that a message cannot be read,
/// or that a lossy consumer was lapped.
#[must_use = "nothing is received before it is asked for the next"]
pub struct Iter<'a, R: Receive> {
    end: &'a mut R,
    wait: bool,
    over: bool,
}

impl<'a, R: Receive> Iter<'a, R> {
    pub(super) fn new(end: &'a mut R, wait: bool) -> Iter<'a, R> {
        Iter { end, wait, over: false }
    }
}

impl<R: Receive> Iterator for Iter<'_, R> {
    type Item = Result<R::Received, R::Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let error = match self.end.receive(self.wait) {
            Ok(item) => return Some(Ok(item)),
            Err(error) => error,
        };
        let means = error.means();
        self.over = matches!(means, Means::Closed | Means::Over);
        matches!(means, Means::GoOn | Means::Over).then_some(Err(error))
    }
}

impl<R: Receive> Drop for Iter<'_, R> {
    fn drop(&mut self) {
        self.end.leave(!thread::panicking());
    }
}

impl<R: Receive> fmt::Debug for Iter<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("wait", &self.wait).finish_non_exhaustive()
    }
}

/// Gives a receiving end its iterators.
macro_rules! iterates {
    ([$($generics:tt)*] $end:ty) => {
        impl<$($generics)*> $end {
            /// Receives one after the other, waiting for each, until the ring is closed and empty.
            ///
            /// Each is a `Result`: where the other side died, or the ring is corrupt, that is the
            /// last one. So a loop that ended without an error has received all that was sent.
            pub fn iter(&mut self) -> $crate::ring::Iter<'_, Self> {
                $crate::ring::Iter::new(self, true)
            }

            /// Receives what is there now, one after the other, and waits for none.
            ///
            /// Errors are given as by [`iter`](Self::iter). Where it ends without one, nothing was
            /// there, or the ring is closed; `try_recv` tells which.
            pub fn try_iter(&mut self) -> $crate::ring::Iter<'_, Self> {
                $crate::ring::Iter::new(self, false)
            }
        }

        impl<'a, $($generics)*> IntoIterator for &'a mut $end {
            type Item = Result<
                <$end as $crate::ring::iter::Receive>::Received,
                <$end as $crate::ring::iter::Receive>::Error,
            >;
            type IntoIter = $crate::ring::Iter<'a, $end>;

            /// As `iter`.
            fn into_iter(self) -> Self::IntoIter {
                self.iter()
            }
        }
    };
}
pub(crate) use iterates;

/// Gives a ring or a receiving end the number of what is there.
macro_rules! counts {
    ([$($generics:tt)*] $end:ty, $count:expr) => {
        impl<$($generics)*> $end {
            /// How many there are to be received now: a moment's number. Records and cells that are
            /// being read count until they are released, and what a consumer of a broadcast ring has
            /// missed until it is told; what somebody has in hand of a queue does not.
            pub fn len(&self) -> usize {
                let count: fn(&Self) -> usize = $count;
                count(self)
            }

            /// Whether there is nothing to be received now.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }
    };
}
pub(crate) use counts;

#[cfg(all(test, not(shmring_loom)))]
#[path = "iter_tests.rs"]
mod tests;
