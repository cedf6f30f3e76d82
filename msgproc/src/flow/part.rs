//! Parts that work is made of: each adds itself to a graph, with one end where items come in and
//! one where they leave.

use serde::{Deserialize, Serialize};

use super::{
    accelerator::Accelerator,
    error::Result,
    graph::{Graph, Input, Output, Target},
    node::{Node, WorkerInfo},
    pipeline::Pipeline,
    placement::Place,
    workers::Workers,
};

/// A part of the work: [`Workers`], a [`Farm`](super::Farm), an [`AllToAll`](super::AllToAll), or
/// several of them one after the other. A part does nothing by itself; it adds nodes to a graph.
///
/// ```
/// use msgproc::flow::{Farm, Part, Thread, map};
///
/// let squares = Farm::new("squares", Thread, |_| map(|n: u64| n * n)).workers(2).ordered();
/// let lines = Farm::new("lines", Thread, |_| map(|n: u64| n.to_string())).workers(2).ordered();
/// assert_eq!(squares.then(lines).run_collect(1..4)?, ["1", "4", "9"]);
/// # Ok::<(), msgproc::flow::Error>(())
/// ```
pub trait Part: Sized {
    /// What it takes.
    type In: Send + 'static;
    /// What it sends.
    type Out: Send + 'static;

    /// Adds its nodes to a graph, and gives its ends.
    fn add_to(self, graph: &mut Graph) -> Ends<Self::In, Self::Out>;

    /// This part, and behind it another one.
    fn then<B: Part<In = Self::Out>>(self, next: B) -> Chain<Self, B> {
        Chain { first: self, second: next }
    }

    /// This part, and before it a node that hands items to it: each to whom it likes, by
    /// [`Outlet::send_to`](super::Outlet::send_to), but where several workers keep the order.
    fn emitter<N, P, F>(self, name: &str, place: P, make: F) -> Chain<Workers<N::In, N::Out>, Self>
    where
        N: Node<Out = Self::In>,
        N::In: Send + 'static,
        P: Place<N::In> + Place<N::Out> + Send + 'static,
        F: Fn(&WorkerInfo) -> N + Send + Sync + 'static,
    {
        Workers::new(name, place, make).then(self)
    }

    /// This part, and behind it a node that gathers what its workers send.
    fn collector<N, P, F>(
        self,
        name: &str,
        place: P,
        make: F,
    ) -> Chain<Self, Workers<N::In, N::Out>>
    where
        N: Node<In = Self::Out>,
        N::Out: Send + 'static,
        P: Place<N::In> + Place<N::Out> + Send + 'static,
        F: Fn(&WorkerInfo) -> N + Send + Sync + 'static,
    {
        self.then(Workers::new(name, place, make))
    }

    /// Sends back to its beginning what it says is not done: [`Around::Back`]. What is
    /// [`Around::On`] goes on. New items come in while fewer than `credits` are on their way in it;
    /// it ends when nothing more comes in and nothing is on its way.
    ///
    /// `place` says how items travel: [`Process`](super::Process) if any of those is in a process
    /// that send them or take them, else [`Thread`](super::Thread).
    ///
    /// Processes in it that die are replaced if they say so ([`OnError::retry`](super::OnError::retry)).
    /// What came back is in the memory of the node with which a circle begins: so where that would be
    /// in such a process, a node in the program comes before it, `relay to` and its name.
    ///
    /// ```
    /// use msgproc::flow::{Around, Farm, Part, Thread, map};
    ///
    /// let halve = |n: u64| match n % 2 {
    ///     0 => Around::Back(n / 2),
    ///     _ => Around::On(n),
    /// };
    /// let odd = Farm::new("halve", Thread, move |_| map(halve)).workers(2);
    /// let mut parts = odd.wrap_around(Thread, 16).run_collect([12, 40, 7])?;
    /// parts.sort();
    /// assert_eq!(parts, [3, 5, 7]);
    /// # Ok::<(), msgproc::flow::Error>(())
    /// ```
    fn wrap_around<T, O, P>(self, place: P, credits: usize) -> WrapAround<Self, P>
    where
        Self: Part<In = T, Out = Around<T, O>>,
        O: Send + 'static,
        P: Place<T> + Place<O>,
    {
        WrapAround { inner: self, place, credits }
    }

    /// Runs it over these items, and collects what comes out.
    ///
    /// # Errors
    ///
    /// As [`Graph::run`].
    fn run_collect<I>(self, items: I) -> Result<Vec<Self::Out>>
    where
        I: IntoIterator<Item = Self::In> + Send + 'static,
        I::IntoIter: 'static,
    {
        Pipeline::from(items).part(self).run_collect()
    }

    /// Starts it, for items that are given while it runs, and results that are taken: at most
    /// `capacity` of each wait. `place` is where those of its nodes are that take the items.
    ///
    /// # Errors
    ///
    /// As [`Graph::start`].
    fn accelerate<P>(self, place: P, capacity: usize) -> Result<Accelerator<Self::In, Self::Out>>
    where
        P: Place<Self::In>,
    {
        Pipeline::feed(place, capacity).part(self).start()
    }
}

/// The ends of a part.
pub struct Ends<I, O> {
    pub(crate) entry: Target<I>,
    pub(crate) exit: Exit<O>,
}

impl<I, O> Ends<I, O> {
    /// Of nodes that were added to a graph.
    pub fn new(input: Input<I>, output: Output<O>) -> Ends<I, O> {
        Ends { entry: input.into(), exit: Exit::Output(output) }
    }
}

/// Where items leave a part.
pub(crate) enum Exit<O> {
    Output(Output<O>),
    /// Where not all of them do. Waits to be told where they go, if they go anywhere.
    Branch(Box<Lead<O>>),
}

type Lead<O> = dyn FnOnce(&mut Graph, Option<Target<O>>);

impl<O: Send + 'static> Exit<O> {
    /// Leads what leaves to what follows.
    pub(crate) fn lead(self, graph: &mut Graph, to: Option<Target<O>>) {
        match (self, to) {
            (Exit::Output(output), Some(to)) => graph.lead(output, to),
            (Exit::Output(_), None) => {}
            (Exit::Branch(lead), to) => lead(graph, to),
        }
    }
}

/// Two parts, one behind the other. From [`Part::then`].
pub struct Chain<A, B> {
    first: A,
    second: B,
}

impl<A: Part, B: Part<In = A::Out>> Part for Chain<A, B> {
    type In = A::In;
    type Out = B::Out;

    fn add_to(self, graph: &mut Graph) -> Ends<A::In, B::Out> {
        let first = self.first.add_to(graph);
        let second = self.second.add_to(graph);
        first.exit.lead(graph, Some(second.entry));
        Ends { entry: first.entry, exit: second.exit }
    }
}

/// What a part in a circle sends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Around<T, O> {
    /// Back to the beginning of the circle.
    Back(T),
    /// On, out of it.
    On(O),
}

/// A part whose items go round. From [`Part::wrap_around`].
pub struct WrapAround<A, P> {
    inner: A,
    place: P,
    credits: usize,
}

impl<A, P, T, O> Part for WrapAround<A, P>
where
    A: Part<In = T, Out = Around<T, O>>,
    T: Send + 'static,
    O: Send + 'static,
    P: Place<T> + Place<O>,
{
    type In = T;
    type Out = O;

    fn add_to(self, graph: &mut Graph) -> Ends<T, O> {
        let WrapAround { inner, place, credits } = self;
        let Ends { entry, exit } = inner.add_to(graph);
        let there = Place::<T>::wire(place);
        let entry = graph.begin_in_program(entry, there);
        let back = Target { wire: there, feedback: Some(credits.max(1) as u64), ..entry.clone() };
        let wire = Place::<O>::wire(place);
        let lead = move |graph: &mut Graph, on: Option<Target<O>>| {
            let Exit::Output(output) = exit else {
                return graph.is_wrong("a circle ends where another one does".into());
            };
            let on = on.map(|on| Target { wire: on.wire.or(wire), ..on });
            let choose = |item| match item {
                Around::Back(item) => Ok(item),
                Around::On(item) => Err(item),
            };
            graph.branch(&output, choose, back, on);
        };
        Ends { entry, exit: Exit::Branch(Box::new(lead)) }
    }
}
