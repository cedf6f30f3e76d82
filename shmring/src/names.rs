//! The one place that knows what a segment is called.
//!
//! An array NAME is the file `shmring.NAME.npy`, a ring `shmring.NAME.ring`, the bell of its
//! N-th participant the named pipe `shmring.NAME.bell.N`; all of them lie in `/dev/shm`.

use std::path::{Path, PathBuf};

use crate::{error::Error, os::SHM_DIR};

/// What all our files begin with.
pub const PREFIX: &str = "shmring.";

/// The longest NAME, in bytes.
pub const MAX_NAME: usize = 200;

/// What kind of file a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Kind {
    /// A pure `.npy` file.
    Array,
    /// A segment of rings and blocks.
    Ring,
    /// The named pipe that wakes one participant of a segment.
    Bell(u32),
}

/// Checks a NAME: `[A-Za-z0-9][A-Za-z0-9._-]{0,199}`.
///
/// # Errors
///
/// [`Error::BadName`] says which rule it breaks.
pub fn check(name: &str) -> Result<(), Error> {
    let bad = |reason: &str| Err(Error::BadName { name: name.into(), reason: reason.into() });
    match name.as_bytes() {
        [] => bad("it is empty"),
        bytes if bytes.len() > MAX_NAME => bad("it is longer than 200 characters"),
        [first, ..] if !first.is_ascii_alphanumeric() => {
            bad("it must begin with a letter or a digit")
        }
        bytes
            if !bytes
                .iter()
                .all(|&byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) =>
        {
            bad("only letters, digits, '.', '_' and '-' may stand in it")
        }
        _ => Ok(()),
    }
}

/// The path of a segment.
///
/// # Errors
///
/// [`Error::BadName`].
pub fn path(name: &str, kind: Kind) -> Result<PathBuf, Error> {
    check(name)?;
    let file = match kind {
        Kind::Array => format!("{PREFIX}{name}.npy"),
        Kind::Ring => format!("{PREFIX}{name}.ring"),
        Kind::Bell(number) => format!("{PREFIX}{name}.bell.{number}"),
    };
    Ok(Path::new(SHM_DIR).join(file))
}

/// Takes a file name apart; `None` when it is not one of ours.
pub fn parse(file: &str) -> Option<(&str, Kind)> {
    let rest = file.strip_prefix(PREFIX)?;
    let (name, kind) = if let Some(name) = rest.strip_suffix(".npy") {
        (name, Kind::Array)
    } else if let Some(name) = rest.strip_suffix(".ring") {
        (name, Kind::Ring)
    } else {
        let (head, number) = rest.rsplit_once('.')?;
        let canonical = number.parse::<u32>().ok().filter(|parsed| parsed.to_string() == number)?;
        (head.strip_suffix(".bell")?, Kind::Bell(canonical))
    };
    check(name).ok()?;
    Some((name, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_paths_and_back() {
        for kind in [Kind::Array, Kind::Ring, Kind::Bell(0), Kind::Bell(17)] {
            let path = path("cam-0.left", kind).unwrap();
            let file = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(parse(file), Some(("cam-0.left", kind)));
        }
        assert_eq!(
            path("my-shm-1", Kind::Array).unwrap(),
            Path::new("/dev/shm/shmring.my-shm-1.npy")
        );
    }

    #[test]
    fn bad_names_are_refused() {
        let long = "x".repeat(201);
        for name in ["", ".hidden", "-x", "a/b", "a b", "../x", "ä", "a\0", long.as_str()] {
            assert!(check(name).is_err(), "{name:?}");
        }
        check(&"x".repeat(200)).unwrap();
        for file in ["shmring.npy", "shmring..npy", "x.npy", "shmring.a.bell.01", "shmring.a.bell."]
        {
            assert_eq!(parse(file), None, "{file}");
        }
    }
}
