//! Gives random inputs to a target, where there is no libFuzzer: `liar TARGET SECONDS [SEED]`. Writes
//! the inputs that libFuzzer begins with: `liar seeds TARGET DIRECTORY`.

use std::{
    env, fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use liar::{
    generate::Generator,
    targets::{self, Target},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let wanted = match arguments[..] {
        ["seeds", name, directory] => {
            targets::find(name).map(|_| write_seeds(name, directory.as_ref()))
        }
        [name, seconds] => random(name, seconds, "1"),
        [name, seconds, seed] => random(name, seconds, seed),
        _ => None,
    };
    wanted.unwrap_or_else(|| {
        let names = targets::ALL.map(|(name, _)| name).join(", ");
        eprintln!("Usage: liar TARGET SECONDS [SEED]\n       liar seeds TARGET DIRECTORY");
        eprintln!("Targets: {names}");
        ExitCode::from(2)
    })
}

fn write_seeds(name: &str, directory: &Path) -> ExitCode {
    for (number, seed) in targets::seeds(name).iter().enumerate() {
        if let Err(error) = fs::write(directory.join(format!("seed-{number}")), seed) {
            eprintln!("liar: cannot write a seed into {}: {error}", directory.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn random(name: &str, seconds: &str, seed: &str) -> Option<ExitCode> {
    let (target, seconds) = (targets::find(name)?, seconds.parse().ok()?);
    let until = Instant::now() + Duration::from_secs(seconds);
    let inputs = give_inputs(name, target, seed.parse().ok()?, until);
    println!("{name}: {inputs} inputs, and nothing went wrong");
    Some(ExitCode::SUCCESS)
}

fn give_inputs(name: &str, target: Target, first_seed: u64, until: Instant) -> u64 {
    let mut inputs = 0;
    for seed in first_seed.. {
        // Whoever is ended by it has said how to come back to it.
        eprintln!("{name}: seed {seed}, {inputs} inputs so far");
        let mut generator = Generator::new(name, seed);
        for _ in 0..20_000 {
            if Instant::now() >= until {
                return inputs;
            }
            target(&generator.input());
            inputs += 1;
        }
    }
    inputs
}
