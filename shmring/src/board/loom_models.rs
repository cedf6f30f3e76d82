use loom::{sync::Arc, thread};

use crate::{
    layout,
    region::Region,
    sync::{AtomicU64, Ordering},
    wait::{
        doorbell::{Doorbell, FUTEX},
        published,
    },
};

/// Who changes a word and rings finds the sleeper armed, or the sleeper finds the word changed.
#[test]
fn nobody_sleeps_through_a_ring() {
    loom::model(|| {
        let region = Arc::new((Region::heap(layout::PENDING + 8), AtomicU64::new(0)));
        let ringer = {
            let region = region.clone();
            thread::spawn(move || {
                region.1.store(1, Ordering::Release);
                published();
                let doorbell = Doorbell::at(&region.0, 0);
                doorbell.is_armed() && doorbell.take_armed(0) != 0
            })
        };
        let doorbell = Doorbell::at(&region.0, 0);
        let epoch = doorbell.arm(FUTEX);
        let seen = region.1.load(Ordering::Acquire) == 1;
        let rang = ringer.join().unwrap();
        let woken = doorbell.epoch().load(Ordering::Relaxed) != epoch;
        assert!(seen || (rang && woken));
    });
}
