//! Files that a program is to write, looked at before it writes any of them.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Says whether each output is a file of its own, and none is what the program reads: the inputs
/// are files, or directories whose files are read. An output is named by its option.
///
/// # Errors
///
/// A sentence: which two are the same.
pub fn check<'a>(
    inputs: impl IntoIterator<Item = &'a Path>,
    outputs: &[(&str, Option<&Path>)],
) -> Result<(), String> {
    let mut known: Vec<(File, String)> = Vec::new();
    for input in inputs {
        for path in files_of(input) {
            if let Some(file) = File::of(&path) {
                known.push((file, format!("{} is what is read", path.display())));
            }
        }
    }
    for (option, path) in outputs {
        let Some((path, file)) = path.and_then(|path| Some((path, File::of(path)?))) else {
            continue;
        };
        if let Some((_, what)) = known.iter().find(|(other, _)| *other == file) {
            return Err(format!("{option} would overwrite another file: {what}"));
        }
        known.push((file, format!("{} is written for {option}", path.display())));
    }
    Ok(())
}

/// A file by what it is, or by its place where it is not there yet.
#[derive(PartialEq, Eq)]
enum File {
    Existing { device: u64, inode: u64 },
    New { directory: (u64, u64), name: OsString },
}

impl File {
    /// `None` for what is no file, such as a terminal or `/dev/null`, and where nothing can be
    /// written at all.
    fn of(path: &Path) -> Option<File> {
        if let Ok(meta) = fs::metadata(path) {
            return meta
                .is_file()
                .then(|| File::Existing { device: meta.dev(), inode: meta.ino() });
        }
        let directory = match path.parent()? {
            parent if parent.as_os_str().is_empty() => Path::new("."),
            parent => parent,
        };
        let meta = fs::metadata(directory).ok()?;
        let (directory, name) = ((meta.dev(), meta.ino()), path.file_name()?.to_owned());
        Some(File::New { directory, name })
    }
}

fn files_of(input: &Path) -> Vec<PathBuf> {
    match fs::read_dir(input) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => vec![input.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_read_and_what_is_written_differ() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("clip"), "clip").unwrap();
        fs::create_dir(at("pictures")).unwrap();
        fs::write(at("pictures/1.png"), "picture").unwrap();
        symlink(at("clip"), at("link")).unwrap();
        let says = |input: &str, csv: &str, plot: &str| {
            let outputs = [("--csv", Some(at(csv))), ("--plot", Some(at(plot)))];
            let outputs = outputs.each_ref().map(|(option, path)| (*option, path.as_deref()));
            check([&*at(input)], &outputs).err().unwrap_or_default()
        };
        assert_eq!(says("clip", "a.csv", "a.svg"), "");
        assert_eq!(says("pictures", "pictures/a.csv", "clip"), "");
        assert_eq!(says("missing", "missing/a", "missing/a"), "", "that fails otherwise");
        assert!(says("clip", "clip", "a.svg").contains("--csv would overwrite"));
        assert!(says("clip", "a.csv", "link").contains("clip is what is read"));
        assert!(says("link", "clip", "a.svg").contains("link is what is read"));
        assert!(says("pictures", "pictures/1.png", "a.svg").contains("1.png is what is read"));
        assert!(says("clip", "new", "./new").contains("new is written for --csv"));
        let null = Path::new("/dev/null");
        check([null], &[("--csv", Some(null)), ("--plot", Some(null)), ("--dot", None)]).unwrap();
    }
}
