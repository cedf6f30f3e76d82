//! One end of a channel: messages in, messages out.

use std::{
    cell::Cell,
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice, Read, Seek, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use serde::Serialize;
use shmring::{os, transfer::Parcel};

use super::{
    Message,
    frame::{self, Layout},
    socket::{self, AT_ONCE, Datagram, MAX_DATAGRAM, MAX_FDS, Room},
};
use crate::error::{Error, Result};

/// One end of a channel.
#[derive(Debug)]
pub(crate) struct Port<S> {
    socket: S,
    longest: usize,
    /// How many datagrams it takes from the kernel at once.
    at_once: usize,
    /// Those that nobody has asked for yet.
    ahead: VecDeque<Datagram>,
    /// Memory of messages that have been handled, for those that come.
    spare: Vec<Vec<u8>>,
    /// Where small messages are written before they are sent.
    written: Vec<u8>,
}

thread_local! {
    /// Where a thread receives, whatever the port: only what has come is copied out of it. A
    /// child has it from its parent.
    static ROOMS: Cell<Vec<Room>> = const { Cell::new(Vec::new()) };
}

#[inline]
fn take_rooms() -> Vec<Room> {
    // A thread that is ending has none any more.
    let mut rooms = ROOMS.try_with(Cell::take).unwrap_or_default();
    rooms.reserve(AT_ONCE);
    rooms
}

#[inline]
fn put_back(rooms: Vec<Room>) {
    let _ = ROOMS.try_with(|place| place.set(rooms));
}

/// Bodies up to this are copied into one piece before they are sent: the kernel takes that faster
/// than pieces.
const COPIED: usize = 4096;

/// Memory of up to this length is kept for the next messages.
const SPARED: usize = 8192;

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
    #[inline]
    pub(crate) fn new(socket: S) -> io::Result<Port<S>> {
        let longest = socket::longest_datagram(socket.as_fd())?;
        put_back(take_rooms());
        Ok(Port {
            socket,
            longest,
            at_once: 1,
            ahead: VecDeque::new(),
            spare: Vec::new(),
            written: Vec::new(),
        })
    }

    /// From now on it takes several datagrams from the kernel at once, if there are several.
    ///
    /// Whoever polls the socket has to ask [`has_ahead`](Port::has_ahead) before.
    pub(crate) fn read_ahead(&mut self) {
        self.at_once = AT_ONCE;
    }

    /// Soon something comes, after a fork of this process or of its parent: the memory for it is
    /// copied at the first write, now and not when it is there.
    pub(crate) fn expect(&self) {
        let mut rooms = take_rooms();
        socket::make_own(&mut rooms);
        put_back(rooms);
    }

    /// Whether there is something to receive that the socket does not show any more.
    pub(crate) fn has_ahead(&self) -> bool {
        !self.ahead.is_empty()
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

    /// Whether a message may be sent by [`try_send_small`](Port::try_send_small).
    #[inline]
    pub(crate) fn is_small(&self, body: &[u8], parcel: &Parcel) -> bool {
        let most = COPIED.min(self.longest.saturating_sub(frame::MAX_HEAD));
        body.len() <= most && parcel.fds().is_empty() && parcel.notes().is_empty()
    }

    /// Sends a small message, if there is room now.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Port::try_send).
    #[inline]
    pub(crate) fn try_send_small<H: Serialize>(
        &mut self,
        header: &H,
        body: &[u8],
    ) -> io::Result<bool> {
        frame::write(&mut self.written, header, body).map_err(io::Error::other)?;
        socket::send(self.socket.as_fd(), &self.written)
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
        socket::send_parts(self.socket.as_fd(), &parts[..count], &fds)
    }

    /// Receives what still lies in the socket and lets go of it; from now on the other side cannot
    /// send any more.
    pub(crate) fn close(&mut self) {
        if socket::stop_receiving(self.socket.as_fd()).is_ok() {
            while matches!(self.receive(false), Ok(Received::Message(_) | Received::Malformed(_))) {
            }
        }
    }

    /// Takes the memory of a message back that has been handled.
    pub(crate) fn reuse(&mut self, message: Message) {
        let mut bytes = message.into_datagram();
        if self.spare.len() < AT_ONCE && bytes.capacity() <= SPARED {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Receives a message if there is one, or waits for it.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn receive(&mut self, wait: bool) -> io::Result<Received> {
        if self.ahead.is_empty() {
            let Port { socket, at_once, ahead, spare, .. } = self;
            let mut rooms = take_rooms();
            let place = || spare.pop().unwrap_or_default();
            let take = |datagram| ahead.push_back(datagram);
            let came = socket::receive(socket.as_fd(), &mut rooms, *at_once, wait, place, take);
            put_back(rooms);
            came?;
        }
        let (datagram, mut fds) = match self.ahead.pop_front() {
            Some(Datagram::Whole { bytes, fds }) => (bytes, fds),
            Some(Datagram::Cut) => {
                let reason = format!("a datagram of more than {MAX_DATAGRAM} bytes");
                return Ok(Received::Malformed(reason));
            }
            Some(Datagram::Closed) => return Ok(Received::Closed),
            None => return Ok(Received::Nothing),
        };
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
    fn what_was_read_ahead_comes_in_its_order_and_before_the_end() {
        let lengths = [3, 5000, 1 << 20];
        let parcels = [Parcel::default(), events(1)];
        for count in [1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE] {
            let (left, mut right) = ports();
            right.read_ahead();
            for number in 0..count {
                let body = vec![number as u8; lengths[number % 3]];
                let message = left.outgoing(b"h", &body, &parcels[number % 2]).unwrap();
                assert!(left.try_send(&message).unwrap(), "{number}");
            }
            drop(left);
            for number in 0..count {
                let message = received(&mut right);
                let left = count - 1 - number;
                let more = left > 0 && (number + 1) % AT_ONCE > 0;
                assert!(right.has_ahead() || !more, "{left} are left");
                let body = message.body().unwrap();
                assert_eq!((body[0], body.len()), (number as u8, lengths[number % 3]));
                assert_eq!(message.parcel.fds().len(), number % 2);
            }
            assert!(matches!(right.receive(true).unwrap(), Received::Closed));
            assert!(matches!(right.receive(false).unwrap(), Received::Closed));
        }
    }

    #[test]
    fn memory_that_is_used_again_shows_nothing_of_what_was_in_it() {
        let (mut left, mut right) = ports();
        for len in [700, 3, 0, SPARED + 1, 20, 699] {
            let body = vec![len as u8; len];
            assert!(left.try_send_small(&7u64, &body).unwrap());
            let message = received(&mut right);
            assert_eq!((message.header(), message.body().unwrap()), (&[7u8][..], &body[..]));
            right.reuse(message);
        }
        assert_eq!(right.spare.len(), 1, "the long one is not kept");
        assert!(right.spare[0].capacity() <= SPARED);
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
            socket::send_parts(left.as_fd(), &[IoSlice::new(&head)], &fds).unwrap();
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
        socket::send(left.as_fd(), &head).unwrap();
        assert!(received(&mut right).body().is_err(), "no descriptor came");
        socket::send(left.as_fd(), &[9; 9]).unwrap();
        assert!(matches!(right.receive(false).unwrap(), Received::Malformed(_)));
    }
}
