//! All kinds of rings, and blocks, behind one face: made, sent, and used in every way.

use std::{os::fd::OwnedFd, time::Duration};

use shmring::{
    Result, Segment, Selector,
    block::{Block, BlockPool},
    ring::{
        broadcast::{self, Broadcast},
        cells::{self, Cells},
        latest::{self, Latest},
        port,
        queue::{self, Queue},
        records::{self, Records},
        select::Selectable,
    },
    transfer::{self, Parcel},
};

use crate::Random;

/// How long a wait takes: nobody answers.
const SHORT: Duration = Duration::from_micros(50);

/// What can lie in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A ring of records.
    Records,
    /// A ring of cells.
    Cells,
    /// A broadcast ring.
    Broadcast,
    /// A queue.
    Queue,
    /// A latest value.
    Latest,
    /// A pool of blocks, and a ring of messages that carry them.
    Blocks,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Kind::Records, Kind::Cells, Kind::Broadcast, Kind::Queue, Kind::Latest, Kind::Blocks];
}

/// The elements of cells and latest values.
pub type Cell = [u64; 3];

/// A ring of some kind.
pub enum Ring {
    /// Of records.
    Records(Records),
    /// Of cells.
    Cells(Cells<Cell>),
    /// With many consumers.
    Broadcast(Broadcast),
    /// With many ends.
    Queue(Queue),
    /// With one value.
    Latest(Latest<Cell>),
    /// Of messages.
    Blocks(BlockPool, Records),
}

/// A segment that is small, so that most of its words steer something.
///
/// # Errors
///
/// As [`shmring::segment::Options::anonymous`].
pub fn small_segment() -> Result<Segment> {
    Segment::options().len(16 << 10).participants(3).objects(4).bells(1).anonymous()
}

impl Ring {
    /// Makes a small one, which begins at the first free object.
    ///
    /// # Errors
    ///
    /// As those of the options of its kind.
    pub fn make(kind: Kind, segment: &Segment) -> Result<Ring> {
        Ok(match kind {
            Kind::Records => Ring::Records(Records::options().capacity(1024).create_in(segment)?),
            Kind::Cells => Ring::Cells(Cells::options().capacity(16).create_in(segment)?),
            Kind::Broadcast => {
                let options = Broadcast::options().capacity(1024).consumers(3);
                Ring::Broadcast(options.create_in(segment)?)
            }
            Kind::Queue => {
                let options = Queue::options().capacity(6).item_len(40).ends(3);
                Ring::Queue(options.create_in(segment)?)
            }
            Kind::Latest => Ring::Latest(Latest::options().slots(3).create_in(segment)?),
            Kind::Blocks => {
                let pool = BlockPool::options().blocks(4).block_len(256).carriers(2);
                let ring = Records::options().capacity(1024);
                Ring::Blocks(pool.create_in(segment)?, ring.create_in(segment)?)
            }
        })
    }

    /// Opens the one that a named segment was made for; blocks have no such.
    ///
    /// # Errors
    ///
    /// As `open` of its kind.
    pub fn open(kind: Kind, name: &str) -> Result<Ring> {
        Ok(match kind {
            Kind::Records | Kind::Blocks => Ring::Records(Records::open(name)?),
            Kind::Cells => Ring::Cells(Cells::open(name)?),
            Kind::Broadcast => Ring::Broadcast(Broadcast::open(name)?),
            Kind::Queue => Ring::Queue(Queue::open(name)?),
            Kind::Latest => Ring::Latest(Latest::open(name)?),
        })
    }

    /// The bytes of a message with the ring in it, whose descriptors are those of its segment.
    pub fn message(&self) -> Vec<u8> {
        let send = || match self {
            Ring::Records(ring) => postcard::to_stdvec(ring),
            Ring::Cells(ring) => postcard::to_stdvec(ring),
            Ring::Broadcast(ring) => postcard::to_stdvec(ring),
            Ring::Queue(ring) => postcard::to_stdvec(ring),
            Ring::Latest(ring) => postcard::to_stdvec(ring),
            Ring::Blocks(pool, ring) => postcard::to_stdvec(&(pool, ring)),
        };
        transfer::collect(send).0.expect("rings can be sent")
    }

    /// Reads such a message.
    ///
    /// # Errors
    ///
    /// Why it is no message with such a ring.
    pub fn receive(kind: Kind, message: &[u8], fds: Vec<OwnedFd>) -> Result<Ring, String> {
        let read = || {
            Ok(match kind {
                Kind::Records => Ring::Records(postcard::from_bytes(message)?),
                Kind::Cells => Ring::Cells(postcard::from_bytes(message)?),
                Kind::Broadcast => Ring::Broadcast(postcard::from_bytes(message)?),
                Kind::Queue => Ring::Queue(postcard::from_bytes(message)?),
                Kind::Latest => Ring::Latest(postcard::from_bytes(message)?),
                Kind::Blocks => {
                    let (pool, ring) = postcard::from_bytes(message)?;
                    Ring::Blocks(pool, ring)
                }
            })
        };
        let read: postcard::Result<Ring> = transfer::supply(Parcel::from_fds(fds), read);
        read.map_err(|error| transfer::take_reason().unwrap_or_else(|| error.to_string()))
    }

    /// The segment it lies in.
    pub fn segment(&self) -> &Segment {
        match self {
            Ring::Records(ring) | Ring::Blocks(_, ring) => ring.segment(),
            Ring::Cells(ring) => ring.segment(),
            Ring::Broadcast(ring) => ring.segment(),
            Ring::Queue(ring) => ring.segment(),
            Ring::Latest(ring) => ring.segment(),
        }
    }

    /// Takes those ends that can be had.
    pub fn ends(&self) -> Ends {
        match self {
            Ring::Records(ring) => {
                Ends::Records(ring.clone(), ring.producer().ok(), ring.consumer().ok())
            }
            Ring::Cells(ring) => {
                Ends::Cells(ring.clone(), ring.producer().ok(), ring.consumer().ok())
            }
            Ring::Broadcast(ring) => {
                let lossy = ring.join().lossy().history(2).consumer().ok();
                let both = [ring.consumer().ok(), lossy];
                Ends::Broadcast(ring.clone(), ring.producer().ok(), both)
            }
            Ring::Queue(ring) => {
                Ends::Queue(ring.clone(), ring.producer().ok(), ring.consumer().ok())
            }
            Ring::Latest(ring) => Ends::Latest(ring.clone(), ring.writer().ok(), ring.reader()),
            Ring::Blocks(pool, ring) => {
                let tx = ring.producer().ok().map(port::Sender::new);
                let rx = ring.consumer().ok().map(port::Receiver::new);
                Ends::Blocks(pool.clone(), ring.clone(), tx, rx, None)
            }
        }
    }
}

type Message = (u32, Block);

/// The ends of a ring of some kind, as far as they could be had.
#[allow(clippy::large_enum_variant)] // One lives at a time.
pub enum Ends {
    /// Of records.
    Records(Records, Option<records::Producer>, Option<records::Consumer>),
    /// Of cells.
    Cells(Cells<Cell>, Option<cells::Producer<Cell>>, Option<cells::Consumer<Cell>>),
    /// Of a broadcast ring; the second consumer is a lossy one.
    Broadcast(Broadcast, Option<broadcast::Producer>, [Option<broadcast::Consumer>; 2]),
    /// Of a queue.
    Queue(Queue, Option<queue::Producer>, Option<queue::Consumer>),
    /// Of a latest value.
    Latest(Latest<Cell>, Option<latest::Writer<Cell>>, latest::Reader<Cell>),
    /// Of a ring of messages, with a message that is kept for a while.
    Blocks(
        BlockPool,
        Records,
        Option<port::Sender<Message>>,
        Option<port::Receiver<Message>>,
        Option<Message>,
    ),
}

impl Ends {
    /// Everything that a user can do, once.
    pub fn round(&mut self, random: &mut Random) {
        match self {
            Ends::Records(_, tx, rx) => {
                if let Some(tx) = tx {
                    send_records(tx, random);
                }
                if let Some(rx) = rx {
                    receive_records(rx);
                }
            }
            Ends::Cells(_, tx, rx) => {
                if let Some(tx) = tx {
                    send_cells(tx, random);
                }
                if let Some(rx) = rx {
                    receive_cells(rx);
                }
            }
            Ends::Broadcast(_, tx, rx) => {
                if let Some(tx) = tx {
                    send_to_all(tx, random);
                }
                rx.iter_mut().flatten().for_each(receive_with_others);
            }
            Ends::Queue(_, tx, rx) => {
                if let Some(tx) = tx {
                    send_work(tx, random);
                }
                if let Some(rx) = rx {
                    receive_work(rx, random);
                }
            }
            Ends::Latest(_, writer, reader) => {
                if let Some(writer) = writer {
                    let _ = writer.set(&[random.any(); 3]);
                    let _ = (writer.version(), writer.set(&[2; 3]));
                }
                read_latest(reader);
            }
            Ends::Blocks(pool, _, tx, rx, kept) => {
                if let Some(tx) = tx {
                    send_blocks(tx, pool, random);
                }
                if let Some(rx) = rx {
                    receive_blocks(rx, kept);
                }
                let _ = pool.loan_timeout(SHORT).map(drop);
            }
        }
    }

    /// What onlookers do, and whoever joins.
    pub fn look(&self) {
        match self {
            Ends::Records(ring, ..) => {
                let _ = (ring.stats(), ring.segment().participants(), format!("{ring:?}"));
                let _ = (ring.producer().is_ok(), ring.consumer().is_ok());
            }
            Ends::Cells(ring, ..) => {
                let _ = (ring.stats(), format!("{ring:?}"));
                let _ = (ring.producer().is_ok(), ring.consumer().is_ok());
            }
            Ends::Broadcast(ring, ..) => {
                let _ = (ring.stats(), format!("{ring:?}"));
                let _ = (ring.producer().is_ok(), ring.join().history(9).consumer().is_ok());
            }
            Ends::Queue(ring, ..) => {
                let _ = (ring.stats(), ring.len(), format!("{ring:?}"));
                let _ = (ring.producer().is_ok(), ring.consumer().is_ok());
            }
            Ends::Latest(ring, ..) => {
                let _ = (ring.stats(), ring.is_closed(), format!("{ring:?}"));
                let _ = ring.writer().is_ok();
            }
            Ends::Blocks(pool, ring, ..) => {
                pool.repair();
                let _ = (pool.stats(), pool.in_use(), ring.stats());
                let _ = ring.consumer().is_ok();
            }
        }
    }
}

fn sum(bytes: &[u8]) -> u8 {
    std::hint::black_box(bytes.iter().fold(0, |sum, byte| sum ^ byte))
}

fn select(end: &impl Selectable) {
    let mut selector = Selector::new();
    selector.add(1, end);
    let _ = selector.ready_timeout(SHORT);
}

fn send_records(tx: &mut records::Producer, random: &mut Random) {
    let len = random.below(200);
    let _ = tx.try_send(vec![1; len]);
    let _ = tx.send_timeout([2; 8], SHORT);
    let mut batch = tx.batch();
    let _ = batch.try_push([3; 8]);
    let _ = batch.try_claim(len).map(|mut claim| claim.fill(4));
    batch.publish();
    tx.arm(len);
    let _ = tx.is_closed();
}

fn receive_records(rx: &mut records::Consumer) {
    let _ = rx.try_read_ahead().map(|record| (record.sequence(), sum(&record)));
    let _ = rx.try_recv().map(|record| (record.sequence(), sum(&record)));
    let _ = rx.recv_timeout(SHORT).map(|record| record.len());
    let _ = rx.run_timeout(SHORT).map(|mut run| {
        for _ in 0..2 {
            let _ = run.next().map(|record| record.map(|record| (record.sequence(), sum(&record))));
        }
    });
    rx.arm();
    select(rx);
    let _ = rx.is_closed();
}

fn send_cells(tx: &mut cells::Producer<Cell>, random: &mut Random) {
    let _ = tx.try_send([1; 3]);
    let _ = tx.send_timeout([2; 3], SHORT);
    let count = 1 + random.below(16);
    let _ = tx.try_claim_many(count).map(|cells| cells.commit());
    tx.arm();
    let _ = tx.is_closed();
}

fn receive_cells(rx: &mut cells::Consumer<Cell>) {
    let _ = rx.try_recv().map(|item| (item.sequence(), item[0]));
    let _ = rx.run_timeout(SHORT).map(|run| run.iter().map(|item| item[2] >> 8).max());
    let _ = rx.try_run().map(|run| run.release(1));
    rx.arm();
    select(rx);
    let _ = rx.is_closed();
}

fn send_to_all(tx: &mut broadcast::Producer, random: &mut Random) {
    let len = random.below(100);
    let _ = tx.try_send(vec![1; len]);
    let _ = tx.send_timeout([2; 8], SHORT);
    let mut batch = tx.batch();
    let _ = batch.try_push([3; 8]);
    batch.publish();
    let _ = tx.try_claim(len).map(|mut claim| claim.fill(4));
    tx.arm(len);
    let _ = tx.is_alone();
}

fn receive_with_others(rx: &mut broadcast::Consumer) {
    let _ = rx.try_recv().map(|item| (item.sequence(), sum(&item)));
    let _ = rx.recv_timeout(SHORT).map(|item| item.len());
    let _ = rx.run_timeout(SHORT).map(|mut run| {
        for _ in 0..2 {
            let _ = run.next().map(|item| item.map(|item| (item.sequence(), sum(&item))));
        }
    });
    rx.arm();
    select(rx);
    let _ = (rx.is_closed(), rx.behind());
}

fn send_work(tx: &mut queue::Producer, random: &mut Random) {
    let len = random.below(50);
    let _ = tx.try_send(vec![1; len]);
    let _ = tx.send_timeout([2; 8], SHORT);
    let mut batch = tx.batch();
    let _ = batch.try_push([3; 8]);
    let _ = batch.publish();
    let _ = tx.try_claim(len).map(|mut claim| claim.fill(4));
    tx.arm();
    let _ = tx.is_closed();
}

fn receive_work(rx: &mut queue::Consumer, random: &mut Random) {
    let _ = rx.try_recv().map(|item| (item.sequence(), sum(&item)));
    match random.below(3) {
        0 => drop(rx.try_recv().map(queue::Item::nack)),
        1 => drop(rx.recv_timeout(SHORT).map(queue::Item::ack)),
        _ => {
            if let Ok(mut run) = rx.try_run(3) {
                let _ = run.iter().map(|item| sum(&item)).max();
                let _ = run.ack_first(1);
            }
        }
    }
    rx.arm();
    select(rx);
    let _ = rx.is_closed();
}

fn read_latest(reader: &mut latest::Reader<Cell>) {
    let _ = reader.try_get().map(|value| value[0]);
    let _ = reader.try_recv().map(|value| value[1]);
    let _ = reader.recv_timeout(SHORT).map(|value| value[2]);
    reader.arm();
    select(reader);
    let _ = (reader.version(), reader.missed(), reader.is_closed());
}

fn send_blocks(tx: &mut port::Sender<Message>, pool: &BlockPool, random: &mut Random) {
    if let Ok(mut loan) = pool.try_loan() {
        loan.as_bytes_mut().fill(7);
        let block = loan.freeze();
        let number = random.any() as u32;
        let _ = tx.try_send((number, block.clone()));
        let _ = tx.send_timeout((number, block), SHORT);
    }
    tx.arm();
}

fn receive_blocks(rx: &mut port::Receiver<Message>, kept: &mut Option<Message>) {
    let ahead = [rx.try_read_ahead(), rx.try_read_again(), rx.try_read_ahead()];
    let _ = rx.release_first();
    let _ = rx.try_recv().map(|(_, block)| sum(block.as_bytes()));
    drop(ahead);
    *kept = rx.recv_timeout(SHORT).ok();
    rx.arm();
    let _ = rx.sequence();
}
