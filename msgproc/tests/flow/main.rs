//! Runs of graphs, in threads and processes.

mod common;
mod death;
mod ends;
mod errors;
mod files;
mod order;
mod places;
mod reports;

fn main() -> std::process::ExitCode {
    msgproc::init();
    let groups = [
        death::tests(),
        ends::tests(),
        errors::tests(),
        files::tests(),
        order::tests(),
        places::tests(),
        reports::tests(),
    ];
    testkit::run(groups.into_iter().flatten())
}
