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
mod start;
mod stop;
mod undelivered;

fn main() -> std::process::ExitCode {
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
        start::tests(),
        stop::tests(),
        undelivered::tests(),
    ];
    testkit::run(groups.into_iter().flatten())
}
