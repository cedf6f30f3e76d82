//! LAYOUT.md against what is there: a reader in plain Python that follows the page through live
//! segments, `layout_reader.py`.
//!
//! The interpreter is `SHMRING_TEST_PYTHON`, or `python3`. Without one the tests are ignored.

#![allow(clippy::disallowed_methods)] // Starts python.

use std::{
    env,
    fmt::Write,
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio, id},
    thread,
    time::{Duration, Instant},
};

use shmring::{
    Segment, WaitStrategy,
    block::{Block, BlockPool},
    named, os,
    ring::{
        Policy, broadcast::Broadcast, cells::Cells, latest::Latest, port, queue::Queue,
        records::Records,
    },
};

const LATE: Duration = Duration::from_secs(20);

fn interpreter() -> String {
    env::var("SHMRING_TEST_PYTHON")
        .ok()
        .filter(|python| !python.is_empty())
        .unwrap_or_else(|| "python3".into())
}

/// Why there is no python.
fn python_is_missing() -> Option<String> {
    let python = interpreter();
    let found =
        Command::new(&python).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("{python} --version ended with {status}")),
        Err(error) => Some(format!("{python} cannot be started: {error}")),
    }
}

fn reader(name: &str, command: &str) -> Command {
    let here = env!("CARGO_MANIFEST_DIR");
    let mut python = Command::new(interpreter());
    // No folder of compiled Python beside the source.
    python.arg("-B").arg(format!("{here}/tests/layout_reader.py"));
    python.arg(format!("{here}/LAYOUT.md")).arg(name).args(command.split(' '));
    python
}

/// What the reader says, in lines.
fn read(name: &str, command: &str) -> Vec<String> {
    let output = reader(name, command).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command}");
    String::from_utf8(output.stdout).unwrap().lines().map(Into::into).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn tables() {
    let name = testkit::name("tables");
    let segment = Segment::options().participants(5).objects(7).bells(1).create(&name).unwrap();
    let ring = Records::options().capacity(4096).create_in(&segment).unwrap();
    let board = Latest::<[u64; 5]>::options().slots(3).create_in(&segment).unwrap();
    BlockPool::options().blocks(2).block_len(100).create_in(&segment).unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    for _ in 0..3 {
        tx.send(b"12345").unwrap();
    }
    drop(rx.recv().unwrap());
    drop(rx);
    let mut writer = board.writer().unwrap();
    writer.set(&[0; 5]).unwrap();
    writer.set(&[0; 5]).unwrap();
    drop(writer);
    let writer = board.writer().unwrap();

    let observer = Segment::observe(&name).unwrap();
    let len = |number: usize| observer.objects()[number].len;
    let (started, namespace) = (os::start_time(id()).unwrap().unwrap(), os::pid_namespace());
    let expected = [
        format!("segment {} 5 7 1", segment.len()),
        "repair 0".into(),
        // Index, pid, generation, live; bell number 0 plus one; not asleep.
        format!("participant 0 {} 1 2 {started} {namespace} 1 0", id()),
        format!("object 0 1 {} 0", len(0)),
        "ring 4096 0 3 32".into(),
        "lost 0 taken 1 missed 0".into(),
        "producer held 1 0 0".into(),
        "consumer closed 1 0 0".into(),
        format!("object 1 6 {} 0", len(1)),
        "latest 40 3 1 2".into(),
        "writer held 2 0 0".into(),
        format!("object 2 2 {} 0", len(2)),
    ];
    assert_eq!(read(&name, "describe"), expected);
    drop(writer);
}

/// Of a length of its own.
fn record(number: usize) -> Vec<u8> {
    (0..number % 150).map(|byte| (number + byte) as u8).collect()
}

fn records_of_a_ring_that_is_written() {
    const RECORDS: usize = 600;
    let name = testkit::name("records");
    let ring = Records::options().capacity(1 << 16).create(&name).unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    // So far on that the next record does not fit into this lap.
    const PASSED: usize = 65;
    for _ in 0..PASSED {
        tx.send([0; 992]).unwrap();
        rx.recv().unwrap();
    }
    tx.send([1; 800]).unwrap();
    let mut expected = vec!["pad".into(), format!("bytes {PASSED} {}", hex(&[1; 800]))];
    let mut python = reader(&name, &format!("records 0 {}", RECORDS + 1));
    let mut python = python.stdout(Stdio::piped()).spawn().unwrap();
    for number in 0..RECORDS {
        let record = record(number);
        expected.push(format!("bytes {} {}", PASSED + 1 + number, hex(&record)));
        if number % 3 == 0 {
            let mut batch = tx.batch();
            batch.try_push(record).unwrap();
            batch.publish();
        } else {
            tx.send(record).unwrap();
        }
        if number % 20 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    let lines = BufReader::new(python.stdout.take().unwrap()).lines();
    let got: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(python.wait().unwrap().success());
    assert_eq!(got.len(), expected.len());
    assert!(got == expected, "the same records, in order");
    // Looking took nothing: they are all still there.
    for line in expected.iter().filter(|line| *line != "pad") {
        let record = rx.try_recv().unwrap();
        assert_eq!(*line, format!("bytes {} {}", record.sequence(), hex(&record)));
    }
}

fn losses_of_records() {
    let name = testkit::name("losses");
    let options = Records::options().capacity(256).policy(Policy::DropNewest);
    let (mut tx, mut rx) = options.create(&name).unwrap().split().unwrap();
    // Five fit.
    for number in 0..8 {
        tx.send([number; 40]).unwrap();
    }
    while rx.try_recv().is_ok() {}
    tx.send([8; 1]).unwrap();
    let counts = || read(&name, "describe").into_iter().find(|line| line.starts_with("lost"));
    assert_eq!(counts().unwrap(), "lost 3 taken 5 missed 0");
    // The header that tells of the losses leaves one word of this lap.
    assert_eq!(read(&name, "records 0 1"), ["pad", "bytes 8 08"]);
    assert_eq!(rx.recv().unwrap().sequence(), 8);
    assert_eq!(counts().unwrap(), "lost 3 taken 6 missed 3");

    // A new producer tells again, and that counts once.
    drop(tx);
    let mut tx = rx.ring().producer().unwrap();
    tx.send([9; 1]).unwrap();
    assert_eq!(read(&name, "records 0 1"), ["bytes 9 09"]);
    assert_eq!(rx.recv().unwrap().sequence(), 9);
}

fn messages_and_blocks() {
    let name = testkit::name("blocks");
    let segment = Segment::options().len(1 << 16).create(&name).unwrap();
    let ring = Records::options().capacity(4096).create_in(&segment).unwrap();
    let options = BlockPool::options().blocks(70).block_len(200).carriers(3);
    let pool = options.create_in(&segment).unwrap();
    let (mut tx, _rx) = port::ends::<(u8, Block)>(&ring).unwrap();
    let mut loan = pool.try_loan().unwrap();
    loan.set_len(11);
    loan.as_bytes_mut().copy_from_slice(b"eleven byte");
    let kept = loan.freeze();
    tx.send((7, kept.clone())).unwrap();

    let got = read(&name, "records 0 1");
    // The value is a byte, and the number of the block in the table.
    assert_eq!(got[0], "message 1 0700");
    let handle: Vec<u32> = got[1].split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
    // Pool 1, the block's first generation, carrier 0, which has taken it once.
    let [1, block, 1, 0, 1] = handle[..] else { panic!("{handle:?}") };
    let got = read(&name, &format!("block 1 {block}"));
    assert_eq!(got[0], format!("block shared 0 1 200 {}", hex(b"eleven byte")));
    let ones = |line: &str| line.split(' ').filter(|count| *count == "1").count();
    assert_eq!(got[2].split(' ').count(), 1 + 3);
    assert_eq!((ones(&got[1]), ones(&got[2])), (0, 1), "its owner, and once on its way: {got:?}");
    let mut loan = pool.try_loan().unwrap();
    loan.set_len(1);
    loan.as_bytes_mut()[0] = 8;
    let alone = loan.freeze();
    let moving = alone.index();
    tx.send((8, alone)).unwrap();
    let got = read(&name, &format!("block 1 {moving}"));
    assert_eq!(got[0], "block moving 0 1 200 08");
    assert_eq!((ones(&got[1]), ones(&got[2])), (0, 0), "counted nowhere: {got:?}");
    let other = if block == 69 { 68 } else { 69 };
    assert_eq!(read(&name, &format!("block 1 {other}"))[0], "block free 0 0 200 ");
}

fn items_of_a_ring_of_cells() {
    let name = testkit::name("cells");
    let options = Cells::<[u32; 3]>::options().capacity(8).policy(Policy::DropNewest);
    let ring = options.label("points").create(&name).unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    // Two that there is no room for.
    for number in 0..10 {
        tx.send([number; 3]).unwrap();
    }
    for number in 0..5 {
        assert_eq!(*rx.try_recv().unwrap(), [number; 3]);
    }
    for number in 10..14 {
        tx.send([number; 3]).unwrap();
    }
    let cell = |number: u32| format!("cell {number} {}", hex(&number.to_le_bytes().repeat(3)));
    let expected: Vec<String> = [
        "cells 8 12 4 2 points".into(),
        "counters 12 2 5".into(),
        "producer held 1 0 0".into(),
        "consumer held 1 0 0".into(),
    ]
    .into_iter()
    .chain([5, 6, 7, 10, 11, 12, 13].map(cell))
    .collect();
    assert_eq!(read(&name, "cells 0 7"), expected);
    // Looking took nothing.
    assert_eq!(rx.try_recv().unwrap().sequence(), 5);
}

fn cells_of_a_ring_that_is_written() {
    const ITEMS: u16 = 400;
    let name = testkit::name("written");
    let ring = Cells::<[u16; 5]>::options().capacity(512).create(&name).unwrap();
    let mut tx = ring.producer().unwrap();
    let mut python = reader(&name, &format!("cells 0 {ITEMS}"));
    let mut python = python.stdout(Stdio::piped()).spawn().unwrap();
    for number in 0..ITEMS {
        tx.send([number; 5]).unwrap();
        if number % 20 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    let lines = BufReader::new(python.stdout.take().unwrap()).lines().map(Result::unwrap);
    let got: Vec<String> = lines.filter(|line| line.starts_with("cell ")).collect();
    assert!(python.wait().unwrap().success());
    let cell = |number: u16| format!("cell {number} {}", hex(&number.to_le_bytes().repeat(5)));
    assert!(got == (0..ITEMS).map(cell).collect::<Vec<_>>(), "the same items, in order");
}

fn items_of_a_broadcast_ring() {
    let name = testkit::name("all");
    let options = Broadcast::options().capacity(256).consumers(3).policy(Policy::DropNewest);
    let ring = options.create(&name).unwrap();
    let mut tx = ring.producer().unwrap();
    for number in 0..20u8 {
        tx.send([number; 30]).unwrap();
    }
    let mut lossless = ring.consumer().unwrap();
    let _lossy = ring.join().lossy().consumer().unwrap();
    // Four fit: the lossless one holds the producer back, and three are given up.
    for number in 20..27u8 {
        tx.send([number; 30]).unwrap();
    }
    assert_eq!(lossless.recv().unwrap().sequence(), 20);
    tx.send([27; 1]).unwrap();
    let stats = ring.stats();
    let kept = stats.sent - 20;
    assert_eq!((stats.sent + stats.dropped, kept), (28, 5));
    drop(tx);
    let got = read(&name, "broadcast 0");
    assert_eq!(got[0], "broadcast 256 3 2");
    assert_eq!(got[1], format!("counters {} {} 0 24", stats.sent, stats.dropped));
    assert!(got[2].starts_with("place 0 held 1 0 lossless 21 "), "{got:?}");
    assert!(got[3].starts_with("place 1 held 1 0 lossy 20 "), "{got:?}");
    let items = &got[got.len() - 4..];
    for (line, number) in items.iter().zip(21..24u8) {
        assert_eq!(*line, format!("item {number} 0 {}", hex(&[number; 30])));
    }
    assert_eq!(items[3], "item 27 3 1b");
    for number in [21, 22, 23, 27] {
        assert_eq!(lossless.try_recv().unwrap().sequence(), number);
    }
}

fn a_broadcast_ring_that_overtakes_its_reader() {
    const ITEMS: usize = 20_000;
    let name = testkit::name("overtakes");
    let ring = Broadcast::options().capacity(4096).create(&name).unwrap();
    let mut tx = ring.producer().unwrap();
    let mut python = reader(&name, "broadcast 0").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(python.stdout.take().unwrap()).lines().map(Result::unwrap);
    // It is there, and now falls behind.
    assert!(lines.nth(1).unwrap().starts_with("counters"));
    for number in 0..ITEMS {
        tx.send(record(number)).unwrap();
        if number % 100 == 0 {
            thread::sleep(Duration::from_micros(500));
        }
    }
    drop(tx);
    let (mut seen, mut missed, mut next) = (0, 0, None);
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let (sequence, gap): (usize, usize) =
            (words[1].parse().unwrap(), words[2].parse().unwrap());
        assert_eq!(words[3], hex(&record(sequence)), "item {sequence}");
        assert_eq!(next.unwrap_or(sequence) + gap, sequence);
        next = Some(sequence + 1);
        (seen, missed) = (seen + 1, missed + gap);
    }
    assert!(python.wait().unwrap().success());
    assert_eq!(next, Some(ITEMS), "the last is still there");
    assert!(seen > 50 && missed > 0, "{seen} seen, {missed} missed");
}

fn newest_values_of_a_board_that_is_written() {
    let name = testkit::name("latest");
    // Many slots, for a slow reader.
    let options = Latest::<[u8]>::options().max_len(100).slots(1000);
    let mut writer = options.create(&name).unwrap().writer().unwrap();
    let mut python = reader(&name, "latest 0 300");
    let mut python = python.stdout(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while python.try_wait().unwrap().is_none() {
        let version = writer.version() + 1;
        writer.set(&vec![version as u8; version as usize % 101]).unwrap();
        if version.is_multiple_of(64) {
            thread::sleep(Duration::from_micros(100));
        }
        assert!(began.elapsed() < LATE);
    }
    assert!(python.wait().unwrap().success());
    let mut last = 0;
    let lines = BufReader::new(python.stdout.take().unwrap()).lines();
    for line in lines.map(Result::unwrap) {
        let mut words = line.split(' ').skip(1);
        let version: u64 = words.next().unwrap().parse().unwrap();
        assert!(version > last);
        last = version;
        let expected = hex(&vec![version as u8; version as usize % 101]);
        assert_eq!(words.next().unwrap(), expected, "version {version}");
    }
    assert!(last >= 300);
}

fn items_of_a_queue() {
    let name = testkit::name("items");
    let options = Queue::options().capacity(5).item_len(50).ends(3).policy(Policy::DropNewest);
    let queue = options.create(&name).unwrap();
    let (mut tx, mut rx) = queue.split().unwrap();
    let mut other = queue.producer().unwrap();
    for number in 0..30u8 {
        tx.send([number]).unwrap();
        rx.recv().unwrap().ack().unwrap();
    }
    drop(tx.claim(9).unwrap());
    tx.send(b"back").unwrap();
    other.send(b"first").unwrap();
    rx.recv().unwrap().nack().unwrap();
    let _held = tx.claim(1).unwrap();
    for _ in 0..3 {
        other.send(b"more").unwrap();
    }
    drop(rx);
    let expected = [
        "queue 5 50 3 2".into(),
        "counters 1 0 1 1".into(),
        "producer 0 held 1 0".into(),
        "producer 1 held 1 0".into(),
        "consumer 0 closed 1 0".into(),
        "free 0".into(),
        format!("item 0 0 2 0 {}", hex(b"first")),
        format!("item 1 0 1 30 {}", hex(b"back")),
        format!("item 0 0 2 1 {}", hex(b"more")),
        format!("item 0 0 2 2 {}", hex(b"more")),
        "ready 4".into(),
    ];
    assert_eq!(read(&name, "queue 0"), expected);
}

fn doorbells_of_those_who_sleep() {
    let name = testkit::name("asleep");
    let segment = Segment::options().bells(0).create(&name).unwrap();
    let options = Latest::<u64>::options().wait(WaitStrategy::Park);
    let board = options.create_in(&segment).unwrap();
    let mut writer = board.writer().unwrap();
    let sleeper = testkit::forked(|| {
        let mut reader = board.reader();
        assert_eq!(reader.recv_timeout(LATE), Ok(7));
    });
    let asleep = || {
        let sleepers = read(&name, "sleepers 0");
        let described = read(&name, "describe");
        // Its index is 1, and it sleeps on the futex, without a bell.
        sleepers[0] == "sleepers 1"
            && described
                .iter()
                .any(|line| line.starts_with("participant 1 ") && line.ends_with(" 0 1"))
    };
    assert!(testkit::wait_until(LATE, asleep));
    writer.set(&7).unwrap();
    nix::sys::wait::waitpid(sleeper, None).unwrap();
    assert_eq!(read(&name, "sleepers 0"), ["sleepers"]);
}

fn a_reader_of_the_page_says_in_use() {
    let name = testkit::name("held");
    let segment = Segment::options().bells(0).create(&name).unwrap();
    segment.keep();
    let mut python = reader(&name, "hold");
    let mut python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(python.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    drop(segment);
    let path = format!("/dev/shm/shmring.{name}.ring");
    assert!(!named::remove_if_stale(path.as_ref()).unwrap());
    drop(python.stdin.take());
    assert!(python.wait().unwrap().success());
    assert!(named::remove_if_stale(path.as_ref()).unwrap());
}

fn main() -> ExitCode {
    let missing = python_is_missing();
    let test = |name: &str, body: fn()| testkit::Test::new(name, body).ignore_if(missing.clone());
    testkit::run([
        test("tables", tables),
        test("records_of_a_ring_that_is_written", records_of_a_ring_that_is_written),
        test("losses_of_records", losses_of_records),
        test("messages_and_blocks", messages_and_blocks),
        test("items_of_a_ring_of_cells", items_of_a_ring_of_cells),
        test("cells_of_a_ring_that_is_written", cells_of_a_ring_that_is_written),
        test("items_of_a_broadcast_ring", items_of_a_broadcast_ring),
        test(
            "a_broadcast_ring_that_overtakes_its_reader",
            a_broadcast_ring_that_overtakes_its_reader,
        ),
        test("newest_values_of_a_board_that_is_written", newest_values_of_a_board_that_is_written),
        test("items_of_a_queue", items_of_a_queue),
        test("doorbells_of_those_who_sleep", doorbells_of_those_who_sleep),
        test("a_reader_of_the_page_says_in_use", a_reader_of_the_page_says_in_use),
    ])
}
