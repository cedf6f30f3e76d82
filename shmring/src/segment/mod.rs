//! Segments: shared memory with participants, doorbells and objects (rings, pools of blocks).
//!
//! A segment is anonymous by default: it travels to other processes by fork or inside a message,
//! its size is sealed, and it is gone with the last process that has it. A named one lies in
//! `/dev/shm/shmring.NAME.ring`, where unrelated processes find it.
//!
//! A process takes part until it lets go of all that it has of the segment, or ends. One that
//! executes another program without doing so takes part as long as that runs: its memory is gone, but
//! nobody else can tell.
//!
//! One segment can hold many rings and pools, and should where the same processes use them: they
//! share one descriptor, one mapping, and one doorbell per process.

mod bells;
mod message;
mod objects;
mod options;
mod repair;

use std::{
    collections::HashMap,
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use crossbeam_utils::CachePadded;

use self::bells::Bells;
pub(crate) use self::objects::{Object, object, ready};
pub use self::{objects::Kind, options::Options};
use crate::{
    error::{Error, Result},
    layout::Layout,
    liveness::{self, Id, Participants, Peer, Watch},
    named::{self, Owner},
    names,
    os::{self, FileId, Mapping},
    region::Region,
    sync::{Ordering, fence, local::AtomicU64},
};

/// Shared memory that several processes attach to. Cloning it gives another handle of the same
/// attachment.
///
/// ```
/// use shmring::Segment;
/// let segment = Segment::options().len(1 << 20).anonymous()?;
/// assert!(segment.len() >= 1 << 20);
/// # Ok::<(), shmring::Error>(())
/// ```
#[derive(Clone)]
pub struct Segment(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) region: Region,
    pub(crate) layout: Layout,
    fd: OwnedFd,
    file: FileId,
    pub(crate) bells: Bells,
    name: Option<String>,
    /// Removes the name when the process that made it lets go.
    owner: Mutex<Option<Owner>>,
    /// Whether somebody of this process sleeps on its bell, or has it in a poll of their own:
    /// 0 for nobody; `wait` has the others.
    pub(crate) bell_taken: AtomicU64,
    /// `{fork generation: 32, participant id: 32}` of the process that last used this; 0 before.
    /// Every wait of every thread reads it: on a line that nothing else dirties.
    member: CachePadded<AtomicU64>,
    /// What is known of the other participants, by index.
    watches: Mutex<HashMap<usize, (Id, Arc<Watch>)>>,
    repairers: Mutex<Vec<(Kind, repair::Repairer)>>,
}

/// All segments this process has attached, so that one that arrives again is not mapped again.
static ATTACHED: Mutex<Vec<(FileId, Weak<Inner>)>> = Mutex::new(Vec::new());

/// Held by whoever attaches what others have made: of two threads to which the same comes at once,
/// one attaches it and the other finds that.
static ATTACHING: Mutex<()> = Mutex::new(());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Segment {
    fn attach(
        region: Region,
        layout: Layout,
        fd: OwnedFd,
        file: FileId,
        bells: Bells,
        name: Option<String>,
    ) -> Result<Segment> {
        os::fork_generation(); // From here on forks are counted.
        let inner = Arc::new(Inner {
            region,
            layout,
            fd,
            file,
            bells,
            name,
            owner: Mutex::default(),
            bell_taken: AtomicU64::new(0),
            member: CachePadded::new(AtomicU64::new(0)),
            watches: Mutex::default(),
            repairers: Mutex::default(),
        });
        let mut attached = lock(&ATTACHED);
        attached.retain(|(_, weak)| weak.strong_count() > 0);
        attached.push((file, Arc::downgrade(&inner)));
        drop(attached);
        let segment = Segment(inner);
        segment.join_if_there_is_room()?;
        Ok(segment)
    }

    /// Joins; later, with the first object that is used, where the dead have all places and this
    /// process does not know yet how to give back what they held.
    fn join_if_there_is_room(&self) -> Result<()> {
        match self.me() {
            Err(Error::NoPlace { .. }) if self.has_dead() => Ok(()),
            joined => joined.map(drop),
        }
    }

    fn has_dead(&self) -> bool {
        self.0.participants().attached().any(|(id, ..)| !self.is_alive(id))
    }

    /// The attachment of a segment by what names its file, if this process has one.
    fn attached(file: FileId) -> Option<Segment> {
        let attached = lock(&ATTACHED);
        let weak = attached.iter().find(|(id, _)| *id == file).map(|(_, weak)| weak.clone());
        drop(attached);
        weak?.upgrade().map(Segment)
    }

    /// All segments that this process has attached.
    pub(crate) fn all() -> Vec<Segment> {
        let attached = lock(&ATTACHED);
        let all = attached.iter().filter_map(|(_, weak)| weak.upgrade()).map(Segment).collect();
        drop(attached);
        all
    }

    /// Opens a named segment that exists.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`]; [`Error::Absent`]; [`Error::NotASegment`], [`Error::WrongVersion`],
    /// [`Error::TooShort`], [`Error::NotOurs`], [`Error::Corrupt`] when what is there cannot be
    /// used; [`Error::NoPlace`] when living participants have all places; [`Error::TimedOut`] while
    /// somebody has it to himself who is about to remove it; [`Error::Io`].
    pub fn open(name: &str) -> Result<Segment> {
        let path = names::path(name, names::Kind::Ring)?;
        Segment::from_file(name, &path, named::attach(&path, None)?)
    }

    /// Opens a named segment as soon as it is there.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] when it has not appeared in time, and those of [`Segment::open`].
    pub fn open_or_wait(name: &str, timeout: Duration) -> Result<Segment> {
        let path = names::path(name, names::Kind::Ring)?;
        Segment::from_file(name, &path, named::open_or_wait(&path, timeout)?)
    }

    fn from_file(name: &str, path: &Path, (fd, info): named::Attached) -> Result<Segment> {
        let _alone = lock(&ATTACHING);
        if let Some(segment) = Segment::attached(info.id) {
            segment.join_if_there_is_room()?;
            return Ok(segment);
        }
        let what = path.display().to_string();
        let len = usize::try_from(info.len).unwrap_or(usize::MAX);
        let mapping = Mapping::new(&fd, len).map_err(Error::io(format!("map {what}")))?;
        let region = Region::mapped(mapping);
        let layout = Layout::read(&region, &what)?;
        let bells = Bells::named(name, layout.bells);
        Segment::attach(region, layout, fd, info.id, bells, Some(name.into()))
    }

    /// Its name, where it has one.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Lets a named segment stay when the process that made it ends, for others to
    /// [open](Segment::open). While no process has it, it is stale: `create_or_open` replaces it,
    /// and [`cleanup`](crate::cleanup) removes it.
    pub fn keep(&self) {
        if let Some(owner) = lock(&self.0.owner).take() {
            owner.keep();
        }
    }

    /// Removes the name of a named segment, whoever made it. Those who have it keep it. Tells
    /// whether it still had that name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn unlink(&self) -> Result<bool> {
        let Some(name) = self.name() else { return Ok(false) };
        named::unlink(self.0.fd.as_fd(), &names::path(name, names::Kind::Ring)?)
    }

    /// Its size in bytes, tables included.
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> usize {
        self.0.layout.size
    }

    /// This process's descriptor for a poll of its own: it becomes readable when anything happens
    /// in one of its rings in this segment, but only after [`Segment::arm`].
    ///
    /// `None` when the segment has no bell left for this process ([`Options::bells`]).
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.0.bells.fd(self.bell_number()?)
    }

    /// The number of this process's bell. Where it found none when it came, it looks once more: one
    /// may be free by now.
    pub(crate) fn bell_number(&self) -> Option<u32> {
        let (me, table) = (self.me().ok()?, self.0.participants());
        let known = || table.bell(me.index());
        if known().is_none() && self.0.bells.len() > 0 {
            self.repair_soon(); // The dead have theirs until then.
            let _one_thread = lock(&self.0.watches);
            if known().is_none() {
                self.0.take_bell(me);
            }
        }
        known()
    }

    /// How many participants can wait by a descriptor; as [`Options::bells`].
    pub fn bells(&self) -> usize {
        self.0.layout.bells
    }

    /// The processes attached now, by pid: this one, and others that live or have just died.
    pub fn participants(&self) -> Vec<u32> {
        self.0.participants().attached().map(|(_, state, _)| state.pid()).collect()
    }

    /// This process's participant id; a forked child joins here as a new participant.
    pub(crate) fn me(&self) -> Result<Id> {
        // Whoever joined has called `fork_generation`.
        let member = self.0.member.load(Ordering::Relaxed);
        if member as u32 != 0 && (member >> 32) as u32 == os::forks() {
            return Ok(Id(member as u32));
        }
        self.join(os::fork_generation())
    }

    /// This process's participant id, if it has joined.
    pub(crate) fn me_if_joined(&self) -> Option<Id> {
        let member = self.0.member.load(Ordering::Relaxed);
        let joined = member as u32 != 0 && (member >> 32) as u32 == os::fork_generation();
        joined.then_some(Id(member as u32))
    }

    #[cold]
    fn join(&self, forks: u32) -> Result<Id> {
        let mut watches = lock(&self.0.watches);
        let member = self.0.member.load(Ordering::Relaxed);
        if member as u32 != 0 && (member >> 32) as u32 == forks {
            return Ok(Id(member as u32)); // Another thread was quicker.
        }
        watches.clear(); // They were the parent's view.
        drop(watches);
        let table = self.0.participants();
        let id = match table.join() {
            Some(id) => id,
            None => {
                self.repair_soon();
                table.join().ok_or(Error::NoPlace {
                    action: "attach to a segment".into(),
                    limit: self.0.layout.participants,
                })?
            }
        };
        self.0.take_bell(id);
        // Two threads can come here at once after a fork; the second gives its entry back.
        let mine = u64::from(forks) << 32 | u64::from(id.0);
        match self.0.member.compare_exchange(member, mine, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(id),
            Err(other) => {
                table.leave(id);
                Ok(Id(other as u32))
            }
        }
    }

    /// What is known of another participant; `None` when it is not attached any more.
    pub(crate) fn watch(&self, id: Id) -> Option<Arc<Watch>> {
        let process = self.0.participants().process(id)?;
        let mut watches = lock(&self.0.watches);
        match watches.get(&id.index()) {
            Some((known, watch)) if *known == id && watch.process == process => Some(watch.clone()),
            _ => {
                let watch = Arc::new(Watch::new(process));
                watches.insert(id.index(), (id, watch.clone()));
                Some(watch)
            }
        }
    }

    /// Whether a participant is attached and its process lives.
    pub(crate) fn is_alive(&self, id: Id) -> bool {
        self.watch(id).is_some_and(|watch| watch.is_alive())
    }

    /// Whether a peer's process lives.
    pub(crate) fn lives(&self, peer: Peer) -> bool {
        match peer {
            Peer::Participant(id) => self.is_alive(id),
            Peer::Process(word) => liveness::word_lives(word),
        }
    }

    /// The pid of a peer, for messages; 0 when that is not known any more.
    pub(crate) fn pid_of_peer(&self, peer: Peer) -> u32 {
        match peer {
            Peer::Participant(id) => self.pid_of(id),
            Peer::Process(word) => (word >> 32) as u32,
        }
    }

    /// The pid an id stood for, for messages; 0 when that is not known any more.
    pub(crate) fn pid_of(&self, id: Id) -> u32 {
        self.0.participants().process(id).map_or(0, |process| process.pid)
    }

    pub(crate) fn is_same(&self, other: &Segment) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Inner {
    pub(crate) fn participants(&self) -> Participants<'_> {
        Participants::new(&self.region, &self.layout)
    }

    /// Takes a bell that no other participant has. Without one we sleep on the futex.
    ///
    /// A bell that two poll would be lost to the one when the other clears it, so it is claimed
    /// first and looked at afterwards: of two that claim the same at once, at least one sees the
    /// other, and gives it back.
    fn take_bell(&self, me: Id) {
        let table = self.participants();
        let count = self.bells.len();
        for number in (0..count).map(|step| ((me.index() + step) % count) as u32) {
            table.set_bell(me, Some(number));
            fence(Ordering::SeqCst);
            let taken = table
                .attached()
                .any(|(id, ..)| id.index() != me.index() && table.bell(id.index()) == Some(number));
            if !taken && self.bells.take(number) {
                return;
            }
        }
        table.set_bell(me, None);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The name goes while the file is still marked as in use: see named/README.md.
        let owner = self.owner.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(owner), Some(name)) = (owner, &self.name) {
            drop(owner);
            bells::remove_stale(name, self.layout.bells);
        }
        let member = self.member.load(Ordering::Relaxed);
        // In a forked child that never used it, the entry is the parent's.
        if member as u32 != 0 && (member >> 32) as u32 == os::fork_generation() {
            self.participants().leave(Id(member as u32));
        }
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("len", &self.len())
            .field("participants", &self.participants())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use super::*;
    use crate::transfer;

    #[test]
    fn smoke() {
        let segment = Segment::options().len(10_000).participants(3).anonymous().unwrap();
        assert!(segment.len() >= 10_000);
        assert_eq!(segment.participants(), [os::pid()]);
        assert!(segment.is_alive(segment.me().unwrap()));
    }

    #[test]
    fn what_travels_back_is_the_same_attachment() {
        let segment = Segment::options().anonymous().unwrap();
        let send = || postcard::to_stdvec(&(&segment, &segment)).unwrap();
        assert!(postcard::to_stdvec(&segment).is_err(), "outside a port");
        let (bytes, parcel) = transfer::collect(send);
        assert_eq!(parcel.fds().len(), 3, "one memfd and two bells, once");
        let (one, two): (Segment, Segment) =
            transfer::supply(parcel, || postcard::from_bytes(&bytes)).unwrap();
        assert!(one.is_same(&segment) && two.is_same(&segment));
        assert_eq!(segment.participants().len(), 1);
    }

    #[test]
    fn named_segments_are_found_and_go_with_their_maker() {
        let name = testkit::name("segment");
        let segment = Segment::options().create(&name).unwrap();
        assert!(matches!(Segment::options().create(&name), Err(Error::Exists { .. })));
        let again = Segment::open(&name).unwrap();
        assert!(again.is_same(&segment));
        assert_eq!(again.name(), Some(name.as_str()));
        let path = names::path(&name, names::Kind::Ring).unwrap();
        let bell = names::path(&name, names::Kind::Bell(0)).unwrap();
        assert!(path.exists() && bell.exists());
        drop((segment, again));
        assert!(!path.exists() && !bell.exists());
        assert!(matches!(Segment::open(&name), Err(Error::Absent { .. })));
        let error = Segment::open_or_wait(&name, Duration::from_millis(5)).unwrap_err();
        assert!(matches!(error, Error::NotReady { .. }));
    }

    #[test]
    fn whoever_comes_first_makes_it() {
        let name = testkit::name("first");
        let make = || Segment::options().create_or_open_with(&name, |_| Ok(7)).unwrap();
        let (first, made) = make();
        let (second, found) = make();
        assert_eq!((made, found), (Some(7), None));
        assert!(second.is_same(&first));
        drop((first, second));
        assert_eq!(make().1, Some(7), "it is gone with its maker");
    }

    #[test]
    fn a_kept_segment_stays_until_it_is_unlinked() {
        let name = testkit::name("kept");
        let segment = Segment::options().bells(0).create(&name).unwrap();
        segment.keep();
        drop(segment);
        let segment = Segment::open(&name).unwrap();
        assert!(segment.unlink().unwrap());
        assert!(!segment.unlink().unwrap());
    }

    #[test]
    fn too_large_is_said_before_it_is_tried() {
        let error = Segment::options().len(1 << 50).anonymous().unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        let error = Segment::options().len(usize::MAX).anonymous().unwrap_err();
        assert!(matches!(error, Error::BadParameters { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_segment_is_refused() {
        let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(matches!(Segment::from_fds(null, vec![]), Err(Error::NotASegment { .. })));
        let memory = os::memfd("shmring-test").unwrap();
        os::resize(memory.as_fd(), 8192).unwrap();
        let copy = memory.try_clone().unwrap();
        assert!(
            matches!(Segment::from_fds(copy, vec![]), Err(Error::NotASegment { .. })),
            "not sealed"
        );
        os::seal(memory.as_fd()).unwrap();
        assert!(
            matches!(Segment::from_fds(memory, vec![]), Err(Error::NotASegment { .. })),
            "no magic"
        );
    }
}
