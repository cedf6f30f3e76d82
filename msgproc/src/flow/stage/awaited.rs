//! What comes out of a stream, awaited.

use std::{
    fmt,
    future::{IntoFuture, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{
    Stages,
    run::{Run, State},
};
use crate::flow::{Report, Result};

/// What comes out of a stream, to be awaited: from [`Stages::into_stream`] or [`Run::into_stream`].
///
/// It ends, and is dropped, as [`Run`] is: a drop before the end waits for the run's threads.
pub struct RunStream<T>(Run<T>);

impl<T: Send + 'static> Stages<T> {
    /// What comes out of it, to be awaited, in any executor. It begins when it is first polled.
    pub fn into_stream(self) -> RunStream<T> {
        self.into_iter().into_stream()
    }
}

impl<T: Send + 'static> Run<T> {
    /// The rest of what comes out, to be awaited.
    pub fn into_stream(self) -> RunStream<T> {
        RunStream(self)
    }
}

impl<T: Send + 'static> RunStream<T> {
    /// As [`Run::report`].
    pub fn report(&self) -> Option<Report> {
        self.0.report()
    }
}

impl<T> Unpin for RunStream<T> {}

impl<T: Send + 'static> Stream for RunStream<T> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let run = &mut self.get_mut().0;
        if let Err(error) = run.begin() {
            return Poll::Ready(Some(Err(error)));
        }
        let State::Running { results, ending, .. } = &run.0 else { return Poll::Ready(None) };
        match results.poll_result(cx) {
            Poll::Ready(Some(item)) => Poll::Ready(Some(Ok(item.value))),
            Poll::Ready(None) if ending.poll(cx.waker()) => Poll::Ready(run.end()),
            _ => Poll::Pending,
        }
    }
}

/// Runs to its end, and gives all that comes out.
impl<T: Send + 'static> IntoFuture for Stages<T> {
    type Output = Result<Vec<T>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Vec<T>>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let mut stream = self.into_stream();
        Box::pin(async move {
            let mut all = Vec::new();
            while let Some(item) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
                all.push(item?);
            }
            Ok(all)
        })
    }
}

impl<T> fmt::Debug for RunStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RunStream").field(&self.0).finish()
    }
}
