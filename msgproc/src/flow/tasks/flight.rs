//! What is on its way in a line, as the node sees it that gives it jobs. While nothing is finished
//! and nothing comes it sleeps as every worker does; a future that is finished rings.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use super::{
    line::{Line, Work},
    trouble::{Finished, Trouble},
};
use crate::flow::{Cause, Outlet};

pub(crate) struct Flight<W: Work> {
    line: Option<Line<W>>,
    /// How many may be on their way; where order is kept, those count that wait for their turn.
    most: usize,
    on_their_way: usize,
    /// The place of the next job.
    next: u64,
    turns: Option<Turns<Finished<W::Value>>>,
    /// The number of the item that it is at.
    at: Option<u64>,
    /// That of the item over which it failed.
    failed: Option<u64>,
    early: Early<W::Job, Finished<W::Value>>,
}

/// What begins before its turn, until what came of it goes on.
struct Early<J, D> {
    /// How many there are of all kinds.
    count: usize,
    /// What there was no room for on the way.
    waiting: VecDeque<(u64, J)>,
    finished: BTreeMap<u64, D>,
}

/// What is finished and waits for what came before it.
struct Turns<D> {
    next: u64,
    early: BTreeMap<u64, D>,
}

impl<W: Work> Flight<W> {
    /// Whoever asks for none would wait for ever: then it is one.
    pub(crate) fn new(most: usize) -> Flight<W> {
        let early = Early { count: 0, waiting: VecDeque::new(), finished: BTreeMap::new() };
        let most = most.max(1);
        Flight {
            line: None,
            most,
            on_their_way: 0,
            next: 0,
            turns: None,
            at: None,
            failed: None,
            early,
        }
    }

    /// Lets what is finished wait for what came before it. Said before anything comes.
    pub(crate) fn keep_order(&mut self) {
        self.turns = Some(Turns { next: 0, early: BTreeMap::new() });
    }

    pub(crate) fn start(&mut self, work: W, node: &str) -> Result<(), Cause> {
        self.line = Some(Line::start(work, format!("{node}-tasks"))?);
        Ok(())
    }

    /// Takes a job, after it has sent what is finished and there is room for it.
    pub(crate) fn submit(&mut self, job: W::Job, out: &mut Outlet<W::Out>) -> Result<(), Cause> {
        self.send_finished(out)?;
        while self.on_their_way >= self.most {
            self.wait(out)?;
        }
        let line = self.line.as_ref().ok_or("it has not begun")?;
        line.set_bell(|| out.bell());
        line.submit(self.next, job)?;
        self.next += 1;
        self.on_their_way += 1;
        Ok(())
    }

    /// Sends what is finished.
    pub(crate) fn send_finished(&mut self, out: &mut Outlet<W::Out>) -> Result<(), Cause> {
        while let Some(finished) = self.take() {
            self.send(finished, out)?;
        }
        Ok(())
    }

    /// Which item it has sent, or failed over, last.
    pub(crate) fn at_item(&self) -> Option<u64> {
        self.at
    }

    /// Over which item it failed, if it did.
    pub(crate) fn failed_at(&self) -> Option<u64> {
        self.failed
    }

    fn send(
        &mut self,
        finished: Finished<W::Value>,
        out: &mut Outlet<W::Out>,
    ) -> Result<(), Cause> {
        let Finished { number, made } = finished;
        self.at = Some(number);
        self.failed = made.is_err().then_some(number);
        let values = made.map_err(Trouble::raise)?.told(out);
        Ok(values.into_iter().try_for_each(|value| out.send(W::out(number, value)))?)
    }

    /// What is finished, and whose turn it is.
    fn take(&mut self) -> Option<Finished<W::Value>> {
        loop {
            if let Some(turns) = &mut self.turns
                && let Some(done) = turns.early.remove(&turns.next)
            {
                turns.next += 1;
                self.on_their_way -= 1;
                return Some(done);
            }
            let (place, done) = self.line.as_ref()?.take()?;
            match &mut self.turns {
                Some(turns) => drop(turns.early.insert(place, done)),
                None => {
                    self.on_their_way -= 1;
                    return Some(done);
                }
            }
        }
    }

    /// Waits for that, while other workers of the thread go on, and sends it.
    fn wait(&mut self, out: &mut Outlet<W::Out>) -> Result<(), Cause> {
        let finished = out.wait_for(|| self.take())?;
        self.send(finished, out)
    }

    // Of what begins before its turn.

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Whether more may begin. Those that are finished and have not gone on count too.
    pub(super) fn has_room(&self) -> bool {
        self.early.count < self.most
    }

    /// Begins with a job, now or when there is room on the way. Gives its place.
    pub(super) fn begin(&mut self, job: W::Job, out: &mut Outlet<W::Out>) -> Result<u64, Cause> {
        let line = self.line.as_ref().ok_or("it has not begun")?;
        line.set_bell(|| out.bell());
        let place = self.next;
        self.next += 1;
        self.early.count += 1;
        self.early.waiting.push_back((place, job));
        self.submit_early()?;
        Ok(place)
    }

    fn submit_early(&mut self) -> Result<(), Cause> {
        let Some(line) = &self.line else { return Ok(()) };
        while self.on_their_way < self.most
            && let Some((place, job)) = self.early.waiting.pop_front()
        {
            line.submit(place, job)?;
            self.on_their_way += 1;
        }
        Ok(())
    }

    /// Takes note of what is finished, and goes on with what waited.
    pub(super) fn gather(&mut self) -> Result<(), Cause> {
        while let Some((place, done)) = self.line.as_ref().and_then(Line::take) {
            self.on_their_way -= 1;
            self.early.finished.insert(place, done);
        }
        self.submit_early()
    }

    pub(super) fn are_finished(&self, places: &Range<u64>) -> bool {
        let finished = self.early.finished.range(places.clone()).count();
        finished as u64 == places.end.saturating_sub(places.start)
    }

    /// Sends what came of one that is finished.
    pub(super) fn send_from(&mut self, place: u64, out: &mut Outlet<W::Out>) -> Result<(), Cause> {
        let finished = self.early.finished.remove(&place).ok_or("it is not finished")?;
        self.early.count -= 1;
        self.send(finished, out)
    }

    /// Drops what came of those that are finished.
    pub(super) fn forget(&mut self, places: &Range<u64>) {
        for place in places.clone() {
            self.early.count -= usize::from(self.early.finished.remove(&place).is_some());
        }
    }

    /// Waits for one that has begun, while nobody else in this thread goes on.
    pub(super) fn wait_at_work(
        &mut self,
        place: u64,
        out: &mut Outlet<W::Out>,
    ) -> Result<(), Cause> {
        out.wait_at_work(|| match self.gather() {
            Ok(()) => self.early.finished.contains_key(&place).then_some(Ok(())),
            Err(cause) => Some(Err(cause)),
        })?
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.line.as_ref().is_some_and(Line::is_ready)
    }

    /// Sends all that is on its way, and ends the line.
    pub(crate) fn end(&mut self, out: &mut Outlet<W::Out>) -> Result<(), Cause> {
        while self.on_their_way > 0 {
            self.wait(out)?;
        }
        self.line.as_mut().map_or(Ok(()), Line::end)
    }
}
