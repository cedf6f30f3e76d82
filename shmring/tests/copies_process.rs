//! What is in hand when its process forks: the copies in the child give nothing back, and publish
//! nothing.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    io::{PipeWriter, Read, Write, pipe},
    process::ExitCode,
};

use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};
use shmring::ring::{broadcast::Broadcast, cells::Cells, latest::Latest, records::Records};
use testkit::forked as child;

/// Enough to go round several times in each of these rings.
const LATER: u64 = 50;

/// A forked child's copy of a value of its parent, which it may drop.
fn copy_of<T>(value: &T) -> T {
    // SAFETY: only a child does this, once, and it ends without dropping the original.
    unsafe { std::ptr::read(value) }
}

/// A child that uses its copy of what its parent has in hand only when it is told to.
struct Late {
    child: Pid,
    go: PipeWriter,
}

impl Late {
    fn fork(act: impl FnOnce()) -> Late {
        let (mut wait, go) = pipe().unwrap();
        let child = child(|| {
            wait.read_exact(&mut [0]).unwrap();
            act();
        });
        Late { child, go }
    }

    fn act(mut self) {
        self.go.write_all(&[1]).unwrap();
        assert_eq!(waitpid(self.child, None).unwrap(), WaitStatus::Exited(self.child, 0));
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Forks with an item in hand, which the child drops when its parent has long gone on.
macro_rules! items_in_hand {
    ($send:expr, $recv:expr, $number:expr) => {{
        $send(0);
        let item = $recv;
        let late = Late::fork(|| drop(copy_of(&item)));
        assert_eq!($number(&item), 0);
        drop(item);
        for number in 1..LATER {
            $send(number);
            assert_eq!($number(&$recv), number);
        }
        $send(LATER);
        late.act();
        assert_eq!($number(&$recv), LATER);
        for number in LATER + 1..2 * LATER {
            $send(number);
            assert_eq!($number(&$recv), number);
        }
    }};
}

/// Forks with a claim in hand, which the child commits when its parent has done so long ago.
macro_rules! claims_in_hand {
    ($claim:expr, $put:expr, $recv:expr, $number:expr) => {{
        let claim = $claim;
        let late = Late::fork(|| copy_of(&claim).commit());
        $put(claim, 0);
        for number in 1..4 {
            $put($claim, number);
        }
        late.act();
        $put($claim, 4);
        for number in 0..5 {
            assert_eq!($number(&$recv), number);
        }
    }};
}

/// Forks in the middle of a run, which the child drops when its parent has long gone on.
macro_rules! runs_in_hand {
    ($send:expr, $rx:ident) => {{
        (0..3).for_each(&mut $send);
        let mut run = $rx.try_run().unwrap();
        assert_eq!(number(&run.next().unwrap().unwrap()), 0);
        let late = Late::fork(|| drop(copy_of(&run)));
        assert_eq!(number(&run.next().unwrap().unwrap()), 1);
        assert_eq!(number(&run.next().unwrap().unwrap()), 2);
        drop(run);
        for item in 3..LATER {
            $send(item);
            assert_eq!(number(&$rx.try_recv().unwrap()), item);
        }
        late.act();
        $send(LATER);
        assert_eq!(number(&$rx.try_recv().unwrap()), LATER);
    }};
}

fn records() {
    let ring = Records::options().capacity(128).anonymous().unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    let mut send = |number: u64| tx.try_send(number.to_le_bytes()).unwrap();
    let of = |item: &[u8]| number(item);
    items_in_hand!(send, rx.try_recv().unwrap(), of);
    runs_in_hand!(send, rx);
    let put = |mut claim: shmring::ring::records::Claim<'_>, number: u64| {
        claim.copy_from_slice(&number.to_le_bytes());
        claim.commit();
    };
    claims_in_hand!(tx.try_claim(8).unwrap(), put, rx.try_recv().unwrap(), of);
}

fn cells() {
    let ring = Cells::<u64>::options().capacity(8).anonymous().unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    let mut send = |number| tx.try_send(number).unwrap();
    let of = |item: &u64| *item;
    items_in_hand!(send, rx.try_recv().unwrap(), of);
    items_in_hand!(send, rx.try_run().unwrap(), |items: &[u64]| items[0]);
    let put = |mut claim: shmring::ring::cells::Claim<'_, u64>, number: u64| {
        *claim = number;
        claim.commit();
    };
    claims_in_hand!(tx.try_claim().unwrap(), put, rx.try_recv().unwrap(), of);
}

fn broadcast() {
    let ring = Broadcast::options().capacity(256).anonymous().unwrap();
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut send = |number: u64| tx.try_send(number.to_le_bytes()).unwrap();
    let of = |item: &[u8]| number(item);
    items_in_hand!(send, rx.try_recv().unwrap(), of);
    runs_in_hand!(send, rx);
    let put = |mut claim: shmring::ring::broadcast::Claim<'_>, number: u64| {
        claim.copy_from_slice(&number.to_le_bytes());
        claim.commit();
    };
    claims_in_hand!(tx.try_claim(8).unwrap(), put, rx.try_recv().unwrap(), of);
}

fn latest() {
    let board = Latest::<[u8]>::options().max_len(8).anonymous().unwrap();
    let (mut writer, mut reader) = (board.writer().unwrap(), board.reader());
    writer.set(b"before").unwrap();
    let mut claim = writer.claim().unwrap();
    claim.write_all(b"ours").unwrap();
    let late = Late::fork(|| copy_of(&claim).commit());
    claim.commit();
    writer.set(b"newest").unwrap();
    late.act();
    assert_eq!((reader.try_get().unwrap(), writer.version()), (&b"newest"[..], 3));
    writer.set(b"after").unwrap();
    assert_eq!(reader.try_get().unwrap(), b"after");
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(records),
        testkit::test!(cells),
        testkit::test!(broadcast),
        testkit::test!(latest),
    ])
}
