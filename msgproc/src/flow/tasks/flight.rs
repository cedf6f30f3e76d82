//! What is on its way in a line, as the node sees it that gives it jobs. While nothing is finished
//! and nothing comes it sleeps as every worker does; a future that is finished rings.

use std::collections::BTreeMap;

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
}

/// What is finished and waits for what came before it.
struct Turns<D> {
    next: u64,
    early: BTreeMap<u64, D>,
}

impl<W: Work> Flight<W> {
    /// Whoever asks for none would wait for ever: then it is one.
    pub(crate) fn new(most: usize) -> Flight<W> {
        Flight { line: None, most: most.max(1), on_their_way: 0, next: 0, turns: None, at: None }
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

    fn send(
        &mut self,
        finished: Finished<W::Value>,
        out: &mut Outlet<W::Out>,
    ) -> Result<(), Cause> {
        let Finished { number, made } = finished;
        self.at = Some(number);
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
