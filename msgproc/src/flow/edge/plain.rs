//! Lanes between processes for plain data: items travel as they lie in memory.

use bytemuck::Pod;
use shmring::{
    RecvError, SendError,
    ring::records::{Consumer, Producer},
};

use super::{
    Batch, Head, Refused, Rx, Tx, deal,
    shared::{Wire, is_for_now},
};

/// What stands before the items: the head, in words.
const HEAD: usize = 5 * 8;

const LAST: u64 = 1;
const END: u64 = 2;

fn write_head(head: &Head, count: usize, bytes: &mut [u8]) {
    let flags = u64::from(head.last) * LAST + u64::from(head.end) * END;
    let words = [head.id, head.number, head.first, flags, count as u64];
    bytes.copy_from_slice(bytemuck::bytes_of(&words));
}

/// A head is copied once; what its flags say beyond ours means nothing.
fn read<T: Pod>(bytes: &[u8]) -> Option<Batch<T>> {
    let (head, bytes) = bytes.split_at_checked(HEAD)?;
    let [id, number, first, flags, count]: [u64; 5] = bytemuck::pod_read_unaligned(head);
    let head = Head { id, number, first, last: flags & LAST != 0, end: flags & END != 0 };
    let items = match size_of::<T>() {
        // There is nothing to read; a liar cannot have more than a message of others has.
        0 => vec![T::zeroed(); usize::try_from(count).ok()?.min(deal::MOST)],
        size => bytes.chunks_exact(size).map(bytemuck::pod_read_unaligned).collect(),
    };
    Some(Batch { head, items })
}

impl<T: Pod> Wire<T> {
    pub(crate) fn plain() -> Wire<T> {
        Wire {
            tx: |ring, _| Ok(Box::new(PlainTx(ring.producer()?))),
            rx: |ring, _| Ok(Box::new(PlainRx(ring.consumer()?))),
        }
    }
}

struct PlainTx(Producer);

impl<T: Pod> Tx<T> for PlainTx {
    fn try_put(&mut self, batch: Batch<T>) -> Result<usize, Refused<T>> {
        let items: &[u8] = bytemuck::cast_slice(&batch.items);
        let len = HEAD + items.len();
        match self.0.try_claim(len) {
            Ok(mut claim) => {
                write_head(&batch.head, batch.items.len(), &mut claim[..HEAD]);
                claim[HEAD..].copy_from_slice(items);
                claim.commit();
                Ok(len)
            }
            Err(error) if is_for_now(&error) => Err(Refused::Full(batch)),
            Err(SendError::TooLarge { .. }) if batch.items.len() > 1 => {
                Err(Refused::TooMany(batch))
            }
            Err(error) => Err(Refused::Unsendable(error.to_string())),
        }
    }
}

struct PlainRx(Consumer);

impl<T: Pod> Rx<T> for PlainRx {
    fn is_ready(&self) -> bool {
        self.0.is_ready_ahead()
    }

    fn look(&mut self, _: &dyn Fn(&Head) -> bool) -> Result<Option<Batch<T>>, String> {
        match self.0.try_read_ahead() {
            Ok(record) => read(&record).map(Some).ok_or("a message is too short".into()),
            // Whether more comes is said by the board and by the message that ends a lane.
            Err(RecvError::Empty) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn release(&mut self) -> Result<(), String> {
        self.0.try_recv().map(drop).map_err(|error| error.to_string())
    }
}
