//! How a message lies in a datagram. No system calls here.
//!
//! ```text
//! 0   kind: 0 the body follows, 1 the body is in the last descriptor; plus 2 where there are notes
//! 1   length of the header, u16 little-endian
//! 3   header
//! …   where there are notes: their length, u32 little-endian
//! …   body and notes, or the length of both as u64 little-endian
//! ```
//!
//! Notes are what the receiver must know of what came beside the message, before it reads it.

use std::{mem, ops::Range, os::fd::OwnedFd};

use serde::Serialize;
use shmring::transfer::Parcel;

use crate::{
    error::{Error, Result},
    message::MAX_HEADER,
};

const PREFIX: usize = 3;

/// The most that stands before the body where there are no notes.
pub(super) const MAX_HEAD: usize = PREFIX + MAX_HEADER;

const INLINE: u8 = 0;
const ASIDE: u8 = 1;
/// Added to the kind.
const NOTES: u8 = 2;
/// Bytes of the notes' length.
const NOTES_LEN: usize = 4;

/// What goes before the body of an ordinary message, and the notes after that.
pub(super) fn head(header: &[u8], notes: usize) -> Vec<u8> {
    start(INLINE, header, notes)
}

/// Writes the whole datagram of a message that is bytes alone.
#[inline]
pub(super) fn write<H: Serialize>(datagram: &mut Vec<u8>, header: &H, body: &[u8]) -> Result<()> {
    datagram.clear();
    datagram.extend_from_slice(&[INLINE, 0, 0]);
    let started = mem::take(datagram);
    *datagram = postcard::to_extend(header, started).map_err(Error::other)?;
    let len = datagram.len() - PREFIX;
    debug_assert!(len <= MAX_HEADER);
    datagram[1..PREFIX].copy_from_slice(&(len as u16).to_le_bytes());
    datagram.extend_from_slice(body);
    Ok(())
}

/// The whole datagram of a message whose body and notes, of `len` bytes, are in a descriptor.
pub(super) fn head_aside(header: &[u8], notes: usize, len: u64) -> Vec<u8> {
    let mut head = start(ASIDE, header, notes);
    head.extend_from_slice(&len.to_le_bytes());
    head
}

fn start(kind: u8, header: &[u8], notes: usize) -> Vec<u8> {
    debug_assert!(header.len() <= MAX_HEADER);
    let mut head = Vec::with_capacity(PREFIX + header.len() + NOTES_LEN + 8);
    head.push(kind + if notes > 0 { NOTES } else { 0 });
    head.extend_from_slice(&(header.len() as u16).to_le_bytes());
    head.extend_from_slice(header);
    if notes > 0 {
        // Each note of a few bytes stands for a block: there are not that many.
        let notes = u32::try_from(notes).unwrap_or(u32::MAX);
        head.extend_from_slice(&notes.to_le_bytes());
    }
    head
}

/// Where the parts of a datagram are.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Layout {
    header: Range<usize>,
    body: Place,
    /// How many bytes at the end of the body are the notes.
    notes: usize,
}

#[derive(PartialEq, Eq, Debug)]
enum Place {
    Inline(Range<usize>),
    Aside(u64),
}

impl Layout {
    /// Takes a datagram apart. The reason of a failure is a sentence.
    pub(super) fn of(datagram: &[u8]) -> Result<Layout, String> {
        let [kind, low, high, rest @ ..] = datagram else {
            return Err(format!("{} bytes are no message", datagram.len()));
        };
        let header_len = usize::from(u16::from_le_bytes([*low, *high]));
        if header_len > MAX_HEADER || header_len > rest.len() {
            return Err(format!("a header of {header_len} bytes"));
        }
        let header = PREFIX..PREFIX + header_len;
        let mut rest = &rest[header_len..];
        let mut notes = 0;
        if kind & NOTES != 0 {
            let (len, after) = rest.split_first_chunk().ok_or("the length of the notes lacks")?;
            notes = u32::from_le_bytes(*len) as usize;
            rest = after;
        }
        let body = match kind & !NOTES {
            INLINE => Place::Inline(datagram.len() - rest.len()..datagram.len()),
            ASIDE => {
                let len = rest
                    .try_into()
                    .map_err(|_| "the length of the body is not 8 bytes long".to_owned())?;
                Place::Aside(u64::from_le_bytes(len))
            }
            _ => return Err(format!("{kind} is no kind of message")),
        };
        Ok(Layout { header, body, notes })
    }

    /// The length of the body that is in the last descriptor.
    pub(super) fn aside(&self) -> Option<u64> {
        match self.body {
            Place::Aside(len) => Some(len),
            Place::Inline(_) => None,
        }
    }
}

/// A message as it came, its body fetched.
#[derive(Debug)]
pub(crate) struct Message {
    datagram: Vec<u8>,
    header: Range<usize>,
    body: Body,
    /// What came beside it. Its blocks are held from now on, and let go of with it.
    pub(crate) parcel: Parcel,
}

#[derive(Debug)]
enum Body {
    Inline(Range<usize>),
    Fetched(Vec<u8>),
    Lost(String),
}

impl Body {
    /// Takes the last `len` bytes away; `None` when there are fewer.
    fn split_off(&mut self, datagram: &[u8], len: usize) -> Option<Vec<u8>> {
        match self {
            Body::Inline(range) => {
                let end = range.end.checked_sub(len).filter(|end| *end >= range.start)?;
                let notes = datagram[end..range.end].to_vec();
                range.end = end;
                Some(notes)
            }
            Body::Fetched(bytes) => Some(bytes.split_off(bytes.len().checked_sub(len)?)),
            Body::Lost(_) => Some(Vec::new()),
        }
    }
}

impl Message {
    pub(super) fn inline(datagram: Vec<u8>, layout: Layout, fds: Vec<OwnedFd>) -> Message {
        let body = match layout.body {
            Place::Inline(range) => Body::Inline(range),
            Place::Aside(_) => Body::Lost("its body was not fetched".into()),
        };
        Message::new(datagram, layout.header, body, layout.notes, fds)
    }

    /// A message whose body came in a descriptor, or should have.
    pub(super) fn aside(
        datagram: Vec<u8>,
        layout: Layout,
        body: Result<Vec<u8>, String>,
        fds: Vec<OwnedFd>,
    ) -> Message {
        let body = body.map_or_else(Body::Lost, Body::Fetched);
        Message::new(datagram, layout.header, body, layout.notes, fds)
    }

    fn new(
        datagram: Vec<u8>,
        header: Range<usize>,
        mut body: Body,
        notes: usize,
        fds: Vec<OwnedFd>,
    ) -> Message {
        let parcel = match body.split_off(&datagram, notes) {
            Some(notes) if notes.is_empty() && fds.is_empty() => Parcel::default(),
            Some(notes) => shmring::received(fds, &notes),
            None => {
                body = Body::Lost(format!("its notes do not have {notes} bytes"));
                Parcel::from_fds(fds)
            }
        };
        Message { datagram, header, body, parcel }
    }

    /// The header.
    pub(crate) fn header(&self) -> &[u8] {
        &self.datagram[self.header.clone()]
    }

    /// The body; a sentence where it did not arrive.
    pub(crate) fn body(&self) -> Result<&[u8], String> {
        match &self.body {
            Body::Inline(range) => Ok(&self.datagram[range.clone()]),
            Body::Fetched(bytes) => Ok(bytes),
            Body::Lost(reason) => Err(reason.clone()),
        }
    }

    /// Its memory; all else of it is let go of.
    pub(super) fn into_datagram(self) -> Vec<u8> {
        self.datagram
    }

    /// How much memory it takes.
    pub(crate) fn len(&self) -> usize {
        let fetched = match &self.body {
            Body::Fetched(bytes) => bytes.len(),
            _ => 0,
        };
        self.datagram.len() + fetched
    }
}

/// Reads a datagram as both sides do, with its header, for those who look for bytes that do harm;
/// what is aside is the body that came in a descriptor.
pub fn take_apart(datagram: Vec<u8>, aside: &[u8]) {
    let Ok(layout) = Layout::of(&datagram) else { return };
    let message = match layout.aside() {
        Some(_) => Message::aside(datagram, layout, Ok(aside.to_vec()), Vec::new()),
        None => Message::inline(datagram, layout, Vec::new()),
    };
    let len = message.header().len() + message.body().map_or(0, <[u8]>::len);
    assert!(len <= message.len());
    crate::message::take_apart(message.header());
    if let Ok(body) = message.body() {
        crate::message::take_apart(body);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [
            &[][..],
            &[0],
            &[0, 0],
            &[0, 1, 0],
            &[0, 0xff, 0xff, 1],
            &[1, 0, 0, 1, 2, 3],
            &[1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
            &[4, 0, 0],
            &[2, 0, 0, 1, 0, 0],
            &[3, 0, 0, 1, 0, 0, 0, 1],
        ] {
            assert!(Layout::of(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_empty_message_is_one() {
        let layout = Layout::of(&head(&[], 0)).unwrap();
        assert_eq!(layout.aside(), None);
        let message = Message::inline(head(&[], 0), layout, Vec::new());
        assert_eq!((message.header(), message.body()), (&[][..], Ok(&[][..])));
    }

    #[test]
    fn what_is_written_at_once_is_the_same() {
        let mut datagram = b"what was there before".to_vec();
        write(&mut datagram, &(7u8, "name"), b"body").unwrap();
        let header = postcard::to_stdvec(&(7u8, "name")).unwrap();
        assert_eq!(datagram, [&head(&header, 0)[..], b"body"].concat());
    }

    #[test]
    fn notes_that_are_not_there_cost_the_body() {
        let mut datagram = head(b"h", 9);
        datagram.extend_from_slice(b"8 bytes.");
        let layout = Layout::of(&datagram).unwrap();
        let message = Message::inline(datagram, layout, Vec::new());
        assert_eq!(message.header(), b"h");
        assert!(message.body().is_err());
    }

    proptest! {
        #[test]
        fn survives(
            header in vec(any::<u8>(), 0..MAX_HEADER),
            body in vec(any::<u8>(), 0..300),
            notes in vec(any::<u8>(), 0..30),
            len: u64,
        ) {
            let mut datagram = head(&header, notes.len());
            datagram.extend_from_slice(&body);
            datagram.extend_from_slice(&notes);
            let layout = Layout::of(&datagram).unwrap();
            prop_assert_eq!(layout.aside(), None);
            let message = Message::inline(datagram, layout, Vec::new());
            prop_assert_eq!(message.header(), &header[..]);
            prop_assert_eq!(message.body().unwrap(), &body[..]);

            let datagram = head_aside(&header, notes.len(), len);
            let layout = Layout::of(&datagram).unwrap();
            prop_assert_eq!(layout.aside(), Some(len));
            let message = Message::aside(datagram, layout, Ok([&body[..], &notes].concat()), Vec::new());
            prop_assert_eq!(message.header(), &header[..]);
            prop_assert_eq!(message.body().unwrap(), &body[..]);
        }

        #[test]
        fn any_bytes_are_taken_apart_without_a_panic(
            bytes in vec(any::<u8>(), 0..64),
            aside in vec(any::<u8>(), 0..64),
        ) {
            take_apart(bytes, &aside);
        }
    }
}
