//! Joins as classes of graph files.

use std::num::NonZeroUsize;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::registry::{Connected, Make, Making};
use super::{ClassInfo, OnError, PortInfo, Registry};
use crate::flow::join::{Before, ByTick, Joined, Latest, Nearest, WhenFull};
use crate::flow::{Cause, Flow, Outlet, from_fn, fuse};

/// How many inputs a join of a file may have.
const INPUTS: usize = 8;

/// How much a join holds if nothing is said.
const HOLDS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ByTickSettings {
    window: NonZeroUsize,
    slack: u64,
    when_full: WhenFull,
    sticky_rows: NonZeroUsize,
}

impl Default for ByTickSettings {
    fn default() -> Self {
        let when_full = WhenFull::default();
        ByTickSettings { window: HOLDS, slack: 0, when_full, sticky_rows: HOLDS }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LatestSettings {
    hold: NonZeroUsize,
    when_full: WhenFull,
    sticky_rows: NonZeroUsize,
}

impl Default for LatestSettings {
    fn default() -> Self {
        LatestSettings { hold: HOLDS, when_full: WhenFull::default(), sticky_rows: HOLDS }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NearestSettings {
    tolerance: u64,
    #[serde(default = "holds")]
    capacity: NonZeroUsize,
    #[serde(default)]
    when_full: WhenFull,
    #[serde(default = "holds")]
    sticky_rows: NonZeroUsize,
}

fn holds() -> NonZeroUsize {
    HOLDS
}

/// # Joins
///
/// Their inputs are called `in0` to `in7`, of which the first two must be connected, and their
/// output `out`. A row has the items in the order of the inputs, those of sticky connections at its
/// end. `when_full` is `wait` or `discard` (see [`WhenFull`]); until all sticky inputs have said
/// something, `sticky_rows` rows are held. Whatever is not said is 1024.
impl<T> Registry<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
{
    /// Adds the class `join.by_tick`, with a [`ByTick`]: `tick` tells the number of an item, and
    /// `row` makes an item of a row. Its settings are `window`, `slack`, `when_full` and
    /// `sticky_rows`.
    ///
    /// # Panics
    ///
    /// If it was added before.
    pub fn join_by_tick<E>(
        self,
        tick: impl Fn(&T) -> Option<u64> + Clone + Send + Sync + 'static,
        row: impl Fn(Vec<T>) -> Result<T, E> + Clone + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<Cause> + 'static,
    {
        self.join("join.by_tick", row, move |making, inputs| {
            let set: ByTickSettings = making.settings()?;
            let join = ByTick::new(inputs, set.window.get()).slack(set.slack);
            let joined = Joined::by_tick(join, tick.clone()).when_full(set.when_full);
            Ok((joined, set.sticky_rows))
        })
    }

    /// Adds the class `join.latest`, with a [`Latest`] whose leading input is the first one: `row`
    /// makes an item of a row. Its settings are `hold`, which is how many leading items are held
    /// until each other input has said something, `when_full` and `sticky_rows`.
    ///
    /// # Panics
    ///
    /// If it was added before.
    pub fn join_latest<E>(
        self,
        row: impl Fn(Vec<T>) -> Result<T, E> + Clone + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<Cause> + 'static,
    {
        self.join("join.latest", row, |making, inputs| {
            let set: LatestSettings = making.settings()?;
            let join = Latest::new(inputs, Before::Hold(set.hold.get()));
            Ok((Joined::latest(join).when_full(set.when_full), set.sticky_rows))
        })
    }

    /// Adds the class `join.nearest`, with a [`Nearest`] whose leading input is the first one: `time`
    /// tells the time of an item, and `row` makes an item of a row. Its settings are `tolerance`,
    /// which must be said, `capacity`, `when_full` and `sticky_rows`.
    ///
    /// # Panics
    ///
    /// If it was added before.
    pub fn join_nearest<E>(
        self,
        time: impl Fn(&T) -> Option<u64> + Clone + Send + Sync + 'static,
        row: impl Fn(Vec<T>) -> Result<T, E> + Clone + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<Cause> + 'static,
    {
        self.join("join.nearest", row, move |making, inputs| {
            let set: NearestSettings = making.settings()?;
            if set.capacity.get() < 2 {
                return Err("its capacity is less than 2".into());
            }
            let join = Nearest::new(inputs, set.tolerance, set.capacity.get());
            let joined = Joined::nearest(join, time.clone()).when_full(set.when_full);
            Ok((joined, set.sticky_rows))
        })
    }

    fn join<E>(
        self,
        name: &str,
        row: impl Fn(Vec<T>) -> Result<T, E> + Clone + Send + Sync + 'static,
        make: impl Fn(&Making<'_>, usize) -> Result<(Joined<T>, NonZeroUsize), Cause>
        + Send
        + Sync
        + 'static,
    ) -> Self
    where
        E: Into<Cause> + 'static,
    {
        let port = |name: String, required| PortInfo { name, items: None, required };
        let inputs = (0..INPUTS).map(|number| port(format!("in{number}"), number < 2)).collect();
        let info = ClassInfo { inputs, outputs: vec![port("out".into(), false)] };
        let make = move |making: &Making<'_>| {
            if making.worker.workers > 1 {
                return Err(
                    "it has several workers, and items that belong together would not meet".into(),
                );
            }
            if !matches!(making.node.on_error, OnError::Fail | OnError::Skip) {
                return Err(
                    "an item is not joined twice, so on_error is \"fail\" or \"skip\"".into()
                );
            }
            let (numbers, joined, sticky) = numbers(making.inputs);
            if joined == 0 {
                return Err("all its connections are sticky: none would make a row".into());
            }
            let (join, rows) = make(making, joined)?;
            let join = join.sticky(sticky, rows.get()).numbered(numbers);
            let (row, skips) = (row.clone(), making.node.on_error == OnError::Skip);
            // What one item lets go may be many rows: of those only the one that fails is left out.
            let send = move |items, out: &mut Outlet<T>| match row(items) {
                Ok(item) => out.send(item).map(|()| Flow::GoOn).map_err(Cause::from),
                Err(_) if skips => {
                    out.discard(1);
                    Ok(Flow::GoOn)
                }
                Err(error) => Err(error.into()),
            };
            let node: super::registry::Boxed<T, T> = Box::new(fuse(join, from_fn(send)));
            Ok(node)
        };
        self.add(name, info, Make::Node(std::sync::Arc::new(make)), (true, false))
    }
}

/// Which input of the join each port is: first those that are joined, then the sticky ones. Tells how
/// many there are of both.
fn numbers(ports: &[Connected]) -> (Vec<Option<usize>>, usize, usize) {
    let count = |kind| ports.iter().filter(|port| **port == kind).count();
    let (joined, sticky) = (count(Connected::Yes), count(Connected::Sticky));
    let (mut next, mut next_sticky) = (0.., joined..);
    let number = |port: &Connected| match port {
        Connected::No => None,
        Connected::Yes => next.next(),
        Connected::Sticky => next_sticky.next(),
    };
    (ports.iter().map(number).collect(), joined, sticky)
}
