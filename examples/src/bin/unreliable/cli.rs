//! The command line.

use clap::Parser;

/// Serve requests by a C library that crashes on some of them.
///
/// Each line that a client sends is an expression, and gets a line: its value, what is
/// wrong with it, or that it was the end of the process that calculated it. That
/// process is replaced, and all other requests go on. Without arguments a client of
/// its own sends good and bad requests, and the program ends.
#[derive(Debug, Parser)]
#[command(
    name = "unreliable",
    version,
    after_help = "Examples:\n  \
        unreliable\n  \
        unreliable --serve --listen 127.0.0.1:7000 &\n  \
        printf '1 + 2\\n1 / 0\\n2 ^ 10\\n' | nc -N 127.0.0.1 7000\n\n\
        Exit status: 0 done, 1 failed, 2 wrong usage."
)]
pub(crate) struct Args {
    /// Serve until Ctrl-C, instead of showing it
    #[arg(long)]
    pub(crate) serve: bool,

    /// Where to listen; by default on a free port of this machine
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,

    /// How many processes calculate
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = workers)]
    pub(crate) workers: usize,

    /// How long a request may take, in milliseconds, before its process is killed
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub(crate) limit: u64,
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(workers @ 1..=256) => Ok(workers),
        _ => Err("a number from 1 to 256".into()),
    }
}
