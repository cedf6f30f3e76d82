//! Many processes at once.

use super::{Manager, ProcessId};
use crate::{
    error::Result,
    process::{Backend, MessageProcess},
    start::check_limits,
};

impl<B: Backend> Manager<B> {
    /// Checks that this many more processes can be started, before the first of them is.
    ///
    /// Of descriptors, processes of the user, of the control group and of the machine: what others
    /// take meanwhile is not known.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`](crate::Error::Limit) names the limit and how to raise it.
    pub fn check_room(&self, processes: usize) -> Result<()> {
        check_limits(processes)
    }

    /// Starts this many processes and takes them over, all or none.
    ///
    /// `start` is given their numbers, from 0. When one of them does not start, those before it
    /// are stopped again.
    ///
    /// ```no_run
    /// # use msgproc::prelude::*;
    /// # struct Worker;
    /// # #[backend]
    /// # impl Worker {}
    /// # fn main() -> msgproc::Result<()> {
    /// let mut manager = Manager::new()?;
    /// let workers = manager.start_many(1000, |number| {
    ///     MessageProcess::fork(&format!("worker-{number}"), |_| Worker)
    /// })?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Manager::check_room`], which comes first; as `start`; as [`Manager::add`].
    pub fn start_many(
        &mut self,
        processes: usize,
        mut start: impl FnMut(usize) -> Result<MessageProcess<B>>,
    ) -> Result<Vec<ProcessId>> {
        self.check_room(processes)?;
        let mut ids = Vec::with_capacity(processes);
        for number in 0..processes {
            let id = start(number).and_then(|process| self.add(process));
            match id {
                Ok(id) => ids.push(id),
                Err(error) => {
                    // All are asked before the first is waited for.
                    for id in &ids {
                        let _ = self[*id].request_stop();
                    }
                    ids.into_iter().for_each(|id| drop(self.remove(id)));
                    return Err(error);
                }
            }
        }
        Ok(ids)
    }
}
