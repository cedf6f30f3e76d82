//! Lanes between processes: rings of records in shared memory.

use std::{collections::VecDeque, rc::Rc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shmring::{
    RecvError, SendError,
    ring::{
        port::{MessageError, PortError, Receiver, Sender},
        records::Records,
    },
};

use super::{
    Batch, Head, Refused, Rx, Tx,
    long::{Coming, Draft, Failure, Going, LaneEnd},
    spill::Extent,
};
use crate::{fault::fault, flow::error::panicked_at, start::catch_here};

type OpenTx<T> = fn(&Records, &LaneEnd) -> Result<Box<dyn Tx<T>>, shmring::Error>;
type OpenRx<T> = fn(&Records, &LaneEnd) -> Result<Box<dyn Rx<T>>, shmring::Error>;

/// How items of a type travel between processes.
pub struct Wire<T> {
    pub(crate) tx: OpenTx<T>,
    pub(crate) rx: OpenRx<T>,
}

impl<T> Clone for Wire<T> {
    fn clone(&self) -> Wire<T> {
        *self
    }
}

impl<T> Copy for Wire<T> {}

impl<T: Serialize + DeserializeOwned + 'static> Wire<T> {
    pub(crate) fn new() -> Wire<T> {
        Wire {
            tx: |ring, end| {
                let mut port = Sender::new(ring.producer()?);
                let draft = Rc::new(Draft::new(end, port.producer().published()));
                let fits = Fits { most: usize::MAX, cut: 0 };
                Ok(Box::new(SharedTx { port, draft, expects_long: false, fits }))
            },
            rx: |ring, end| {
                let port = Receiver::new(ring.consumer()?);
                Ok(Box::new(SharedRx { port, end: end.clone(), looked_at: VecDeque::new() }))
            },
        }
    }
}

/// A message that is put into its record. [`Came`] is the same bytes.
#[derive(Serialize)]
enum Sent<T> {
    Items(Head, Vec<T>),
    /// One item, which is too long for a record.
    Long(Going<T>),
}

/// A message as it is read from its record.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
enum Came<T> {
    Items(Head, Vec<T>),
    Long(Coming<T>),
}

impl<T> Sent<T> {
    fn into_batch(self) -> Batch<T> {
        match self {
            Sent::Items(head, items) => Batch { head, items },
            Sent::Long(going) => going.batch,
        }
    }
}

struct SharedTx<T> {
    port: Sender<Sent<T>>,
    draft: Rc<Draft>,
    /// Whether the last item was long: then the next one is tried as such first.
    expects_long: bool,
    fits: Fits,
}

/// How many items go into a message, as far as one knows: to write them, only to find that they are
/// too many, costs as much as to send them.
struct Fits {
    most: usize,
    /// How many messages were sent that may have been cut to that.
    cut: u32,
}

impl Fits {
    /// After so many cut messages it is tried whether more fit by now.
    const CUT: u32 = 64;

    fn sent(&mut self, items: usize) {
        if items > self.most / 2 {
            self.cut += 1;
            if self.cut == Fits::CUT {
                *self = Fits { most: self.most.saturating_mul(2), cut: 0 };
            }
        }
    }

    fn refused(&mut self, items: usize) {
        *self = Fits { most: items / 2, cut: 0 };
    }
}

impl<T: Serialize> SharedTx<T> {
    /// Puts one item into the spill file, and a message that says where. What has fewer bytes than
    /// `least` goes as others do.
    fn put_long(&mut self, batch: Batch<T>, least: usize) -> Result<usize, Refused<T>> {
        let at = self.port.producer().published();
        if !self.draft.begin(batch.head.id, at, least) {
            return Err(Refused::Full(batch));
        }
        let going = Going { batch, draft: self.draft.clone() };
        let sent = try_send(&mut self.port, Sent::Long(going));
        let error = match sent.map_err(Refused::Unsendable)? {
            Ok(()) => return Ok(self.draft.sent()),
            Err(PortError::Ring(error)) if is_for_now(&error) => {
                return Err(Refused::Full(error.into_inner().into_batch()));
            }
            Err(error) => error,
        };
        match self.draft.take_failure() {
            Some(Failure::Short) => {
                self.expects_long = false;
                self.try_put(error.into_inner().into_batch())
            }
            Some(Failure::Because(reason)) => Err(Refused::Unsendable(reason)),
            None => Err(Refused::Unsendable(error.to_string())),
        }
    }
}

impl<T: Serialize> Tx<T> for SharedTx<T> {
    fn try_put(&mut self, batch: Batch<T>) -> Result<usize, Refused<T>> {
        let Batch { head, items } = batch;
        if self.expects_long && items.len() == 1 {
            // The header of a message takes less than that.
            let least = self.port.producer().max_len().saturating_sub(96);
            return self.put_long(Batch { head, items }, least);
        }
        let count = items.len();
        if count > self.fits.most {
            return Err(Refused::TooMany(Batch { head, items }));
        }
        let sent = try_send(&mut self.port, Sent::Items(head, items));
        match sent.map_err(Refused::Unsendable)? {
            Ok(()) => {
                self.fits.sent(count);
                Ok(self.port.needed())
            }
            Err(PortError::Ring(error)) if is_for_now(&error) => {
                Err(Refused::Full(error.into_inner().into_batch()))
            }
            Err(error) if error_is_of_many(&error) => {
                self.fits.refused(count);
                Err(Refused::TooMany(error.into_inner().into_batch()))
            }
            Err(PortError::Ring(error @ SendError::TooLarge { .. })) => {
                let batch = error.into_inner().into_batch();
                // An end has no items, and there is room for it in any ring.
                self.expects_long = !batch.items.is_empty();
                self.put_long(batch, 0)
            }
            Err(error) => Err(Refused::Unsendable(error.to_string())),
        }
    }

    fn withdraw(&mut self) {
        self.draft.withdraw();
    }

    fn is_roomy(&self) -> bool {
        let stats = self.port.ring().stats();
        stats.used <= stats.capacity / 2 && self.draft.has_room()
    }
}

/// Whether to wait for the receiver. One that has ended may have closed its ring after the sender
/// looked whether its lane is open; one that died is replaced, or fails the run.
pub(super) fn is_for_now<T>(error: &SendError<T>) -> bool {
    matches!(error, SendError::Full(_) | SendError::Closed(_) | SendError::PeerDied { .. })
}

/// Whether half as many items could be sent.
fn error_is_of_many<T>(error: &PortError<Sent<T>>) -> bool {
    let message = match error {
        PortError::Ring(SendError::TooLarge { item, .. }) | PortError::Unsendable { item, .. } => {
            item
        }
        _ => return false,
    };
    matches!(message, Sent::Items(_, items) if items.len() > 1)
}

/// Gives how it panicked, if it did: how an item is written is no matter of its node, which would be
/// replaced, and die of it again and again.
fn try_send<T: Serialize>(
    port: &mut Sender<Sent<T>>,
    message: Sent<T>,
) -> Result<Result<(), PortError<Sent<T>>>, String> {
    let sent = catch_here(|| port.try_send(message));
    sent.map_err(|panic| panicked_at(&panic))
}

struct SharedRx<T> {
    port: Receiver<Came<T>>,
    end: LaneEnd,
    /// Of those that were looked at, where their long items lie.
    looked_at: VecDeque<Option<Extent>>,
}

/// A message, if there is one. A panic over how it is read is an error, as above.
fn read<T>(
    port: &mut Receiver<Came<T>>,
    how: impl FnOnce(&mut Receiver<Came<T>>) -> Result<Came<T>, MessageError>,
) -> Result<Option<Came<T>>, String> {
    match catch_here(|| how(port)).map_err(|panic| panicked_at(&panic))? {
        Ok(came) => Ok(Some(came)),
        // Whether more comes is said by the board and by the message that ends a lane.
        Err(MessageError::Ring(RecvError::Empty)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

impl<T: DeserializeOwned> Rx<T> for SharedRx<T> {
    fn is_ready(&self) -> bool {
        self.port.is_ready_ahead()
    }

    fn look(&mut self, is_known: &dyn Fn(&Head) -> bool) -> Result<Option<Batch<T>>, String> {
        let SharedRx { port, end, looked_at } = self;
        let Some(came) = read(port, Receiver::try_read_ahead)? else { return Ok(None) };
        let (head, items, extent) = match came {
            Came::Items(head, items) => (head, items, None),
            Came::Long(Coming { head, extent, .. }) => {
                // One that is known is not looked for: its memory may have been given back.
                let wanted = Some(extent).filter(|_| !is_known(&head));
                let again = end.fetch(wanted, || read(port, |port| port.try_read_again()))??;
                let Some(Came::Long(Coming { items, .. })) = again else {
                    return Err("a message is another when it is read again".into());
                };
                (head, items, Some(extent))
            }
        };
        looked_at.push_back(extent);
        Ok(Some(Batch { head, items }))
    }

    fn release(&mut self) -> Result<(), String> {
        if let Some(Some(extent)) = self.looked_at.pop_front() {
            self.end.punch(extent)?;
            fault!(TAKE_PUNCHED);
        }
        self.port.release_first().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends batches of 256 items, of which `fit` go into a message; gives how many items were
    /// written in vain, and how many messages there were.
    fn wasted(fits: &mut Fits, fit: usize, batches: usize) -> (usize, usize) {
        let (mut vain, mut messages) = (0, 0);
        for _ in 0..batches {
            let mut parts = vec![256];
            while let Some(part) = parts.pop() {
                if part > fits.most {
                    parts.extend([part - part / 2, part / 2]);
                } else if part > fit {
                    vain += fit;
                    fits.refused(part);
                    parts.extend([part - part / 2, part / 2]);
                } else {
                    messages += 1;
                    fits.sent(part);
                }
            }
        }
        (vain, messages)
    }

    #[test]
    fn what_does_not_fit_is_seldom_written() {
        let mut fits = Fits { most: usize::MAX, cut: 0 };
        let (vain, messages) = wasted(&mut fits, 31, 1000);
        assert_eq!(messages, 16_000);
        assert!(vain < 256_000 / 20, "{vain} items in vain");
        // Items that take less are soon sent as before.
        let (vain, messages) = wasted(&mut fits, 1000, 1000);
        assert!(vain == 0 && messages < 2000, "{messages} messages");
        // And items of which one fills a message.
        let (vain, messages) = wasted(&mut fits, 1, 100);
        assert_eq!(messages, 25_600);
        assert!(vain < 25_600 / 20, "{vain} items in vain");
    }
}
