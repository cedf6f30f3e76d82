//! Managers: many processes in one loop, with descriptors, timers and signals.

mod common;
mod crowd;
mod events;
mod groups;
mod polls;
mod sources;
mod stop;
mod supervision;
mod threads;

fn main() -> std::process::ExitCode {
    msgproc::init();
    let groups = [
        crowd::tests(),
        events::tests(),
        groups::tests(),
        polls::tests(),
        sources::tests(),
        stop::tests(),
        supervision::tests(),
        threads::tests(),
    ];
    testkit::run(groups.into_iter().flatten())
}
