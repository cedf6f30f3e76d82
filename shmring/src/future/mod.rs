//! Async ends of rings, for any runtime that can wait for a descriptor.
//!
//! [`Async`] wraps an end. Its operations have the same names and errors as those of the end, and
//! wait by `.await`. What a runtime must supply is [`AsyncReady`]; [`crate::tokio`] does so for
//! tokio, with the feature `tokio`. There is no thread behind it: all async ends of a process in
//! one segment share one descriptor, and what makes it readable wakes the tasks whose rings have
//! something.
//!
//! # Streams and sinks
//!
//! With the feature `stream`, what receives is a stream, and what sends becomes a sink by
//! `into_sink`:
//!
//! ```
//! use futures_util::{SinkExt, StreamExt};
//! use shmring::{ring::records::Records, tokio::{AsyncConsumer, AsyncProducer}};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
//! # runtime.block_on(async {
//! let (tx, rx) = Records::options().capacity(1 << 16).anonymous()?.split()?;
//! let mut tx = AsyncProducer::new(tx)?.into_sink();
//! let rx = AsyncConsumer::new(rx)?;
//! let send = async {
//!     for word in ["one", "two", "three"] {
//!         tx.feed(word).await?;
//!     }
//!     tx.close().await
//! };
//! let lengths = rx.map(|record| record.map(|record| record.len())).collect::<Vec<_>>();
//! let (sent, lengths) = futures_util::future::join(send, lengths).await;
//! assert_eq!((sent, lengths), (Ok(()), vec![Ok(3), Ok(3), Ok(5)]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cancelling
//!
//! A future of this module may be dropped at any time: nothing has happened then. An item that was
//! not received stays in the ring; one that was not sent was not seen by anybody, and goes with the
//! future if the future owned it (`send_ref` borrows it instead). A claim that is dropped gives its
//! room back.
//!
//! # Giving way
//!
//! A ring that always has something does not keep its task busy for ever: now and then an operation
//! is pending, and woken at once, though it could go on. So what polls a future only once may find
//! it pending with an item in the ring.

mod ends;
mod hub;
#[cfg(feature = "stream")]
mod sink;
#[cfg(feature = "stream")]
mod stream;

use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    io,
    marker::PhantomData,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use self::hub::Place;
#[cfg(feature = "stream")]
pub use self::sink::{ItemSink, Put};
use crate::{error::Result, ring::select::Selectable};

/// A descriptor in the reactor of an async runtime: what a runtime supplies.
///
/// The waker that a poll is given may poll again while it is being woken. So a reactor must not
/// hold a lock that [`AsyncReady::poll_readable`] takes while it wakes.
pub trait AsyncReady: Send + Sync + 'static {
    /// Registers a descriptor with the reactor of the calling context.
    ///
    /// # Errors
    ///
    /// When there is none, or it refuses.
    fn new(fd: OwnedFd) -> io::Result<Self>
    where
        Self: Sized;

    /// Whether the calling context belongs to the reactor this was registered with.
    fn is_here(&self) -> bool;

    /// Waits until the descriptor becomes readable. `Ready` uses that up: the next poll is `Ready`
    /// when it has become readable again since then, or perhaps for nothing.
    ///
    /// # Errors
    ///
    /// When the reactor is gone; then this is not polled any more.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Polls an operation of a ring, or is pending instead, and woken at once, so that other tasks
    /// can run. This lets 128 operations of a thread be done in between; a runtime with a budget of
    /// its own uses that here.
    fn poll_fairly<T>(
        cx: &mut Context<'_>,
        operation: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T>
    where
        Self: Sized,
    {
        if DONE.get() >= BUDGET {
            DONE.set(0);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = operation(cx);
        if polled.is_ready() {
            DONE.set(DONE.get() + 1);
        }
        polled
    }
}

/// How many operations may be done before a task gives way.
const BUDGET: u32 = 128;

thread_local! {
    /// Operations done since a task of this thread gave way. Counted by thread: a task may use many
    /// ends in turn.
    static DONE: Cell<u32> = const { Cell::new(0) };
}

/// An end of a ring, for async code in the reactor `R`.
///
/// It takes the process's bell of the segment, for good: [`crate::Segment::arm`] must not be used
/// there beside it. Blocking waits of other threads may go on; they use the futex.
///
/// When the peer dies, a wait ends at once where the kernel can tell (by a pidfd), otherwise within
/// about a second.
///
/// # Panics
///
/// An operation that has to wait panics when the reactor that the end was made in is gone and there
/// is no other in the context that polls it.
pub struct Async<E, R> {
    end: E,
    place: Place,
    /// A stream has told an error, and ends next.
    #[cfg(feature = "stream")]
    over: bool,
    reactor: PhantomData<fn() -> R>,
}

impl<E: Selectable, R: AsyncReady> Async<E, R> {
    /// Makes an end async. Must be called in the context of its runtime.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NoPlace`] when the segment has no bell left for this process
    /// ([`crate::segment::Options::bells`]); [`crate::Error::Io`] without a runtime, or when there
    /// are no descriptors left. The end is dropped then, which closes the ring: look at its
    /// `bell()` first where that matters.
    pub fn new(end: E) -> Result<Async<E, R>> {
        let place = Place::new::<R>(end.source())?;
        Ok(Async {
            end,
            place,
            #[cfg(feature = "stream")]
            over: false,
            reactor: PhantomData,
        })
    }

    /// The end.
    pub fn get_ref(&self) -> &E {
        &self.end
    }

    /// The end, for what does not wait.
    pub fn get_mut(&mut self) -> &mut E {
        &mut self.end
    }

    /// Gives the end back.
    pub fn into_inner(self) -> E {
        self.end
    }

    /// Waits until a `try_` of the end would do something: take an item, put one of any length,
    /// or say that the ring has ended. For kinds of ends that have no async operations of their own.
    pub async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Polls for what [`Async::ready`] waits for.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        R::poll_fairly(cx, |cx| self.poll_whether_ready(cx, usize::MAX))
    }

    fn poll_whether_ready(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<()> {
        if self.place.source().is_ready(want) {
            return Poll::Ready(());
        }
        self.place.wait::<R>(cx.waker(), want);
        let ended = self.place.has_ended();
        if ended {
            self.end.ask_again();
        }
        if ended || self.place.source().is_ready(want) {
            self.place.forget();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Polls an operation of the end that gives `None` when it would have to wait.
    fn poll_end<T>(
        &mut self,
        cx: &mut Context<'_>,
        want: usize,
        mut operation: impl FnMut(&mut E) -> Option<T>,
    ) -> Poll<T> {
        if let Some(done) = operation(&mut self.end) {
            return Poll::Ready(done);
        }
        self.place.wait::<R>(cx.waker(), want);
        self.end.ask_again();
        match operation(&mut self.end) {
            Some(done) => {
                self.place.forget();
                Poll::Ready(done)
            }
            None => Poll::Pending,
        }
    }

    /// The same, giving way to other tasks now and then.
    fn poll_fairly<T>(
        &mut self,
        cx: &mut Context<'_>,
        want: usize,
        operation: impl FnMut(&mut E) -> Option<T>,
    ) -> Poll<T> {
        R::poll_fairly(cx, |cx| self.poll_end(cx, want, operation))
    }

    /// The same for an operation that is dear where there is no room for what it puts, since that is
    /// serialized for it. Once it has found none, which `full` remembers between polls, it is tried
    /// when there seems to be room for as much as it wanted.
    fn poll_put<T>(
        &mut self,
        cx: &mut Context<'_>,
        full: &mut bool,
        want: impl Fn(&E) -> usize,
        mut put: impl FnMut(&mut E) -> Option<T>,
    ) -> Poll<T> {
        R::poll_fairly(cx, |cx| {
            if !*full && let Some(done) = put(&mut self.end) {
                return Poll::Ready(done);
            }
            *full = true;
            let want = want(&self.end);
            ready!(self.poll_whether_ready(cx, want));
            // What is wrong, if anything is, is said by putting.
            self.poll_end(cx, want, put)
        })
    }
}

/// Gives way where an operation does not wait.
async fn give_way<R: AsyncReady>() {
    poll_fn(|cx| R::poll_fairly(cx, |_| Poll::Ready(()))).await;
}

impl<E: fmt::Debug, R> fmt::Debug for Async<E, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(&self.end).finish()
    }
}
