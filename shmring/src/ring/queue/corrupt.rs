//! What others write: control words overwritten at random, between operations and during them. The
//! outcome is an error or wrong data.

use std::{
    thread,
    time::{Duration, Instant},
};

use liar::Random;

use super::*;
use crate::{liveness::Id, region::Region, ring::select::Selectable, sync::local};

/// All words that steer anything.
fn control_words(geometry: &Geometry) -> Vec<usize> {
    let slots = (0..geometry.slots as u32).map(|slot| geometry.slot(slot));
    let heads = slots.flat_map(|slot| [slot, slot + 8, slot + 16]);
    (geometry.base..geometry.slot(0)).step_by(8).chain(heads).collect()
}

fn overwrite(region: &Region, words: &[usize], random: &mut Random) {
    let word = region.u64(words[random.below(words.len())]);
    let (old, any) = (word.load(Ordering::Relaxed), random.any());
    let new = match random.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => any,
        3 => old ^ 1 << (any % 64),
        4 => any % 32,
        5 => old.wrapping_add((any % 9) << 20).wrapping_sub(4 << 20),
        6 => region.u64(words[random.below(words.len())]).load(Ordering::Relaxed),
        _ => old.wrapping_add(any % 9).wrapping_sub(4),
    };
    word.store(new, Ordering::Relaxed);
}

fn produce(tx: &mut Producer, random: &mut Random) {
    let len = random.below(50);
    match random.below(6) {
        0 => {
            if let Ok(mut claim) = tx.try_claim(len) {
                claim.fill(1);
                let _ = claim.commit();
            }
        }
        1 => drop(tx.try_claim(len)),
        2 => drop(tx.try_send(vec![2; len])),
        3 => drop(tx.send_timeout(vec![3; len], Duration::ZERO)),
        4 => {
            let mut batch = tx.batch();
            for _ in 0..3 {
                let _ = batch.try_push([4; 8]);
            }
            let _ = batch.publish();
        }
        _ => {
            tx.arm();
            tx.is_closed();
            tx.source().is_ready(len);
        }
    }
}

fn consume(rx: &mut Consumer, random: &mut Random) {
    match random.below(6) {
        0 => {
            if let Ok(item) = rx.try_recv() {
                assert!(item.len() <= 40);
                std::hint::black_box(item.iter().fold(0u8, |sum, byte| sum ^ byte));
                let _ = item.ack();
            }
        }
        1 => drop(rx.try_recv().map(Item::nack)),
        2 => drop(rx.recv_timeout(Duration::ZERO).map(Item::ack)),
        3 => {
            if let Ok(mut run) = rx.try_run(5) {
                std::hint::black_box(run.iter().map(|item| item.len()).sum::<usize>());
                let _ = run.ack_first(2);
            }
        }
        4 => drop(rx.try_run(2).map(Run::ack)),
        _ => {
            rx.arm();
            rx.is_closed();
            rx.source().has_ended(&mut |_| false);
        }
    }
}

fn queue(random: &mut Random) -> Queue {
    let capacity = 1 + random.below(9);
    // Few seats, so that most words are those of the lists.
    let ends = [2, 2, 2, 70][random.below(4)];
    let options = Queue::options().capacity(capacity).item_len(40).ends(ends);
    let queue = options.prefault(false).anonymous().unwrap();
    let (mut tx, mut rx) = queue.split().unwrap();
    for _ in 0..random.below(20) {
        let _ = tx.try_send([5; 20]);
        if random.below(2) == 0 {
            let _ = rx.try_recv().map(Item::ack);
        }
    }
    queue
}

#[test]
fn words_are_overwritten_between_operations() {
    let variants =
        std::env::var("SHMRING_CORRUPT_VARIANTS").ok().and_then(|text| text.parse().ok());
    let mut random = Random::new(0x5eed_0001);
    let mut ends = None;
    for variant in 0..variants.unwrap_or(10_000) {
        // A few lies on top of each other.
        if variant % 8 == 0 {
            let queue = queue(&mut random);
            ends = Some((queue.split().unwrap(), control_words(&queue.geometry), queue));
        }
        let ((tx, rx), words, queue) = ends.as_mut().unwrap();
        let began = Instant::now();
        overwrite(&queue.segment.0.region, words, &mut random);
        for _ in 0..6 {
            produce(tx, &mut random);
            consume(rx, &mut random);
        }
        match random.below(8) {
            0 => drop(Queue::attach(&queue.segment, queue.object.index, WaitStrategy::Spin)),
            1 => drop(queue.producer()),
            2 => drop(queue.consumer()),
            3 => queue.repair(Id(random.any() as u32)),
            4 => queue.repair(queue.segment.me().unwrap()),
            5 => drop((queue.stats(), queue.len(), format!("{queue:?}"))),
            6 => queue.look_after(),
            _ => {}
        }
        assert!(began.elapsed() < Duration::from_secs(5), "variant {variant}");
    }
}

#[test]
fn words_are_overwritten_during_operations() {
    let mut random = Random::new(0x5eed_0002);
    for _ in 0..8 {
        let queue = queue(&mut random);
        let queue = &queue;
        let over = &local::AtomicBool::new(false);
        let seeds = [(); 5].map(|()| random.any() | 1);
        let began = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (words, mut random) = (control_words(&queue.geometry), Random::new(seeds[0]));
                while began.elapsed() < Duration::from_millis(100) {
                    overwrite(&queue.segment.0.region, &words, &mut random);
                    // Now and then all is as at the beginning, so that something goes on.
                    if random.below(64) == 0 {
                        queue.lists().fill();
                    }
                }
                over.store(true, local::Ordering::Relaxed);
            });
            for seed in &seeds[1..] {
                scope.spawn(move || {
                    let mut random = Random::new(*seed);
                    let mut ends = queue.split().ok();
                    while !over.load(local::Ordering::Relaxed) {
                        match &mut ends {
                            Some((tx, rx)) => {
                                produce(tx, &mut random);
                                consume(rx, &mut random);
                            }
                            None => ends = queue.split().ok(),
                        }
                        if random.below(50) == 0 {
                            ends = None;
                        }
                        if random.below(50) == 0 {
                            queue.repair(Id(random.any() as u32 % 300));
                        }
                    }
                });
            }
        });
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
