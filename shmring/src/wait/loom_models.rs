//! No wake-up is lost: every interleaving of a sleeper and one or two ringers.

use loom::{sync::Arc, thread};

use super::doorbell::{BELL, Doorbell, FUTEX, published};
use crate::{
    fault::model::live,
    region::Region,
    sync::{AtomicU32, Ordering},
};

/// Where a model's items are: behind the words of the doorbell's entry.
const ITEM: usize = 128;

fn item(region: &Region, number: usize) -> &AtomicU32 {
    region.u32(ITEM + 4 * number)
}

/// Publishes an item and rings; gives who must be woken.
fn send(region: &Region, number: usize) -> u32 {
    item(region, number).store(1, Ordering::Release);
    published();
    let doorbell = Doorbell::at(region, 0);
    if doorbell.is_armed() { doorbell.take_armed(number as u32) } else { 0 }
}

/// Sleeps until all items are there. A lost wake-up is a loop without end, which loom reports.
/// `ended` says that the ringer's death can be seen, which a real sleeper asks now and then.
fn wait(region: &Region, items: usize, ended: &AtomicU32) -> bool {
    let doorbell = Doorbell::at(region, 0);
    let all = || (0..items).all(|number| item(region, number).load(Ordering::Acquire) == 1);
    loop {
        if all() {
            return true;
        }
        let epoch = doorbell.arm(FUTEX);
        if all() {
            return true;
        }
        while doorbell.epoch().load(Ordering::Acquire) == epoch {
            if ended.load(Ordering::Acquire) == 1 {
                return all();
            }
            thread::yield_now();
        }
    }
}

#[test]
fn loom_doorbell_wakes() {
    loom::model(|| {
        let region = Arc::new(Region::heap(256));
        let there = region.clone();
        let ringer = thread::spawn(move || send(&there, 0));
        let never = AtomicU32::new(0);
        assert!(wait(&region, 1, &never));
        ringer.join().unwrap();
    });
}

#[test]
fn loom_doorbell_wakes_for_two_ringers() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let region = Arc::new(Region::heap(256));
        let ringers = [0, 1].map(|number| {
            let there = region.clone();
            thread::spawn(move || send(&there, number))
        });
        let never = AtomicU32::new(0);
        assert!(wait(&region, 2, &never));
        for ringer in ringers {
            ringer.join().unwrap();
        }
    });
}

#[test]
fn loom_doorbell_two_items_one_ringer() {
    loom::model(|| {
        let region = Arc::new(Region::heap(256));
        let there = region.clone();
        let ringer = thread::spawn(move || {
            send(&there, 0);
            send(&there, 1);
        });
        let never = AtomicU32::new(0);
        assert!(wait(&region, 1, &never));
        assert!(wait(&region, 2, &never));
        ringer.join().unwrap();
    });
}

/// One bell for the tasks of a process: whoever hears it clears it, arms again, looks for all that
/// are registered, and wakes those. A task registers, arms and looks before it waits.
#[test]
fn loom_bell_serves_tasks() {
    use loom::sync::{Mutex, Notify};
    /// The task as the hub knows it.
    #[derive(Default)]
    struct Task {
        waits: bool,
        ended: bool,
    }
    let ready = |region: &Region| item(region, 1).load(Ordering::Acquire) == 1;

    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let region = Arc::new(Region::heap(256));
        let (bell, waker) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let task = Arc::new(Mutex::new(Task::default()));
        // The task waits for the second item; the first is for nobody here.
        let ringers = [0, 1].map(|number| {
            let (there, bell) = (region.clone(), bell.clone());
            thread::spawn(move || {
                if send(&there, number) & BELL != 0 {
                    bell.notify();
                }
            })
        });
        let (there, its) = (region.clone(), task.clone());
        let (heard, wake) = (bell.clone(), waker.clone());
        let hub = thread::spawn(move || {
            loop {
                heard.wait();
                Doorbell::at(&there, 0).arm(BELL);
                let mut task = its.lock().unwrap();
                if task.ended {
                    break;
                }
                if task.waits && ready(&there) {
                    task.waits = false;
                    wake.notify();
                }
            }
        });
        if !ready(&region) {
            task.lock().unwrap().waits = true;
            Doorbell::at(&region, 0).arm(BELL);
            // A lost wake-up is a deadlock, which loom reports.
            while !ready(&region) {
                waker.wait();
            }
        }
        task.lock().unwrap().ended = true;
        bell.notify();
        for thread in ringers.into_iter().chain([hub]) {
            thread.join().unwrap();
        }
    });
}

/// A ringer that dies between publishing and waking: the item is found when its death is seen.
#[test]
fn loom_doorbell_ringer_dies_at_each_step() {
    for step in 1..=2 {
        loom::model(move || {
            let region = Arc::new(Region::heap(256));
            let ended = Arc::new(AtomicU32::new(0));
            let (there, end) = (region.clone(), ended.clone());
            let ringer = thread::spawn(move || {
                live(step, || {
                    send(&there, 0);
                });
                end.store(1, Ordering::Release);
            });
            assert!(wait(&region, 1, &ended), "what was published is found");
            ringer.join().unwrap();
        });
    }
}

/// The same of one of two: the other may have relied on its ring.
#[test]
fn loom_doorbell_one_of_two_ringers_dies_at_each_step() {
    for step in 1..=2 {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let region = Arc::new(Region::heap(256));
            let ended = Arc::new(AtomicU32::new(0));
            let (there, end) = (region.clone(), ended.clone());
            let dies = thread::spawn(move || {
                live(step, || {
                    send(&there, 0);
                });
                end.store(1, Ordering::Release);
            });
            let there = region.clone();
            let lives = thread::spawn(move || {
                send(&there, 1);
            });
            let mut found = false;
            // Who has seen a death looks anew, and sleeps again.
            while !found {
                found = wait(&region, 2, &ended);
                thread::yield_now();
            }
            for thread in [dies, lives] {
                thread.join().unwrap();
            }
        });
    }
}
