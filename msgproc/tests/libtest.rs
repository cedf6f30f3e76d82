//! Backends inside ordinary tests, which run on threads.

use msgproc::prelude::*;

msgproc::test_support!();

struct Counter(u64);

#[backend]
impl Counter {
    fn c__add(&mut self, number: u64) -> u64 {
        self.0 += number;
        self.0
    }
}

#[test]
fn a_test_may_spawn() {
    let mut counter = MessageProcess::spawn("counter", 100, |first, _| Counter(first)).unwrap();
    assert_eq!(counter.add(7).wait().unwrap(), 107);
    counter.stop().unwrap();
}

#[test]
fn a_test_may_use_a_fork_server() {
    let server = ForkServer::start().unwrap();
    for first in 0..3 {
        let counter =
            MessageProcess::fork_from(&server, "counter", first, |first, _| Counter(first));
        let mut counter = counter.unwrap();
        assert_eq!(counter.add(7).wait().unwrap(), first + 7);
        counter.stop().unwrap();
    }
}
