//! What each system has to offer to be measured.

use super::pair::Result;

/// The sending end of one direction.
pub(crate) trait Tx {
    /// Sends one message, which `fill` writes in place where the system can.
    fn send(&mut self, fill: impl FnMut(&mut [u8])) -> Result;

    /// Sends many; `fill` is called for each.
    fn send_all(&mut self, count: u64, mut fill: impl FnMut(&mut [u8])) -> Result {
        for _ in 0..count {
            self.send(&mut fill)?;
        }
        Ok(())
    }
}

/// The receiving end of one direction.
pub(crate) trait Rx {
    /// Receives one message, which `read` reads in place where the system can.
    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result;

    /// Receives many; `read` is called for each.
    fn recv_all(&mut self, count: u64, mut read: impl FnMut(&[u8])) -> Result {
        for _ in 0..count {
            self.recv(&mut read)?;
        }
        Ok(())
    }
}

/// Two directions between two processes, or two threads.
pub(crate) trait System: Sized + Sync {
    type Tx: Tx;
    type Rx: Rx;
    /// Whether the two sides are threads of one process.
    const THREADS: bool = false;

    /// Makes both directions for messages of `len` bytes, before the second side exists.
    fn new(len: usize) -> Result<Self>;
    /// Takes the sending end of direction 0 or 1.
    fn tx(&self, way: usize) -> Result<Self::Tx>;
    /// Takes the receiving end of direction 0 or 1.
    fn rx(&self, way: usize) -> Result<Self::Rx>;
    /// What of a message is written and read.
    fn touched(len: usize) -> usize {
        len
    }
}
