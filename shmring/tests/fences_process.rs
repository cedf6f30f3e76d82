//! No wake-up is lost between processes whose ringers do not fence, nor where one of them cannot do
//! what that needs.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use shmring::{
    Segment, WaitStrategy, os,
    ring::records::{Consumer, Producer, Records},
};
use testkit::{forked as child, join};

const LATE: Duration = Duration::from_secs(20);
/// Enough for a ringer to stop fencing.
const BURST: u64 = 1100;
const ROUNDS: u64 = 1500;
/// A sleep that nobody ends lasts 100 ms, so what took so long was a wake-up that did not come.
const LOST: Duration = Duration::from_millis(80);

/// Has every later `membarrier` of this process and its children fail, as a sandbox does.
fn forbid_barriers() {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(load, 0, 0, 0), // The number of the call.
        step(equal, 0, 1, libc::SYS_membarrier as u32),
        step(give, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives through the call.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(done && !os::barrier(), "the filter does not work");
}

/// Sends a burst that nobody sleeps through, then one record at about the time when the other side
/// goes to sleep.
fn send(mut tx: Producer, mut acks: Consumer) {
    let mut random = 1u32;
    for round in 0..ROUNDS {
        for _ in 0..BURST {
            tx.send(round.to_le_bytes()).unwrap();
        }
        acks.recv_timeout(LATE).unwrap();
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let pause = Duration::from_nanos(u64::from(random >> 16) % 4000);
        let began = Instant::now();
        while began.elapsed() < pause {
            std::hint::spin_loop();
        }
        tx.send(round.to_le_bytes()).unwrap();
    }
}

/// Receives that, and counts the waits that took as long as one that nobody ends.
fn receive(mut rx: Consumer, mut acks: Producer) -> u64 {
    let mut late = 0;
    for round in 0..ROUNDS {
        let mut there = 0;
        while there < BURST {
            match rx.try_recv() {
                Ok(_) => there += 1,
                Err(_) => std::hint::spin_loop(),
            }
        }
        acks.send([]).unwrap();
        let began = Instant::now();
        assert_eq!(*rx.recv_timeout(LATE).unwrap(), round.to_le_bytes());
        late += u64::from(began.elapsed() >= LOST);
    }
    late
}

/// `here` and `there` say whether the two processes must do without barriers.
fn no_wake_up_is_lost(here: bool, there: bool) {
    if here {
        forbid_barriers();
    }
    // Nobody uses a bell here, so both sleep on the futex.
    let segment = Segment::options().bells(0).anonymous().unwrap();
    let ring = || Records::options().capacity(1 << 16).wait(WaitStrategy::Park);
    let (ring, acks) = (ring().create_in(&segment).unwrap(), ring().wait(WaitStrategy::Spin));
    let acks = acks.create_in(&segment).unwrap();
    let sender = child(|| {
        if there && !here {
            forbid_barriers();
        }
        send(ring.producer().unwrap(), acks.consumer().unwrap());
    });
    let late = receive(ring.consumer().unwrap(), acks.producer().unwrap());
    join(sender);
    // A busy machine may keep somebody waiting for so long, but not often.
    assert!(late <= 4, "{late} of {ROUNDS} wake-ups were lost");
}

fn with_barriers() {
    no_wake_up_is_lost(false, false);
}

fn without_barriers() {
    no_wake_up_is_lost(true, true);
}

fn a_sender_without_barriers() {
    no_wake_up_is_lost(false, true);
}

/// The receiver cannot call the barrier; the sender is in a process that others' barriers reach.
fn a_receiver_without_barriers() {
    let segment = Segment::options().bells(0).anonymous().unwrap();
    let ring = Records::options().wait(WaitStrategy::Park).create_in(&segment).unwrap();
    let acks = Records::options().wait(WaitStrategy::Spin).create_in(&segment).unwrap();
    let receiver = child(|| {
        forbid_barriers();
        let late = receive(ring.consumer().unwrap(), acks.producer().unwrap());
        assert!(late <= 4, "{late} of {ROUNDS} wake-ups were lost");
    });
    send(ring.producer().unwrap(), acks.consumer().unwrap());
    join(receiver);
}

/// A producer that is stopped has fenced by being stopped: its item is seen, or it wakes us when it
/// goes on.
fn a_stopped_sender_wakes_when_it_goes_on() {
    let segment = Segment::options().bells(0).anonymous().unwrap();
    let ring = Records::options().wait(WaitStrategy::Park).create_in(&segment).unwrap();
    let mut rx = ring.consumer().unwrap();
    let sender = child(|| {
        let mut tx = ring.producer().unwrap();
        for number in 0u64.. {
            if tx.send(number.to_le_bytes()).is_err() {
                break;
            }
        }
    });
    let mut next = 0u64;
    let mut late = 0;
    for _ in 0..100 {
        kill(sender, Signal::SIGSTOP).unwrap();
        // All that it has published; then we sleep until it goes on.
        while let Ok(record) = rx.recv_timeout(Duration::from_millis(2)) {
            assert_eq!(*record, next.to_le_bytes());
            next += 1;
        }
        let began = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(2));
                kill(sender, Signal::SIGCONT).unwrap();
            });
            let began = Instant::now();
            assert_eq!(*rx.recv_timeout(LATE).unwrap(), next.to_le_bytes());
            next += 1;
            began
        });
        late += u32::from(began.elapsed() >= LOST);
    }
    drop(rx);
    join(sender);
    assert!(late <= 4, "{late} of 100 wake-ups were lost");
}

/// A forked child's stores are reached by barriers, too, without a first use of its own.
fn a_child_takes_part_in_barriers() {
    let joined = os::join_barriers();
    join(child(|| assert_eq!(os::in_barriers(), joined)));
    forbid_barriers();
    // The fork handler asks again, and is refused: so the child fences by itself.
    join(child(|| assert!(!os::in_barriers())));
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(with_barriers),
        testkit::test!(without_barriers),
        testkit::test!(a_sender_without_barriers),
        testkit::test!(a_receiver_without_barriers),
        testkit::test!(a_stopped_sender_wakes_when_it_goes_on),
        testkit::test!(a_child_takes_part_in_barriers),
    ])
}
