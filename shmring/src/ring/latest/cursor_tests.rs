//! Versions and slots alone, on a heap region, each half-written state set by hand.

use proptest::prelude::*;

use super::*;
use crate::layout;

fn memory(limit: usize, slots: usize) -> (Region, Geometry) {
    let geometry = Geometry { base: 0, limit, slots };
    (Region::heap(geometry.size()), geometry)
}

fn set(region: &Region, writer: &mut Writer, value: &[u8]) {
    let mut draft = writer.claim(region);
    writer.fill(region, &mut draft, value).unwrap();
    writer.commit(region, draft);
}

#[test]
fn smoke() {
    let (region, geometry) = memory(20, 2);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::new(geometry, 0);
    assert_eq!(reader.read(&region, 0, 1), Err(Miss::Nothing));
    set(&region, &mut writer, b"a value of some size");
    reader.read(&region, 0, 1).unwrap();
    assert_eq!(reader.value(), b"a value of some size");
    assert_eq!((reader.seen(), reader.missed()), (1, 0));
    assert_eq!(reader.read(&region, 1, 1), Err(Miss::Nothing));
    reader.read(&region, 0, 1).unwrap();
    assert_eq!((reader.seen(), reader.missed()), (1, 0));
}

#[test]
fn a_value_is_filled_in_pieces_of_any_length() {
    let (region, geometry) = memory(21, 2);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut draft = writer.claim(&region);
    for piece in [&b"ab"[..], b"", b"cdefghijk", b"lmnop", b"qrst", b"u"] {
        writer.fill(&region, &mut draft, piece).unwrap();
    }
    assert_eq!(writer.fill(&region, &mut draft, b"v"), Err(TooLong));
    writer.commit(&region, draft);
    let mut reader = Reader::new(geometry, 0);
    reader.read(&region, 0, 1).unwrap();
    assert_eq!(reader.value(), b"abcdefghijklmnopqrstu");
    let slot = region.u64(geometry.slot(1) + VALUE + 16).load(Ordering::Relaxed);
    assert_eq!(slot.to_ne_bytes(), *b"qrstu\0\0\0", "zeros behind the last byte");
}

#[test]
fn a_claim_that_is_given_up_changes_nothing() {
    let (region, geometry) = memory(8, 2);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::new(geometry, 0);
    set(&region, &mut writer, b"one");
    set(&region, &mut writer, b"two");
    let mut draft = writer.claim(&region);
    writer.fill(&region, &mut draft, b"never").unwrap();
    reader.read(&region, 0, 1).unwrap();
    assert_eq!(reader.value(), b"two");
    set(&region, &mut writer, b"three");
    reader.read(&region, reader.seen(), 1).unwrap();
    assert_eq!((reader.value(), reader.seen()), (&b"three"[..], 3));
}

#[test]
fn an_overtaken_reader_notices() {
    let (region, geometry) = memory(8, 2);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::new(geometry, 0);
    set(&region, &mut writer, b"one");
    set(&region, &mut writer, b"two");
    let _draft = writer.claim(&region);
    assert_eq!(reader.copy(&region, 1), Ok(false));
    assert_eq!(reader.copy(&region, 2), Ok(true));
    // A writer that is always quicker.
    region.u64(geometry.slot(2) + STAMP).store(4, Ordering::Relaxed);
    assert_eq!(reader.read(&region, 0, 3), Err(Miss::Outrun));
}

#[test]
fn a_successor_goes_on_from_every_half_state() {
    for died_after in 0..3 {
        let (region, geometry) = memory(16, 2);
        let mut dead = Writer::attach(&region, geometry).unwrap();
        set(&region, &mut dead, b"one");
        let mut draft = dead.claim(&region);
        if died_after > 0 {
            dead.fill(&region, &mut draft, b"half a val").unwrap();
        }
        if died_after > 1 {
            dead.commit(&region, draft);
        }
        let mut reader = Reader::new(geometry, 0);
        reader.read(&region, 0, 1).unwrap();
        let expected = if died_after > 1 { &b"half a val"[..] } else { b"one" };
        assert_eq!(reader.value(), expected);
        let mut next = Writer::attach(&region, geometry).unwrap();
        set(&region, &mut next, b"next");
        reader.read(&region, reader.seen(), 1).unwrap();
        assert_eq!(reader.value(), b"next");
        assert_eq!(reader.missed(), 0);
    }
}

#[test]
fn lies_are_told_apart() {
    let (region, geometry) = memory(16, 4);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    set(&region, &mut writer, b"one");
    let mut reader = Reader::new(geometry, 0);
    region.u64(geometry.slot(1) + LENGTH).store(17, Ordering::Relaxed);
    assert_eq!(reader.read(&region, 0, 9), Err(Miss::Corrupt), "longer than the limit");
    region.u64(geometry.slot(1) + LENGTH).store(15, Ordering::Relaxed);
    assert_eq!(reader.read(&region, 0, 9), Ok(()));
    let mut reader = reader.of_size(Some(16));
    assert_eq!(reader.read(&region, 0, 9), Err(Miss::Corrupt), "shorter than its type");
    region.u64(geometry.base + NEWEST).store(2, Ordering::Relaxed);
    assert_eq!(reader.read(&region, 0, 9), Err(Miss::Corrupt), "a version nobody wrote");
    region.u64(geometry.base + NEWEST).store(u64::MAX, Ordering::Relaxed);
    assert_eq!(reader.read(&region, 0, 9), Err(Miss::Corrupt));
    assert!(Writer::attach(&region, geometry).is_err());
}

#[test]
fn the_page_says_the_same() {
    let value = [
        ("limit", LIMIT),
        ("slots", SLOTS),
        ("form", FORM),
        ("writer", ROLE),
        ("writer_destination", ROLE + 8),
        ("newest", NEWEST),
        ("sleepers", SLEEPERS),
        ("data", DATA),
    ];
    layout::page::says("Latest value", &value);
    let slot = [("stamp", STAMP), ("length", LENGTH), ("value", VALUE)];
    layout::page::says("Slot of a latest value", &slot);
}

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<u8>),
    /// Claims and fills, and then dies or gives up.
    Die(Vec<u8>),
    Get(usize),
    Recv(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = || prop::collection::vec(any::<u8>(), 0..=40);
    let step = prop_oneof![
        value().prop_map(Step::Set),
        value().prop_map(Step::Die),
        (0..3usize).prop_map(Step::Get),
        (0..3usize).prop_map(Step::Recv),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    /// Against the simplest model: all values ever set, and how many each reader knows of.
    #[test]
    fn readers_see_the_newest(steps in steps(), slots in 2usize..6) {
        let (region, geometry) = memory(40, slots);
        let mut writer = Writer::attach(&region, geometry).unwrap();
        let mut readers = [(); 3].map(|()| Reader::new(geometry, 0));
        let (mut all, mut seen) = (Vec::<Vec<u8>>::new(), [0; 3]);
        for step in steps {
            match step {
                Step::Set(value) => {
                    set(&region, &mut writer, &value);
                    all.push(value);
                }
                Step::Die(value) => {
                    let mut draft = writer.claim(&region);
                    writer.fill(&region, &mut draft, &value).unwrap();
                    writer = Writer::attach(&region, geometry).unwrap();
                }
                Step::Get(who) | Step::Recv(who) => {
                    let than = if matches!(step, Step::Get(_)) { 0 } else { seen[who] };
                    let reader = &mut readers[who];
                    match reader.read(&region, than as u64, 1) {
                        Err(miss) => {
                            prop_assert_eq!(miss, Miss::Nothing);
                            prop_assert!(all.len() <= than);
                        }
                        Ok(()) => {
                            prop_assert_eq!(Some(reader.value()), all.last().map(Vec::as_slice));
                            prop_assert_eq!(reader.seen(), all.len() as u64);
                            let missed = all.len().saturating_sub(seen[who] + 1);
                            let missed = if seen[who] == 0 { 0 } else { missed };
                            prop_assert_eq!(reader.missed(), missed as u64);
                            seen[who] = all.len();
                        }
                    }
                }
            }
        }
    }

    /// Whatever stands in the words: an answer, no panic, no access outside.
    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec(any::<u64>(), 3), small in 0u64..9) {
        let (region, geometry) = memory(24, 3);
        let mut writer = Writer::attach(&region, geometry).unwrap();
        for _ in 0..small {
            set(&region, &mut writer, &[7; 24]);
        }
        let newest = region.u64(NEWEST);
        if words[0] % 2 == 0 {
            newest.store(words[0], Ordering::Relaxed);
        }
        let slot = geometry.slot(newest.load(Ordering::Relaxed));
        if words[1] % 2 == 0 {
            region.u64(slot + STAMP).store(words[1], Ordering::Relaxed);
        }
        region.u64(slot + LENGTH).store(words[2] >> (words[1] % 64), Ordering::Relaxed);
        let mut reader = Reader::new(geometry, 0);
        if reader.read(&region, 0, TRIES).is_ok() {
            prop_assert!(reader.value().len() <= 24);
        }
        if let Ok(mut writer) = Writer::attach(&region, geometry) {
            set(&region, &mut writer, b"next");
            reader.read(&region, 0, 1).unwrap();
            prop_assert_eq!(reader.value(), b"next");
        }
    }
}
