//! Memory shared between processes: named arrays, rings, big blocks, and the waiting for them.
//!
//! What should you use?
//!
//! | to share | use | how it travels |
//! |---|---|---|
//! | an array that others read and write in place, also numpy | [`SharedArray`] | by its name, by fork, or in a message |
//! | a stream of records, from one process to another | [`ring::records`] | both ends by fork or in a message, or by name |
//! | a stream of items of one size, many at once as a slice | [`ring::cells`] | the same; plain data, never blocks |
//! | work for whoever is free: items from many processes, each to one of many | [`ring::queue`] | ends by fork or in a message, or by name |
//! | the same stream to many processes, each of which sees every item | [`ring::broadcast`] | ends by fork or in a message, or by name; consumers join and leave |
//! | the newest value of something, for any number of readers | [`ring::latest`] | by fork, by name, or in a message; the writer never waits |
//! | typed messages, with blocks in them | [`ring::port`] | over a ring of records |
//! | typed jobs, with blocks in them, for whoever is free; again when a worker dies | [`ring::queue::port`] | over a queue |
//! | typed messages, with blocks in them, that every process reads in place | [`ring::broadcast::port`] | over a broadcast ring |
//! | the newest picture, read in place, and the like | [`ring::latest::port`] | a latest value whose blocks the readers hold |
//! | big data that is written once and read by many | [`block::BlockPool`] | by handle, in any message; never copied. The pool by fork, in a message, or by name |
//! | the same of several sizes | [`block::BlockPools`] | the same |
//! | counters, flags, and one bell for all that a thread waits for | [`board::Board`] | by fork, by name, or in a message |
//! | arrays that are written once, with a number and a time | [`block::Frame`] | the same |
//!
//! ```
//! use shmring::{block::{Block, BlockPool}, ring::{port, records::Records}};
//!
//! // A pool of blocks, and a ring in the same memory that carries their handles.
//! let pool = BlockPool::options().blocks(4).block_len(640 * 480).anonymous()?;
//! let ring = Records::options().create_in(pool.segment())?;
//! let (mut tx, mut rx) = port::ends::<(u64, Block)>(&ring)?;
//!
//! // One process fills a block in place and sends it ...
//! let mut picture = pool.loan()?;
//! picture.array_mut::<u8, _>((480, 640))?.fill(128);
//! tx.send((1, picture.freeze())).map_err(|error| error.to_string())?;
//!
//! // ... another reads it in place; it goes back to the pool when the last reader drops it.
//! let (number, picture) = rx.recv()?;
//! assert_eq!(picture.array::<u8, _>((480, 640))?[[0, 0]], 128);
//! assert_eq!(number, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Two programs that did not start each other meet by a name: `create` and `open` of each kind, or
//! `create_or_open` for both. A segment that has one finds room for many rings, and for the pool
//! whose blocks they carry; each is opened by its number in it:
//!
//! ```
//! use shmring::{Segment, block::BlockPool, ring::records::Records};
//! # let name = &format!("doc-front-{}", std::process::id());
//!
//! // In one program: a pool, room for rings beside it, and one of them.
//! let pool = BlockPool::options().blocks(4).block_len(4096).create(name)?;
//! let ring = Records::options().create_in(pool.segment())?;
//! assert_eq!(ring.number(), 1);
//!
//! // In the other.
//! let segment = Segment::open(name)?;
//! let pool = BlockPool::open_in(&segment, 0)?;
//! let ring = Records::open_in(&segment, 1)?;
//! # Ok::<(), shmring::Error>(())
//! ```
//!
//! # What is promised
//!
//! - **Deaths.** A process may be killed at any instruction: nobody hangs, an item that was
//!   confirmed is delivered, blocks come back, and the place is used again. A process that is
//!   merely stopped loses nothing. Every wait ends with `PeerDied` when the other side is gone.
//! - **Nothing is left behind.** Anonymous segments go with their last process. A named file is
//!   removed by who made it; what `kill -9` of everybody leaves is found by [`cleanup`].
//! - **Lies.** Control words are copied once and checked. Whatever another process of the same
//!   user writes there, the outcome is an error or wrong data, never undefined behaviour here.
//!   Payload is sound among processes that keep the guards and claims.
//! - **Linux only**; nothing here is for other systems.
#![deny(unsafe_code)]

pub mod array;
pub mod block;
pub mod board;
pub mod cleanup;
pub mod error;
mod face;
pub mod fault;
#[cfg(any(feature = "stream", feature = "tokio"))]
pub mod future;
mod layout;
mod liveness;
#[doc(hidden)]
pub mod named;
pub mod names;
pub mod observe;
#[doc(hidden)]
pub mod os;
mod received;
mod region;
pub mod ring;
pub mod segment;
mod sync;
#[cfg(feature = "tokio")]
pub mod tokio;
pub mod transfer;
mod wait;

pub use array::SharedArray;
pub use error::{Error, RecvError, Result, SendError};
pub use received::received;
pub use ring::Selector;
pub use segment::Segment;
pub use wait::WaitStrategy;
