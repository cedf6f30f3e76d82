//! Runs of graphs, in threads and processes.

mod bounds;
mod builders;
mod common;
mod death;
mod ends;
mod errors;
mod fault_points;
mod feedback;
mod files;
mod joins;
mod long;
mod order;
mod outlets;
mod panics;
mod places;
mod random;
mod reports;
mod said;
mod several;
mod sources;
mod stages;
mod tasks;
mod travel;

fn main() -> std::process::ExitCode {
    msgproc::init();
    let groups = [
        bounds::tests(),
        builders::tests(),
        death::tests(),
        ends::tests(),
        errors::tests(),
        fault_points::tests(),
        feedback::tests(),
        files::tests(),
        joins::tests(),
        long::tests(),
        order::tests(),
        outlets::tests(),
        panics::tests(),
        places::tests(),
        random::tests(),
        said::tests(),
        several::tests(),
        sources::tests(),
        stages::tests(),
        reports::tests(),
        travel::tests(),
        tasks::tests(),
    ];
    testkit::run(groups.into_iter().flatten())
}
