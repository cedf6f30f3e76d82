//! What goes through the kernel.

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use super::{
    pair::Result,
    system::{Rx, System, Tx},
};

pub(crate) struct Bytes<F> {
    file: F,
    buffer: Vec<u8>,
}

impl<F> Bytes<F> {
    fn new(file: F, len: usize) -> Bytes<F> {
        Bytes { file, buffer: vec![0; len] }
    }
}

impl<F: Write> Tx for Bytes<F> {
    fn send(&mut self, mut fill: impl FnMut(&mut [u8])) -> Result {
        fill(&mut self.buffer);
        Ok(self.file.write_all(&self.buffer)?)
    }
}

impl<F: Read> Rx for Bytes<F> {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result {
        self.file.read_exact(&mut self.buffer)?;
        read(&self.buffer);
        Ok(())
    }
}

pub(crate) struct Pipe([(File, File); 2], usize);

impl System for Pipe {
    type Tx = Bytes<File>;
    type Rx = Bytes<File>;

    fn new(len: usize) -> Result<Pipe> {
        let pipe = || -> Result<(File, File)> {
            let (rx, tx) = std::io::pipe()?;
            Ok((OwnedFd::from(rx).into(), OwnedFd::from(tx).into()))
        };
        Ok(Pipe([pipe()?, pipe()?], len))
    }

    fn tx(&self, way: usize) -> Result<Bytes<File>> {
        Ok(Bytes::new(self.0[way].1.try_clone()?, self.1))
    }

    fn rx(&self, way: usize) -> Result<Bytes<File>> {
        Ok(Bytes::new(self.0[way].0.try_clone()?, self.1))
    }
}

/// One pair serves both directions.
pub(crate) struct SocketPair([UnixStream; 2], usize);

impl System for SocketPair {
    type Tx = Bytes<UnixStream>;
    type Rx = Bytes<UnixStream>;

    fn new(len: usize) -> Result<SocketPair> {
        let (one, other) = UnixStream::pair()?;
        Ok(SocketPair([one, other], len))
    }

    fn tx(&self, way: usize) -> Result<Bytes<UnixStream>> {
        Ok(Bytes::new(self.0[way].try_clone()?, self.1))
    }

    fn rx(&self, way: usize) -> Result<Bytes<UnixStream>> {
        Ok(Bytes::new(self.0[1 - way].try_clone()?, self.1))
    }
}
