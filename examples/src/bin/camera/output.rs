//! Files, standard output and standard error.

use std::fmt::Arguments;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::failure::Failure;

/// Something that is written to, known by name.
#[derive(Debug)]
pub(crate) struct Output {
    name: String,
    to: To,
}

#[derive(Debug)]
enum To {
    File(File),
    Stdout,
}

impl Output {
    /// Creates a file, or empties the one that is there.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::create(path)
            .map_err(|error| Failure::io(format_args!("create {name}"), &error))?;
        Ok(Self { name, to: To::File(file) })
    }

    /// Returns standard output.
    pub(crate) fn stdout() -> Self {
        Self { name: "standard output".into(), to: To::Stdout }
    }

    /// Writes all of `text` at once.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), Failure> {
        let written = match &mut self.to {
            To::File(file) => file.write_all(text.as_bytes()),
            To::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
            }
        };
        written.map_err(|error| match (&self.to, error.kind()) {
            (To::Stdout, ErrorKind::BrokenPipe) => Failure::Closed,
            _ => Failure::io(format_args!("write {}", self.name), &error),
        })
    }
}

/// Writes a line to standard error. There is nobody left to tell if that fails.
pub(crate) fn error(line: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "camera: {line}");
}
