//! Arrays in shared memory, each of them a pure `.npy` file.
//!
//! [`SharedArray`] `NAME` is the file `/dev/shm/shmring.NAME.npy`, so any Python reads and writes
//! it with nothing of ours installed:
//!
//! ```python
//! frames = np.load("/dev/shm/shmring.NAME.npy", mmap_mode="r+")
//! ```
//!
//! The file describes itself: whoever opens it gets the shape from it, and an error that names
//! both sides when the element type or the number of dimensions is another than expected.
//!
//! # Who may touch it when
//!
//! Elements are reached through guards, [`SharedArray::read`] and [`SharedArray::write`], that
//! hold a lock in the kernel: many readers or one writer, over all processes. A holder that is
//! killed frees it. There is no queue: readers whose guards overlap without end keep a writer
//! out, and a thread that holds a guard of one handle and waits for another handle of the same
//! array waits for ever; the `_timeout` methods bound both.
//!
//! The locks are Linux's open file description locks over the whole file, or over the bytes of the
//! rows that [`SharedArray::write_rows`] lends. Python takes them with `fcntl` (`F_OFD_SETLK` is
//! 37, `F_OFD_SETLKW` 38):
//!
//! ```python
//! file = open("/dev/shm/shmring.NAME.npy", "r+b")
//! fcntl.fcntl(file, 38, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
//! ...
//! fcntl.fcntl(file, 38, struct.pack("hhqqi4x", fcntl.F_UNLCK, 0, 0, 0, 0))
//! ```
//!
//! A process that writes without the lock, as plain numpy does, can race with a guard;
//! [`SharedArray::copy_out`] is the way to read what such a process writes.
//!
//! # What Python makes
//!
//! A file that `np.save` or `np.lib.format.open_memmap` made is opened like ours, if its mode is
//! 0600 (`os.umask(0o077)` before, or `os.chmod` after) and it belongs to the same user. Those
//! functions fill the file after it has its name: make it under another name in `/dev/shm` and
//! `os.rename` it when others may be waiting for it. Nothing of numpy's marks a file as in use,
//! so a clean-up takes it for stale while only Python has it: keep it open in a process that
//! called `fcntl.flock(file, fcntl.LOCK_SH)`.
//!
//! # Life
//!
//! The handle that made an array removes its name when it is dropped, in the process that made
//! it; [`SharedArray::keep`] lets it stay. Others go on using what they have open. Handles that
//! opened an array never remove it, except by [`SharedArray::unlink`].
//! All memory is reserved when the array is made, so that no later access can fail.
//!
//! An array travels in a message as a descriptor, named or not. A forked child may use the
//! handles it inherited: it gets locks of its own at first use. Its copy of a guard that its parent
//! held locks nothing, and panics when it is asked for the elements.

mod dtype;
mod dynamic;
mod file;
mod guard;
mod lock;
mod message;
pub mod npy;
mod options;
mod payload;
mod shared;

pub use dtype::{Bool, Dtype, Element};
pub(crate) use dynamic::scalars;
pub use dynamic::{DynArray, Scalar};
pub use guard::{ReadGuard, WriteGuard};
pub use lock::after_fork;
pub use npy::Order;
pub use options::ArrayOptions;
pub(crate) use payload::{expected, fits, layout};
pub use shared::{SharedArray, SharedArray0, SharedArray1, SharedArray2, SharedArray3};
