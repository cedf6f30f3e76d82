//! What does the work: nodes, and what they are told.

use std::error::Error as StdError;

use super::outlet::Outlet;

/// Why a node could not do its work: any error. The engine adds where it happened.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Whether a node goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It takes the next item.
    GoOn,
    /// A source has nothing to send now. It is asked again when another worker of its thread has
    /// done something, and after 0.1 s at the latest. Other nodes go on.
    Wait,
    /// It is done: it takes no more items, and its end of the stream follows what it has sent.
    Eos,
}

/// A step of the work: takes items, sends items.
///
/// A node is made where it runs, by a constructor, once for each of its workers, and is never
/// moved from there; so it may hold whatever it likes. A worker calls its node from one thread.
///
/// Closures and iterators are nodes as well: see [`map`], [`filter`], [`flat_map`], [`each`] and
/// [`source()`].
///
/// ```
/// use msgproc::flow::{Cause, Flow, Node, Outlet, WorkerInfo};
///
/// /// Sums up what comes, and tells the sums at the end.
/// struct Sums(u64);
///
/// impl Node for Sums {
///     type In = u64;
///     type Out = u64;
///
///     fn svc(&mut self, item: u64, _out: &mut Outlet<u64>) -> Result<Flow, Cause> {
///         self.0 += item;
///         Ok(Flow::GoOn)
///     }
///
///     fn svc_end(&mut self, out: &mut Outlet<u64>) -> Result<(), Cause> {
///         Ok(out.send(self.0)?)
///     }
/// }
/// ```
pub trait Node: 'static {
    /// What it takes. A source takes `()`, again and again, until it answers [`Flow::Eos`].
    type In;
    /// What it sends; `()` where nothing follows.
    type Out;

    /// Runs once where the node is, before the first item flows anywhere.
    ///
    /// # Errors
    ///
    /// An error stops the whole run before it begins.
    fn svc_init(&mut self, _worker: &WorkerInfo) -> Result<(), Cause> {
        Ok(())
    }

    /// Takes one item. What it sends goes on when the next worker waits for it, or when enough has
    /// come together.
    ///
    /// # Errors
    ///
    /// What becomes of an item whose handling fails, or panics, is said by the node's
    /// [`OnError`](super::OnError). [`Closed`](super::Closed), which sends give when nobody takes
    /// anything any more, is no failure: it ends the node.
    fn svc(&mut self, item: Self::In, out: &mut Outlet<Self::Out>) -> Result<Flow, Cause>;

    /// Takes one item, and is told at which of the node's inputs it came.
    ///
    /// # Errors
    ///
    /// As [`Node::svc`], which this calls if it is not written.
    fn svc_on(
        &mut self,
        _input: usize,
        item: Self::In,
        out: &mut Outlet<Self::Out>,
    ) -> Result<Flow, Cause> {
        self.svc(item, out)
    }

    /// Whether it takes items of this input now. While it does not, the input is not read, and who
    /// sends to it is held back as by any node that is busy. What was read already still comes: so
    /// a node keeps up to a message of items that it did not want.
    ///
    /// It is asked again after each item that the node takes, and each input that ends. One that
    /// wants nothing from any input that has not ended waits for ever.
    fn wants(&self, _input: usize) -> bool {
        true
    }

    /// One of several inputs has ended.
    ///
    /// # Errors
    ///
    /// An error fails the run.
    fn input_ended(&mut self, _input: usize, _out: &mut Outlet<Self::Out>) -> Result<Flow, Cause> {
        Ok(Flow::GoOn)
    }

    /// Goes on with what it waited for beside its items, when [`Node::is_ready`] says so.
    #[doc(hidden)]
    fn svc_idle(&mut self, _out: &mut Outlet<Self::Out>) -> Result<Flow, Cause> {
        Ok(Flow::GoOn)
    }

    /// Whether there is something to do though no item has come. Whoever makes it so rings the bell
    /// of the outlet afterwards.
    #[doc(hidden)]
    fn is_ready(&self) -> bool {
        false
    }

    /// Which item of the source the node is at, if it knows: said where it fails.
    #[doc(hidden)]
    fn at_item(&self) -> Option<u64> {
        None
    }

    /// Runs once after the last item, and may still send.
    ///
    /// # Errors
    ///
    /// An error fails the run.
    fn svc_end(&mut self, _out: &mut Outlet<Self::Out>) -> Result<(), Cause> {
        Ok(())
    }
}

impl<I: 'static, O: 'static> Node for Box<dyn Node<In = I, Out = O>> {
    type In = I;
    type Out = O;

    fn svc_init(&mut self, worker: &WorkerInfo) -> Result<(), Cause> {
        (**self).svc_init(worker)
    }

    fn svc(&mut self, item: I, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        (**self).svc(item, out)
    }

    fn svc_on(&mut self, input: usize, item: I, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        (**self).svc_on(input, item, out)
    }

    fn wants(&self, input: usize) -> bool {
        (**self).wants(input)
    }

    fn input_ended(&mut self, input: usize, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        (**self).input_ended(input, out)
    }

    fn svc_idle(&mut self, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        (**self).svc_idle(out)
    }

    fn is_ready(&self) -> bool {
        (**self).is_ready()
    }

    fn at_item(&self) -> Option<u64> {
        (**self).at_item()
    }

    fn svc_end(&mut self, out: &mut Outlet<O>) -> Result<(), Cause> {
        (**self).svc_end(out)
    }
}

/// Which worker of a node this is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// The name of the node.
    pub node: String,
    /// Which of its workers, from 0 on.
    pub index: usize,
    /// How many it has.
    pub workers: usize,
    /// How often this worker was replaced before, because its process died.
    pub restarts: u32,
}

/// A node that a function is: from [`from_fn`] and those that use it.
pub struct FnNode<F, I, O> {
    function: F,
    types: std::marker::PhantomData<fn(I) -> O>,
}

impl<F, I, O> Node for FnNode<F, I, O>
where
    F: FnMut(I, &mut Outlet<O>) -> Result<Flow, Cause> + 'static,
    I: 'static,
    O: 'static,
{
    type In = I;
    type Out = O;

    #[inline]
    fn svc(&mut self, item: I, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        (self.function)(item, out)
    }
}

/// The node that calls this for each item.
pub fn from_fn<I, O, F>(function: F) -> FnNode<F, I, O>
where
    F: FnMut(I, &mut Outlet<O>) -> Result<Flow, Cause> + 'static,
{
    FnNode { function, types: std::marker::PhantomData }
}

/// The node that sends what the function makes of each item.
pub fn map<I: 'static, O: 'static>(
    mut function: impl FnMut(I) -> O + 'static,
) -> impl Node<In = I, Out = O> {
    from_fn(move |item, out: &mut Outlet<O>| {
        out.send(function(item))?;
        Ok(Flow::GoOn)
    })
}

/// The same with a function that can fail: its error is the node's.
pub fn try_map<I: 'static, O: 'static, E: Into<Cause> + 'static>(
    mut function: impl FnMut(I) -> Result<O, E> + 'static,
) -> impl Node<In = I, Out = O> {
    from_fn(move |item, out: &mut Outlet<O>| {
        out.send(function(item).map_err(Into::into)?)?;
        Ok(Flow::GoOn)
    })
}

/// The node that sends those items that the function wants.
pub fn filter<I: 'static>(
    mut function: impl FnMut(&I) -> bool + 'static,
) -> impl Node<In = I, Out = I> {
    from_fn(move |item, out: &mut Outlet<I>| {
        if function(&item) {
            out.send(item)?;
        }
        Ok(Flow::GoOn)
    })
}

/// The node that sends all that the function makes of each item.
pub fn flat_map<I: 'static, R>(
    mut function: impl FnMut(I) -> R + 'static,
) -> impl Node<In = I, Out = R::Item>
where
    R: IntoIterator + 'static,
    R::Item: 'static,
{
    from_fn(move |item, out: &mut Outlet<R::Item>| {
        for made in function(item) {
            out.send(made)?;
        }
        Ok(Flow::GoOn)
    })
}

/// The node that calls the function with each item, and sends nothing.
pub fn each<I: 'static>(mut function: impl FnMut(I) + 'static) -> impl Node<In = I, Out = ()> {
    from_fn(move |item, _out: &mut Outlet<()>| {
        function(item);
        Ok(Flow::GoOn)
    })
}

/// The same with a function that can fail: its error is the node's.
pub fn try_each<I: 'static, E: Into<Cause> + 'static>(
    mut function: impl FnMut(I) -> Result<(), E> + 'static,
) -> impl Node<In = I, Out = ()> {
    from_fn(move |item, _out: &mut Outlet<()>| {
        function(item).map_err(Into::into)?;
        Ok(Flow::GoOn)
    })
}

/// The node that sends what an iterator gives.
pub fn source<I>(items: I) -> Source<I::IntoIter>
where
    I: IntoIterator,
{
    Source(items.into_iter())
}

/// A node that an iterator is. From [`source`].
#[derive(Debug)]
pub struct Source<I>(I);

impl<I> Node for Source<I>
where
    I: Iterator + 'static,
    I::Item: 'static,
{
    type In = ();
    type Out = I::Item;

    #[inline]
    fn svc(&mut self, (): (), out: &mut Outlet<I::Item>) -> Result<Flow, Cause> {
        match self.0.next() {
            Some(item) => {
                out.send(item)?;
                Ok(Flow::GoOn)
            }
            None => Ok(Flow::Eos),
        }
    }
}

/// Two nodes as one, in the same worker: the second takes what the first sends. From [`fuse`].
pub struct Fused<A: Node, B> {
    first: A,
    second: B,
    between: Outlet<A::Out>,
}

/// Makes one node of two: no edge lies between them. What the first sends for one item lies in
/// memory until it returns.
pub fn fuse<A, B>(first: A, second: B) -> Fused<A, B>
where
    A: Node,
    B: Node<In = A::Out>,
    A::Out: 'static,
{
    Fused { first, second, between: Outlet::collecting() }
}

impl<A: Node, B: Node<In = A::Out>> Fused<A, B> {
    #[inline]
    fn hand_on(&mut self, flow: Flow, out: &mut Outlet<B::Out>) -> Result<Flow, Cause> {
        out.discard(self.between.take_discarded());
        for item in self.between.drain() {
            if self.second.svc(item, out)? == Flow::Eos {
                return Ok(Flow::Eos);
            }
        }
        Ok(flow)
    }
}

impl<A, B> Node for Fused<A, B>
where
    A: Node,
    B: Node<In = A::Out>,
    A::Out: 'static,
{
    type In = A::In;
    type Out = B::Out;

    fn svc_init(&mut self, worker: &WorkerInfo) -> Result<(), Cause> {
        self.second.svc_init(worker)?;
        self.first.svc_init(worker)
    }

    #[inline]
    fn svc(&mut self, item: A::In, out: &mut Outlet<B::Out>) -> Result<Flow, Cause> {
        let flow = self.first.svc(item, &mut self.between)?;
        self.hand_on(flow, out)
    }

    fn svc_on(
        &mut self,
        input: usize,
        item: A::In,
        out: &mut Outlet<B::Out>,
    ) -> Result<Flow, Cause> {
        let flow = self.first.svc_on(input, item, &mut self.between)?;
        self.hand_on(flow, out)
    }

    fn wants(&self, input: usize) -> bool {
        self.first.wants(input)
    }

    fn input_ended(&mut self, input: usize, out: &mut Outlet<B::Out>) -> Result<Flow, Cause> {
        let flow = self.first.input_ended(input, &mut self.between)?;
        self.hand_on(flow, out)
    }

    fn svc_end(&mut self, out: &mut Outlet<B::Out>) -> Result<(), Cause> {
        self.first.svc_end(&mut self.between)?;
        self.hand_on(Flow::GoOn, out)?;
        self.second.svc_end(out)
    }
}
