//! Two and three ends under the memory model, also when one of them dies at any step. `model.rs`
//! goes through all orders of steps; here it is about what is seen of them.

use loom::{sync::Arc, thread};

use super::{
    asleep::Asleep,
    geometry::{Geometry, SKIPPED},
    lists::Lists,
    slots,
};
use crate::{
    fault::model::live,
    region::Region,
    ring::face::Side,
    sync::{AtomicU32, Ordering},
    wait::doorbell::{Doorbell, FUTEX},
};

fn model(bound: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(bound);
    model.check(run);
}

/// The words of a queue, and behind them two doorbells.
#[derive(Clone)]
struct World {
    region: Arc<Region>,
    geometry: Geometry,
    bells: usize,
}

impl World {
    fn new(slots: usize) -> World {
        let (geometry, size) = Geometry::new(slots, 8, 2).unwrap();
        let bells = size.next_multiple_of(128);
        let world = World { region: Arc::new(Region::heap(bells + 3 * 128)), geometry, bells };
        world.lists().fill();
        world
    }

    fn lists(&self) -> Lists<'_, Region> {
        Lists::new(&self.region, &self.geometry)
    }

    /// Sends an item, if there is room.
    fn send(&self, me: u8, byte: u8) -> bool {
        let Some(mut held) = self.lists().take(Side::Producer, me).unwrap() else { return false };
        slots::room(&self.region, &self.geometry, &mut held, 8).fill(byte);
        self.lists().commit(held).unwrap();
        true
    }

    fn send_waiting(&self, me: u8, byte: u8) {
        while !self.send(me, byte) {
            thread::yield_now();
        }
    }

    /// Takes an item, if there is one, and acknowledges it or gives it back. Its bytes must all be
    /// the same. Gives how often it came back before, too.
    fn take(&self, me: u8, ack: bool) -> Option<(u8, u8)> {
        let held = self.lists().take(Side::Consumer, me).unwrap()?;
        let bytes = slots::bytes(&self.region, &self.geometry, &held, 8);
        let byte = bytes[0];
        assert!(bytes.iter().all(|other| *other == byte), "torn");
        let found = (byte, held.word.attempts());
        if ack {
            self.lists().ack(held).unwrap();
        } else {
            self.lists().nack(held).unwrap();
        }
        Some(found)
    }

    fn take_waiting(&self, me: u8) -> (u8, u8) {
        loop {
            match self.take(me, true) {
                Some(found) => return found,
                None => thread::yield_now(),
            }
        }
    }

    fn bell(&self, seat: usize) -> Doorbell<'_> {
        Doorbell::at(&self.region, self.bells + seat * 128)
    }

    /// Items that are nothing but a number, for models of sleeping.
    fn items(&self) -> &AtomicU32 {
        self.region.u32(self.bells + 2 * 128)
    }

    fn asleep(&self) -> Asleep<'_> {
        Asleep { region: &self.region, geometry: &self.geometry, side: Side::Consumer }
    }

    fn wake(&self) {
        self.asleep()
            .wake_one(|seat| self.bell(seat).is_armed() && self.bell(seat).take_armed(0) != 0);
    }

    fn put_one(&self) {
        self.items().fetch_add(1, Ordering::AcqRel);
        self.wake();
    }

    fn take_one(&self) -> bool {
        let mut seen = self.items().load(Ordering::Acquire);
        while seen > 0 {
            let (acquire, relaxed) = (Ordering::AcqRel, Ordering::Acquire);
            match self.items().compare_exchange(seen, seen - 1, acquire, relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Takes one, or goes to sleep: then it gives the epoch that it sleeps on.
    fn take_one_or_sleep(&self, seat: usize) -> Option<u32> {
        if !self.take_one() {
            let epoch = self.bell(seat).arm(FUTEX);
            self.asleep().set(seat);
            if !self.take_one() {
                return Some(epoch);
            }
        }
        self.awake(seat);
        None
    }

    /// Sleeps until it has one. A lost wake-up is a loop without end, which loom reports.
    fn sleep_for_one(&self, seat: usize) {
        while let Some(epoch) = self.take_one_or_sleep(seat) {
            while self.bell(seat).epoch().load(Ordering::Acquire) == epoch {
                thread::yield_now();
            }
        }
    }

    fn awake(&self, seat: usize) {
        self.asleep().clear(seat);
        if self.items().load(Ordering::Acquire) > 0 {
            self.wake();
        }
    }
}

#[test]
fn loom_queue_two_producers() {
    model(2, || {
        let world = World::new(2);
        let producers = [1, 2].map(|me| {
            let world = world.clone();
            thread::spawn(move || assert!(world.send(me, me)))
        });
        let mut got = [world.take_waiting(3), world.take_waiting(3)];
        got.sort_unstable();
        assert_eq!(got, [(1, 0), (2, 0)]);
        for producer in producers {
            producer.join().unwrap();
        }
        assert!(world.lists().is_drained());
    });
}

#[test]
fn loom_queue_two_consumers() {
    model(2, || {
        let world = World::new(2);
        assert!(world.send(1, 1) && world.send(1, 2));
        let consumers = [2, 3].map(|me| {
            let world = world.clone();
            thread::spawn(move || world.take(me, true).unwrap())
        });
        let mut got = consumers.map(|consumer| consumer.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [(1, 0), (2, 0)]);
        assert!(world.lists().is_drained());
    });
}

#[test]
fn loom_queue_slots_are_used_again() {
    model(2, || {
        let world = World::new(1);
        let there = world.clone();
        let producer = thread::spawn(move || {
            for byte in 1..=3 {
                there.send_waiting(1, byte);
            }
        });
        for byte in 1..=3 {
            assert_eq!(world.take_waiting(2), (byte, 0));
        }
        producer.join().unwrap();
        assert!(world.lists().is_drained());
    });
}

/// A producer dies at each step and is repaired, while a consumer looks.
#[test]
fn loom_queue_producer_dies_at_each_step() {
    for step in 0..=3 {
        model(2, move || {
            let world = World::new(1);
            let there = world.clone();
            let producer = thread::spawn(move || {
                let died = live(step, || assert!(there.send(1, 7)));
                assert_eq!(died, step > 0);
                there.lists().repair(1);
            });
            let early = world.take(2, true);
            producer.join().unwrap();
            let got = early.or_else(|| world.take(2, true));
            assert_eq!(got, (step != 1).then_some((7, 0)), "{step}");
            assert!(world.lists().is_drained());
            let skipped = world.region.u64(SKIPPED).load(Ordering::Relaxed);
            assert_eq!(skipped, u64::from(step == 1));
        });
    }
}

/// A consumer dies at each step of an ack or a nack and is repaired, while another one looks.
#[test]
fn loom_queue_consumer_dies_at_each_step() {
    for (step, ack) in
        [(0, true), (1, true), (2, true), (3, true), (0, false), (2, false), (3, false)]
    {
        model(2, move || {
            let world = World::new(1);
            assert!(world.send(1, 7));
            let there = world.clone();
            let consumer = thread::spawn(move || {
                let mut got = None;
                live(step, || got = there.take(2, ack));
                there.lists().repair(2);
                got.is_some()
            });
            let early = world.take(3, true);
            let ended = consumer.join().unwrap() && ack;
            let late = world.take(3, true);
            assert!(early.is_none() || late.is_none(), "it came twice");
            match early.or(late) {
                // The other one was quicker, or it came back.
                Some((byte, attempts)) => assert!(byte == 7 && attempts <= 1 && !ended),
                None => assert!(ack && step != 1, "an item is lost"),
            }
            assert!(world.lists().is_drained());
        });
    }
}

/// Two go to sleep while two items come; then those go on that were woken, until all is quiet.
#[test]
fn loom_queue_nobody_sleeps_beside_an_item() {
    model(3, || {
        let world = World::new(1);
        let sleepers = [0, 1].map(|seat| {
            let world = world.clone();
            thread::spawn(move || world.take_one_or_sleep(seat))
        });
        world.put_one();
        world.put_one();
        let mut asleep = sleepers.map(|sleeper| sleeper.join().unwrap());
        for seat in [0, 1, 0] {
            let now = world.bell(seat).epoch().load(Ordering::Acquire);
            if asleep[seat].is_some_and(|then| then != now) {
                asleep[seat] = world.take_one_or_sleep(seat);
            }
        }
        assert_eq!((asleep, world.take_one()), ([None, None], false));
    });
}

/// A sleeper whose time is over may have been chosen: it passes on.
#[test]
fn loom_queue_a_sleeper_that_leaves_passes_on() {
    model(2, || {
        let world = World::new(1);
        let (stays, leaves) = (world.clone(), world.clone());
        let stays = thread::spawn(move || stays.sleep_for_one(1));
        let leaves = thread::spawn(move || {
            leaves.bell(0).arm(FUTEX);
            leaves.asleep().set(0);
            let took = leaves.take_one();
            if took {
                leaves.put_one(); // For the other.
            }
            leaves.awake(0);
        });
        world.put_one();
        stays.join().unwrap();
        leaves.join().unwrap();
    });
}

#[test]
fn loom_queue_all_who_poll_are_rung() {
    model(3, || {
        let world = World::new(1);
        let there = world.clone();
        let polls = thread::spawn(move || {
            let epoch = there.bell(1).arm(FUTEX);
            there.asleep().set_polling(1);
            if there.items().load(Ordering::Acquire) == 0 {
                while there.bell(1).epoch().load(Ordering::Acquire) == epoch {
                    thread::yield_now();
                }
            }
        });
        world.put_one();
        polls.join().unwrap();
    });
}
