//! Rings between two threads: what is possible without processes.

use std::{
    hint::spin_loop,
    sync::{Mutex, PoisonError},
};

use super::{
    pair::Result,
    system::{Rx, System, Tx},
};

type Item = [u8; 64];
const SLOTS: usize = 1024;

/// Two of something, each taken once.
struct Ends<T>([Mutex<Option<T>>; 2]);

impl<T> Ends<T> {
    fn new(ends: [T; 2]) -> Ends<T> {
        Ends(ends.map(|end| Mutex::new(Some(end))))
    }

    fn take(&self, way: usize) -> Result<T> {
        let mut end = self.0[way].lock().unwrap_or_else(PoisonError::into_inner);
        end.take().ok_or_else(|| "this end is taken".into())
    }
}

pub(crate) struct Rtrb {
    tx: Ends<rtrb::Producer<Item>>,
    rx: Ends<rtrb::Consumer<Item>>,
}

pub(crate) struct RtrbTx(rtrb::Producer<Item>);
pub(crate) struct RtrbRx(rtrb::Consumer<Item>);

impl System for Rtrb {
    type Tx = RtrbTx;
    type Rx = RtrbRx;
    const THREADS: bool = true;

    fn new(_: usize) -> Result<Rtrb> {
        let ((tx0, rx0), (tx1, rx1)) = (rtrb::RingBuffer::new(SLOTS), rtrb::RingBuffer::new(SLOTS));
        Ok(Rtrb { tx: Ends::new([tx0, tx1]), rx: Ends::new([rx0, rx1]) })
    }

    fn tx(&self, way: usize) -> Result<RtrbTx> {
        self.tx.take(way).map(RtrbTx)
    }

    fn rx(&self, way: usize) -> Result<RtrbRx> {
        self.rx.take(way).map(RtrbRx)
    }
}

impl Tx for RtrbTx {
    #[inline]
    fn send(&mut self, mut fill: impl FnMut(&mut [u8])) -> Result {
        let mut item = [0; 64];
        fill(&mut item);
        while let Err(rtrb::PushError::Full(back)) = self.0.push(item) {
            item = back;
            spin_loop();
        }
        Ok(())
    }
}

impl Rx for RtrbRx {
    #[inline]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result {
        loop {
            if let Ok(item) = self.0.pop() {
                read(&item);
                return Ok(());
            }
            spin_loop();
        }
    }
}

pub(crate) struct Crossbeam {
    tx: Ends<crossbeam_channel::Sender<Item>>,
    rx: Ends<crossbeam_channel::Receiver<Item>>,
}

pub(crate) struct CrossbeamTx(crossbeam_channel::Sender<Item>);
pub(crate) struct CrossbeamRx(crossbeam_channel::Receiver<Item>);

impl System for Crossbeam {
    type Tx = CrossbeamTx;
    type Rx = CrossbeamRx;
    const THREADS: bool = true;

    fn new(_: usize) -> Result<Crossbeam> {
        let ((tx0, rx0), (tx1, rx1)) =
            (crossbeam_channel::bounded(SLOTS), crossbeam_channel::bounded(SLOTS));
        Ok(Crossbeam { tx: Ends::new([tx0, tx1]), rx: Ends::new([rx0, rx1]) })
    }

    fn tx(&self, way: usize) -> Result<CrossbeamTx> {
        self.tx.take(way).map(CrossbeamTx)
    }

    fn rx(&self, way: usize) -> Result<CrossbeamRx> {
        self.rx.take(way).map(CrossbeamRx)
    }
}

impl Tx for CrossbeamTx {
    #[inline]
    fn send(&mut self, mut fill: impl FnMut(&mut [u8])) -> Result {
        let mut item = [0; 64];
        fill(&mut item);
        Ok(self.0.send(item)?)
    }
}

impl Rx for CrossbeamRx {
    #[inline]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result {
        read(&self.0.recv()?);
        Ok(())
    }
}
