//! To whom an item goes: decisions alone, without anything that is waited for.

use std::sync::Arc;

use crate::flow::plan::lane::Cost;

/// How an edge chooses among the workers that follow.
pub(crate) enum Deal<T> {
    /// Whoever has the least to do.
    OnDemand,
    /// One after the other.
    RoundRobin,
    /// By what the items are: the number, modulo that of the workers, says which.
    By(Arc<Choose<T>>),
    /// A clone to each.
    All(fn(&T) -> T),
    /// Messages are numbered; each goes to the worker with its number, modulo theirs, and they are
    /// taken in the order of their numbers.
    Ordered,
    /// Only the newest item matters: an older one that was not taken is dropped.
    Newest,
}

pub(crate) type Choose<T> = dyn Fn(&T) -> usize + Send + Sync;

impl<T> Clone for Deal<T> {
    fn clone(&self) -> Deal<T> {
        match self {
            Deal::OnDemand => Deal::OnDemand,
            Deal::RoundRobin => Deal::RoundRobin,
            Deal::By(choose) => Deal::By(choose.clone()),
            Deal::All(clone) => Deal::All(*clone),
            Deal::Ordered => Deal::Ordered,
            Deal::Newest => Deal::Newest,
        }
    }
}

/// What a worker that follows has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Load {
    /// Items that were sent to it and that it is not done with.
    pub(crate) in_flight: u64,
    /// What an item costs it.
    pub(crate) cost: Cost,
    /// Whether it still takes items.
    pub(crate) is_open: bool,
}

/// Work that lies ahead of a worker at most, where others could do it: long enough that it does not
/// run dry before more comes. That takes a tenth of a millisecond; but where all processors are busy
/// with workers, whoever gives them more is let in at the next tick only, up to 4 ms later. Longer
/// tasks are given only to those who have nothing to do.
const AHEAD: u64 = 8_000_000;
/// Work in one message.
const IN_A_MESSAGE: u64 = 200_000;
/// Items in one message at most.
pub(crate) const MOST: usize = 256;

/// How many items a worker may have that costs so much for each.
fn allowance(cost: Cost, workers: usize, capacity: u64) -> u64 {
    match (workers, cost.each) {
        (1, _) => capacity,
        // What it costs is not known yet.
        (_, 0) => 1,
        (_, each) => (AHEAD / each + cost.at_once).clamp(1, capacity),
    }
}

/// How many items make a message, for workers that cost so much for each.
pub(crate) fn batch(cost: u64, workers: usize, capacity: u64) -> usize {
    let most = (MOST as u64).min((capacity / 4).max(1));
    let items = match (workers, cost) {
        (1, 0) => most,
        (_, 0) => 1,
        _ => (IN_A_MESSAGE / cost).clamp(1, most),
    };
    items as usize
}

/// Which worker gets the next items, and how many; `None` while nobody should get any. `next`
/// comes first among equals.
pub(crate) fn pick(loads: &[Load], capacity: u64, next: usize) -> Option<(usize, usize)> {
    let open = loads.iter().filter(|load| load.is_open).count();
    let mut best: Option<(usize, u64)> = None;
    for step in 0..loads.len() {
        let index = (next + step) % loads.len();
        let load = loads[index];
        let room = allowance(load.cost, open, capacity).saturating_sub(load.in_flight);
        let is_better = best.is_none_or(|(index, _)| load.in_flight < loads[index].in_flight);
        if load.is_open && room > 0 && is_better {
            best = Some((index, room));
        }
    }
    best.map(|(index, room)| (index, usize::try_from(room).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(in_flight: u64, each: u64) -> Load {
        Load { in_flight, cost: Cost { each, at_once: 0 }, is_open: true }
    }

    const CLOSED: Load = Load { in_flight: 0, cost: Cost { each: 10, at_once: 0 }, is_open: false };

    #[test]
    fn the_first_items_go_one_to_each() {
        let mut loads = [load(0, 0), load(0, 0)];
        assert_eq!(pick(&loads, 1024, 0), Some((0, 1)));
        loads[0].in_flight = 1;
        assert_eq!(pick(&loads, 1024, 1), Some((1, 1)));
        loads[1].in_flight = 1;
        assert_eq!(pick(&loads, 1024, 0), None);
    }

    #[test]
    fn quick_items_go_ahead_and_slow_ones_do_not() {
        assert_eq!(pick(&[load(100, 50), load(90, 50)], 1024, 0), Some((1, 934)));
        let slow = 10_000_000;
        assert_eq!(pick(&[load(1, slow), load(0, slow)], 1024, 0), Some((1, 1)));
        assert_eq!(pick(&[load(1, slow), load(1, slow)], 1024, 0), None);
    }

    #[test]
    fn who_begins_with_many_at_a_time_gets_as_many() {
        let slow = Cost { each: 10_000_000, at_once: 20 };
        let load = |in_flight| Load { in_flight, cost: slow, is_open: true };
        assert_eq!(pick(&[load(3), load(5)], 1024, 0), Some((0, 17)));
        assert_eq!(pick(&[load(20), load(20)], 1024, 0), None);
        assert_eq!(pick(&[load(3), load(4)], 4, 0), Some((0, 1)));
    }

    #[test]
    fn equals_take_turns() {
        let loads = [load(3, 50); 3];
        for next in 0..3 {
            assert_eq!(pick(&loads, 1024, next).unwrap().0, next);
        }
    }

    #[test]
    fn the_closed_get_nothing() {
        assert_eq!(pick(&[CLOSED, load(5, 50)], 1024, 0).unwrap().0, 1);
        assert_eq!(pick(&[CLOSED, CLOSED], 1024, 0), None);
        assert_eq!(pick(&[], 1024, 0), None);
    }

    #[test]
    fn one_worker_may_have_all_that_there_is_room_for() {
        assert_eq!(pick(&[load(0, 0)], 1024, 0), Some((0, 1024)));
        assert_eq!(pick(&[load(1000, 1 << 40)], 1024, 0), Some((0, 24)));
        assert_eq!(pick(&[load(1024, 5)], 1024, 0), None);
    }

    #[test]
    fn messages_are_as_long_as_pays() {
        assert_eq!(batch(0, 2, 1024), 1);
        assert_eq!(batch(10_000, 2, 1024), 20);
        assert_eq!(batch(5, 2, 1024), 256);
        assert_eq!(batch(1 << 40, 2, 1024), 1);
        assert_eq!(batch(0, 1, 1), 1);
        assert_eq!(batch(5, 1, 8), 2);
    }
}
