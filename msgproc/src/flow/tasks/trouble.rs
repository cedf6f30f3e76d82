//! How a future fails, and what becomes of its item.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use crate::{
    flow::{Cause, OnError, Outlet},
    start::{Panic, catch_here},
};

/// Why something failed for good.
pub(crate) enum Trouble {
    Error(Cause),
    Panic(Panic),
}

impl Trouble {
    /// Goes on here as if it had happened here.
    pub(super) fn raise(self) -> Cause {
        match self {
            Trouble::Error(cause) => cause,
            Trouble::Panic(panic) => panic.raise(),
        }
    }

    /// Calls this, and catches its panic.
    pub(super) fn of<T>(call: impl FnOnce() -> Result<T, Cause>) -> Result<T, Trouble> {
        match catch_here(call) {
            Ok(done) => done.map_err(Trouble::Error),
            Err(panic) => Err(Trouble::Panic(panic)),
        }
    }
}

/// What came of an item.
#[doc(hidden)]
pub struct Made<O> {
    pub(crate) items: Vec<O>,
    pub(crate) skipped: u64,
    pub(crate) retried: u64,
}

impl<O> From<Vec<O>> for Made<O> {
    fn from(items: Vec<O>) -> Made<O> {
        Made { items, skipped: 0, retried: 0 }
    }
}

impl<O> Made<O> {
    /// Tells what the report is to say, and gives what goes on.
    pub(super) fn told<T>(self, out: &mut Outlet<T>) -> Vec<O> {
        out.notes().skipped += self.skipped;
        out.notes().retried += self.retried;
        self.items
    }
}

/// What came of an item, and which it was.
pub(crate) struct Finished<O> {
    pub(crate) number: u64,
    pub(crate) made: Result<Made<O>, Trouble>,
}

/// What becomes of items over which futures fail.
pub(crate) struct Policy<I> {
    pub(crate) on_error: OnError,
    pub(crate) clone: Option<fn(&I) -> I>,
}

impl<I> Policy<I> {
    /// Awaits the future of an item, again if it fails and that is asked for.
    pub(crate) async fn handle<O, A>(
        &self,
        item: I,
        begin: impl Fn(I) -> A,
    ) -> Result<Made<O>, Trouble>
    where
        A: Future<Output = Result<Made<O>, Cause>>,
    {
        let mut item = Some(item);
        let mut tried = 0;
        loop {
            let again = self.clone.filter(|_| tried < self.on_error.retries());
            let attempted = match (again, &item) {
                (Some(clone), Some(item)) => attempt(|| begin(clone(item))).await,
                _ => match item.take() {
                    Some(item) => attempt(|| begin(item)).await,
                    None => Err(Trouble::Error("an item was begun too often".into())),
                },
            };
            let trouble = match attempted {
                Ok(made) => return Ok(Made { retried: made.retried + u64::from(tried), ..made }),
                Err(trouble) => trouble,
            };
            if item.is_none() {
                return match self.on_error.skips() {
                    true => Ok(Made { items: Vec::new(), skipped: 1, retried: u64::from(tried) }),
                    false => Err(trouble),
                };
            }
            tried += 1;
        }
    }
}

/// Awaits a future once, and catches its panic.
async fn attempt<T, A>(begin: impl FnOnce() -> A) -> Result<T, Trouble>
where
    A: Future<Output = Result<T, Cause>>,
{
    match catch_here(begin) {
        Ok(future) => caught(future).await.and_then(|done| done.map_err(Trouble::Error)),
        Err(panic) => Err(Trouble::Panic(panic)),
    }
}

/// Awaits a future, and catches its panic.
pub(super) async fn caught<A: Future>(future: A) -> Result<A::Output, Trouble> {
    let mut future = pin!(future);
    poll_fn(move |cx| match catch_here(|| future.as_mut().poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Err(panic) => Poll::Ready(Err(Trouble::Panic(panic))),
    })
    .await
}
