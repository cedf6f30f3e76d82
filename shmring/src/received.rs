//! What a port does with a message that has come, before anybody reads it.

use std::os::fd::OwnedFd;

use crate::{
    block::Inbox,
    ring::UnreadEnd,
    transfer::{self, NoteKind, Parcel},
};

/// Makes a parcel of what a port got beside the bytes of a message: its descriptors and its notes
/// ([`Parcel::notes`]), as they were sent.
///
/// The message's blocks are held by this process from now on. What is not taken out of the message
/// is let go of when it has been read, or when the parcel is dropped unread: blocks become free,
/// and ends of rings are closed.
pub fn received(fds: Vec<OwnedFd>, notes: &[u8]) -> Parcel {
    if notes.is_empty() {
        return Parcel::from_fds(fds);
    }
    let mut inbox = Inbox::default();
    let mut kept = Vec::new();
    let ((), fds) = transfer::lend(fds, || {
        let mut notes = notes;
        // Notes that cannot be read end the reading: only a liar sends such.
        while let Some((kind, note)) = notes.split_first() {
            let rest = match NoteKind::of(*kind) {
                Some(NoteKind::Block) => inbox.read(note),
                Some(NoteKind::End) => UnreadEnd::read(note).map(|(end, rest)| {
                    kept.push(Box::new(end) as _);
                    rest
                }),
                None => None,
            };
            notes = rest.unwrap_or_default();
        }
    });
    Parcel::from_fds(fds).with(Box::new(inbox), kept)
}
