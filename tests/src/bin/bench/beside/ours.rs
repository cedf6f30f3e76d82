//! shmring.

use shmring::{
    Segment, WaitStrategy,
    block::{Block, BlockPool},
    ring::{
        port::{Receiver, Sender},
        records::{self, Consumer, Producer},
    },
};

use super::{
    pair::Result,
    system::{Rx, System, Tx},
};

pub(crate) const SPIN: u8 = 0;
pub(crate) const ADAPTIVE: u8 = 1;
pub(crate) const PARK: u8 = 2;

fn ring(segment: &Segment, wait: WaitStrategy) -> shmring::Result<records::Records> {
    records::Records::options().capacity(1 << 16).wait(wait).create_in(segment)
}

/// Records of `LEN` bytes.
pub(crate) struct Records<const LEN: usize, const WAIT: u8>([records::Records; 2]);

pub(crate) struct RecordsTx(Producer, usize);
pub(crate) struct RecordsRx(Consumer);

impl<const LEN: usize, const WAIT: u8> System for Records<LEN, WAIT> {
    type Tx = RecordsTx;
    type Rx = RecordsRx;

    fn new(_: usize) -> Result<Self> {
        let wait = match WAIT {
            SPIN => WaitStrategy::Spin,
            PARK => WaitStrategy::Park,
            _ => WaitStrategy::Adaptive,
        };
        let segment = Segment::options().len(1 << 20).prefault(true).anonymous()?;
        Ok(Records([ring(&segment, wait)?, ring(&segment, wait)?]))
    }

    fn tx(&self, way: usize) -> Result<RecordsTx> {
        Ok(RecordsTx(self.0[way].producer()?, LEN))
    }

    fn rx(&self, way: usize) -> Result<RecordsRx> {
        Ok(RecordsRx(self.0[way].consumer()?))
    }
}

impl Tx for RecordsTx {
    #[inline]
    fn send(&mut self, mut fill: impl FnMut(&mut [u8])) -> Result {
        let mut claim = self.0.claim(self.1)?;
        fill(&mut claim);
        claim.commit();
        Ok(())
    }
}

impl Rx for RecordsRx {
    #[inline]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result {
        read(&self.0.recv()?);
        Ok(())
    }
}

/// Records in batches of 64, on both sides.
pub(crate) struct Batches(Records<64, ADAPTIVE>);

pub(crate) struct BatchTx(Producer);
pub(crate) struct BatchRx(Consumer);

const BATCH: u64 = 64;

impl System for Batches {
    type Tx = BatchTx;
    type Rx = BatchRx;

    fn new(len: usize) -> Result<Self> {
        Ok(Batches(Records::new(len)?))
    }

    fn tx(&self, way: usize) -> Result<BatchTx> {
        Ok(BatchTx(self.0.0[way].producer()?))
    }

    fn rx(&self, way: usize) -> Result<BatchRx> {
        Ok(BatchRx(self.0.0[way].consumer()?))
    }
}

impl Tx for BatchTx {
    fn send(&mut self, fill: impl FnMut(&mut [u8])) -> Result {
        self.send_all(1, fill)
    }

    fn send_all(&mut self, count: u64, mut fill: impl FnMut(&mut [u8])) -> Result {
        let mut left = count;
        while left > 0 {
            // Waits where there is no room for one.
            let mut first = self.0.claim(64)?;
            fill(&mut first);
            first.commit();
            left -= 1;
            let mut batch = self.0.batch();
            for _ in 1..BATCH.min(left + 1) {
                let Ok(mut claim) = batch.try_claim(64) else { break };
                fill(&mut claim);
                claim.commit();
                left -= 1;
            }
            batch.publish();
        }
        Ok(())
    }
}

impl Rx for BatchRx {
    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result {
        self.recv_all(1, read)
    }

    fn recv_all(&mut self, count: u64, mut read: impl FnMut(&[u8])) -> Result {
        let mut left = count;
        while left > 0 {
            let mut run = self.0.run()?;
            for _ in 0..BATCH.min(left) {
                let Some(record) = run.next()? else { break };
                read(&record);
                left -= 1;
            }
        }
        Ok(())
    }
}

/// Blocks by handle, so many in the pool.
pub(crate) struct Blocks<const COUNT: usize> {
    pool: BlockPool,
    rings: [records::Records; 2],
}

pub(crate) struct BlocksTx(BlockPool, Sender<Block>);
pub(crate) struct BlocksRx(Receiver<Block>);

impl<const COUNT: usize> System for Blocks<COUNT> {
    type Tx = BlocksTx;
    type Rx = BlocksRx;

    fn new(len: usize) -> Result<Self> {
        let segment =
            Segment::options().len((1 << 20) + COUNT * (len + 4096)).prefault(true).anonymous()?;
        let pool = BlockPool::options().blocks(COUNT).block_len(len).create_in(&segment)?;
        let wait = WaitStrategy::Adaptive;
        Ok(Blocks { pool, rings: [ring(&segment, wait)?, ring(&segment, wait)?] })
    }

    fn tx(&self, way: usize) -> Result<BlocksTx> {
        Ok(BlocksTx(self.pool.clone(), Sender::new(self.rings[way].producer()?)))
    }

    fn rx(&self, way: usize) -> Result<BlocksRx> {
        Ok(BlocksRx(Receiver::new(self.rings[way].consumer()?)))
    }

    fn touched(len: usize) -> usize {
        if len == 64 { 8 } else { len }
    }
}

impl Tx for BlocksTx {
    fn send(&mut self, mut fill: impl FnMut(&mut [u8])) -> Result {
        let mut loan = self.0.loan()?;
        fill(loan.as_bytes_mut());
        self.1.send(loan.freeze()).map_err(|error| error.map(drop))?;
        Ok(())
    }
}

impl Rx for BlocksRx {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result {
        read(self.0.recv()?.as_bytes());
        Ok(())
    }
}
