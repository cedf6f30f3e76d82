//! Whole processes: a frontend, its backends, what they say to each other and how they end.

mod blocks;
mod calls;
mod channel;
mod common;
mod death;
mod events;
mod hygiene;
mod lanes;
mod memory;
mod restarts;
mod servers;
mod start;
mod stop;
mod undelivered;
mod ways;

fn main() -> std::process::ExitCode {
    msgproc::init();
    // This program is also the other program that some tests start.
    if msgproc::worker::is_worker() {
        return msgproc::worker::run(ways::Moody::new).unwrap();
    }
    let groups = [
        blocks::tests(),
        calls::tests(),
        channel::tests(),
        death::tests(),
        events::tests(),
        hygiene::tests(),
        lanes::tests(),
        memory::tests(),
        restarts::tests(),
        servers::tests(),
        start::tests(),
        stop::tests(),
        undelivered::tests(),
        ways::tests(),
    ];
    testkit::run(groups.into_iter().flatten())
}
