//! Messages that stay in their ring until they are done with: one, or several that are read ahead.

use std::{fmt, mem::ManuallyDrop, ops::Deref};

use serde::de::DeserializeOwned;

use super::{
    Found, HEAD, Kind, MessageError, Receiver, Records, TABLE_ENTRY, deserialize, incoming, open,
    take_desk, take_over, unreadable,
};
use crate::{error::RecvError, fault::fault, transfer::Desk};

/// A message in hand that is still in the ring. [`Leased::release`] ends it; dropped, it stays the
/// next one to be received, here or by whoever takes this end over: with the same blocks, which the
/// ring holds meanwhile.
#[must_use = "a message that is not released comes again"]
pub struct Leased<'a, T> {
    receiver: &'a mut Receiver<T>,
    message: T,
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Reads the next message, if there is one now, and leaves it in the ring until it is released:
    /// should this process die before, the next receiver gets it again. So it does if reading it
    /// panics.
    ///
    /// # Errors
    ///
    /// As [`Receiver::try_recv`].
    pub fn try_lease(&mut self) -> Result<Leased<'_, T>, MessageError> {
        let message = self.read_in_place()?;
        Ok(Leased { receiver: self, message })
    }

    fn read_in_place(&mut self) -> Result<T, MessageError> {
        let Receiver { consumer, desk, recovered, sequence, .. } = self;
        // Forgotten, a record comes again: also if reading it panics.
        let record = consumer.as_mut().expect("only drop takes it").try_recv()?;
        let record = ManuallyDrop::new(record);
        *sequence = Some(record.sequence());
        if *recovered != record.consumer().role().word() {
            take_over(record.consumer(), desk, recovered);
        }
        let message = read(&record, record.kind(), record.consumer().ring(), desk);
        if message.is_err() {
            drop(ManuallyDrop::into_inner(record));
        }
        message
    }

    /// Reads the next message that was not read ahead yet, if there is one now, and leaves it in the
    /// ring: so several are in hand at a time. Each is still there for [`Receiver::release_first`],
    /// which ends them one by one, in their order; until then the ring holds their blocks too, and
    /// should this process die, the next receiver gets them again.
    ///
    /// ```
    /// # use shmring::ring::{port, records::Records};
    /// # let ring = Records::options().capacity(4096).anonymous()?;
    /// # let (mut tx, mut rx) = port::ends::<u64>(&ring)?;
    /// tx.send(1)?;
    /// tx.send(2)?;
    /// let both = [rx.try_read_ahead()?, rx.try_read_ahead()?];
    /// // When something has come of the first one:
    /// rx.release_first()?;
    /// assert_eq!((both, rx.recv()?), ([1, 2], 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_read_ahead`](crate::ring::records::Consumer::try_read_ahead). A message
    /// that is `Unreadable` is passed over as others are: it stays until it is released.
    pub fn try_read_ahead(&mut self) -> Result<T, MessageError> {
        let consumer = self.consumer.as_mut().expect("only drop takes it");
        let found = consumer.find_ahead()?;
        if self.recovered != consumer.role().word() {
            take_over(consumer, &mut self.desk, &mut self.recovered);
        }
        consumer.pass_ahead(found);
        self.sequence = Some(found.sequence);
        self.ahead = Some(found);
        self.try_read_again()
    }

    /// Reads the message once more that was read ahead last.
    ///
    /// # Errors
    ///
    /// `Empty` if none was read ahead, or it has been released since; `Moved`; `Unreadable`.
    pub fn try_read_again(&mut self) -> Result<T, MessageError> {
        let Receiver { consumer, desk, ahead, .. } = self;
        let consumer = consumer.as_ref().expect("only drop takes it");
        // What is released may be written to.
        let is_there = |found: &Found| found.end > consumer.released();
        let found = ahead.filter(is_there).ok_or(RecvError::Empty)?;
        if !consumer.role().is_still() {
            return Err(RecvError::Moved.into());
        }
        read(consumer.bytes_ahead(found), found.kind, consumer.ring(), desk)
    }

    /// Whether there is a message now that was not read ahead; as [`Receiver::is_ready`].
    #[inline]
    pub fn is_ready_ahead(&self) -> bool {
        self.end().is_ready_ahead()
    }

    /// Ends the first message that is in the ring, as receiving it and dropping it: of those that
    /// were read ahead, the one that was read first.
    ///
    /// # Errors
    ///
    /// As [`Receiver::try_recv`], but never `Unreadable`.
    pub fn release_first(&mut self) -> Result<(), RecvError> {
        let Receiver { consumer, desk, recovered, .. } = self;
        let record = consumer.as_mut().expect("only drop takes it").try_recv()?;
        if *recovered != record.consumer().role().word() {
            take_over(record.consumer(), desk, recovered);
        }
        let Some((bytes, blocks)) = open(&record, record.kind()) else { return Ok(()) };
        if blocks == 0 {
            return Ok(());
        }
        let word = record.consumer().role().word();
        let table = &bytes[HEAD..HEAD + blocks * TABLE_ENTRY];
        let incoming = incoming(desk, record.consumer().ring());
        if incoming.read(table) {
            *recovered = 0;
            incoming.arrive_unread(record.end());
            fault!("port.lease.arrived");
            drop(record);
            incoming.released();
            fault!("port.lease.done");
            *recovered = word;
        }
        Ok(())
    }
}

/// Reads a message in place. It takes holds of its own; those of the ring stay until the release.
fn read<T: DeserializeOwned>(
    record: &[u8],
    kind: Kind,
    ring: &Records,
    desk: &mut Option<Box<Desk>>,
) -> Result<T, MessageError> {
    let message = match open(record, kind) {
        None => Err(unreadable("it is no message")),
        Some((bytes, blocks)) => {
            let (table, body) = bytes[HEAD..].split_at(blocks * TABLE_ENTRY);
            match incoming(desk, ring).read(table) {
                true => deserialize(body, take_desk(desk, ring), desk),
                false => Err(unreadable("its table of blocks contradicts itself")),
            }
        }
    };
    fault!("port.lease.read");
    message
}

impl<T: DeserializeOwned> Leased<'_, T> {
    /// Says that the message is done with: the ring lets go of it and of its blocks. Hands it over;
    /// blocks that are kept from it stay held.
    ///
    /// # Errors
    ///
    /// `Moved` when this end has been sent away meanwhile, `Corrupt`; then it comes again.
    pub fn release(self) -> Result<T, RecvError> {
        self.receiver.release_first()?;
        Ok(self.message)
    }

    /// Says the same and takes the message apart before that: what is taken out of it is used while
    /// the ring still has it.
    pub fn split(self) -> (T, Lease<impl FnOnce() -> Result<(), RecvError>>) {
        let Leased { receiver, message } = self;
        (message, Lease(move || receiver.release_first()))
    }
}

/// What ends a message whose content has been taken out. From [`Leased::split`].
#[must_use = "a message that is not released comes again"]
pub struct Lease<F>(F);

impl<F: FnOnce() -> Result<(), RecvError>> Lease<F> {
    /// As [`Leased::release`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn release(self) -> Result<(), RecvError> {
        (self.0)()
    }
}

impl<F> fmt::Debug for Lease<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

impl<T> Deref for Leased<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.message
    }
}

impl<T> fmt::Debug for Leased<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased").field("ring", self.receiver.ring()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::{AtomicU32, Ordering},
    };

    use serde::{Deserialize, Deserializer, Serialize};

    use crate::{
        RecvError,
        block::{Block, BlockPool},
        ring::{
            port::{self, MessageError, Receiver},
            records::Records,
        },
    };

    type Message = (u64, Vec<Block>);

    fn pool_and_ends() -> (BlockPool, Records) {
        let pool = BlockPool::options().blocks(4).block_len(64).anonymous().unwrap();
        let ring = Records::options().capacity(4096).create_in(pool.segment()).unwrap();
        (pool, ring)
    }

    fn filled(pool: &BlockPool, byte: u8) -> Block {
        let mut loan = pool.try_loan().unwrap();
        loan.as_bytes_mut().fill(byte);
        loan.freeze()
    }

    #[test]
    fn what_is_not_released_comes_again() {
        let (pool, ring) = pool_and_ends();
        let (mut tx, mut rx) = port::ends::<Message>(&ring).unwrap();
        let block = filled(&pool, 7);
        tx.send((1, vec![block.clone(), block])).unwrap();
        tx.send((2, vec![filled(&pool, 8)])).unwrap();
        tx.send((3, vec![])).unwrap();
        for (number, byte, used) in [(1, 7, 2), (2, 8, 1)] {
            for _ in 0..3 {
                let leased = rx.try_lease().unwrap();
                assert_eq!((leased.0, leased.1[0].as_bytes()[0]), (number, byte));
            }
            assert_eq!(pool.in_use(), used);
            let (kept, lease) = rx.try_lease().unwrap().split();
            lease.release().unwrap();
            assert_eq!(pool.in_use(), used, "the message holds it");
            drop(kept);
            assert_eq!(pool.in_use(), used - 1);
        }
        assert_eq!(rx.try_lease().unwrap().release().unwrap().0, 3);
        assert!(matches!(rx.try_lease(), Err(MessageError::Ring(RecvError::Empty))));
    }

    #[test]
    fn the_next_receiver_gets_it_again() {
        let (pool, ring) = pool_and_ends();
        let (mut tx, mut rx) = port::ends::<Message>(&ring).unwrap();
        tx.send((1, vec![filled(&pool, 7)])).unwrap();
        let kept = rx.try_lease().unwrap().split().0;
        drop(kept);
        let other = rx.try_recv().unwrap();
        assert_eq!((other.0, other.1[0].as_bytes()[0]), (1, 7));
        drop(other);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_leased_block_goes_on() {
        let (pool, ring) = pool_and_ends();
        let onward = Records::options().capacity(4096).create_in(pool.segment()).unwrap();
        let (mut tx, mut rx) = port::ends::<Message>(&ring).unwrap();
        let (mut tx2, mut rx2) = port::ends::<Message>(&onward).unwrap();
        tx.send((1, vec![filled(&pool, 7)])).unwrap();
        let (message, lease) = rx.try_lease().unwrap().split();
        tx2.send(message).unwrap();
        lease.release().unwrap();
        assert_eq!(pool.in_use(), 1);
        assert_eq!(rx2.recv().unwrap().1[0].as_bytes()[0], 7);
        assert_eq!(pool.in_use(), 0);
    }

    /// Cannot be read the first time.
    #[derive(Serialize)]
    struct Second(Vec<Block>);

    static READ: AtomicU32 = AtomicU32::new(0);

    impl<'de> Deserialize<'de> for Second {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Second, D::Error> {
            let blocks = Vec::deserialize(deserializer)?;
            assert!(READ.fetch_add(1, Ordering::Relaxed) > 0, "not yet");
            Ok(Second(blocks))
        }
    }

    #[test]
    fn a_panic_while_it_is_read_leaves_it_there() {
        let (pool, ring) = pool_and_ends();
        let (mut tx, mut rx) = port::ends::<Second>(&ring).unwrap();
        tx.send(Second(vec![filled(&pool, 7), filled(&pool, 8)])).unwrap();
        catch_unwind(AssertUnwindSafe(|| rx.try_lease().map(drop))).unwrap_err();
        assert_eq!(pool.in_use(), 2);
        let message = rx.try_lease().unwrap().release().unwrap();
        assert_eq!(message.0[1].as_bytes()[0], 8);
        drop(message);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn several_are_read_ahead_and_released_in_their_order() {
        let (pool, ring) = pool_and_ends();
        let (mut tx, mut rx) = port::ends::<Message>(&ring).unwrap();
        assert!(matches!(rx.try_read_again(), Err(MessageError::Ring(RecvError::Empty))));
        for number in 1..=3 {
            tx.send((number, vec![filled(&pool, number as u8)])).unwrap();
        }
        let mut ahead = Vec::new();
        while rx.is_ready_ahead() {
            ahead.push(rx.try_read_ahead().unwrap());
            assert_eq!(rx.try_read_again().unwrap().0, ahead.len() as u64);
        }
        assert!(matches!(rx.try_read_ahead(), Err(MessageError::Ring(RecvError::Empty))));
        assert_eq!(pool.in_use(), 3);
        // Whatever becomes of them here, the ring has them.
        assert_eq!(ahead.pop().unwrap().1[0].as_bytes()[0], 3);
        assert_eq!(pool.in_use(), 3);
        rx.release_first().unwrap();
        assert_eq!(rx.try_read_again().unwrap().0, 3);
        assert_eq!(pool.in_use(), 3, "the message in hand holds it");
        ahead.remove(0);
        assert_eq!(pool.in_use(), 2);
        tx.send((4, vec![])).unwrap();
        assert_eq!(rx.try_read_ahead().unwrap().0, 4);
        // What is received otherwise is not read ahead any more.
        assert_eq!(rx.try_recv().unwrap().0, 2);
        drop(ahead);
        for number in [3, 4] {
            assert_eq!(rx.try_lease().unwrap().release().unwrap().0, number);
        }
        assert!(matches!(rx.release_first(), Err(RecvError::Empty)));
        tx.send((5, vec![])).unwrap();
        assert_eq!(rx.try_read_ahead().unwrap().0, 5);
        assert_eq!(rx.try_recv().unwrap().0, 5);
        // Its place may be written to by now.
        assert!(matches!(rx.try_read_again(), Err(MessageError::Ring(RecvError::Empty))));
        tx.send((6, vec![])).unwrap();
        assert_eq!(rx.try_read_ahead().unwrap().0, 6);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn the_next_receiver_gets_all_that_was_read_ahead() {
        let (pool, ring) = pool_and_ends();
        let (mut tx, mut rx) = port::ends::<Message>(&ring).unwrap();
        tx.send((1, vec![filled(&pool, 7)])).unwrap();
        tx.producer().send(b"no message").unwrap();
        tx.send((2, vec![])).unwrap();
        assert_eq!(rx.try_read_ahead().unwrap().0, 1);
        assert!(matches!(rx.try_read_ahead(), Err(MessageError::Unreadable { .. })));
        assert_eq!(rx.try_read_ahead().unwrap().0, 2);
        // As a process that takes the end over.
        rx.consumer = None;
        let mut rx = Receiver::<Message>::new(ring.consumer().unwrap());
        assert_eq!(rx.try_read_ahead().unwrap().1[0].as_bytes()[0], 7);
        for _ in 0..2 {
            rx.release_first().unwrap();
        }
        assert_eq!(rx.try_recv().unwrap().0, 2);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn nonsense_is_gone() {
        let (_pool, ring) = pool_and_ends();
        let (mut tx, mut rx) = port::ends::<Message>(&ring).unwrap();
        tx.producer().send(b"no message").unwrap();
        tx.send((1, vec![])).unwrap();
        assert!(matches!(rx.try_lease(), Err(MessageError::Unreadable { .. })));
        assert_eq!(rx.try_lease().unwrap().release().unwrap().0, 1);
    }
}
