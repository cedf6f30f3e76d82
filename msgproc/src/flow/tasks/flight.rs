//! What is on its way in a line, as the node sees it that gives it jobs. While nothing is finished
//! and nothing comes it sleeps as every worker does; a future that is finished rings.

use std::collections::BTreeMap;

use super::line::{Line, Work};
use crate::flow::{Cause, Outlet};

pub(crate) struct Flight<W: Work> {
    line: Option<Line<W>>,
    /// How many may be on their way; where order is kept, those count that wait for their turn.
    most: usize,
    on_their_way: usize,
    /// The place of the next job.
    next: u64,
    turns: Option<Turns<W::Done>>,
}

/// What is finished and waits for what came before it.
struct Turns<D> {
    next: u64,
    early: BTreeMap<u64, D>,
}

impl<W: Work> Flight<W> {
    /// Whoever asks for none would wait for ever: then it is one.
    pub(crate) fn new(most: usize) -> Flight<W> {
        Flight { line: None, most: most.max(1), on_their_way: 0, next: 0, turns: None }
    }

    /// Lets what is finished wait for what came before it. Said before anything comes.
    pub(crate) fn keep_order(&mut self) {
        self.turns = Some(Turns { next: 0, early: BTreeMap::new() });
    }

    pub(crate) fn start(&mut self, work: W, node: &str) -> Result<(), Cause> {
        self.line = Some(Line::start(work, format!("{node}-tasks"))?);
        Ok(())
    }

    /// Whether another job has to wait for one that is on its way.
    pub(crate) fn is_full(&self) -> bool {
        self.on_their_way >= self.most
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.on_their_way == 0
    }

    pub(crate) fn submit<O>(&mut self, job: W::Job, out: &Outlet<O>) -> Result<(), Cause> {
        let line = self.line.as_ref().ok_or("it has not begun")?;
        line.set_bell(|| out.bell());
        line.submit(self.next, job)?;
        self.next += 1;
        self.on_their_way += 1;
        Ok(())
    }

    /// What is finished, and whose turn it is.
    pub(crate) fn take(&mut self) -> Option<W::Done> {
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

    /// Waits for that, while other workers of the thread go on.
    pub(crate) fn wait<O>(&mut self, out: &mut Outlet<O>) -> Result<W::Done, Cause> {
        Ok(out.wait_for(|| self.take())?)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.line.as_ref().is_some_and(Line::is_ready)
    }

    /// Ends the line, after all that was submitted has been taken.
    pub(crate) fn end(&mut self) -> Result<(), Cause> {
        self.line.as_mut().map_or(Ok(()), Line::end)
    }
}
