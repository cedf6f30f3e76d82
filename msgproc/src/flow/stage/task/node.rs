//! The node of a stage of tasks.

use std::{future::Future, rc::Rc, sync::Arc};

use super::{At, Await};
use crate::flow::{
    Cause, Flow, Node, Outlet, WorkerInfo,
    stage::{
        item::{Item, StageStatus},
        step::{Ender, Starter},
    },
    tasks::{Flight, Made, Policy, Trouble, Work},
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

struct Shared<I, O, R> {
    stage: Arc<Stage<I, O, R>>,
    resource: Rc<R>,
}

impl<I: Send + 'static, O: Send + 'static, R: 'static> Work for Job<I, O, R> {
    type Job = Item<I>;
    type Value = O;
    type Out = Item<O>;
    type Shared = Shared<I, O, R>;

    fn start(self) -> Result<Shared<I, O, R>, Cause> {
        let resource = Rc::new((self.stage.start)(&self.worker)?);
        Ok(Shared { stage: self.stage, resource })
    }

    fn number(item: &Item<I>) -> u64 {
        item.index
    }

    fn handle(
        shared: &Shared<I, O, R>,
        item: Item<I>,
    ) -> impl Future<Output = Result<Made<O>, Trouble>> + 'static {
        let stage = shared.stage.clone();
        let at = At { resource: shared.resource.clone(), index: item.index };
        async move {
            let begin = |item: Item<I>| (stage.body)(at.clone(), item.value);
            stage.policy.handle(item, begin).await
        }
    }

    fn out(index: u64, value: O) -> Item<O> {
        Item { index, value }
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
}

impl<I: Send + 'static, O: Send + 'static, R: 'static> Tasks<I, O, R> {
    pub(super) fn new(stage: Arc<Stage<I, O, R>>, most: usize, ordered: bool) -> Tasks<I, O, R> {
        let mut flight = Flight::new(most);
        if ordered {
            flight.keep_order();
        }
        Tasks { stage, flight }
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
        self.flight.submit(item, out)?;
        Ok(Flow::GoOn)
    }

    fn svc_idle(&mut self, out: &mut Outlet<Item<O>>) -> Result<Flow, Cause> {
        self.flight.send_finished(out)?;
        Ok(Flow::GoOn)
    }

    fn is_ready(&self) -> bool {
        self.flight.is_ready()
    }

    fn at_item(&self) -> Option<u64> {
        self.flight.at_item()
    }

    fn failed_at(&self) -> Option<u64> {
        self.flight.failed_at()
    }

    fn svc_end(&mut self, out: &mut Outlet<Item<O>>) -> Result<(), Cause> {
        self.flight.end(out)
    }
}
