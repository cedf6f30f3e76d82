//! One end of a channel: messages in, messages out.

use std::{
    cell::Cell,
    fs::File,
    io::{self, IoSlice, Read, Seek, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use shmring::{os, transfer::Parcel};

use super::{
    Message,
    frame::{self, Layout},
    socket::{self, Datagram, MAX_DATAGRAM, MAX_FDS},
};
use crate::error::{Error, Result};

/// One end of a channel.
#[derive(Debug)]
pub(crate) struct Port<S> {
    socket: S,
    longest: usize,
}

thread_local! {
    /// Where a thread receives, whatever the port: only what has come is copied out of it. A
    /// child has it from its parent.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn take_buffer() -> Vec<u8> {
    // A thread that is ending has none any more.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.reserve(MAX_DATAGRAM);
    buffer
}

fn put_back(mut buffer: Vec<u8>) {
    buffer.clear();
    let _ = BUFFER.try_with(|place| place.set(buffer));
}

/// A message that is ready to go.
pub(crate) struct Outgoing<'a> {
    head: Vec<u8>,
    body: &'a [u8],
    notes: &'a [u8],
    fds: Vec<BorrowedFd<'a>>,
    aside: Option<OwnedFd>,
}

/// What there was to receive.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Made and taken apart at once, never kept.
pub(crate) enum Received {
    /// A message.
    Message(Message),
    /// A datagram that is none, and why.
    Malformed(String),
    /// Nothing now.
    Nothing,
    /// The other side is closed, and all it sent has been received.
    Closed,
}

impl<S: AsFd> Port<S> {
    pub(crate) fn new(socket: S) -> io::Result<Port<S>> {
        let longest = socket::longest_datagram(socket.as_fd())?;
        put_back(take_buffer());
        Ok(Port { socket, longest })
    }

    /// Makes a message ready; a body that is longer than a datagram is put aside.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyDescriptors`]; [`Error::Io`] when there is no memory for the body.
    pub(crate) fn outgoing<'a>(
        &self,
        header: &[u8],
        body: &'a [u8],
        parcel: &'a Parcel,
    ) -> Result<Outgoing<'a>> {
        let notes = parcel.notes();
        let mut outgoing = Outgoing {
            head: frame::head(header, notes.len()),
            body,
            notes,
            fds: parcel.fds().iter().map(AsFd::as_fd).collect(),
            aside: None,
        };
        if outgoing.head.len() + body.len() + notes.len() > self.longest {
            outgoing.put_aside(header)?;
        }
        let count = parcel.fds().len() + usize::from(outgoing.aside.is_some());
        if count > MAX_FDS {
            return Err(Error::TooManyDescriptors { count, limit: MAX_FDS });
        }
        Ok(outgoing)
    }

    /// Sends, if there is room now.
    ///
    /// # Errors
    ///
    /// The kernel's; `BrokenPipe` or `ConnectionReset` when the other side is closed.
    pub(crate) fn try_send(&self, outgoing: &Outgoing<'_>) -> io::Result<bool> {
        let mut fds = outgoing.fds.clone();
        fds.extend(outgoing.aside.as_ref().map(AsFd::as_fd));
        let parts = [&outgoing.head[..], outgoing.body, outgoing.notes].map(IoSlice::new);
        let count = match (outgoing.body, outgoing.notes) {
            ([], []) => 1,
            (_, []) => 2,
            _ => 3,
        };
        socket::send(self.socket.as_fd(), &parts[..count], &fds)
    }

    /// Receives what still lies in the socket and lets go of it; from now on the other side cannot
    /// send any more.
    pub(crate) fn close(&mut self) {
        if socket::stop_receiving(self.socket.as_fd()).is_ok() {
            while matches!(self.receive(false), Ok(Received::Message(_) | Received::Malformed(_))) {
            }
        }
    }

    /// Receives a message if there is one, or waits for it.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn receive(&mut self, wait: bool) -> io::Result<Received> {
        let mut buffer = take_buffer();
        let received = self.receive_into(&mut buffer, wait);
        put_back(buffer);
        received
    }

    fn receive_into(&self, buffer: &mut Vec<u8>, wait: bool) -> io::Result<Received> {
        let datagram = socket::receive(self.socket.as_fd(), buffer, wait)?;
        let Datagram::Some { len, mut fds, cut } = datagram else {
            return Ok(match datagram {
                Datagram::Closed => Received::Closed,
                _ => Received::Nothing,
            });
        };
        if cut {
            let reason = format!("a datagram of more than {len} bytes");
            return Ok(Received::Malformed(reason));
        }
        let datagram = buffer[..len].to_vec();
        let layout = match Layout::of(&datagram) {
            Ok(layout) => layout,
            Err(reason) => return Ok(Received::Malformed(reason)),
        };
        let Some(len) = layout.aside() else {
            return Ok(Received::Message(Message::inline(datagram, layout, fds)));
        };
        // No descriptor arrives where this process has no place for one left.
        let body = match fds.pop() {
            Some(fd) => fetch(fd, len),
            None => Err("its body did not arrive: no descriptor is left".into()),
        };
        Ok(Received::Message(Message::aside(datagram, layout, body, fds)))
    }
}

impl<S: AsFd> AsFd for Port<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Outgoing<'_> {
    fn put_aside(&mut self, header: &[u8]) -> Result<()> {
        let notes = self.notes.len();
        let len = self.body.len() + notes;
        let store = || -> io::Result<OwnedFd> {
            let mut file = File::from(os::memfd("msgproc-message")?);
            file.write_all(self.body)?;
            file.write_all(self.notes)?;
            os::seal(file.as_fd())?;
            Ok(file.into())
        };
        let action = format!("put a message of {len} bytes into memory");
        self.aside = Some(store().map_err(Error::io(action))?);
        self.head = frame::head_aside(header, notes, len as u64);
        (self.body, self.notes) = (&[], &[]);
        Ok(())
    }
}

/// Reads a body that was put aside. Its size cannot change any more, so it is checked once.
fn fetch(fd: OwnedFd, len: u64) -> Result<Vec<u8>, String> {
    if !os::sealed(fd.as_fd()) {
        return Err("its body is not in sealed memory".into());
    }
    let read = || -> io::Result<Vec<u8>> {
        let found = os::file_info(fd.as_fd())?.len;
        if found != len {
            return Err(io::Error::other(format!("{found} bytes, not {len}")));
        }
        let mut bytes = Vec::new();
        let room = usize::try_from(len).map_err(io::Error::other)?;
        bytes.try_reserve_exact(room).map_err(io::Error::other)?;
        let mut file = File::from(fd.try_clone()?);
        file.rewind()?;
        file.take(len).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 == len => Ok(bytes),
        Ok(bytes) => Err(format!("its body has {} bytes, not {len}", bytes.len())),
        Err(error) => Err(format!("its body cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::channel::pair;

    fn ports() -> (Port<OwnedFd>, Port<OwnedFd>) {
        let (left, right) = pair().unwrap();
        (Port::new(left).unwrap(), Port::new(right).unwrap())
    }

    fn events(count: usize) -> Parcel {
        Parcel::from_fds((0..count).map(|_| os::Event::new().unwrap().into()).collect())
    }

    fn received(port: &mut Port<OwnedFd>) -> Message {
        match port.receive(false).unwrap() {
            Received::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn smoke() {
        let nothing = Parcel::default();
        let (left, mut right) = ports();
        assert!(matches!(right.receive(false).unwrap(), Received::Nothing));
        let message = left.outgoing(b"header", b"body", &nothing).unwrap();
        assert!(left.try_send(&message).unwrap());
        let message = received(&mut right);
        assert_eq!(message.header(), b"header");
        assert_eq!(message.body().unwrap(), b"body");
        drop(left);
        assert!(matches!(right.receive(true).unwrap(), Received::Closed));
    }

    #[test]
    fn what_was_sent_before_a_close_arrives_also_when_not_all_was_read() {
        let nothing = Parcel::default();
        let (mut left, right) = ports();
        assert!(left.try_send(&left.outgoing(b"unread", b"", &nothing).unwrap()).unwrap());
        assert!(right.try_send(&right.outgoing(b"last", b"", &nothing).unwrap()).unwrap());
        drop(right);
        assert_eq!(received(&mut left).header(), b"last");
        assert!(matches!(left.receive(true).unwrap(), Received::Closed));
        assert!(left.try_send(&left.outgoing(b"late", b"", &nothing).unwrap()).is_err());
    }

    #[test]
    fn every_size_arrives() {
        let nothing = Parcel::default();
        let (left, mut right) = ports();
        for len in [0, 1, left.longest - 8, left.longest, left.longest + 1, 1 << 20, 32 << 20] {
            let body: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let message = left.outgoing(b"h", &body, &nothing).unwrap();
            assert!(left.try_send(&message).unwrap(), "{len}");
            assert_eq!(received(&mut right).body().unwrap(), body, "{len}");
        }
    }

    #[test]
    fn descriptors_arrive_in_their_order() {
        let (left, mut right) = ports();
        let fds = events(MAX_FDS - 1);
        for body in [&b""[..], &vec![7; 1 << 20]] {
            let message = left.outgoing(b"h", body, &fds).unwrap();
            assert!(left.try_send(&message).unwrap());
            let message = received(&mut right);
            let got = message.parcel.fds();
            assert_eq!(got.len(), fds.fds().len());
            let event = |fd: Option<&OwnedFd>| os::Event::from_fd(fd.unwrap().try_clone().unwrap());
            event(fds.fds().last()).set();
            let got = event(got.last());
            assert!(got.clear());
        }
    }

    #[test]
    fn too_many_descriptors_are_refused_before_the_kernel_does() {
        let (left, _right) = ports();
        for (body, count) in [(&b""[..], MAX_FDS + 1), (&vec![7; 1 << 20], MAX_FDS)] {
            let error = left.outgoing(b"h", body, &events(count)).err().unwrap();
            assert!(
                matches!(error, Error::TooManyDescriptors { count, limit: MAX_FDS } if count == MAX_FDS + 1)
            );
        }
    }

    #[test]
    fn a_full_socket_says_so_and_nothing_is_lost() {
        let nothing = Parcel::default();
        let (left, mut right) = ports();
        let body = [1u8; 1000];
        let message = left.outgoing(b"h", &body, &nothing).unwrap();
        let mut sent = 0;
        while left.try_send(&message).unwrap() {
            sent += 1;
        }
        assert!(sent > 16);
        for _ in 0..sent {
            assert_eq!(received(&mut right).body().unwrap(), body);
        }
        let mut writable = [os::PollFd::writable(left.as_fd())];
        assert_eq!(os::poll(&mut writable, Some(Duration::ZERO)).unwrap(), 1);
    }

    #[test]
    fn what_lies_about_its_body_is_an_error_of_that_message_alone() {
        let (left, mut right) = ports();
        let forged = |len: u64, sealed: bool| {
            let file = os::memfd("msgproc-test").unwrap();
            os::resize(file.as_fd(), 100).unwrap();
            if sealed {
                os::seal(file.as_fd()).unwrap();
            }
            let head = frame::head_aside(b"h", 0, len);
            let fds = [file.as_fd()];
            socket::send(left.as_fd(), &[IoSlice::new(&head)], &fds).unwrap();
        };
        for (len, sealed) in [(100, false), (99, true), (u64::MAX, true), (101, true)] {
            forged(len, sealed);
            let message = received(&mut right);
            assert_eq!(message.header(), b"h");
            assert!(message.body().is_err(), "{len} {sealed}");
        }
        forged(100, true);
        assert_eq!(received(&mut right).body().unwrap(), [0; 100]);

        let head = frame::head_aside(b"h", 0, 8);
        socket::send(left.as_fd(), &[IoSlice::new(&head)], &[]).unwrap();
        assert!(received(&mut right).body().is_err(), "no descriptor came");
        socket::send(left.as_fd(), &[IoSlice::new(&[9; 9])], &[]).unwrap();
        assert!(matches!(right.receive(false).unwrap(), Received::Malformed(_)));
    }
}
