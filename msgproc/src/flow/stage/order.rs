//! Order, and streams in one.

use super::{
    Said, Stages,
    build::{Build, Open, Upstream},
    item::Item,
    step::{Adds, Mode, Settings, Step},
};
use crate::flow::{Cause, Place, Thread, edge::Room};

/// The mode of [`ordered`].
#[derive(Clone, Copy, Debug)]
pub struct Order;

impl Mode for Order {
    type Body<I, O, R> = ();

    const IS_LOCAL: bool = true;
}

impl<T: Send + 'static> Adds<T, T, ()> for Order
where
    Thread: Place<Item<T>>,
{
    fn add(
        _step: Step<Order, T, T, ()>,
        upstream: Upstream<T>,
        build: &mut Build,
        _ordered: bool,
    ) -> Open<T> {
        upstream(build, true)
    }
}

/// Keeps the order of the source in all that comes before: what comes of an item goes on before what
/// comes of the next, however many of them a stage drops or makes. Nothing is sorted afterwards:
/// workers get their items in turn and are taken from in turn, so that one that is slow holds up
/// the others as soon as what they may send ahead of it is full.
///
/// Behind [`concat`](fn@concat) the items of each stream keep their order among themselves.
pub fn ordered<T>() -> Step<Order, T, T> {
    let start = std::sync::Arc::new(|_: &crate::flow::WorkerInfo| Ok::<_, Cause>(()));
    Step::new((), start, Settings::new("ordered", true))
}

/// One stream of several: items go on as they come. They are numbered by their own sources.
pub fn concat<T: Send + 'static>(streams: impl IntoIterator<Item = Stages<T>>) -> Stages<T> {
    let streams: Vec<Stages<T>> = streams.into_iter().collect();
    if streams.is_empty() {
        return super::from_iter(std::iter::empty());
    }
    let is_local = streams.iter().all(|stream| stream.is_local);
    let said = streams.iter().map(|stream| stream.said.clone());
    let said = said.reduce(Said::or).unwrap_or_default();
    let build = move |build: &mut Build, ordered: bool| {
        let mut all = Open {
            outputs: Vec::new(),
            room: Room::default(),
            is_numbered: false,
            expected: Some(Vec::new()),
        };
        let ahead = build.ahead;
        for stream in streams {
            build.ahead = ahead;
            let Open { outputs, room, is_numbered, expected } = (stream.build)(build, ordered);
            all.outputs.extend(outputs);
            all.room = all.room.least(room);
            all.is_numbered |= is_numbered;
            all.expected = all.expected.zip(expected).map(|(mut sum, more)| {
                sum.extend(more);
                sum
            });
        }
        all
    };
    let mut all = Stages::new(Box::new(build), is_local);
    all.said = said;
    all
}
