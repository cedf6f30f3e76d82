//! ipc-channel.

use std::sync::{Mutex, PoisonError};

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender};

use super::{
    pair::Result,
    system::{Rx, System, Tx},
};

type Ends = (IpcBytesSender, Mutex<Option<IpcBytesReceiver>>);

pub(crate) struct IpcChannel([Ends; 2], usize);

// SAFETY: each end is used by one process only: the sides are forked, not threads.
unsafe impl Sync for IpcChannel {}

pub(crate) struct IpcTx(IpcBytesSender, Vec<u8>);
pub(crate) struct IpcRx(IpcBytesReceiver);

impl System for IpcChannel {
    type Tx = IpcTx;
    type Rx = IpcRx;

    fn new(len: usize) -> Result<IpcChannel> {
        let ends = || -> Result<Ends> {
            let (tx, rx) = ipc::bytes_channel()?;
            Ok((tx, Mutex::new(Some(rx))))
        };
        Ok(IpcChannel([ends()?, ends()?], len))
    }

    fn tx(&self, way: usize) -> Result<IpcTx> {
        Ok(IpcTx(self.0[way].0.clone(), vec![0; self.1]))
    }

    fn rx(&self, way: usize) -> Result<IpcRx> {
        let mut end = self.0[way].1.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(IpcRx(end.take().ok_or("this end is taken")?))
    }
}

impl Tx for IpcTx {
    fn send(&mut self, mut fill: impl FnMut(&mut [u8])) -> Result {
        fill(&mut self.1);
        Ok(self.0.send(&self.1)?)
    }
}

impl Rx for IpcRx {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result {
        read(&self.0.recv().map_err(|error| format!("{error:?}"))?);
        Ok(())
    }
}
