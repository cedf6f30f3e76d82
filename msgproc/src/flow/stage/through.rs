//! Stages that processes make again, which need not be forks.

use std::iter;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Stages, source::from_iter};
use crate::flow::Graph;

/// What becomes of what comes out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Ending {
    Dropped,
    /// It is kept, to be given at the end.
    Kept,
    /// It is taken as it comes.
    Taken,
}

/// Tells a graph of such an end how its processes make it.
pub(super) type Travel = Box<dyn FnOnce(&mut Graph, Ending) + Send>;

impl<T: Send + 'static> Stages<T> {
    /// Goes on with the stages that `make` puts behind this source, and makes them so that their
    /// processes need not be forks: each calls the function itself, with the state, which travels by
    /// serde, and with a source that has nothing. So they can run while the program has threads, as
    /// one with a runtime of tokio's does.
    ///
    /// The function captures nothing, and only describes. All that follows the source belongs into
    /// it: with stages before or behind it, processes have to be forks again. As for
    /// [`Graph::travelling`], the program calls [`init`](crate::init) first in `main`.
    ///
    /// ```no_run
    /// use msgproc::flow::stage::{from_iter, process};
    ///
    /// fn main() -> Result<(), msgproc::flow::Error> {
    ///     msgproc::init();
    ///     std::thread::spawn(|| ()); // It may have threads.
    ///     let lengths: Vec<usize> = from_iter(["one", "three"].map(String::from))
    ///         .through(10, |words, more: usize| {
    ///             words | process::map(move |word: String| word.len() + more).workers(2)
    ///         })
    ///         .collect()?;
    ///     Ok(())
    /// }
    /// ```
    pub fn through<S, F, U>(self, state: S, make: F) -> Stages<U>
    where
        S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
        F: Fn(Stages<T>, S) -> Stages<U> + Copy + Send + Sync + 'static,
        U: Send + 'static,
    {
        let is_source = self.is_source;
        let made = make(self, state.clone());
        let travel = move |graph: &mut Graph, ending: Ending| {
            if !is_source {
                graph.is_wrong(
                    "`through` follows a source: stages before it belong into its function".into(),
                );
            }
            graph.travels((state, ending), move |(state, ending)| {
                Ok(make(from_iter(iter::empty()), state).graph(ending))
            });
        };
        Stages { travel: Some(Box::new(travel)), ..made }
    }
}
