//! How a segment travels in a message: its memory and its bells as descriptors, or its name.

use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::{ATTACHING, Bells, Segment, lock};
use crate::{
    error::{Error, Result},
    layout::{self, Layout},
    os::{self, FileId, Mapping},
    region::Region,
    transfer,
};

impl Segment {
    /// Attaches what came in a message.
    pub(super) fn from_fds(fd: OwnedFd, bells: Vec<OwnedFd>) -> Result<Segment> {
        let what = "a segment from a message";
        let info = os::file_info(fd.as_fd()).map_err(Error::io("look at a segment"))?;
        let _alone = lock(&ATTACHING);
        if let Some(segment) = Segment::attached(info.id) {
            segment.me()?;
            return Ok(segment);
        }
        let reason = if !info.regular {
            Some("it is not a file")
        } else if !os::sealed(fd.as_fd()) {
            Some("its size is not sealed")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(Error::NotASegment { what: what.into(), reason: reason.into() });
        }
        let len = usize::try_from(info.len).unwrap_or(usize::MAX);
        let mapping = Mapping::new(&fd, len).map_err(Error::io("map a segment"))?;
        let region = Region::mapped(mapping);
        let layout = Layout::read(&region, what)?;
        if bells.len() != layout.bells {
            return Err(Error::Corrupt {
                what: what.into(),
                reason: "its bells did not come with it".into(),
            });
        }
        Segment::attach(region, layout, fd, info.id, Bells::received(bells), None)
    }

    /// The segment with this number, which had this name when it was sent.
    fn from_name(name: &str, uid: u64) -> Result<Segment> {
        let is_it = |segment: &Segment| segment.0.layout.uid == uid;
        // It may have no name any more.
        if let Some(segment) = Segment::all().into_iter().find(is_it) {
            segment.me()?;
            return Ok(segment);
        }
        let segment = Segment::open(name)?;
        match is_it(&segment) {
            true => Ok(segment),
            false => Err(Error::NotASegment {
                what: format!("what is called {name:?} now"),
                reason: "the segment that was sent has lost that name".into(),
            }),
        }
    }
}

const WHAT: &str = "a segment";

/// A segment as it stands in a message.
#[derive(Serialize, Deserialize)]
enum Sent {
    /// First descriptor, and how many bells follow it.
    Anonymous(u32, u32),
    /// And its unique number: others may have come to have the name.
    Named(String, u64),
}

impl Serialize for Segment {
    /// Travels only inside a message that a port sends; its descriptors go beside the bytes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(name) = &self.0.name {
            return Sent::Named(name.clone(), self.0.layout.uid).serialize(serializer);
        }
        let first = transfer::put_fd(WHAT, self.0.fd.as_fd(), Some(self.0.file))
            .map_err(transfer::refuse(ser::Error::custom))?;
        for (number, bell) in self.0.bells.to_send().iter().enumerate() {
            // All eventfds have the same inode: their number within the segment tells them apart.
            let id = FileId { device: !(number as u64), inode: self.0.layout.uid };
            transfer::put_fd(WHAT, bell.as_fd(), Some(id))
                .map_err(transfer::refuse(ser::Error::custom))?;
        }
        Sent::Anonymous(first, self.0.bells.len() as u32).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Segment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Segment, D::Error> {
        let (first, bells) = match Sent::deserialize(deserializer)? {
            Sent::Anonymous(first, bells) => (first, bells),
            Sent::Named(name, uid) => {
                return Segment::from_name(&name, uid).map_err(transfer::refuse(de::Error::custom));
            }
        };
        if bells as usize > layout::MAX_PARTICIPANTS {
            return Err(de::Error::custom("more bells than a segment can have"));
        }
        let take = |at: u32| {
            let number = first.saturating_add(at);
            transfer::take_fd(WHAT, number, true).map_err(transfer::refuse(de::Error::custom))
        };
        let fd = take(0)?;
        let bells = (1..=bells).map(take).collect::<Result<Vec<_>, _>>()?;
        Segment::from_fds(fd, bells).map_err(transfer::refuse(de::Error::custom))
    }
}
