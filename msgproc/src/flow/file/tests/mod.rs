mod checks;
mod forms;
mod mutations;
mod round_trip;
mod settings;

use super::*;

/// What each problem says, with its line.
fn told(problems: &Problems) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn wrong(yaml: &str) -> Vec<String> {
    told(&GraphFile::from_yaml(yaml).expect_err("this is wrong"))
}
