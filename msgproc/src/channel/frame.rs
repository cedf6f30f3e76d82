//! How a message lies in a datagram. No system calls here.
//!
//! ```text
//! 0   kind: 0 the body follows, 1 the body is in the last descriptor
//! 1   length of the header, u16 little-endian
//! 3   header
//! …   body, or its length as u64 little-endian
//! ```

use std::{ops::Range, os::fd::OwnedFd};

use crate::message::MAX_HEADER;

const PREFIX: usize = 3;

const INLINE: u8 = 0;
const ASIDE: u8 = 1;

/// What goes before the body of an ordinary message.
pub(super) fn head(header: &[u8]) -> Vec<u8> {
    start(INLINE, header)
}

/// The whole datagram of a message whose body is in a descriptor.
pub(super) fn head_aside(header: &[u8], body_len: u64) -> Vec<u8> {
    let mut head = start(ASIDE, header);
    head.extend_from_slice(&body_len.to_le_bytes());
    head
}

fn start(kind: u8, header: &[u8]) -> Vec<u8> {
    debug_assert!(header.len() <= MAX_HEADER);
    let mut head = Vec::with_capacity(PREFIX + header.len() + 8);
    head.push(kind);
    head.extend_from_slice(&(header.len() as u16).to_le_bytes());
    head.extend_from_slice(header);
    head
}

/// Where the parts of a datagram are.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Layout {
    header: Range<usize>,
    body: Place,
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
        let body = match *kind {
            INLINE => Place::Inline(header.end..datagram.len()),
            ASIDE => {
                let len = rest[header_len..]
                    .try_into()
                    .map_err(|_| "the length of the body is not 8 bytes long".to_owned())?;
                Place::Aside(u64::from_le_bytes(len))
            }
            other => return Err(format!("{other} is no kind of message")),
        };
        Ok(Layout { header, body })
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
    /// What came beside it.
    pub(crate) fds: Vec<OwnedFd>,
}

#[derive(Debug)]
enum Body {
    Inline(Range<usize>),
    Fetched(Vec<u8>),
    Lost(String),
}

impl Message {
    pub(super) fn inline(datagram: Vec<u8>, layout: Layout, fds: Vec<OwnedFd>) -> Message {
        let body = match layout.body {
            Place::Inline(range) => Body::Inline(range),
            Place::Aside(_) => Body::Lost("its body was not fetched".into()),
        };
        Message { datagram, header: layout.header, body, fds }
    }

    /// A message whose body came in a descriptor, or should have.
    pub(super) fn aside(
        datagram: Vec<u8>,
        layout: Layout,
        body: Result<Vec<u8>, String>,
        fds: Vec<OwnedFd>,
    ) -> Message {
        Message {
            datagram,
            header: layout.header,
            body: body.map_or_else(Body::Lost, Body::Fetched),
            fds,
        }
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

    /// How much memory it takes.
    pub(crate) fn len(&self) -> usize {
        let fetched = match &self.body {
            Body::Fetched(bytes) => bytes.len(),
            _ => 0,
        };
        self.datagram.len() + fetched
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
            &[2, 0, 0],
        ] {
            assert!(Layout::of(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_empty_message_is_one() {
        let layout = Layout::of(&head(&[])).unwrap();
        assert_eq!(layout.aside(), None);
        let message = Message::inline(head(&[]), layout, Vec::new());
        assert_eq!((message.header(), message.body()), (&[][..], Ok(&[][..])));
    }

    proptest! {
        #[test]
        fn survives(header in vec(any::<u8>(), 0..MAX_HEADER), body in vec(any::<u8>(), 0..300), len: u64) {
            let mut datagram = head(&header);
            datagram.extend_from_slice(&body);
            let layout = Layout::of(&datagram).unwrap();
            prop_assert_eq!(layout.aside(), None);
            let message = Message::inline(datagram, layout, Vec::new());
            prop_assert_eq!(message.header(), &header[..]);
            prop_assert_eq!(message.body().unwrap(), &body[..]);

            let datagram = head_aside(&header, len);
            let layout = Layout::of(&datagram).unwrap();
            prop_assert_eq!(layout.aside(), Some(len));
            let message = Message::aside(datagram, layout, Ok(body.clone()), Vec::new());
            prop_assert_eq!(message.header(), &header[..]);
            prop_assert_eq!(message.body().unwrap(), &body[..]);
        }

        #[test]
        fn any_bytes_are_taken_apart_without_a_panic(bytes in vec(any::<u8>(), 0..64)) {
            if let Ok(layout) = Layout::of(&bytes) {
                let message = Message::inline(bytes, layout, Vec::new());
                let _ = (message.header(), message.body(), message.len());
            }
        }
    }
}
