//! How ring ends, arrays, blocks and descriptors travel inside a message.
//!
//! Serialization sees only numbers: what is more than bytes goes into a [`Parcel`] beside them.
//! A port wraps its serializer in [`collect`] and its deserializer in [`supply`]; outside of
//! those, such values refuse to be serialized.
//!
//! Nothing is given up before the port has really sent: each value leaves what must happen then
//! with [`on_sent`], and a parcel that is dropped unsent has changed nothing.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    mem::ManuallyDrop,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{
    error::{Error, Result},
    liveness, os,
};

/// What travels beside the bytes of one message.
#[derive(Default)]
pub struct Parcel {
    /// Most messages have none.
    contents: Option<Box<Contents>>,
}

#[derive(Default)]
struct Contents {
    /// Which generation of forks has collected it.
    forks: u32,
    fds: Vec<OwnedFd>,
    ids: Vec<Option<os::FileId>>,
    notes: Vec<u8>,
    on_sent: Vec<Box<dyn FnOnce() + Send>>,
    on_unsent: Vec<Box<dyn FnOnce() + Send>>,
    held: Option<Box<Held>>,
}

/// What a receiver holds for a message before it reads it.
struct Held {
    /// Values take what is theirs out of it.
    cargo: Option<Cargo>,
    /// Dropped after the message was read, or with it.
    _rest: Vec<Cargo>,
}

impl Parcel {
    /// A parcel as a receiver got it.
    pub fn from_fds(fds: Vec<OwnedFd>) -> Parcel {
        Parcel { contents: Some(Box::new(Contents { fds, ..Contents::default() })) }
    }

    /// What the receiver must know beside the bytes and the descriptors, before it reads the
    /// message: a port sends this along, and gives it to [`received`](crate::received).
    pub fn notes(&self) -> &[u8] {
        self.contents.as_ref().map_or(&[], |contents| &contents.notes)
    }

    /// With what the receiver already holds for this message: values take what is theirs out of
    /// `cargo`; the rest is dropped after the message was read, or with it.
    pub(crate) fn with(mut self, cargo: Cargo, rest: Vec<Cargo>) -> Parcel {
        self.contents().held = Some(Box::new(Held { cargo: Some(cargo), _rest: rest }));
        self
    }

    /// The descriptors to send, in their order.
    pub fn fds(&self) -> &[OwnedFd] {
        self.contents.as_ref().map_or(&[], |contents| &contents.fds)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        let nothing = |contents: &Contents| {
            contents.fds.is_empty() && contents.notes.is_empty() && contents.on_sent.is_empty()
        };
        self.contents.as_deref().is_none_or(nothing)
    }

    /// The message is on its way: the values in it are no longer ours.
    pub fn sent(mut self) {
        let Some(mut contents) = self.contents.take() else { return };
        contents.on_unsent.clear();
        for action in contents.on_sent.drain(..) {
            action();
        }
    }

    fn contents(&mut self) -> &mut Contents {
        self.contents.get_or_insert_with(|| {
            Box::new(Contents { forks: os::fork_generation(), ..Contents::default() })
        })
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let Some(contents) = &mut self.contents else { return };
        if contents.forks != os::fork_generation() {
            // In a forked child it is the parent's, who may send it still.
            return;
        }
        for action in contents.on_unsent.drain(..) {
            action();
        }
    }
}

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parcel")
            .field("fds", &self.fds())
            .field("notes", &self.notes().len())
            .finish_non_exhaustive()
    }
}

/// What a port has for the values of one message beside descriptors; its type is theirs to know.
pub(crate) type Cargo = Box<dyn Any + Send>;

/// What the values of one message find while it is serialized or read. A port keeps one and uses
/// it again and again, so that a message with nothing beside its bytes costs next to nothing.
pub(crate) struct Desk {
    side: Side,
    cargo: Option<Cargo>,
    /// Whether any value has asked for something since it was opened.
    touched: bool,
}

enum Side {
    /// The parcel, and the process the message goes to.
    Collect(Parcel, u64),
    Supply(Vec<Option<OwnedFd>>),
}

impl Desk {
    /// For a port that sends.
    pub(crate) fn to_collect(cargo: Cargo) -> Box<Desk> {
        Box::new(Desk::new(Side::Collect(Parcel::default(), 0), Some(cargo)))
    }

    /// For a port that receives; without descriptors.
    pub(crate) fn to_supply(cargo: Cargo) -> Box<Desk> {
        Box::new(Desk::new(Side::Supply(Vec::new()), Some(cargo)))
    }

    fn new(side: Side, cargo: Option<Cargo>) -> Desk {
        Desk { side, cargo, touched: false }
    }

    /// Whether the values of the last message asked for anything.
    #[inline]
    pub(crate) fn was_touched(&self) -> bool {
        self.touched
    }

    /// The cargo it was made with.
    #[inline]
    pub(crate) fn cargo<T: Any>(&mut self) -> Option<&mut T> {
        self.cargo.as_mut().and_then(|cargo| cargo.downcast_mut())
    }

    /// What the values of the last message put beside the bytes.
    pub(crate) fn take_parcel(&mut self) -> Parcel {
        match &mut self.side {
            Side::Collect(parcel, _) => std::mem::take(parcel),
            Side::Supply(_) => Parcel::default(),
        }
    }

    /// Whether there is anything in that: most messages that have blocks have nothing else.
    #[inline]
    pub(crate) fn has_parcel(&self) -> bool {
        matches!(&self.side, Side::Collect(Parcel { contents: Some(_) }, _))
    }
}

thread_local! {
    /// The innermost: a serializer may itself send a message. It has no destructor, so it is there for
    /// messages that are sent while a thread ends.
    static OPEN: Cell<Option<ManuallyDrop<Box<Desk>>>> = const { Cell::new(None) };
    static REASON: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether there is a reason: a look at this costs less.
    static EXPLAINED: Cell<bool> = const { Cell::new(false) };
    /// Whether it refused because too many messages with it are on their way.
    static CROWDED: Cell<bool> = const { Cell::new(false) };
}

/// Opens this desk, or none. Gives the one that was open.
#[inline]
fn open_instead(desk: Option<Box<Desk>>) -> Option<Box<Desk>> {
    OPEN.replace(desk.map(ManuallyDrop::new)).map(ManuallyDrop::into_inner)
}

/// Notes that a value refuses to travel until others of its messages have arrived.
#[cold]
pub(crate) fn crowd() {
    CROWDED.set(true);
}

/// Whether a value in the message that this thread last serialized refused to travel only until
/// others of its messages have arrived: it is worth another try.
#[cold]
pub fn take_crowded() -> bool {
    CROWDED.take()
}

/// Keeps why a value refused to travel: most serializers drop the words of an error.
#[cold]
pub(crate) fn explain(error: Error) -> Error {
    // A thread that ends has none any more.
    let _ = REASON.try_with(|reason| reason.replace(Some(error.to_string())));
    EXPLAINED.set(true);
    error
}

/// The error of a serializer or a deserializer that says why a value refuses to travel.
#[inline]
pub(crate) fn refuse<R>(custom: impl FnOnce(Error) -> R) -> impl FnOnce(Error) -> R {
    move |error| custom(explain(error))
}

/// Why a value in the message that this thread last serialized or read refused to travel; for a
/// port whose serializer only says that there was an error.
#[cold]
pub fn take_reason() -> Option<String> {
    EXPLAINED.set(false);
    REASON.try_with(RefCell::take).ok().flatten()
}

/// Puts the desk under it back, also when the work in between panics.
struct Scope {
    below: Option<Box<Desk>>,
}

impl Scope {
    #[inline]
    fn open(mut desk: Box<Desk>) -> Scope {
        if EXPLAINED.get() {
            take_reason();
            take_crowded();
        }
        desk.touched = false;
        Scope { below: open_instead(Some(desk)) }
    }

    #[inline]
    fn close(mut self) -> Option<Box<Desk>> {
        let desk = open_instead(self.below.take());
        std::mem::forget(self);
        desk
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        drop(open_instead(self.below.take()));
    }
}

/// Runs a serializer, and gathers what its values put beside the bytes.
pub fn collect<R>(serialize: impl FnOnce() -> R) -> (R, Parcel) {
    collect_to(0, serialize)
}

/// The same where the port knows who will get the message: should that process die before it
/// takes what came, those who wait for it learn so.
pub fn collect_for<R>(pid: u32, serialize: impl FnOnce() -> R) -> (R, Parcel) {
    collect_to(u64::from(pid) << 32, serialize)
}

fn collect_to<R>(destination: u64, serialize: impl FnOnce() -> R) -> (R, Parcel) {
    let desk = Desk::new(Side::Collect(Parcel::default(), destination), None);
    let (result, desk) = at_desk(Box::new(desk), serialize);
    (result, desk.map(|mut desk| desk.take_parcel()).unwrap_or_default())
}

/// The same with a cargo, which comes back.
pub(crate) fn collect_with<R>(
    cargo: Cargo,
    serialize: impl FnOnce() -> R,
) -> (R, Parcel, Option<Cargo>) {
    let (result, desk) = at_desk(Desk::to_collect(cargo), serialize);
    match desk {
        Some(mut desk) => (result, desk.take_parcel(), desk.cargo.take()),
        None => (result, Parcel::default(), None),
    }
}

/// Runs a deserializer with a cargo, which comes back, and without descriptors.
pub(crate) fn supply_with<R>(cargo: Cargo, deserialize: impl FnOnce() -> R) -> (R, Option<Cargo>) {
    let (result, desk) = at_desk(Desk::to_supply(cargo), deserialize);
    (result, desk.and_then(|mut desk| desk.cargo.take()))
}

/// Runs a serializer or a deserializer at a desk, which comes back.
#[inline]
pub(crate) fn at_desk<R>(desk: Box<Desk>, work: impl FnOnce() -> R) -> (R, Option<Box<Desk>>) {
    let scope = Scope::open(desk);
    let result = work();
    (result, scope.close())
}

/// Runs a deserializer, and hands it what came beside the bytes. What it leaves is closed.
pub fn supply<R>(mut parcel: Parcel, deserialize: impl FnOnce() -> R) -> R {
    let take = |contents: &mut Box<Contents>| {
        let cargo = contents.held.as_mut().and_then(|held| held.cargo.take());
        (std::mem::take(&mut contents.fds), cargo)
    };
    let (fds, cargo) = parcel.contents.as_mut().map(take).unwrap_or_default();
    let side = Side::Supply(fds.into_iter().map(Some).collect());
    at_desk(Box::new(Desk::new(side, cargo)), deserialize).0
}

/// Runs a deserializer of what shares the descriptors of a message with it; they come back.
pub(crate) fn lend<R>(fds: Vec<OwnedFd>, deserialize: impl FnOnce() -> R) -> (R, Vec<OwnedFd>) {
    let side = Side::Supply(fds.into_iter().map(Some).collect());
    let (result, desk) = at_desk(Box::new(Desk::new(side, None)), deserialize);
    let fds = match desk.map(|desk| desk.side) {
        Some(Side::Supply(fds)) => fds.into_iter().flatten().collect(),
        _ => Vec::new(),
    };
    (result, fds)
}

/// Lets a value use the desk of the message it stands in.
#[inline]
fn with_desk<R>(f: impl FnOnce(&mut Desk) -> R) -> Option<R> {
    let mut desk = open_instead(None)?;
    desk.touched = true;
    let result = f(&mut desk);
    // What was open in there is closed again: nothing is in the place.
    std::mem::forget(open_instead(Some(desk)));
    Some(result)
}

/// Lets a value use the cargo of the message it stands in; `None` when there is none of this type.
#[inline]
pub(crate) fn with_cargo<T: 'static, R>(f: impl FnOnce(&mut T) -> R) -> Option<R> {
    with_desk(|desk| desk.cargo().map(f)).flatten()
}

/// Lets a value use what its kind keeps while a message is collected; made when there is none.
pub(crate) fn with_own_cargo<T: Any + Send + Default, R>(f: impl FnOnce(&mut T) -> R) -> Option<R> {
    with_desk(|desk| match desk.side {
        Side::Collect(..) => {
            let cargo = desk.cargo.get_or_insert_with(|| Box::<T>::default());
            cargo.downcast_mut().map(f)
        }
        Side::Supply(_) => None,
    })
    .flatten()
}

/// What a note of a message stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoteKind {
    Block = 0,
    /// An end of a ring, of whatever kind.
    End = 1,
}

impl NoteKind {
    pub(crate) fn of(byte: u8) -> Option<NoteKind> {
        [NoteKind::Block, NoteKind::End].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Adds to the notes of the message.
///
/// # Errors
///
/// [`Error::OutsidePort`] when no port is serializing.
pub(crate) fn note(what: &'static str, kind: NoteKind, bytes: &[u8]) -> Result<()> {
    with_parcel(what, |parcel| {
        parcel.notes.push(kind as u8);
        parcel.notes.extend_from_slice(bytes);
        Ok(())
    })
}

/// The process the message goes to, as a process word, where the port knows it.
pub(crate) fn destination() -> Option<u64> {
    with_desk(|desk| match &mut desk.side {
        Side::Collect(_, destination) if *destination != 0 => {
            if *destination as u32 == 0 {
                // Found out only for the few messages that need it.
                *destination = liveness::word_of_pid((*destination >> 32) as u32);
            }
            Some(*destination)
        }
        _ => None,
    })
    .flatten()
}

fn with_parcel<R>(what: &'static str, f: impl FnOnce(&mut Contents) -> Result<R>) -> Result<R> {
    with_desk(|desk| match &mut desk.side {
        Side::Collect(parcel, _) => f(parcel.contents()),
        Side::Supply(_) => Err(Error::OutsidePort { what }),
    })
    .unwrap_or(Err(Error::OutsidePort { what }))
}

/// Puts a second descriptor of `fd` into the parcel; gives its number there. The same file is
/// put in once.
///
/// # Errors
///
/// [`Error::OutsidePort`] when no port is serializing; [`Error::Io`] when no descriptor is left.
pub fn put_fd(what: &'static str, fd: BorrowedFd<'_>, shared: Option<os::FileId>) -> Result<u32> {
    with_parcel(what, |parcel| {
        if let Some(id) = shared
            && let Some(at) = parcel.ids.iter().position(|other| *other == Some(id))
        {
            return Ok(at as u32);
        }
        let fd =
            os::duplicate(fd).map_err(Error::io(format!("duplicate the descriptor of {what}")))?;
        parcel.fds.push(fd);
        parcel.ids.push(shared);
        Ok((parcel.fds.len() - 1) as u32)
    })
}

/// Leaves what must happen once the message is on its way.
///
/// # Errors
///
/// [`Error::OutsidePort`] when no port is serializing.
pub fn on_sent(what: &'static str, action: impl FnOnce() + Send + 'static) -> Result<()> {
    with_parcel(what, |parcel| {
        parcel.on_sent.push(Box::new(action));
        Ok(())
    })
}

/// Leaves what must happen when the message is given up before it was sent.
///
/// # Errors
///
/// [`Error::OutsidePort`] when no port is serializing.
pub(crate) fn on_unsent(what: &'static str, action: impl FnOnce() + Send + 'static) -> Result<()> {
    with_parcel(what, |parcel| {
        parcel.on_unsent.push(Box::new(action));
        Ok(())
    })
}

/// Takes a descriptor out of the message that is being read. A file that several values share
/// can be taken by each: all but the last taker get a duplicate.
///
/// # Errors
///
/// [`Error::OutsidePort`] when no port is reading; [`Error::Corrupt`] when the number is not one
/// of this message.
pub fn take_fd(what: &'static str, number: u32, shared: bool) -> Result<OwnedFd> {
    let take = |desk: &mut Desk| {
        let Side::Supply(fds) = &mut desk.side else {
            return Err(Error::OutsidePort { what });
        };
        let corrupt = || Error::Corrupt {
            what: "a message".into(),
            reason: format!("descriptor {number} of {what} did not come with it"),
        };
        let place = fds.get_mut(number as usize).ok_or_else(corrupt)?;
        if shared {
            let fd = place.as_ref().ok_or_else(corrupt)?;
            os::duplicate(fd.as_fd())
                .map_err(Error::io(format!("duplicate the descriptor of {what}")))
        } else {
            place.take().ok_or_else(corrupt)
        }
    };
    with_desk(take).unwrap_or(Err(Error::OutsidePort { what }))
}

/// A descriptor that can stand in any message: a file, a socket, a pipe.
///
/// ```
/// use shmring::transfer::Descriptor;
/// let file = std::fs::File::open("/dev/null").unwrap();
/// let descriptor = Descriptor::from(std::os::fd::OwnedFd::from(file));
/// ```
#[derive(Debug)]
pub struct Descriptor(OwnedFd);

impl Descriptor {
    /// Takes the descriptor out.
    pub fn into_inner(self) -> OwnedFd {
        self.0
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Descriptor {
        Descriptor(fd)
    }
}

impl From<Descriptor> for OwnedFd {
    fn from(descriptor: Descriptor) -> OwnedFd {
        descriptor.0
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Serialize for Descriptor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        put_fd("a descriptor", self.0.as_fd(), None)
            .map_err(refuse(ser::Error::custom))?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Descriptor, D::Error> {
        let number = u32::deserialize(deserializer)?;
        take_fd("a descriptor", number, false).map(Descriptor).map_err(refuse(de::Error::custom))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_travels_beside_the_bytes() {
        let event = os::Event::new().unwrap();
        let descriptor = Descriptor::from(OwnedFd::from(event.try_clone().unwrap()));
        assert!(postcard::to_stdvec(&descriptor).is_err(), "outside a port");

        let (bytes, parcel) = collect(|| postcard::to_stdvec(&(7u8, &descriptor)).unwrap());
        assert_eq!(parcel.fds().len(), 1);
        let (seven, got): (u8, Descriptor) =
            supply(parcel, || postcard::from_bytes(&bytes)).unwrap();
        assert_eq!(seven, 7);
        event.set();
        assert!(os::Event::from_fd(got.into_inner()).clear());
    }

    #[test]
    fn a_number_that_did_not_come_is_refused() {
        let bytes = postcard::to_stdvec(&3u32).unwrap();
        let result = supply(Parcel::default(), || postcard::from_bytes::<Descriptor>(&bytes));
        assert!(result.is_err());
    }

    #[test]
    fn nothing_happens_before_it_is_sent() {
        use crate::sync::local::{AtomicBool, Ordering};
        use std::sync::Arc;
        let sent = Arc::new(AtomicBool::new(false));
        let put = || {
            let sent = sent.clone();
            on_sent("a test", move || sent.store(true, Ordering::Relaxed)).unwrap();
        };
        let ((), parcel) = collect(put);
        drop(parcel);
        assert!(!sent.load(Ordering::Relaxed));
        let ((), parcel) = collect(put);
        parcel.sent();
        assert!(sent.load(Ordering::Relaxed));
    }
}
