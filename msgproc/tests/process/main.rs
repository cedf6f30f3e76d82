//! Whole processes: a frontend, its backends, what they say to each other and how they end.

mod blocks;
mod calls;
mod channel;
mod common;
mod death;
mod events;
mod hygiene;
mod memory;
mod restarts;
mod start;
mod stop;
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
        memory::tests(),
        restarts::tests(),
        start::tests(),
        stop::tests(),
        ways::tests(),
    ];
    testkit::run(groups.into_iter().flatten())
}
