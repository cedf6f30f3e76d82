//! Chooses a lane for each item, and gathers messages.

use super::{Lanes, recovery::cut};
use crate::flow::{
    edge::{
        Head,
        deal::{self, Deal},
    },
    outlet::Closed,
    plan::worker,
};

impl<T: 'static> Lanes<T> {
    /// Takes all items, waiting for room.
    pub(crate) fn put(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
        if self.lanes.is_empty() {
            items.clear();
            return Ok(());
        }
        // Where items are gathered, each is looked at by itself.
        if matches!(self.deal, Deal::OnDemand | Deal::Ordered | Deal::Newest) {
            self.drop_known(items);
            if self.forced.is_some() && !self.remake(items)? {
                return Ok(());
            }
            if !self.manner.newest || self.state.survives {
                // What was put for one of them before is sent before: a lane keeps its order, and one
                // number tells how much was sent.
                (0..self.lanes.len()).try_for_each(|to| self.send_gathered(to))?;
            }
        }
        match self.deal.clone() {
            Deal::OnDemand => self.put_on_demand(items),
            Deal::Ordered if self.state.inherits => {
                self.pending.append(items);
                if self.pending.len() < self.batch() {
                    return Ok(());
                }
                let part = std::mem::take(&mut self.pending);
                let head = Head { number: self.number, ..Head::default() };
                self.send(self.lane_of(self.number), head, part)
            }
            Deal::Ordered => {
                let most = self.batch();
                while !items.is_empty() {
                    let part = cut(items, most);
                    let head = Head { number: self.id, last: true, ..Head::default() };
                    self.send(self.lane_of(self.id), head, part)?;
                }
                Ok(())
            }
            Deal::RoundRobin => {
                for item in items.drain(..) {
                    let to = self.next;
                    self.next = (self.next + 1) % self.lanes.len();
                    self.gather(to, item)?;
                }
                self.send_to_idle()
            }
            Deal::By(choose) => {
                for item in items.drain(..) {
                    let to = choose(&item) % self.lanes.len();
                    self.give(to, item)?;
                }
                self.send_to_idle()
            }
            Deal::All(clone) => {
                for item in items.drain(..) {
                    for to in 1..self.lanes.len() {
                        self.give(to, clone(&item))?;
                    }
                    self.give(0, item)?;
                }
                self.send_to_idle()
            }
            Deal::Newest => self.put_newest(items),
        }
    }

    fn put_on_demand(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
        while !items.is_empty() {
            let (to, room) = self.wait_for_room()?;
            let most = self.batch().min(room);
            self.next = (to + 1) % self.lanes.len();
            let part = cut(items, most);
            if self.send(to, Head::default(), part).is_err() {
                if self.is_closed() || self.is_broken() {
                    return Err(Closed);
                }
                // One of several takes no more: another gets what was meant for it.
                items.splice(..0, self.back.drain(..));
            }
        }
        Ok(())
    }

    /// Items that are too old before anybody takes them are dropped here.
    fn put_newest(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
        let dropped = (self.pending.len() + items.len()).saturating_sub(1);
        if let Some(newest) = items.pop() {
            items.clear();
            self.pending.clear();
            self.pending.push(newest);
        }
        self.note_dropped(dropped);
        self.send_newest()
    }

    fn note_dropped(&self, items: usize) {
        if items > 0 {
            self.board().add_own(self.state.worker + worker::DROPPED, items as u64);
        }
    }

    pub(super) fn send_newest(&mut self) -> Result<(), Closed> {
        if self.is_closed() {
            return Err(Closed);
        }
        let free =
            (0..self.lanes.len()).find(|index| self.is_open(*index) && self.in_flight(*index) == 0);
        match (free, self.pending.pop()) {
            (Some(to), Some(item)) => self.send(to, Head::default(), vec![item]),
            (None, Some(item)) => {
                self.pending.push(item);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Sends what waits for receivers until they want it, though they do not yet.
    pub(super) fn send_beyond(&mut self) -> Result<(), Closed> {
        if let Some(to) = self.emptiest()
            && let Some(item) = self.pending.pop()
        {
            self.send(to, Head::default(), vec![item])?;
        }
        (0..self.lanes.len()).try_for_each(|to| self.send_gathered(to))
    }

    /// Puts an item for one of the receivers, or for whichever the edge chooses.
    pub(crate) fn put_to(&mut self, to: Option<usize>, item: T) -> Result<(), Closed> {
        let is_numbered = matches!(self.deal, Deal::Ordered);
        let workers = self.lanes.len();
        let Some(to) = to.filter(|_| !is_numbered || workers > 1) else {
            let mut items = vec![item];
            return self.put(&mut items);
        };
        if workers == 0 {
            return Ok(());
        }
        if is_numbered {
            self.failure = Some(format!(
                "it sends an item to one of the {workers} workers that follow, and those keep the order: there the number of a message says who gets it. Use `send`, or leave out `ordered` there"
            ));
            return Err(Closed);
        }
        self.give(to % self.lanes.len(), item)?;
        if self.manner.newest { self.send_to_idle() } else { Ok(()) }
    }

    /// Keeps an item for one receiver: until there are more, or instead of the one before.
    fn give(&mut self, to: usize, item: T) -> Result<(), Closed> {
        if self.manner.newest {
            let before = std::mem::take(&mut self.lanes[to].gathered);
            self.note_dropped(before.len());
        }
        self.gather(to, item)
    }

    fn gather(&mut self, to: usize, item: T) -> Result<(), Closed> {
        if self.first < self.known || self.forced.is_some() {
            let mut again = vec![item];
            self.drop_known(&mut again);
            if again.is_empty() || !self.remake(&mut again)? {
                return Ok(());
            }
            return again.into_iter().try_for_each(|item| self.gather_new(to, item));
        }
        self.gather_new(to, item)
    }

    fn gather_new(&mut self, to: usize, item: T) -> Result<(), Closed> {
        if self.manner.newest {
            self.lanes[to].gathered.push(item);
            return Ok(());
        }
        if self.state.survives {
            // What is sent keeps the order in which it was put, so that one number tells how much
            // that is.
            for other in (0..self.lanes.len()).filter(|other| *other != to) {
                if !self.lanes[other].gathered.is_empty() {
                    self.send_gathered(other)?;
                }
            }
        }
        self.lanes[to].gathered.push(item);
        let most = self.executor.shared.most::<T>() as u64 / self.lanes.len() as u64;
        let most = most.clamp(1, self.capacity).min(self.lanes[to].most() as u64);
        let full = self.lanes[to].gathered.len() as u64 >= most;
        if full { self.send_gathered(to) } else { Ok(()) }
    }

    /// Sends what was gathered for receivers who have nothing to do.
    pub(crate) fn send_to_idle(&mut self) -> Result<(), Closed> {
        for to in 0..self.lanes.len() {
            // What waits for one that has ended goes as well: then it is gone.
            if self.in_flight(to) == 0 || (self.manner.newest && !self.is_open(to)) {
                self.send_gathered(to)?;
            }
        }
        Ok(())
    }

    fn send_gathered(&mut self, to: usize) -> Result<(), Closed> {
        if self.lanes[to].gathered.is_empty() {
            return Ok(());
        }
        let items = std::mem::take(&mut self.lanes[to].gathered);
        let count = items.len() as u64;
        match self.send(to, Head::default(), items) {
            // The others go on without it.
            Err(Closed) if !self.is_closed() && !self.is_broken() => {
                self.count_sent(count);
                Ok(())
            }
            sent => sent,
        }
    }

    /// Whether items are gathered for receivers, which only a flush sends for sure. (What is the newest
    /// waits until its receiver wants it.)
    pub(crate) fn holds_items(&self) -> bool {
        !self.manner.newest && self.lanes.iter().any(|lane| !lane.gathered.is_empty())
    }

    /// Sends on all that was gathered.
    pub(crate) fn flush(&mut self) -> Result<(), Closed> {
        if self.manner.newest {
            if !self.pending.is_empty() {
                self.send_newest()?;
            }
            return self.send_to_idle();
        }
        (0..self.lanes.len()).try_for_each(|to| self.send_gathered(to))
    }

    /// Of those who still take something, the one with the least on its way.
    fn emptiest(&self) -> Option<usize> {
        let open = (0..self.lanes.len()).filter(|at| self.is_open(*at));
        open.min_by_key(|at| self.in_flight(*at))
    }

    fn wait_for_room(&mut self) -> Result<(usize, usize), Closed> {
        let (capacity, next) = (self.capacity, self.next);
        if let Some(picked) = deal::pick(&self.loads(), capacity, next) {
            return Ok(picked);
        }
        if self.manner.is_gated {
            return Ok((self.emptiest().ok_or(Closed)?, self.batch()));
        }
        let executor = self.executor.clone();
        let picked = executor.wait_for(|| {
            if self.is_closed() {
                return Some(None);
            }
            deal::pick(&self.loads(), capacity, next).map(Some)
        });
        picked.ok().flatten().ok_or(Closed)
    }
}
