//! Every target with some thousand random inputs, in children: a panic, a signal or a hang names
//! the seed.

use std::process::ExitCode;

use liar::{generate::Generator, targets};
use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::alarm,
};

const INPUTS_OF_A_CHILD: usize = 100;
/// A child that takes as long as this hangs.
const CHILD_SECONDS: u32 = 20;

fn inputs() -> usize {
    let inputs = std::env::var("SHMRING_FUZZ_INPUTS").ok();
    inputs.and_then(|text| text.parse().ok()).unwrap_or(3_000)
}

fn give_inputs(name: &str, target: targets::Target) {
    for seed in 0..inputs().div_ceil(INPUTS_OF_A_CHILD) as u64 {
        let child = testkit::forked(|| {
            alarm::set(CHILD_SECONDS);
            targets::set_prefix(testkit::prefix());
            let mut generator = Generator::new(name, seed);
            for _ in 0..INPUTS_OF_A_CHILD {
                target(&generator.input());
            }
        });
        let status = waitpid(child, None).unwrap();
        assert_eq!(status, WaitStatus::Exited(child, 0), "{name}, seed {seed}");
    }
}

fn main() -> ExitCode {
    testkit::run(targets::ALL.map(|(name, target)| {
        let test = testkit::Test::new(name, move || give_inputs(name, target));
        test.timeout(std::time::Duration::from_secs(600))
    }))
}
