//! How a segment is made.

use std::{os::fd::AsFd, path::Path};

use super::{Bells, Segment, bells, lock};
use crate::{
    error::{Error, Result},
    fault::fault,
    layout::{Layout, MAX_PARTICIPANTS},
    named::{self, Draft},
    names,
    os::{self, FileId, Mapping},
    region::Region,
};

/// How a segment is made. From [`Segment::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a segment is made with them"]
pub struct Options {
    len: usize,
    participants: usize,
    objects: usize,
    bells: Option<usize>,
    prefault: bool,
    replace_stale: bool,
}

impl Segment {
    /// Begins to describe a segment.
    pub fn options() -> Options {
        Options {
            len: 1 << 20,
            participants: 16,
            objects: 64,
            bells: None,
            prefault: false,
            replace_stale: false,
        }
    }
}

impl Options {
    /// Bytes for the objects; the tables come on top. Default 1 MiB.
    pub fn len(mut self, bytes: usize) -> Options {
        self.len = bytes;
        self
    }

    /// How many processes can be attached at once, 1 to 255. Default 16.
    pub fn participants(mut self, count: usize) -> Options {
        self.participants = count;
        self
    }

    /// How many rings and pools it can hold, 1 to 32768. Default 64.
    pub fn objects(mut self, count: usize) -> Options {
        self.objects = count;
        self
    }

    /// How many participants can wait by a descriptor, in any poll; the others sleep on a futex.
    /// Each costs one descriptor in every process. Default 2, or as many as there can be participants.
    pub fn bells(mut self, count: usize) -> Options {
        self.bells = Some(count);
        self
    }

    /// Touches every page now: the first touch of a page costs some microseconds. Default no.
    pub fn prefault(mut self, yes: bool) -> Options {
        self.prefault = yes;
        self
    }

    /// For [`Options::create`] and [`Options::create_with`]: removes a segment of that name first
    /// if no process uses it, what is in it included. Default no.
    /// [`Options::create_or_open_with`] always does.
    pub fn replace_stale(mut self, yes: bool) -> Options {
        self.replace_stale = yes;
        self
    }

    fn layout(&self) -> Result<Layout> {
        let bells = self.bells.unwrap_or(self.participants.min(2));
        Layout::new(self.len, self.participants, self.objects, bells)
    }

    /// Makes an anonymous segment. Its size is sealed: nobody can shrink it under us. It is not
    /// bounded by the size of `/dev/shm`, only by memory.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] when there is less memory than that; [`Error::BadParameters`];
    /// [`Error::Io`] when the kernel refuses.
    pub fn anonymous(self) -> Result<Segment> {
        let mut layout = self.layout()?;
        let needed = layout.size as u64;
        let what = || "an anonymous segment".to_owned();
        os::memory_for(needed).map_err(|available| Error::OutOfMemory {
            what: what(),
            needed,
            available,
        })?;
        let fd = os::memfd("shmring").map_err(Error::io("create a memfd"))?;
        os::resize(fd.as_fd(), needed).map_err(Error::io("size a memfd"))?;
        os::seal(fd.as_fd()).map_err(Error::io("seal a memfd"))?;
        let bells = Bells::events(layout.bells)?;
        let mapping = Mapping::new(&fd, layout.size).map_err(Error::io("map a segment"))?;
        let region = Region::mapped(mapping);
        let file = os::file_info(fd.as_fd()).map_err(Error::io("look at a memfd"))?.id;
        layout.uid = unique_id(file);
        layout.write(&region);
        if self.prefault {
            region.prefault().map_err(Error::io("touch the pages of a segment"))?;
        }
        Segment::attach(region, layout, fd, file, bells, None)
    }

    /// Makes a segment that unrelated processes find by its name. `fill` makes the objects in it
    /// before anybody else can see it. The name goes when the last handle in this process does;
    /// [`Segment::keep`] lets it stay.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`]; [`Error::Exists`] and [`Error::Stale`]; [`Error::NotASegment`] and
    /// [`Error::NotOurs`] when what has that name is none, or not ours; [`Error::OutOfShm`];
    /// [`Error::BadParameters`]; [`Error::Io`]; and whatever `fill` returns.
    pub fn create_with<R>(
        self,
        name: &str,
        fill: impl FnOnce(&Segment) -> Result<R>,
    ) -> Result<(Segment, R)> {
        let mut layout = self.layout()?;
        let path = names::path(name, names::Kind::Ring)?;
        if self.replace_stale {
            remove_stale(name, &path)?;
        }
        // What is made below takes a bell of that name.
        named::refuse_taken(&path)?;
        let draft = Draft::new(layout.size as u64, &format!("ring {name:?}"))?;
        let file = draft.id();
        let (fd, mapping, unnamed) = draft.into_parts();
        let region = Region::mapped(mapping);
        layout.uid = unique_id(file);
        layout.write(&region);
        if self.prefault {
            region.prefault().map_err(Error::io("touch the pages of a segment"))?;
        }
        let bells = Bells::named(name, layout.bells);
        let segment = Segment::attach(region, layout, fd, file, bells, Some(name.into()))?;
        let filled = fill(&segment)?;
        let owner = unnamed.publish(segment.0.fd.as_fd(), &path)?;
        *lock(&segment.0.owner) = Some(owner);
        Ok((segment, filled))
    }

    /// Opens a named segment, or makes it where there is none: whichever process comes first makes
    /// it. `fill` is called by the one that does, and what it returned comes with the segment.
    ///
    /// One that no living process has, because all of them were killed or because it was
    /// [kept](Segment::keep), counts as none: it is removed, and what is in it is lost.
    /// [`Segment::open`] and [`Segment::open_or_wait`] join it as it is.
    ///
    /// # Errors
    ///
    /// Those of [`Segment::open`] and of [`Options::create_with`], but neither that it exists nor
    /// that it does not: [`Error::TimedOut`] when others kept making and removing it.
    pub fn create_or_open_with<R>(
        self,
        name: &str,
        fill: impl Fn(&Segment) -> Result<R>,
    ) -> Result<(Segment, Option<R>)> {
        let path = names::path(name, names::Kind::Ring)?;
        let open = |attached| Ok((Segment::from_file(name, &path, attached)?, None));
        let create = || {
            let (segment, filled) = self.clone().create_with(name, &fill)?;
            Ok((segment, Some(filled)))
        };
        let replace = || remove_stale(name, &path);
        named::replace_or_create(&path, named::PROBE_PATIENCE, replace, open, create)
    }

    /// Opens a named segment, or makes an empty one; see [`Options::create_or_open_with`].
    ///
    /// # Errors
    ///
    /// As [`Options::create_or_open_with`].
    pub fn create_or_open(self, name: &str) -> Result<Segment> {
        Ok(self.create_or_open_with(name, |_| Ok(()))?.0)
    }

    /// Makes an empty named segment; see [`Options::create_with`].
    ///
    /// # Errors
    ///
    /// As [`Options::create_with`].
    pub fn create(self, name: &str) -> Result<Segment> {
        Ok(self.create_with(name, |_| Ok(()))?.0)
    }
}

/// Removes a segment that nobody uses, and the bells that its dead left.
fn remove_stale(name: &str, path: &Path) -> Result<()> {
    if named::remove_if_stale(path)? {
        fault!("segment.replaced");
        bells::remove_stale(name, MAX_PARTICIPANTS);
    }
    Ok(())
}

/// A number that two segments have in common only by a great accident.
fn unique_id(file: FileId) -> u64 {
    use std::{
        hash::{BuildHasher, Hasher, RandomState},
        time::SystemTime,
    };
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(file.inode);
    hasher.write_u32(os::pid());
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    hasher.write_u128(now.as_nanos());
    hasher.finish()
}
