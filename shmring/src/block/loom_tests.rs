//! What the exhaustive model cannot see: the orders that weak memory allows.

use std::sync::Arc;

use loom::thread;

use super::{
    geometry::Geometry,
    word::{Handle, State},
    words::Words,
};
use crate::region::Region;

fn geometry() -> Geometry {
    // Rows 0 and 8 are in different words.
    Geometry::new(0, 1, 64, 16, 1)
}

/// A block that participants 0 and 8 hold.
fn held_twice() -> (Arc<Region>, Handle) {
    let geometry = geometry();
    let region = Arc::new(Region::heap(geometry.size().unwrap()));
    let words = Words::new(&*region, &geometry);
    words.fill();
    let handle = words.loan(0).unwrap();
    words.freeze(0, handle).unwrap();
    words.hold(8, handle).unwrap();
    (region, handle)
}

#[test]
fn of_two_that_let_go_one_frees() {
    loom::model(|| {
        let (region, handle) = held_twice();
        let other = {
            let region = region.clone();
            thread::spawn(move || Words::new(&*region, &geometry()).release(8, handle.block))
        };
        let geometry = geometry();
        let words = Words::new(&*region, &geometry);
        let here = words.release(0, handle.block);
        let there = other.join().unwrap();
        assert!(here ^ there, "freed by exactly one");
        assert!(words.word(handle.block).state() == State::Free);
    });
}

#[test]
fn the_last_reader_has_read_before_the_next_loan_writes() {
    loom::model(|| {
        let (region, handle) = held_twice();
        let payload = geometry().payload(0);
        let reader = {
            let region = region.clone();
            thread::spawn(move || {
                // SAFETY: participant 8 holds the block; loom says if anybody writes it meanwhile.
                #[allow(unsafe_code)]
                let _ = unsafe { region.bytes(payload, 8) };
                Words::new(&*region, &geometry()).release(8, handle.block);
            })
        };
        let geometry = geometry();
        let words = Words::new(&*region, &geometry);
        words.release(0, handle.block);
        if words.loan(0).is_some() {
            // SAFETY: it is loaned to participant 0.
            #[allow(unsafe_code)]
            let _ = unsafe { region.bytes_mut(payload, 8) };
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_hold_that_is_confirmed_stays() {
    loom::model(|| {
        let geometry = geometry();
        let region = Arc::new(Region::heap(geometry.size().unwrap()));
        let words = Words::new(&*region, &geometry);
        words.fill();
        let handle = words.loan(0).unwrap();
        words.freeze(0, handle).unwrap();
        let other = {
            let region = region.clone();
            thread::spawn(move || Words::new(&*region, &self::geometry()).hold(8, handle).is_ok())
        };
        words.release(0, handle.block);
        let held = other.join().unwrap();
        let shared = words.word(handle.block).is_shared(handle.generation);
        assert_eq!(held, shared);
    });
}

#[test]
fn what_moved_is_written_again_after_its_last_reader() {
    loom::model(|| {
        let geometry = geometry();
        let region = Arc::new(Region::heap(geometry.size().unwrap()));
        let words = Words::new(&*region, &geometry);
        words.fill();
        let handle = words.loan(0).unwrap();
        let payload = geometry.payload(0);
        let receiver = {
            let region = region.clone();
            thread::spawn(move || {
                let geometry = self::geometry();
                let words = Words::new(&*region, &geometry);
                if !words.move_in(0, 8, handle) {
                    return;
                }
                // SAFETY: participant 8 holds the block; loom says if anybody writes it meanwhile.
                #[allow(unsafe_code)]
                let _ = unsafe { region.bytes(payload, 8) };
                words.release(8, handle.block);
            })
        };
        // SAFETY: it is loaned to participant 0.
        #[allow(unsafe_code)]
        let _ = unsafe { region.bytes_mut(payload, 8) };
        words.freeze(0, handle).unwrap();
        assert!(words.move_out(0, 0, handle));
        if words.loan(0).is_some() {
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let _ = unsafe { region.bytes_mut(payload, 8) };
        }
        receiver.join().unwrap();
    });
}
