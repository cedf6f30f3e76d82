//! Async ends of rings in tokio. Feature `tokio`.
//!
//! ```
//! use shmring::{ring::records::Records, tokio::{AsyncConsumer, AsyncProducer}};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
//! # runtime.block_on(async {
//! let (tx, rx) = Records::options().capacity(1 << 16).anonymous()?.split()?;
//! let (mut tx, mut rx) = (AsyncProducer::new(tx)?, AsyncConsumer::new(rx)?);
//! let sender = tokio::spawn(async move {
//!     for number in 0..3u8 {
//!         let mut claim = tx.claim(1).await?;
//!         claim[0] = number;
//!         claim.commit();
//!     }
//!     Ok::<(), shmring::SendError>(())
//! });
//! let mut got = vec![];
//! while let Ok(record) = rx.recv().await {
//!     got.push(record[0]);
//! }
//! sender.await??;
//! assert_eq!(got, [0, 1, 2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Either end may be in another process, async or not. Ends of any flavour of runtime, also on a
//! `LocalSet`, and of several runtimes at once, can share a segment. [`crate::future`] says what
//! holds when a future is dropped.
//!
//! The runtime needs its io driver (`enable_io`, `enable_all`, `#[tokio::main]`); tokio panics
//! where it is missing.

#![allow(unsafe_code)] // Registering a descriptor.

use std::{
    future::{Future, poll_fn},
    io,
    os::fd::OwnedFd,
    pin::pin,
    task::{Context, Poll, ready},
};

use ::tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::{Handle, Id},
    task::coop,
};

use crate::{
    future::{self, AsyncReady},
    ring::{
        port::{Receiver, Sender},
        records::{Consumer, Producer},
    },
};

/// An end of a ring in tokio.
pub type Async<E> = future::Async<E, Readiness>;
/// A consumer of records.
pub type AsyncConsumer = Async<Consumer>;
/// A producer of records.
pub type AsyncProducer = Async<Producer>;
/// A receiver of messages.
pub type AsyncReceiver<T> = Async<Receiver<T>>;
/// A sender of messages.
pub type AsyncSender<T> = Async<Sender<T>>;

/// A descriptor in the reactor of a tokio runtime.
#[derive(Debug)]
pub struct Readiness {
    fd: AsyncFd<OwnedFd>,
    runtime: Id,
}

impl AsyncReady for Readiness {
    fn new(fd: OwnedFd) -> io::Result<Readiness> {
        let runtime = Handle::try_current().map_err(io::Error::other)?.id();
        // SAFETY: the `AsyncFd` owns the descriptor, and nothing here takes it out: it stays open
        // and the same for as long as it is registered.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Readiness { fd, runtime })
    }

    fn is_here(&self) -> bool {
        Handle::try_current().is_ok_and(|handle| handle.id() == self.runtime)
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not on the budget of the task that happens to poll: it is polled for all.
        let readable = coop::unconstrained(poll_fn(|cx| self.fd.poll_read_ready(cx)));
        ready!(pin!(readable).poll(cx))?.clear_ready();
        Poll::Ready(Ok(()))
    }

    fn poll_fairly<T>(
        cx: &mut Context<'_>,
        operation: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let budget = ready!(coop::poll_proceed(cx));
        let polled = operation(cx);
        if polled.is_ready() {
            budget.made_progress();
        }
        polled
    }
}
