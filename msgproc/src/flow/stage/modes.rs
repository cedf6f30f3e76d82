//! The modules of the modes that call functions: the same words in each.

macro_rules! verbs {
    ($place:ident) => {
        use crate::flow::{
            Cause, WorkerInfo,
            stage::{calls::With, step::Step},
        };

        pub use crate::flow::$place as Mode;

        /// Sends what the function makes of each item.
        pub fn map<I: 'static, O: 'static, F>(function: F) -> Step<Mode, I, O>
        where
            F: Fn(I) -> O + Send + Sync + 'static,
        {
            With::nothing().map(move |_, item| function(item))
        }

        /// The same with a function that can fail.
        pub fn try_map<I: 'static, O: 'static, E, F>(function: F) -> Step<Mode, I, O>
        where
            E: Into<Cause> + 'static,
            F: Fn(I) -> Result<O, E> + Send + Sync + 'static,
        {
            With::nothing().try_map(move |_, item| function(item))
        }

        /// Sends those items that the function wants.
        pub fn filter<I: 'static, F>(function: F) -> Step<Mode, I, I>
        where
            F: Fn(&I) -> bool + Send + Sync + 'static,
        {
            With::nothing().filter(move |_, item| function(item))
        }

        /// The same with a function that can fail.
        pub fn try_filter<I: 'static, E, F>(function: F) -> Step<Mode, I, I>
        where
            E: Into<Cause> + 'static,
            F: Fn(&I) -> Result<bool, E> + Send + Sync + 'static,
        {
            With::nothing().try_filter(move |_, item| function(item))
        }

        /// Sends all that the function makes of each item.
        pub fn flat_map<I: 'static, J, F>(function: F) -> Step<Mode, I, J::Item>
        where
            J: IntoIterator + 'static,
            J::Item: 'static,
            F: Fn(I) -> J + Send + Sync + 'static,
        {
            With::nothing().flat_map(move |_, item| function(item))
        }

        /// The same with a function that can fail.
        pub fn try_flat_map<I: 'static, J, E, F>(function: F) -> Step<Mode, I, J::Item>
        where
            J: IntoIterator + 'static,
            J::Item: 'static,
            E: Into<Cause> + 'static,
            F: Fn(I) -> Result<J, E> + Send + Sync + 'static,
        {
            With::nothing().try_flat_map(move |_, item| function(item))
        }

        /// Calls the function with each item, and sends nothing.
        pub fn each<I: 'static, F>(function: F) -> Step<Mode, I, ()>
        where
            F: Fn(I) + Send + Sync + 'static,
        {
            With::nothing().each(move |_, item| function(item))
        }

        /// The same with a function that can fail.
        pub fn try_each<I: 'static, E, F>(function: F) -> Step<Mode, I, ()>
        where
            E: Into<Cause> + 'static,
            F: Fn(I) -> Result<(), E> + Send + Sync + 'static,
        {
            With::nothing().try_each(move |_, item| function(item))
        }

        /// Lets each worker make something when it begins: its calls are handed that, with the
        /// number of the item. It is made where the worker runs, never moved, and dropped there.
        pub fn with<R: 'static>(
            make: impl Fn(&WorkerInfo) -> R + Send + Sync + 'static,
        ) -> With<Mode, R> {
            With::new(move |worker| Ok::<_, Cause>(make(worker)))
        }

        /// The same with a function that can fail: then nothing begins.
        pub fn try_with<R: 'static, E: Into<Cause> + 'static>(
            make: impl Fn(&WorkerInfo) -> Result<R, E> + Send + Sync + 'static,
        ) -> With<Mode, R> {
            With::new(make)
        }
    };
}

/// Stages whose workers are processes of their own.
///
/// They are forked, so their functions may capture whatever they like, and each process has a copy
/// of it. That needs a program of one thread: where there are more, the run does not begin, and
/// says so with the ways out. Begin the run by [`Stages::start`](super::Stages::start) before other
/// threads, or use [`thread`](super::thread) stages. Items and results travel by serde; long data
/// travel best as [blocks](crate::flow::Memory).
pub mod process {
    verbs!(Process);
}

/// Stages whose workers are threads of this program.
pub mod thread {
    verbs!(Thread);
}

/// Stages without workers of their own: they run in the thread that runs the stream, between the
/// others. Where all stages are such, [`Stages::run`](super::Stages::run) and
/// [`Stages::collect`](super::Stages::collect) do everything in the caller's thread, asking the source
/// too: for a debugger.
pub mod sync {
    verbs!(Same);
}
