//! How many workers of a stage are still at work, across processes.

use shmring::{Segment, board::Board};

use super::item::StageStatus;

/// What all workers of a stage share: a word for each, which says whether it is done, and one that
/// says who found that all are.
#[derive(Clone)]
pub(super) struct Active(Board);

impl Active {
    pub(super) fn new(workers: usize) -> Result<Active, shmring::Error> {
        let options = Board::options().words(workers + 1).bells(0);
        let len = options.len_in_segment()? + 4096;
        let segment = Segment::options().len(len).participants(1).objects(1).bells(0);
        Ok(Active(options.create_in(&segment.anonymous()?)?))
    }

    /// A worker is done. One that replaces another may say so again.
    pub(super) fn leave(&self, worker: usize) -> StageStatus {
        let workers = self.0.words() - 1;
        self.0.store(worker, 1);
        let active = (0..workers).filter(|other| self.0.load(*other) == 0).count();
        let me = worker as u64 + 1;
        if active > 0 {
            return StageStatus { done: false, active };
        }
        // Two that are done at the same time may both see all words.
        let done = match self.0.change(workers, 0, me) {
            Ok(()) => true,
            Err(first) => first == me,
        };
        StageStatus { done, active: usize::from(!done) }
    }
}
