//! Selectors in one process, on one thread and on several.

use std::{collections::VecDeque, thread, time::Instant};

use proptest::prelude::*;

use super::*;
use crate::{
    RecvError, SendError,
    ring::{
        latest::Latest,
        port,
        records::{Consumer, Producer, Records},
    },
};

const LATE: Duration = Duration::from_secs(20);

fn segment() -> Segment {
    Segment::options().len(1 << 22).objects(1024).bells(0).anonymous().unwrap()
}

fn ring(segment: &Segment) -> Records {
    Records::options().capacity(256).create_in(segment).unwrap()
}

fn rings(segment: &Segment, count: usize) -> (Vec<Producer>, Vec<Consumer>) {
    (0..count).map(|_| ring(segment).split().unwrap()).unzip()
}

fn selector(consumers: &[Consumer]) -> Selector {
    let mut selector = Selector::new();
    for (token, consumer) in consumers.iter().enumerate() {
        selector.add(token, consumer);
    }
    selector
}

#[test]
fn smoke() {
    let mut selector = Selector::default();
    assert_eq!(selector.ready(), None, "it has none to wait for");
    let (mut tx, mut rx) = rings(&segment(), 3);
    for (token, consumer) in rx.iter().enumerate() {
        selector.add(token, consumer);
    }
    assert_eq!(selector.try_ready(), None);
    assert_eq!(selector.ready_timeout(Duration::from_millis(5)), None);
    tx[1].send(b"one").unwrap();
    assert_eq!(selector.ready(), Some(1));
    assert_eq!(selector.try_ready(), Some(1), "until it is taken");
    assert_eq!(&*rx[1].recv().unwrap(), b"one");
    assert_eq!(selector.try_ready(), None);
    tx[2].send(b"two").unwrap();
    tx[0].send(b"three").unwrap();
    let mut tokens = vec![];
    assert_eq!(selector.ready_many(&mut tokens, None), 2);
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 2]);
    assert!(selector.remove(2) && !selector.remove(2));
    assert_eq!((selector.len(), selector.is_empty()), (2, false));
    assert_eq!(selector.ready_many(&mut tokens, Some(LATE)), 1);
    assert_eq!(tokens, [0]);
}

#[test]
fn full() {
    let (mut tx, mut rx) = ring(&segment()).split().unwrap();
    let mut selector = Selector::new();
    selector.add(0, &tx);
    selector.add_room(1, &tx, 40);
    let mut ready = || {
        let mut tokens = vec![];
        selector.ready_many(&mut tokens, Some(Duration::ZERO));
        tokens.sort_unstable();
        tokens
    };
    assert_eq!(ready(), [0, 1]);
    while tx.try_send([1u8; 40]).is_ok() {
        // It knows what would fit, without trying.
        let fits = tx.try_claim(40).is_ok();
        assert_eq!(ready().contains(&1), fits);
    }
    assert_eq!(ready(), []);
    rx.recv().unwrap();
    assert_eq!(ready(), [], "the rest of the lap is too short");
    rx.recv().unwrap();
    assert_eq!(ready(), [1]);
    while rx.try_recv().is_ok() {}
    assert_eq!(ready(), [0, 1]);
}

#[test]
fn closed() {
    let segment = segment();
    let (mut tx, mut rx) = rings(&segment, 2);
    let (mut other, far) = ring(&segment).split().unwrap();
    while other.try_send([1u8; 40]).is_ok() {}
    let mut selector = selector(&rx);
    selector.add(2, &other);
    tx[0].send(b"last").unwrap();
    drop(tx);
    drop(far);
    let mut ends = 0;
    while let Some(token) = selector.ready() {
        let ended = match token {
            2 => other.try_send([1u8; 40]) == Err(SendError::Closed([1; 40])),
            _ => matches!(rx[token].try_recv(), Err(RecvError::Closed)),
        };
        if ended {
            ends += 1;
            assert!(selector.remove(token));
        }
    }
    assert_eq!(ends, 3);
}

#[test]
fn an_end_that_was_dropped_is_not_told() {
    let segment = segment();
    let (mut tx, mut rx) = rings(&segment, 2);
    let mut selector = selector(&rx);
    for tx in &mut tx {
        tx.send(b"news").unwrap();
    }
    drop(rx.pop());
    for _ in 0..4 {
        assert_eq!(selector.try_ready(), Some(0));
    }
    // Another holder of the role is another end.
    let again = tx[1].ring().consumer().unwrap();
    let mut tokens = vec![];
    assert_eq!(selector.ready_many(&mut tokens, None), 1);
    selector.add(1, &again);
    assert_eq!(selector.ready_many(&mut tokens, None), 2);
}

#[test]
fn nobody_waits_where_all_ends_are_gone() {
    for strategy in [WaitStrategy::Adaptive, WaitStrategy::Park, WaitStrategy::Spin] {
        let segment = segment();
        let (_tx, rx) = rings(&segment, 2);
        let mut selector = selector(&rx);
        selector.set_wait(strategy);
        let values = Latest::<u64>::options().create_in(&segment).unwrap();
        let readers = [values.reader(), values.reader()];
        readers.iter().for_each(|reader| selector.add(2, reader));
        // While it waits, too.
        let others = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            drop((rx, readers));
        });
        assert_eq!(selector.ready(), None);
        others.join().unwrap();
        assert_eq!((selector.ready(), selector.ready_timeout(LATE)), (None, None));
    }
}

#[test]
fn ports_can_be_selected() {
    let (mut tx, mut rx) = port::ends::<String>(&ring(&segment())).unwrap();
    let mut selector = Selector::new();
    selector.add(0, &rx);
    selector.add(1, &tx);
    assert_eq!(selector.ready(), Some(1));
    tx.send("news".into()).unwrap();
    selector.remove(1);
    assert_eq!(selector.ready(), Some(0));
    assert_eq!(rx.recv().unwrap(), "news");
}

/// Nobody starves: while some rings always have something, the others have their turn.
#[test]
fn fairness() {
    for (count, busy) in [(3, 2), (8, 8), (100, 1), (100, 7), (100, 50)] {
        let segment = segment();
        let (mut tx, mut rx) = rings(&segment, count);
        let mut selector = selector(&rx);
        let mut told = vec![0; count];
        let mut waited = 0;
        for round in 0..20 * count {
            let quiet = busy + round % (count - busy).max(1);
            for tx in &mut tx[..busy] {
                while tx.try_send([1; 8]).is_ok() {}
            }
            if quiet < count && waited == 0 {
                tx[quiet].send([1; 8]).unwrap();
                waited = 1;
            }
            let token = selector.ready().unwrap();
            rx[token].try_recv().unwrap();
            told[token] += 1;
            waited = if token >= busy || waited == 0 { 0 } else { waited + 1 };
            assert!(waited <= count, "{count} {busy}: a ring has waited for {waited} others");
        }
        let (least, most) =
            (told[..busy].iter().min().unwrap(), told[..busy].iter().max().unwrap());
        assert!(*least * 3 >= *most, "{count} {busy}: {told:?}");
    }
}

/// What is found at each moment is what a model says, for rings in two segments.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize),
    Receive,
    Ask,
    Close(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..RINGS).prop_map(Step::Send),
        6 => Just(Step::Receive),
        3 => Just(Step::Ask),
        1 => (0..RINGS).prop_map(Step::Close),
    ];
    prop::collection::vec(step, 1..120)
}

const RINGS: usize = 20;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_as_queues(steps in steps()) {
        let segments = [segment(), segment()];
        let (mut tx, mut rx): (Vec<_>, Vec<_>) = (0..RINGS)
            .map(|number| ring(&segments[number % 2]).split().unwrap())
            .map(|(tx, rx)| (Some(tx), rx))
            .unzip();
        let mut selector = selector(&rx);
        let mut model: Vec<Option<VecDeque<u64>>> = vec![Some(VecDeque::new()); RINGS];
        let mut ended = [false; RINGS];
        let mut next = 0u64;
        for step in steps {
            match step {
                Step::Send(ring) => if let Some(tx) = &mut tx[ring] {
                    match tx.try_send(next.to_le_bytes()) {
                        Ok(()) => model[ring].as_mut().unwrap().push_back(next),
                        Err(error) => prop_assert_eq!(error, SendError::Full(next.to_le_bytes())),
                    }
                    next += 1;
                },
                Step::Close(ring) => {
                    drop(tx[ring].take());
                    ended[ring] = true;
                }
                Step::Receive => {
                    let expected = (0..RINGS).any(|ring| {
                        model[ring].as_ref().is_some_and(|queue| !queue.is_empty() || ended[ring])
                    });
                    let token = selector.try_ready();
                    prop_assert_eq!(token.is_some(), expected);
                    let Some(token) = token else { continue };
                    let queue = model[token].as_mut().unwrap();
                    match (rx[token].try_recv(), queue.pop_front()) {
                        (Ok(record), Some(item)) => prop_assert_eq!(&*record, &item.to_le_bytes()),
                        (Err(RecvError::Closed), None) => {
                            model[token] = None;
                            selector.remove(token);
                        }
                        (found, item) => prop_assert!(false, "{found:?}, expected {item:?}"),
                    }
                }
                Step::Ask => {
                    let ready = |ring: &usize| {
                        model[*ring].as_ref().is_some_and(|queue| !queue.is_empty() || ended[*ring])
                    };
                    let expected = (0..RINGS).filter(ready).count();
                    // Each of them has its turn.
                    let mut seen = std::collections::BTreeSet::new();
                    let mut tokens = vec![];
                    for _ in 0..RINGS {
                        selector.ready_many(&mut tokens, Some(Duration::ZERO));
                        prop_assert!(tokens.iter().all(&ready));
                        seen.extend(tokens.iter().copied());
                    }
                    prop_assert_eq!(seen.len(), expected);
                }
            }
        }
    }
}

fn wakes(strategy: WaitStrategy, segments: usize) {
    let segments: Vec<_> = (0..segments).map(|_| segment()).collect();
    const EACH: u64 = 500;
    let (tx, mut rx): (Vec<_>, Vec<_>) =
        (0..6).map(|number| ring(&segments[number % segments.len()]).split().unwrap()).unzip();
    let mut selector = selector(&rx);
    selector.set_wait(strategy);
    let senders: Vec<_> = tx
        .into_iter()
        .map(|mut tx| {
            thread::spawn(move || {
                for item in 0..EACH {
                    tx.send(item.to_le_bytes()).unwrap();
                    if item % 50 == 0 {
                        thread::sleep(Duration::from_micros(300));
                    }
                }
            })
        })
        .collect();
    let mut got = vec![0; rx.len()];
    let began = Instant::now();
    while let Some(token) = selector.ready_timeout(LATE) {
        match rx[token].try_recv() {
            Ok(record) => {
                assert_eq!(&*record, u64::to_le_bytes(got[token]));
                got[token] += 1;
            }
            Err(RecvError::Closed) => assert!(selector.remove(token)),
            Err(error) => assert_eq!(error, RecvError::Empty),
        }
    }
    assert!(began.elapsed() < LATE);
    assert_eq!(got, vec![EACH; rx.len()]);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn two_ends_adaptive() {
    wakes(WaitStrategy::Adaptive, 1);
}

#[test]
fn two_ends_park() {
    wakes(WaitStrategy::Park, 1);
}

#[test]
fn two_ends_spin() {
    wakes(WaitStrategy::Spin, 1);
}

#[test]
fn several_segments() {
    wakes(WaitStrategy::Park, 3);
}

/// One more than the kernel can sleep on.
#[test]
fn very_many_segments() {
    let segments: Vec<_> = (0..=os::FUTEX_WAIT_ANY_MAX)
        .map(|_| Segment::options().len(1 << 13).objects(1).bells(0).anonymous().unwrap())
        .collect();
    let (mut tx, rx): (Vec<_>, Vec<_>) =
        segments.iter().map(|segment| ring(segment).split().unwrap()).unzip();
    let mut selector = selector(&rx);
    assert_eq!(selector.ready_timeout(Duration::from_millis(3)), None);
    let last = tx.len() - 1;
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        tx[last].send(b"news").unwrap();
        tx
    });
    assert_eq!(selector.ready_timeout(LATE), Some(last));
    sender.join().unwrap();
}

/// Two selectors and a plain receiver of one process in one segment: each ring reaches all.
#[test]
fn threads_share_a_doorbell() {
    let segment = segment();
    const EACH: u64 = 300;
    let (tx, mut rx) = rings(&segment, 9);
    let mut alone = rx.pop().unwrap();
    alone.set_wait(WaitStrategy::Park);
    let two = rx.split_off(4);
    let receive = |mut rx: Vec<Consumer>| {
        move || {
            let mut selector = selector(&rx);
            selector.set_wait(WaitStrategy::Park);
            let mut got = 0;
            while let Some(token) = selector.ready_timeout(LATE) {
                match rx[token].try_recv() {
                    Ok(_) => got += 1,
                    Err(RecvError::Closed) => assert!(selector.remove(token)),
                    Err(error) => assert_eq!(error, RecvError::Empty),
                }
            }
            got
        }
    };
    let receivers = [thread::spawn(receive(rx)), thread::spawn(receive(two))];
    let single = thread::spawn(move || {
        let mut got = 0;
        while alone.recv_timeout(LATE).is_ok() {
            got += 1;
        }
        got
    });
    let mut tx = tx;
    for _ in 0..EACH {
        for tx in &mut tx {
            tx.send_timeout(b"item", LATE).unwrap();
        }
        thread::sleep(Duration::from_micros(100));
    }
    drop(tx);
    let [one, two] = receivers.map(|receiver| receiver.join().unwrap());
    assert_eq!((one, two, single.join().unwrap()), (4 * EACH, 4 * EACH, EACH));
}
