//! Two sets of workers, each of the first connected to each of the second.

use super::{
    farm::{Farm, Scheduling},
    graph::Graph,
    part::{Ends, Part},
    workers::Workers,
};

/// Two sets of workers: each of the first sends to any of the second, without a node in between.
///
/// To whom it sends is said by [`AllToAll::between`], or item by item by
/// [`Outlet::send_to`](super::Outlet::send_to).
///
/// ```
/// use msgproc::flow::{AllToAll, Cause, Flow, Node, Outlet, Part, Scheduling, Thread, Workers};
/// use msgproc::flow::flat_map;
/// use std::collections::BTreeMap;
///
/// #[derive(Default)]
/// struct Count(BTreeMap<String, u32>);
///
/// impl Node for Count {
///     type In = String;
///     type Out = (String, u32);
///
///     fn svc(&mut self, word: String, _: &mut Outlet<(String, u32)>) -> Result<Flow, Cause> {
///         *self.0.entry(word).or_default() += 1;
///         Ok(Flow::GoOn)
///     }
///
///     fn svc_end(&mut self, out: &mut Outlet<(String, u32)>) -> Result<(), Cause> {
///         for counted in std::mem::take(&mut self.0) {
///             out.send(counted)?;
///         }
///         Ok(())
///     }
/// }
///
/// let words = |line: &'static str| line.split(' ').map(String::from);
/// let split = Workers::new("split", Thread, move |_| flat_map(words)).count(2);
/// let count = Workers::new("count", Thread, |_| Count::default()).count(3);
/// let by_word = Scheduling::by_key(|word: &String| word.clone());
/// let mut counted = AllToAll::new(split, count)
///     .between(by_word)
///     .run_collect(["to be or", "not to be"])?;
/// counted.sort();
/// let counted: Vec<_> = counted.iter().map(|(word, n)| (&**word, *n)).collect();
/// assert_eq!(counted, [("be", 2), ("not", 1), ("or", 1), ("to", 2)]);
/// # Ok::<(), msgproc::flow::Error>(())
/// ```
pub struct AllToAll<I, M, O, L = I, K = M> {
    first: Farm<I, M, L>,
    second: Farm<M, O, K>,
}

impl<I, M, O, L, K> AllToAll<I, M, O, L, K>
where
    I: Send + 'static,
    M: Send + 'static,
    O: Send + 'static,
    L: 'static,
    K: 'static,
{
    /// Connects all workers of the first set with all of the second.
    pub fn new(first: Workers<I, M, L>, second: Workers<M, O, K>) -> AllToAll<I, M, O, L, K> {
        AllToAll { first: Farm::of(first), second: Farm::of(second) }
    }

    /// How items are dealt to the first set; on demand if nothing is said.
    pub fn scheduling(mut self, scheduling: Scheduling<I>) -> Self {
        self.first = self.first.scheduling(scheduling);
        self
    }

    /// How the first set deals items to the second; on demand if nothing is said.
    pub fn between(mut self, scheduling: Scheduling<M>) -> Self {
        self.second = self.second.scheduling(scheduling);
        self
    }
}

impl<I, M, O, L, K> Part for AllToAll<I, M, O, L, K>
where
    I: Send + 'static,
    M: Send + 'static,
    O: Send + 'static,
    L: 'static,
    K: 'static,
{
    type In = I;
    type Out = O;

    fn add_to(self, graph: &mut Graph) -> Ends<I, O> {
        self.first.then(self.second).add_to(graph)
    }
}
