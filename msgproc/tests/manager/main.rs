//! Managers: many processes in one loop, with descriptors, timers and signals.

mod common;
mod crowd;
mod events;
mod groups;
mod polls;
mod redelivery;
mod sources;
mod speed;
mod stop;
mod stuck;
mod supervision;
mod threads;

fn main() -> std::process::ExitCode {
    msgproc::init();
    let groups = [
        crowd::tests(),
        events::tests(),
        groups::tests(),
        polls::tests(),
        redelivery::tests(),
        sources::tests(),
        speed::tests(),
        stop::tests(),
        stuck::tests(),
        supervision::tests(),
        threads::tests(),
    ];
    testkit::run(groups.into_iter().flatten())
}
