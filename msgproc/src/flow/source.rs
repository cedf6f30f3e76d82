//! The node that an iterator is.

use std::{
    any::TypeId,
    collections::vec_deque,
    iter, ops, option,
    time::{Duration, Instant},
    vec,
};

use super::{
    edge::deal::MOST,
    node::{Cause, Flow, Node},
    outlet::Outlet,
    pump::{Pump, Taken},
};

/// How many items are asked for ahead at most.
pub(super) const AHEAD: usize = 4 * MOST;
/// As many where it is not known how many go on together.
const AHEAD_UNKNOWN: usize = MOST / 4;

/// How many items to ask for ahead: as many as go on together, which are few where an item is long or
/// takes long; and more where nothing bounds those, so that the two threads seldom wait for each other.
pub(super) fn ahead<T>(out: &Outlet<T>) -> usize {
    out.limit().map_or(AHEAD_UNKNOWN, |limit| if limit < MOST { limit } else { AHEAD })
}

/// The node that sends what an iterator gives.
///
/// An iterator may wait for as long as it likes, also for what comes of the items that it has given. So
/// it is asked in a thread of its own, and a little ahead, while this node's worker sends on what there
/// is. Ranges, vectors, double-ended queues and [`repeat`](std::iter::repeat) never wait, nor do those of
/// which it is said ([`Source::never_waits`]): they are asked by the worker itself, which costs half as
/// much or less. So are others where a second thread must not be, in a run that has one and in a
/// process that may be replaced ([`OnError`](super::OnError)); each of their items goes on by itself
/// there.
pub fn source<I>(items: I) -> Source<I>
where
    I: IntoIterator + Send + 'static,
    I::IntoIter: 'static,
    I::Item: Send + 'static,
{
    Source::of(Some(items))
}

/// A node that an iterator is. From [`source`].
pub struct Source<I: IntoIterator> {
    from: From<I>,
    never_waits: bool,
}

enum From<I: IntoIterator> {
    Asks(I),
    Here(I::IntoIter),
    Apart(Pump<I::Item>),
    End,
}

impl<I> Source<I>
where
    I: IntoIterator + Send + 'static,
    I::IntoIter: 'static,
    I::Item: Send + 'static,
{
    /// Of `None` nothing comes.
    pub(crate) fn of(items: Option<I>) -> Source<I> {
        Source { from: items.map_or(From::End, From::Asks), never_waits: never_waits::<I>() }
    }

    /// Says that the iterator does not wait for anything: it computes, or reads from memory or a disk.
    /// Then it has no thread of its own. If it does wait, what it gave before waits with it.
    ///
    /// ```
    /// # use msgproc::flow::{Graph, Thread, each, source};
    /// let mut graph = Graph::new();
    /// let squares = |_: &_| source((0..1000_u64).map(|n| n * n)).never_waits();
    /// let squares = graph.node("squares", Thread, squares).add();
    /// # let print = graph.node("print", Thread, |_| each(|_: u64| ())).add();
    /// # graph.connect(squares.output(), print.input());
    /// # graph.run()?;
    /// # Ok::<(), msgproc::flow::Error>(())
    /// ```
    pub fn never_waits(mut self) -> Source<I> {
        self.never_waits = true;
        self
    }

    #[cold]
    fn begin(&mut self, out: &Outlet<I::Item>) -> Result<(), Cause> {
        let From::Asks(items) = std::mem::replace(&mut self.from, From::End) else { return Ok(()) };
        self.from = match self.never_waits || !out.may_have_helpers() {
            true => From::Here(items.into_iter()),
            false => {
                let pump = Pump::start(move || items.into_iter(), (ahead(out), AHEAD), out.bell())?;
                From::Apart(pump)
            }
        };
        Ok(())
    }
}

impl<I> Node for Source<I>
where
    I: IntoIterator + Send + 'static,
    I::IntoIter: 'static,
    I::Item: Send + 'static,
{
    type In = ();
    type Out = I::Item;

    #[inline]
    fn svc(&mut self, (): (), out: &mut Outlet<I::Item>) -> Result<Flow, Cause> {
        if let From::Asks(_) = self.from {
            self.begin(out)?;
        }
        let next = match &mut self.from {
            From::Here(items) => items.next(),
            From::Apart(pump) => {
                pump.set_most(ahead(out));
                match pump.take() {
                    Taken::Item(item) => Some(item),
                    Taken::End => None,
                    Taken::Nothing => return Ok(Flow::Wait),
                }
            }
            From::Asks(_) | From::End => None,
        };
        match next {
            Some(item) => {
                out.send(item)?;
                Ok(Flow::GoOn)
            }
            None => Ok(Flow::Eos),
        }
    }

    #[inline]
    fn may_wait(&self) -> bool {
        matches!(self.from, From::Here(_)) && !self.never_waits
    }

    fn is_ready(&self) -> bool {
        matches!(&self.from, From::Apart(pump) if pump.is_ready())
    }

    fn has_helper() -> bool {
        !never_waits::<I>()
    }

    fn helper_busy(&self) -> Option<Duration> {
        match &self.from {
            From::Apart(pump) => Some(pump.busy()),
            _ => None,
        }
    }

    /// What it has asked for is sent as well.
    fn svc_end(&mut self, out: &mut Outlet<I::Item>) -> Result<(), Cause> {
        let From::Apart(pump) = &mut self.from else { return Ok(()) };
        send_rest(pump, out, |item, out| Ok(out.send(item)?))
    }
}

/// At the end, sends what was asked for, and what the iterator is about to give if that does not take
/// long.
pub(super) fn send_rest<T: Send + 'static, U: 'static>(
    pump: &mut Pump<T>,
    out: &mut Outlet<U>,
    mut send: impl FnMut(T, &mut Outlet<U>) -> Result<(), Cause>,
) -> Result<(), Cause> {
    let until = pump.close();
    loop {
        match pump.take() {
            Taken::Item(item) => send(item, out)?,
            Taken::End => return Ok(()),
            Taken::Nothing if Instant::now() >= until => return Ok(()),
            Taken::Nothing => {
                let late = || Instant::now() >= until;
                out.wait_for(|| (pump.is_ready() || late()).then_some(()))?;
            }
        }
    }
}

/// Whether it is known of an iterator that it never waits.
#[inline]
pub(super) fn never_waits<I: IntoIterator>() -> bool
where
    I::IntoIter: 'static,
    I::Item: 'static,
{
    let it = TypeId::of::<I::IntoIter>();
    it == TypeId::of::<ops::Range<I::Item>>()
        || it == TypeId::of::<ops::RangeInclusive<I::Item>>()
        || it == TypeId::of::<ops::RangeFrom<I::Item>>()
        || it == TypeId::of::<vec::IntoIter<I::Item>>()
        || it == TypeId::of::<vec_deque::IntoIter<I::Item>>()
        || it == TypeId::of::<option::IntoIter<I::Item>>()
        || it == TypeId::of::<iter::Repeat<I::Item>>()
        || it == TypeId::of::<iter::RepeatN<I::Item>>()
}
