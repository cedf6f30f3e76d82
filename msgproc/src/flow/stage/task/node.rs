//! The node of a stage of tasks.

use std::{future::Future, rc::Rc, sync::Arc};

use super::{At, Await, Made};
use crate::flow::{
    Cause, Flow, Node, Outlet, WorkerInfo,
    stage::{
        item::{Item, StageStatus},
        step::{Ender, Starter},
    },
    tasks::{Flight, Policy, Trouble, Work},
};

/// What a stage does.
pub(super) struct Stage<I, O, R> {
    pub(super) body: Await<I, O, R>,
    pub(super) start: Starter<R>,
    pub(super) end: Option<Ender<R>>,
    pub(super) policy: Policy<Item<I>>,
}

/// The same for one worker.
struct Job<I, O, R> {
    stage: Arc<Stage<I, O, R>>,
    worker: WorkerInfo,
}

struct Finished<O> {
    index: u64,
    made: Result<Made<O>, Trouble>,
}

struct Shared<I, O, R> {
    stage: Arc<Stage<I, O, R>>,
    resource: Rc<R>,
}

impl<I: Send + 'static, O: Send + 'static, R: 'static> Work for Job<I, O, R> {
    type Job = Item<I>;
    type Done = Finished<O>;
    type Shared = Shared<I, O, R>;

    fn start(self) -> Result<Shared<I, O, R>, Cause> {
        let resource = Rc::new((self.stage.start)(&self.worker)?);
        Ok(Shared { stage: self.stage, resource })
    }

    fn handle(
        shared: &Shared<I, O, R>,
        item: Item<I>,
    ) -> impl Future<Output = Finished<O>> + 'static {
        let stage = shared.stage.clone();
        let at = At { resource: shared.resource.clone(), index: item.index };
        async move {
            let begin = |item: Item<I>| (stage.body)(at.clone(), item.value);
            let made = stage.policy.handle(item, begin).await;
            Finished { index: at.index, made }
        }
    }

    fn end(shared: Shared<I, O, R>) -> Result<(), Cause> {
        let Shared { stage, mut resource } = shared;
        let Some(end) = &stage.end else { return Ok(()) };
        let resource =
            Rc::get_mut(&mut resource).ok_or("a task kept what the stage made for all")?;
        end(StageStatus { done: true, active: 0 }, resource)
    }
}

pub(super) struct Tasks<I: Send + 'static, O: Send + 'static, R: 'static> {
    stage: Arc<Stage<I, O, R>>,
    flight: Flight<Job<I, O, R>>,
    /// Which item of the source it is at.
    at: Option<u64>,
}

impl<I: Send + 'static, O: Send + 'static, R: 'static> Tasks<I, O, R> {
    pub(super) fn new(stage: Arc<Stage<I, O, R>>, most: usize, ordered: bool) -> Tasks<I, O, R> {
        let mut flight = Flight::new(most);
        if ordered {
            flight.keep_order();
        }
        Tasks { stage, flight, at: None }
    }

    /// Sends what is finished.
    fn send_finished(&mut self, out: &mut Outlet<Item<O>>) -> Result<(), Cause> {
        while let Some(finished) = self.flight.take() {
            self.send(finished, out)?;
        }
        Ok(())
    }

    /// Waits until something is finished, and sends it.
    fn wait(&mut self, out: &mut Outlet<Item<O>>) -> Result<(), Cause> {
        let finished = self.flight.wait(out)?;
        self.send(finished, out)
    }

    fn send(&mut self, finished: Finished<O>, out: &mut Outlet<Item<O>>) -> Result<(), Cause> {
        let Finished { index, made } = finished;
        self.at = Some(index);
        let values = made.map_err(Trouble::raise)?.told(out);
        Ok(values.into_iter().try_for_each(|value| out.send(Item { index, value }))?)
    }
}

impl<I: Send + 'static, O: Send + 'static, R: 'static> Node for Tasks<I, O, R> {
    type In = Item<I>;
    type Out = Item<O>;

    fn svc_init(&mut self, worker: &WorkerInfo) -> Result<(), Cause> {
        let job = Job { stage: self.stage.clone(), worker: worker.clone() };
        self.flight.start(job, &worker.node)
    }

    fn svc(&mut self, item: Item<I>, out: &mut Outlet<Item<O>>) -> Result<Flow, Cause> {
        self.send_finished(out)?;
        while self.flight.is_full() {
            self.wait(out)?;
        }
        self.flight.submit(item, out)?;
        Ok(Flow::GoOn)
    }

    fn svc_idle(&mut self, out: &mut Outlet<Item<O>>) -> Result<Flow, Cause> {
        self.send_finished(out)?;
        Ok(Flow::GoOn)
    }

    fn is_ready(&self) -> bool {
        self.flight.is_ready()
    }

    fn at_item(&self) -> Option<u64> {
        self.at
    }

    fn svc_end(&mut self, out: &mut Outlet<Item<O>>) -> Result<(), Cause> {
        while !self.flight.is_empty() {
            self.wait(out)?;
        }
        self.flight.end()
    }
}
