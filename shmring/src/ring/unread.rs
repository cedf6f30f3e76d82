//! Ends of rings that came in a message which nobody has read.

use super::{broadcast, cells, face::Unread, latest, queue, records};
use crate::{os, segment::Kind};

/// An end that came in a message. If nobody has taken it out of the message when this is dropped,
/// it is closed, so that nobody waits for it.
pub(crate) struct UnreadEnd {
    end: Unread,
    forks: u32,
}

impl UnreadEnd {
    /// Reads a note; gives the notes after it.
    pub(crate) fn read(notes: &[u8]) -> Option<(UnreadEnd, &[u8])> {
        let (end, rest) = Unread::read(notes)?;
        Some((UnreadEnd { end, forks: os::fork_generation() }, rest))
    }
}

impl Drop for UnreadEnd {
    fn drop(&mut self) {
        if self.forks != os::fork_generation() {
            return; // The parent's.
        }
        // Each kind says here what its ends are.
        match self.end.kind {
            Some(Kind::Records) => self.end.close::<records::Producer, records::Consumer>(),
            Some(Kind::Broadcast) => self.end.close::<broadcast::Producer, broadcast::Consumer>(),
            Some(Kind::Queue) => self.end.close::<queue::Producer, queue::Consumer>(),
            Some(Kind::Latest) => self.end.close::<latest::UnreadWriter, latest::UnreadWriter>(),
            Some(Kind::Cells) => self.end.close::<cells::UnreadProducer, cells::UnreadConsumer>(),
            Some(Kind::Pool | Kind::Pools | Kind::Board) | None => {}
        }
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use super::*;
    use crate::{RecvError, received, transfer};

    #[test]
    fn ends_that_nobody_reads_are_closed() {
        let (tx, mut rx) = records::Records::options().anonymous().unwrap().split().unwrap();
        let (_bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&tx).unwrap());
        let (notes, fds) = (parcel.notes().to_vec(), copies(&parcel));
        parcel.sent();
        let message = received(fds, &notes);
        assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
        drop(message);
        assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed);

        let (mut tx, rx) = records::Records::options().anonymous().unwrap().split().unwrap();
        let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&(&rx, 7u8)).unwrap());
        let (notes, fds) = (parcel.notes().to_vec(), copies(&parcel));
        parcel.sent();
        // Taken out of its message, it stays.
        let there: (records::Consumer, u8) =
            transfer::supply(received(fds, &notes), || postcard::from_bytes(&bytes)).unwrap();
        tx.send(b"one").unwrap();
        assert!(!tx.is_closed());
        drop(there);
        assert!(tx.is_closed());
    }

    #[test]
    fn ends_of_a_broadcast_that_nobody_reads_are_closed() {
        let ring = broadcast::Broadcast::options().anonymous().unwrap();
        let (tx, mut stays) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let (leaves, lossy) = (ring.consumer().unwrap(), ring.join().lossy().consumer().unwrap());
        let ends = (tx, leaves, lossy);
        let (_bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&ends).unwrap());
        let (notes, fds) = (parcel.notes().to_vec(), copies(&parcel));
        parcel.sent();
        let message = received(fds, &notes);
        assert_eq!(stays.try_recv().unwrap_err(), RecvError::Empty);
        assert!(matches!(ring.producer(), Err(crate::Error::Busy { .. })));
        drop(message);
        assert_eq!(stays.try_recv().unwrap_err(), RecvError::Closed);
        // A new producer waits only for the one that is left.
        let mut tx = ring.producer().unwrap();
        for byte in 0..100u8 {
            while let Err(error) = tx.try_send([byte; 4000]) {
                assert!(matches!(error, crate::SendError::Full(_)), "{error}");
                assert_eq!(stays.try_recv().unwrap().len(), 4000);
            }
        }
        drop(stays);
        assert!(tx.is_alone());
    }

    fn copies(parcel: &transfer::Parcel) -> Vec<std::os::fd::OwnedFd> {
        parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect()
    }
}
