//! Processes in a program that runs on tokio. Feature `tokio`.
//!
//! Such a program has threads, so it starts its backends by
//! [`spawn`](crate::MessageProcess::spawn), by a [`ForkServer`](crate::ForkServer) or by
//! [`exec`](crate::MessageProcess::exec). Calls, replies and starts are awaited:
//!
//! ```no_run
//! use msgproc::prelude::*;
//!
//! struct Counter(u64);
//!
//! #[backend(event = String)]
//! impl Counter {
//!     fn c__add(&mut self, number: u64, ctx: &mut Context<String>) -> Result<u64> {
//!         self.0 += number;
//!         ctx.emit(format!("now {}", self.0))?;
//!         Ok(self.0)
//!     }
//! }
//!
//! fn main() -> msgproc::Result<()> {
//!     msgproc::init(); // before the runtime starts threads
//!     tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work())
//! }
//!
//! async fn work() -> msgproc::Result<()> {
//!     let counter = MessageProcess::options("counter");
//!     let counter = counter.begin(|options| options.spawn(100, |first, _| Counter(first)))?.await?;
//!     let (a, b) = (counter.add(1).send()?, counter.add(2).send()?);
//!     assert_eq!((b.await?, a.await?), (103, 101));
//!     assert_eq!(counter.add(7).await?, 110);
//!     while let Ok(Some(Event::Emitted(text))) = counter.try_event() {
//!         println!("{text}");
//!     }
//!     msgproc::tokio::stop(counter).await
//! }
//! ```
//!
//! [`next_event`] and [`events`] await what comes up, [`next`] what happens in a
//! [`Manager`]. Dropping any of these futures loses nothing, but for the result of a
//! reply that is dropped with it: [`result`] borrows the reply instead.
//!
//! Dropping a process stops it and waits for that, which would hold up the other tasks of a
//! thread: [`stop`] it before.
//!
//! The runtime needs its io and time drivers (`enable_all`, `#[tokio::main]`); tokio panics where
//! they are missing.

use std::{
    future::{Future, IntoFuture, poll_fn},
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use ::tokio::time::{Sleep, sleep, sleep_until, timeout_at};
use futures_core::Stream;
use serde::de::DeserializeOwned;
use shmring::{future::AsyncReady, os, tokio::Readiness};

use crate::{
    deadline,
    error::{Error, Result},
    exit::Exit,
    manager::{Happening, Manager},
    process::{Awaits, Backend, Call, Event, MessageProcess, Reply, STEPS, Starting, StopOptions},
};

/// How long a sender waits between two looks for room in a full channel: there is nothing to
/// poll for, since whoever else waits receives for all and makes room by that.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(1);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Looks until there is something from a process; in between waits for news, and looks after
/// handlers that run too long.
async fn until<B: Backend, T>(
    process: &MessageProcess<B>,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    if let Some(found) = look()? {
        return Ok(found);
    }
    let awaits = process.awaits();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        news(&awaits, process.look_after()).await?;
    }
}

/// Waits for news, at most until then.
async fn news(awaits: &Awaits, until: Option<Instant>) -> Result<()> {
    let news = poll_fn(|cx| poll_news(awaits, cx));
    match until {
        Some(until) => timeout_at(until.into(), news).await.unwrap_or(Ok(())),
        None => news.await,
    }
}

fn poll_news(awaits: &Awaits, cx: &mut Context<'_>) -> Poll<Result<()>> {
    awaits.poll_news(cx).map_err(Error::io("wait for a process in tokio"))
}

/// Awaits the result of a call. Dropping the future leaves the result to be awaited again.
///
/// # Errors
///
/// As [`Call::wait`].
pub async fn result<T: DeserializeOwned>(reply: &mut Reply<T>) -> Result<T> {
    let mut awaits: Option<(usize, Awaits)> = None;
    loop {
        if let Some(found) = reply.try_take()? {
            return Ok(found);
        }
        // It may have gone to the replacement of its process, which rings at another place.
        let place = reply.place();
        match &awaits {
            Some((at, awaits)) if *at == place => news(awaits, reply.look_after()).await?,
            _ => awaits = Some((place, reply.awaits())),
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for Reply<T> {
    type Output = Result<T>;
    type IntoFuture = Boxed<Result<T>>;

    fn into_future(mut self) -> Boxed<Result<T>> {
        Box::pin(async move { result(&mut self).await })
    }
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for Call<T> {
    type Output = Result<T>;
    type IntoFuture = Boxed<Result<T>>;

    /// Sends the command, also where that has to wait for room, and awaits its result.
    fn into_future(mut self) -> Boxed<Result<T>> {
        Box::pin(async move {
            let since = Instant::now();
            let until = self.room_deadline(since);
            loop {
                if let Some(reply) = self.try_send()? {
                    drop(self);
                    return reply.await;
                }
                if until.is_some_and(|until| Instant::now() >= until) {
                    return Err(self.no_room(since));
                }
                sleep(LOOK_FOR_ROOM).await;
            }
        })
    }
}

impl<B: Backend> IntoFuture for Starting<B> {
    type Output = Result<MessageProcess<B>>;
    type IntoFuture = Boxed<Result<MessageProcess<B>>>;

    /// Awaits until the process is ready. One that fails is stopped before its error is given.
    fn into_future(self) -> Self::IntoFuture {
        let process = self.into_inner();
        Box::pin(async move {
            let deadline = process.start_deadline();
            let ready = until(&process, || process.try_ready().transpose());
            let error = match timeout_at(deadline.into(), ready).await {
                Ok(Ok(())) => return Ok(process),
                Ok(Err(error)) => error,
                // It is too late by now, and this says what it does instead.
                Err(_) => match process.try_ready() {
                    Some(Ok(())) => return Ok(process),
                    Some(Err(error)) => error,
                    None => Error::from("a start that is late and not late"),
                },
            };
            let options = process.options_after_failed_start(&error);
            let _ = end(&process, &options).await;
            Err(error)
        })
    }
}

/// Awaits what comes up from a process.
///
/// # Errors
///
/// As [`MessageProcess::next_event`].
pub async fn next_event<B: Backend>(process: &MessageProcess<B>) -> Result<Event<B::Event>> {
    until(process, || process.try_event()).await
}

/// What comes up from a process, as a stream that ends with [`Event::Ended`].
///
/// # Errors
///
/// [`Error::Io`] when no descriptor is left.
pub fn events<B: Backend>(process: &MessageProcess<B>) -> Result<Events<'_, B>> {
    let awaits = process.awaits();
    awaits.prepare().map_err(Error::io("watch a process in tokio"))?;
    Ok(Events { process, awaits, timer: None, is_closed: false, ended: false })
}

/// What comes up from a process: see [`events`].
pub struct Events<'a, B: Backend> {
    process: &'a MessageProcess<B>,
    awaits: Awaits,
    /// Runs until it is time to look after the process's handlers.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    /// It was said that the process has closed its channel, yet has not ended.
    is_closed: bool,
    ended: bool,
}

impl<B: Backend> Events<'_, B> {
    /// Ready when the process has to be looked after.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.process.look_after() else {
            return Poll::Pending;
        };
        let (_, timer) = match self.timer.take() {
            Some((set, timer)) if set == at => self.timer.insert((at, timer)),
            _ => self.timer.insert((at, Box::pin(sleep_until(at.into())))),
        };
        timer.as_mut().poll(cx)
    }
}

impl<B: Backend> Stream for Events<'_, B> {
    type Item = Event<B::Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            match self.process.try_event() {
                Ok(Some(event)) => {
                    self.ended = matches!(event, Event::Ended(_));
                    return Poll::Ready(Some(event));
                }
                Ok(None) => {}
                // Its end was taken by somebody else.
                Err(Error::PeerDied { .. } | Error::Stopped { .. }) => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Err(Error::Disconnected { .. }) if self.is_closed => {}
                Err(error @ Error::Disconnected { .. }) => {
                    self.is_closed = true;
                    return Poll::Ready(Some(Event::Failed(error)));
                }
                Err(error) => return Poll::Ready(Some(Event::Failed(error))),
            }
            match poll_news(&self.awaits, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Event::Failed(error))),
                Poll::Pending => ready!(self.poll_timer(cx)),
            }
        }
    }
}

/// Awaits what happens next in a manager; `None` where nothing can happen any more.
///
/// # Errors
///
/// As [`Manager::next`].
pub async fn next<B: Backend>(manager: &mut Manager<B>) -> Result<Option<Happening<B::Event>>> {
    let look = |manager: &mut Manager<B>| -> Result<_> {
        if let Some(happening) = manager.next(Duration::ZERO)? {
            return Ok(Some(Some(happening)));
        }
        Ok((!manager.may_happen()).then_some(None))
    };
    if let Some(found) = look(manager)? {
        return Ok(found);
    }
    // It has a timer of its own among what it watches.
    let failed = || Error::io("watch a manager in tokio");
    let watch = os::duplicate(manager.as_fd()).and_then(Readiness::new).map_err(failed())?;
    loop {
        poll_fn(|cx| watch.poll_readable(cx)).await.map_err(failed())?;
        if let Some(found) = look(manager)? {
            return Ok(found);
        }
    }
}

/// Stops a backend as [`MessageProcess::stop`], and awaits its end.
///
/// # Errors
///
/// As there.
pub async fn stop<B: Backend>(mut process: MessageProcess<B>) -> Result<()> {
    let options = process.stop_options();
    end(&process, &options).await?;
    // It has ended, so this only gives the verdict.
    process.stop()
}

/// Stops a backend as [`MessageProcess::stop_with`], and awaits its end.
///
/// # Errors
///
/// As there.
pub async fn stop_with<B: Backend>(
    process: &MessageProcess<B>,
    options: &StopOptions,
) -> Result<Exit> {
    end(process, options).await
}

async fn end<B: Backend>(process: &MessageProcess<B>, options: &StopOptions) -> Result<Exit> {
    let since = Instant::now();
    for step in STEPS {
        let limit = options.timeout(step);
        if limit.is_zero() || process.pump().is_some() {
            continue;
        }
        let deadline = deadline::moment_after(Instant::now(), limit);
        while !process.begin_stop(step) && process.pump().is_none() && Instant::now() < deadline {
            sleep(LOOK_FOR_ROOM).await;
        }
        let ended = until(process, || Ok(process.pump()));
        if let Ok(ended) = timeout_at(deadline.into(), ended).await {
            ended?;
        }
    }
    match process.pump() {
        Some(_) => process.stop_with(options),
        None => Err(process.did_not_stop(since)),
    }
}
