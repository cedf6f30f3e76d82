//! Files that live in memory: named in `/dev/shm`, anonymous by memfd, and their mappings.

#![allow(clippy::disallowed_types)] // A count of this process, no model looks at it.

use std::{
    ffi::CString,
    fs, io,
    mem::{ManuallyDrop, MaybeUninit},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{check, retry};

/// Where named segments live.
pub const SHM_DIR: &str = "/dev/shm";

/// What makes a file the same file: its device and inode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct FileId {
    /// The device the file is on.
    pub device: u64,
    /// Its inode number there.
    pub inode: u64,
}

/// What an attacher checks before it trusts a file.
#[derive(Clone, Copy, Debug)]
pub struct FileInfo {
    /// Device and inode.
    pub id: FileId,
    /// Size in bytes.
    pub len: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owning user.
    pub user: u32,
    /// Whether it is a regular file.
    pub regular: bool,
    /// Whether it is a named pipe.
    pub fifo: bool,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path with a zero byte"))
}

fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: the callers pass a descriptor that the kernel has just made for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Makes an anonymous file in memory that can be sealed. `name` shows in `/proc/PID/maps`.
pub fn memfd(name: &str) -> io::Result<OwnedFd> {
    let name = c_path(Path::new(name))?;
    // SAFETY: `name` is a live C string; the flags are valid.
    let fd =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    Ok(owned(check(fd)?))
}

/// Fixes the size of a memfd for ever.
pub fn seal(fd: BorrowedFd<'_>) -> io::Result<()> {
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: F_ADD_SEALS takes an int and touches no memory of ours.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(())
}

/// Whether the size of this file can no longer change.
pub fn sealed(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: F_GET_SEALS takes no argument.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    seals != -1 && seals & libc::F_SEAL_SHRINK != 0
}

/// Makes a file without a name in `directory`, to be filled and then linked.
pub fn tmpfile(directory: &Path) -> io::Result<OwnedFd> {
    let path = c_path(directory)?;
    let flags = libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: `path` is a live C string.
    let fd = retry(|| check(unsafe { libc::open(path.as_ptr(), flags, 0o600) }))?;
    Ok(owned(fd))
}

/// Gives a file without a name its name. Fails with `AlreadyExists` when the name is taken.
pub fn link(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let from = c_path(Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())))?;
    let to = c_path(path)?;
    // SAFETY: both are live C strings.
    check(unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    })?;
    Ok(())
}

/// Opens a file for reading and writing; a symbolic link is refused.
///
/// Never blocks on a named pipe.
pub fn open_read_write(path: &Path) -> io::Result<OwnedFd> {
    open(path, libc::O_RDWR)
}

/// The same for reading only.
pub fn open_read_only(path: &Path) -> io::Result<OwnedFd> {
    open(path, libc::O_RDONLY)
}

fn open(path: &Path, access: libc::c_int) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = access | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    // SAFETY: `path` is a live C string.
    let fd = retry(|| check(unsafe { libc::open(path.as_ptr(), flags) }))?;
    Ok(owned(fd))
}

/// Opens the same file again, as an open file description of its own.
pub fn reopen(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = c_path(Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())))?;
    // SAFETY: `path` is a live C string.
    let fd = retry(|| check(unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) }))?;
    Ok(owned(fd))
}

/// A second descriptor for the same open file description.
pub fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    fd.try_clone_to_owned()
}

/// Removes a name. The file lives on for those who have it open.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Reserves all memory of a file now, so that no later access can fail for lack of space.
///
/// # Errors
///
/// `StorageFull` (ENOSPC) when there is not enough; `FileTooLarge` (EFBIG) when this process may not
/// have files of that length.
pub fn allocate(fd: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    may_be_so_long(len)?;
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::ENOSPC))?;
    loop {
        // SAFETY: touches no memory of ours.
        match unsafe { libc::posix_fallocate(fd.as_raw_fd(), 0, len) } {
            0 => return Ok(()),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Sets the size of a file.
///
/// # Errors
///
/// `FileTooLarge` (EFBIG) when this process may not have files of that length.
pub fn resize(fd: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    may_be_so_long(len)?;
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: touches no memory of ours.
    retry(|| check(unsafe { libc::ftruncate(fd.as_raw_fd(), len) }))?;
    Ok(())
}

/// Looks at the limit of this process (`ulimit -f`): to run into it is a signal that kills.
fn may_be_so_long(len: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the structure, and never fails for this resource.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    match len > limit.rlim_cur {
        true => Err(io::Error::from_raw_os_error(libc::EFBIG)),
        false => Ok(()),
    }
}

/// Gives the memory of a range back; it reads as zeros afterwards.
pub fn punch_to_zero(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (offset, len) = (offset as libc::off_t, len as libc::off_t);
    // SAFETY: touches no memory of ours.
    retry(|| check(unsafe { libc::fallocate(fd.as_raw_fd(), mode, offset, len) }))?;
    Ok(())
}

/// The user this process acts as.
pub fn user_id() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

/// Looks at an open file.
pub fn file_info(fd: BorrowedFd<'_>) -> io::Result<FileInfo> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the struct when it succeeds.
    let stat = unsafe {
        check(libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    Ok(FileInfo {
        id: FileId { device: stat.st_dev, inode: stat.st_ino },
        len: stat.st_size.max(0) as u64,
        mode: stat.st_mode & 0o7777,
        user: stat.st_uid,
        regular: stat.st_mode & libc::S_IFMT == libc::S_IFREG,
        fifo: stat.st_mode & libc::S_IFMT == libc::S_IFIFO,
    })
}

/// Device and inode of what a path names now; a symbolic link is not followed.
pub fn file_id(path: &Path) -> io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::symlink_metadata(path)?;
    Ok(FileId { device: meta.dev(), inode: meta.ino() })
}

/// Whether `path` still names the open file `fd`.
pub fn same_file(fd: BorrowedFd<'_>, path: &Path) -> io::Result<bool> {
    match file_id(path) {
        Ok(id) => Ok(id == file_info(fd)?.id),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Bytes free for this user in the file system of `directory`.
pub fn free_in(directory: &Path) -> io::Result<u64> {
    let path = c_path(directory)?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a live C string; statvfs fills the struct when it succeeds.
    let stat = unsafe {
        check(libc::statvfs(path.as_ptr(), stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes of memory that can be had: `MemAvailable`, bounded by what the cgroup still allows.
pub fn memory_available() -> io::Result<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let kib = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "no MemAvailable in /proc/meminfo")
        })?;
    Ok(kib.saturating_mul(1024).min(cgroup_room().unwrap_or(u64::MAX)))
}

/// Says that there is memory for `len` bytes more, by [`memory_available`].
///
/// That reads several files, which takes longer than to make a small segment. So what is short is
/// not asked for until 8 MiB have come together: so little is gone by what programs take
/// from their heaps at any moment.
///
/// # Errors
///
/// The bytes that can be had, where they are fewer.
pub fn memory_for(len: u64) -> Result<(), u64> {
    static SINCE: AtomicU64 = AtomicU64::new(0);
    let add = |since: u64| since.checked_add(len).filter(|sum| *sum <= UNASKED);
    if SINCE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok() {
        return Ok(());
    }
    match memory_available() {
        Ok(available) if available < len => Err(available),
        // Where it cannot be known, the kernel has the last word.
        _ => {
            SINCE.store(0, Ordering::Relaxed);
            Ok(())
        }
    }
}

/// How much memory is taken before it is asked how much there is.
const UNASKED: u64 = 8 << 20;

/// The room left under the tightest memory limit of our cgroup (version 2) and those above it.
fn cgroup_room() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut room = None;
    for folder in Path::new(path).ancestors() {
        let folder = Path::new("/sys/fs/cgroup").join(folder.strip_prefix("/").unwrap_or(folder));
        let read =
            |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        if let (Some(max), Some(current)) = (read("memory.max"), read("memory.current")) {
            let left = max.saturating_sub(current);
            room = Some(room.map_or(left, |other: u64| other.min(left)));
        }
    }
    room
}

/// Reads exactly as many bytes as `into` has, from `offset` on. The kernel copies: whoever writes
/// there meanwhile, it is no data race of this process, and a file that ends before is an error.
pub fn read_at(fd: BorrowedFd<'_>, into: &mut [u8], offset: u64) -> io::Result<()> {
    // SAFETY: it is open as long as `fd` is borrowed, and is never closed by this value.
    let file = ManuallyDrop::new(unsafe { fs::File::from_raw_fd(fd.as_raw_fd()) });
    file.read_exact_at(into, offset)
}

/// Memory that a process shares with those it forks from now on, and with nobody else. All zeros
/// at first.
#[derive(Debug)]
pub struct Shared {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is an address and a length; what may be done there its users answer for.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Maps this many bytes, at least one.
    ///
    /// # Errors
    ///
    /// The kernel's, where there is no memory or no address for it.
    pub fn new(len: usize) -> io::Result<Shared> {
        let (access, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice touches none that there is.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Shared { start, len })
    }

    /// The first byte.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: it is our own mapping, and nothing that points there outlives this value.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A shared mapping of a file.
#[derive(Debug)]
pub struct Mapping {
    map: Option<memmap2::MmapRaw>,
}

impl Mapping {
    /// Maps the first `len` bytes of a file, for reading and writing. A mapping of length 0 maps
    /// nothing.
    ///
    /// The file should not be shorter: access beyond its end raises SIGBUS.
    pub fn new(fd: impl AsFd, len: usize) -> io::Result<Mapping> {
        if len == 0 {
            return Ok(Mapping { map: None });
        }
        let fd = fd.as_fd();
        let map = memmap2::MmapOptions::new().len(len).map_raw(&fd)?;
        Ok(Mapping { map: Some(map) })
    }

    /// The same for reading only: a write raises SIGSEGV.
    pub fn read_only(fd: impl AsFd, len: usize) -> io::Result<Mapping> {
        if len == 0 {
            return Ok(Mapping { map: None });
        }
        let fd = fd.as_fd();
        let map = memmap2::MmapOptions::new().len(len).map_raw_read_only(&fd)?;
        Ok(Mapping { map: Some(map) })
    }

    /// The first byte; dangling, but aligned, where the length is 0.
    pub fn as_ptr(&self) -> NonNull<u8> {
        match &self.map {
            // A mapping never starts at address zero.
            Some(map) => {
                NonNull::new(map.as_mut_ptr()).unwrap_or(NonNull::<u128>::dangling().cast())
            }
            None => NonNull::<u128>::dangling().cast(),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.map.as_ref().map_or(0, memmap2::MmapRaw::len)
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.map.is_none()
    }

    /// Touches every page now, so that no first access pays for it later.
    pub fn prefault(&self) -> io::Result<()> {
        self.prefault_range(0, self.len())
    }

    /// The same for the pages of a part of it; what lies outside of the mapping is left out.
    pub fn prefault_range(&self, offset: usize, len: usize) -> io::Result<()> {
        let Some(map) = &self.map else { return Ok(()) };
        let end = offset.saturating_add(len).min(map.len());
        let start = offset - offset % super::page_size();
        if start >= end {
            return Ok(());
        }
        // SAFETY: the range is within our own mapping; populating changes no content.
        let result = unsafe {
            let first = map.as_mut_ptr().add(start);
            libc::madvise(first.cast(), end - start, libc::MADV_POPULATE_WRITE)
        };
        match check(result) {
            Ok(_) => Ok(()),
            // Kernels before 5.14 do not know the advice; the pages then come at first touch.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::page_size as page, *};

    #[test]
    fn memfd_can_be_sealed_and_mapped_twice() {
        let fd = memfd("shmring-test").unwrap();
        allocate(fd.as_fd(), page() as u64).unwrap();
        seal(fd.as_fd()).unwrap();
        assert!(sealed(fd.as_fd()));
        assert!(resize(fd.as_fd(), 0).is_err());
        let one = Mapping::new(&fd, page()).unwrap();
        let two = Mapping::new(&fd, page()).unwrap();
        one.prefault().unwrap();
        // SAFETY: both mappings are ours alone and long enough.
        unsafe {
            one.as_ptr().write(7);
            assert_eq!(two.as_ptr().read(), 7);
        }
    }

    #[test]
    fn only_the_pages_of_a_part_are_touched() {
        use std::os::unix::fs::MetadataExt;
        let fd = memfd("shmring-test").unwrap();
        resize(fd.as_fd(), 8 * page() as u64).unwrap();
        let file = fs::File::from(fd.try_clone().unwrap());
        let touched = || file.metadata().unwrap().blocks() as usize * 512 / page();
        let map = Mapping::new(&fd, 8 * page()).unwrap();
        map.prefault_range(8 * page(), page()).unwrap();
        map.prefault_range(page() + 7, 0).unwrap();
        assert!(touched() <= 1);
        map.prefault_range(3 * page() - 1, 2).unwrap();
        assert!((2..=3).contains(&touched()), "{}", touched());
        map.prefault_range(7 * page(), usize::MAX).unwrap();
        assert!((3..=4).contains(&touched()), "{}", touched());
        map.prefault().unwrap();
        assert_eq!(touched(), 8);
    }

    #[test]
    fn reading_at_leaves_the_descriptor_and_its_place() {
        use std::io::{Read, Seek, SeekFrom, Write};
        let mut file = fs::File::from(memfd("shmring-test").unwrap());
        file.write_all(b"0123456789").unwrap();
        file.seek(SeekFrom::Start(1)).unwrap();
        let mut bytes = [0; 4];
        read_at(file.as_fd(), &mut bytes, 6).unwrap();
        assert_eq!(&bytes, b"6789");
        assert!(read_at(file.as_fd(), &mut bytes, 7).is_err(), "it ends before");
        file.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"1234");
    }

    #[test]
    fn memory_is_asked_for_again_and_again() {
        assert_eq!(memory_for(UNASKED / 2), Ok(()));
        assert!(memory_for(1 << 50).is_err_and(|available| available > 1 << 20));
        assert!(memory_for(u64::MAX).is_err());
        for _ in 0..5 {
            assert_eq!(memory_for(UNASKED / 2), Ok(()));
        }
    }

    #[test]
    fn memory_available_is_plausible() {
        assert!(memory_available().unwrap() > 1 << 20);
        assert!(free_in(Path::new("/")).unwrap() > 0);
    }
}
