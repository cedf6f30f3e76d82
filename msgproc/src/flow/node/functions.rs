//! Nodes that functions and iterators are.

use std::marker::PhantomData;

use super::{Cause, Flow, Node};
use crate::flow::outlet::Outlet;

/// A node that a function is: from [`from_fn`] and those that use it.
pub struct FnNode<F, I, O> {
    function: F,
    types: PhantomData<fn(I) -> O>,
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
    FnNode { function, types: PhantomData }
}

/// A node that sends one item at most for each that comes.
struct OneNode<F, I, O> {
    function: F,
    types: PhantomData<fn(I) -> O>,
}

impl<F, I, O> Node for OneNode<F, I, O>
where
    F: FnMut(I) -> Result<Option<O>, Cause> + 'static,
    I: 'static,
    O: 'static,
{
    type In = I;
    type Out = O;

    #[inline]
    fn svc(&mut self, item: I, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        if let Some(made) = (self.function)(item)? {
            out.send(made)?;
        }
        Ok(Flow::GoOn)
    }

    #[inline]
    fn svc_to<T>(
        &mut self,
        _input: usize,
        item: I,
        _between: &mut Outlet<O>,
        take: T,
    ) -> Result<Flow, Cause>
    where
        T: FnMut(O) -> Result<Flow, Cause>,
    {
        (self.function)(item)?.map_or(Ok(Flow::GoOn), take)
    }
}

fn one<I: 'static, O: 'static>(
    function: impl FnMut(I) -> Result<Option<O>, Cause> + 'static,
) -> impl Node<In = I, Out = O> {
    OneNode { function, types: PhantomData }
}

/// The node that sends what the function makes of each item.
pub fn map<I: 'static, O: 'static>(
    mut function: impl FnMut(I) -> O + 'static,
) -> impl Node<In = I, Out = O> {
    one(move |item| Ok(Some(function(item))))
}

/// The same with a function that can fail: its error is the node's.
pub fn try_map<I: 'static, O: 'static, E: Into<Cause> + 'static>(
    mut function: impl FnMut(I) -> Result<O, E> + 'static,
) -> impl Node<In = I, Out = O> {
    one(move |item| function(item).map(Some).map_err(Into::into))
}

/// The node that sends those items that the function wants.
pub fn filter<I: 'static>(
    mut function: impl FnMut(&I) -> bool + 'static,
) -> impl Node<In = I, Out = I> {
    one(move |item| Ok(Some(item).filter(&mut function)))
}

/// The node that sends all that the function makes of each item.
///
/// Results that come slowly, some milliseconds apart, go on one by one. Those that come quickly are
/// gathered: where a pause follows, the last of them wait for it to end. A node that knows of its
/// pauses calls [`Outlet::flush`].
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
            out.breathe_between()?;
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
