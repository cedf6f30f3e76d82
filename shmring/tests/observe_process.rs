//! Observers of segments that other processes use.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    fs,
    io::{Read, Write, pipe},
    process::ExitCode,
    thread,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use shmring::{Segment, ring::records::Records};
use testkit::forked as child;

const LATE: Duration = Duration::from_secs(20);

/// A ring without bells, whose pipes would outlive a killed process.
fn ring(name: &str) -> Records {
    let fill = |segment: &Segment| Records::options().capacity(1024).create_in(segment);
    Segment::options().bells(0).create_with(name, fill).unwrap().1
}

/// A child that has the producer's end of a ring, has sent three records, and stays.
fn producer(ring: &Records) -> Pid {
    let (mut ready, mut write) = pipe().unwrap();
    let child = child(|| {
        let mut tx = ring.producer().unwrap();
        for _ in 0..3 {
            tx.send([7; 16]).unwrap();
        }
        write.write_all(&[0]).unwrap();
        thread::sleep(LATE);
    });
    ready.read_exact(&mut [0]).unwrap();
    child
}

fn kill_and_reap(pid: Pid) {
    kill(pid, Signal::SIGKILL).unwrap();
    waitpid(pid, None).unwrap();
}

fn the_living_and_the_dead_are_told_apart() {
    let name = testkit::name("dead");
    let ring = ring(&name);
    let producer = producer(&ring);
    let observer = Segment::observe(&name).unwrap();
    let pid = producer.as_raw() as u32;
    let seen = || {
        let all = observer.participants();
        all.iter().map(|participant| (participant.pid, participant.alive)).collect::<Vec<_>>()
    };
    assert_eq!(seen(), [(std::process::id(), true), (pid, true)]);
    kill(producer, Signal::SIGSTOP).unwrap();
    assert_eq!(seen()[1], (pid, true), "stopped is alive");
    kill_and_reap(producer);
    assert_eq!(seen(), [(std::process::id(), true), (pid, false)]);
    assert_eq!(observer.objects()[0].ring.unwrap().sent, 3, "what it did is seen all the same");
    ring.segment().repair();
    assert_eq!(seen(), [(std::process::id(), true)]);
}

/// Also in another process, which has nothing but the observer.
fn looking_changes_nothing() {
    let name = testkit::name("look");
    let path = format!("/dev/shm/shmring.{name}.ring");
    let ring = ring(&name);
    let producer = producer(&ring);
    let before = fs::read(&path).unwrap();
    let looker = child(|| {
        let observer = Segment::observe(&name).unwrap();
        assert_eq!(observer.objects()[0].ring.unwrap().used, 72);
        assert_eq!(observer.participants().len(), 2);
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let ways: Vec<_> = maps
            .lines()
            .filter(|line| line.ends_with(&path))
            .map(|line| line.split(' ').nth(1).unwrap())
            .collect();
        // The mapping that the child has from its parent is of the time before the name.
        assert_eq!(ways, ["r--s"]);
    });
    assert_eq!(waitpid(looker, None).unwrap(), WaitStatus::Exited(looker, 0));
    assert!(fs::read(&path).unwrap() == before);
    kill_and_reap(producer);
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(the_living_and_the_dead_are_told_apart),
        testkit::test!(looking_changes_nothing),
    ])
}
