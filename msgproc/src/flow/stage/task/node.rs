//! The node of a stage of tasks: gives items to the thread where they run, and takes what is
//! finished. While neither comes it sleeps as every worker does; a future that is finished rings.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Made,
    line::{Finished, Line, Work},
};
use crate::flow::{Cause, Flow, Node, Outlet, WorkerInfo, stage::item::Item};

pub(super) struct Tasks<I, O, R> {
    work: Arc<Work<I, O, R>>,
    line: Option<Line<I, O>>,
    /// How many may be on their way; where order is kept, those count that wait for their turn.
    most: usize,
    on_their_way: usize,
    /// The place of the next item that comes.
    next: u64,
    turns: Option<Turns<O>>,
    at: Option<u64>,
}

/// What is finished and waits for what came before it.
struct Turns<O> {
    next: u64,
    early: BTreeMap<u64, Finished<O>>,
}

impl<I: Send + 'static, O: Send + 'static, R: 'static> Tasks<I, O, R> {
    pub(super) fn new(work: Arc<Work<I, O, R>>, most: usize, ordered: bool) -> Tasks<I, O, R> {
        let turns = ordered.then(|| Turns { next: 0, early: BTreeMap::new() });
        Tasks { work, line: None, most, on_their_way: 0, next: 0, turns, at: None }
    }

    /// Sends what is finished.
    fn send_finished(&mut self, out: &mut Outlet<Item<O>>) -> Result<(), Cause> {
        while let Some(finished) = self.line.as_ref().and_then(Line::take) {
            self.settle(finished, out)?;
        }
        Ok(())
    }

    /// Waits until something is finished, and sends it.
    fn wait(&mut self, out: &mut Outlet<Item<O>>) -> Result<(), Cause> {
        let line = self.line.as_ref().ok_or("it has not begun")?;
        let finished = out.wait_for(|| line.take())?;
        self.settle(finished, out)
    }

    fn settle(&mut self, finished: Finished<O>, out: &mut Outlet<Item<O>>) -> Result<(), Cause> {
        let Some(turns) = &mut self.turns else { return self.send(finished, out) };
        turns.early.insert(finished.place, finished);
        while let Some(turns) = &mut self.turns
            && let Some(finished) = turns.early.remove(&turns.next)
        {
            turns.next += 1;
            self.send(finished, out)?;
        }
        Ok(())
    }

    fn send(&mut self, finished: Finished<O>, out: &mut Outlet<Item<O>>) -> Result<(), Cause> {
        let Finished { index, made, .. } = finished;
        self.on_their_way -= 1;
        self.at = Some(index);
        let Made { items, skipped, retried } = made.map_err(super::line::Trouble::raise)?;
        out.notes().skipped += skipped;
        out.notes().retried += retried;
        for value in items {
            out.send(Item { index, value })?;
        }
        Ok(())
    }
}

impl<I: Send + 'static, O: Send + 'static, R: 'static> Node for Tasks<I, O, R> {
    type In = Item<I>;
    type Out = Item<O>;

    fn svc_init(&mut self, worker: &WorkerInfo) -> Result<(), Cause> {
        self.line = Some(Line::start(self.work.clone(), worker)?);
        Ok(())
    }

    fn svc(&mut self, item: Item<I>, out: &mut Outlet<Item<O>>) -> Result<Flow, Cause> {
        self.send_finished(out)?;
        while self.on_their_way >= self.most {
            self.wait(out)?;
        }
        let line = self.line.as_ref().ok_or("it has not begun")?;
        line.set_bell(|| out.bell());
        line.submit(self.next, item)?;
        self.next += 1;
        self.on_their_way += 1;
        Ok(Flow::GoOn)
    }

    fn svc_idle(&mut self, out: &mut Outlet<Item<O>>) -> Result<Flow, Cause> {
        self.send_finished(out)?;
        Ok(Flow::GoOn)
    }

    fn is_ready(&self) -> bool {
        self.line.as_ref().is_some_and(Line::is_ready)
    }

    fn at_item(&self) -> Option<u64> {
        self.at
    }

    fn svc_end(&mut self, out: &mut Outlet<Item<O>>) -> Result<(), Cause> {
        while self.on_their_way > 0 {
            self.wait(out)?;
        }
        self.line.as_mut().map_or(Ok(()), Line::end)
    }
}
