//! What a worker finds that replaces another.

use super::{Core, words};
use crate::flow::node::Node;

/// What is handled again after a death.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    pub(super) lane: u64,
    pub(super) message: u64,
    pub(super) item: u64,
    pub(super) crashes: u64,
    /// The item to leave out, since it has killed too often.
    pub(super) without: Option<u64>,
    /// Whether the run is to fail because of that.
    pub(super) gives_up: bool,
}

impl<N: Node> Core<N> {
    /// What the process that this one replaces was at when it died.
    pub(super) fn look_back(&mut self) -> Option<Again> {
        if self.setting.info.restarts == 0 {
            return None;
        }
        let lane = self.load(words::LANE);
        self.ends_again = lane == words::ENDING;
        let lane = lane.checked_sub(1).filter(|_| !self.ends_again)?;
        let (message, item) = (self.load(words::MESSAGE), self.load(words::ITEM));
        let at = words::moment(message, item);
        let crashes = match self.load(words::CRASHED_AT) == at {
            true => self.load(words::CRASHES) + 1,
            false => 1,
        };
        self.store(words::CRASHED_AT, at);
        self.store(words::CRASHES, crashes);
        let too_many = crashes > u64::from(self.setting.on_error.retries());
        let skips = self.setting.on_error.skips();
        let without = (too_many && skips).then_some(item);
        Some(Again { lane, message, item, crashes, without, gives_up: too_many && !skips })
    }
}
