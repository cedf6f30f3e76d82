//! Holds the imports of each crate against the tables of ARCHITECTURE.md.
//!
//! A module imports only from modules that stand before it in the table of its
//! crate: from lower rows, or from its left in its own row. Code under
//! `#[cfg(test)]` may import anything.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

pub use source::{Import, Source};

/// The modules of one crate, lowest first: in the order of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Layers(Vec<String>);

impl Layers {
    /// Reads the table below the heading `## crate_name`.
    ///
    /// Its lines start with the number of the row and the module in backticks;
    /// in place of the number may stand `later`, for what is above all rows.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the table.
    pub fn parse(document: &str, crate_name: &str) -> Result<Layers, String> {
        let mut modules = Vec::new();
        let mut last_row = 0;
        for cells in table(document, crate_name) {
            let [row, module, ..] = cells.as_slice() else {
                return Err(format!("{crate_name}: a line has too few cells: {cells:?}"));
            };
            let row = match row.as_str() {
                "later" => u32::MAX,
                number => number.parse().map_err(|_| format!("{crate_name}: row {number:?}?"))?,
            };
            if row < last_row {
                return Err(format!("{crate_name}: `{module}` stands below a higher row"));
            }
            last_row = row;
            if modules.contains(module) {
                return Err(format!("{crate_name}: `{module}` is listed twice"));
            }
            modules.push(module.clone());
        }
        if modules.is_empty() {
            return Err(format!("no table of modules below \"## {crate_name}\""));
        }
        Ok(Layers(modules))
    }

    fn height(&self, module: &str) -> Option<usize> {
        self.0.iter().position(|name| name == module)
    }
}

/// Gives the files and folders in which unsafe code may be opened: the first
/// cells of the table below the heading `## Unsafe code`.
pub fn unsafe_rooms(document: &str) -> Vec<String> {
    table(document, "Unsafe code")
        .into_iter()
        .filter_map(|mut cells| cells.drain(..).next())
        .collect()
}

/// The body of the first table below a heading of the second level, its cells
/// trimmed of blanks, backticks and the slash that marks a folder's module.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let heading = format!("## {heading}");
    let lines = document.lines().skip_while(|line| line.trim_end() != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("## "));
    let table =
        lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    table
        .skip(2)
        .map(|line| {
            let line = line.trim().trim_matches('|');
            line.split('|').map(|cell| clean(cell.trim())).collect()
        })
        .collect()
}

fn clean(cell: &str) -> String {
    match cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) {
        Some(name) => name.strip_suffix('/').unwrap_or(name).to_owned(),
        None => cell.to_owned(),
    }
}

/// One crate as it lies in the repository: its files and what they import.
pub struct Crate {
    name: String,
    files: BTreeMap<PathBuf, Source>,
}

impl Crate {
    /// Reads all files below `directory/src`.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be read or is not Rust.
    pub fn read(directory: &Path) -> io::Result<Crate> {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = BTreeMap::new();
        let src = directory.join("src");
        for path in rust_files(&src)? {
            let relative = path.strip_prefix(&src).expect("a file below it").to_owned();
            if is_tests(&relative) {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            files.insert(relative.clone(), parse_file(&relative, &text)?);
        }
        Ok(Crate { name, files })
    }

    /// The same from texts, for tests.
    ///
    /// # Panics
    ///
    /// Panics when a text is not Rust.
    pub fn of(name: &str, files: &[(&str, &str)]) -> Crate {
        let parse = |&(path, text): &(&str, &str)| {
            let path = PathBuf::from(path);
            let source = parse_file(&path, text).expect("the text is Rust");
            (path, source)
        };
        Crate { name: name.to_owned(), files: files.iter().map(parse).collect() }
    }

    /// Lists the imports that go up or sideways, and modules that the table
    /// does not know.
    pub fn against(&self, layers: &Layers) -> Vec<String> {
        let mut problems = Vec::new();
        let root = self.root_names();
        let modules: BTreeSet<&str> =
            self.files.keys().filter_map(|path| module_of(path)).collect();
        for module in &modules {
            if layers.height(module).is_none() {
                problems.push(format!(
                    "{}: module `{module}` is not in the table of ARCHITECTURE.md",
                    self.name
                ));
            }
        }
        for (path, source) in &self.files {
            let Some(module) = module_of(path) else {
                continue; // lib.rs is the roof: it may show everything
            };
            for import in &source.imports {
                let place = format!("{}/src/{}:{}", self.name, path.display(), import.line);
                let target = if modules.contains(import.target.as_str()) {
                    import.target.as_str()
                } else if let Some(target) = root.get(&import.target) {
                    target
                } else {
                    problems.push(format!(
                        "{place}: cannot tell which module `crate::{}` comes from: import it from there",
                        import.target
                    ));
                    continue;
                };
                if target != module && layers.height(target) > layers.height(module) {
                    problems.push(format!(
                        "{place}: `{module}` imports from `{target}`, which stands above it"
                    ));
                }
            }
        }
        problems
    }

    /// Lists the files that open unsafe code without being one of the rooms.
    pub fn unsafe_outside(&self, rooms: &[String]) -> Vec<String> {
        let opened = self.files.iter().filter(|(_, source)| !source.opens_unsafe.is_empty());
        opened
            .map(|(path, source)| (format!("{}/src/{}", self.name, path.display()), source))
            .filter(|(path, _)| !rooms.iter().any(|room| Path::new(path).starts_with(room)))
            .map(|(path, source)| {
                format!(
                    "{path}:{}: opens unsafe code; no room of ARCHITECTURE.md",
                    source.opens_unsafe[0]
                )
            })
            .collect()
    }

    /// Lists the uses of a crate or module by its name, outside some modules.
    pub fn mentions(&self, word: &str, outside: &[&str]) -> Vec<String> {
        let others = self
            .files
            .iter()
            .filter(|(path, _)| module_of(path).is_none_or(|module| !outside.contains(&module)));
        others
            .flat_map(|(path, source)| {
                let lines = source.lines_with(word);
                lines.map(move |line| {
                    format!("{}/src/{}:{line}: `{word}`", self.name, path.display())
                })
            })
            .collect()
    }

    /// What `lib.rs` brings to the root: each name with the module it is from.
    fn root_names(&self) -> BTreeMap<String, String> {
        let lib = self.files.get(Path::new("lib.rs"));
        lib.map(|source| source.brought.iter().cloned().collect()).unwrap_or_default()
    }
}

fn rust_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Tests that fill a file of their own: `ring/tests.rs`.
fn is_tests(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests")
}

fn parse_file(path: &Path, text: &str) -> io::Result<Source> {
    let tail = path.file_name().is_some_and(|name| name == "mod.rs" || name == "lib.rs");
    let depth = path.components().count() - usize::from(tail);
    Source::parse(text, depth)
        .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

/// The module of the crate's root that a file belongs to.
fn module_of(path: &Path) -> Option<&str> {
    let first = path.iter().next()?.to_str()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (module != "lib" && module != "main" && module != "bin").then_some(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
# House
## low
| row | module | room for |
|---|---|---|
| 1 | `error` | errors |
| 1 | `sync` | atomics |
| 2 | `os/` | the kernel |
| 3 | `ring/` | rings |
| later | `far` | |

Words.
## Unsafe code
| file | reason |
|---|---|
| `low/src/os/` | calls |
| `low/src/ring/slots.rs` | payload |
";

    fn layers() -> Layers {
        Layers::parse(DOCUMENT, "low").unwrap()
    }

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        Crate::of("low", files).against(&layers())
    }

    #[track_caller]
    fn complains(files: &[(&str, &str)], of: &str) {
        let problems = problems(files);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(of), "{problems:?}");
    }

    const ERROR: (&str, &str) = ("error.rs", "pub struct Error;");
    const RING: (&str, &str) = ("ring/mod.rs", "pub struct Ring;");

    #[test]
    fn reads_the_table() {
        let expected = ["error", "sync", "os", "ring", "far"].map(str::to_owned);
        assert_eq!(layers(), Layers(expected.to_vec()));
        assert_eq!(unsafe_rooms(DOCUMENT), ["low/src/os", "low/src/ring/slots.rs"]);
    }

    #[test]
    fn a_missing_table_is_an_error() {
        assert!(Layers::parse(DOCUMENT, "high").unwrap_err().contains("no table"));
    }

    #[test]
    fn rows_must_rise() {
        let document = DOCUMENT.replace("| 3 |", "| 1 |");
        assert!(Layers::parse(&document, "low").unwrap_err().contains("higher row"));
    }

    #[test]
    fn a_module_stands_once() {
        let document = DOCUMENT.replace("`sync`", "`error`");
        assert!(Layers::parse(&document, "low").unwrap_err().contains("twice"));
    }

    #[test]
    fn down_and_left_are_fine() {
        let found = problems(&[
            ERROR,
            ("sync.rs", "use crate::error::Error;"),
            ("os/mod.rs", "use crate::{error::Error, sync::{A, B}}; mod shm;"),
            ("os/shm.rs", "use super::check; use crate::os::other;"),
            ("ring/mod.rs", "fn f() -> crate::error::Error { crate::os::g() }"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn up_is_found() {
        complains(
            &[RING, ("error.rs", "\nuse crate::ring::Ring;")],
            "low/src/error.rs:2: `error` imports from `ring`",
        );
    }

    #[test]
    fn right_is_found() {
        complains(&[("sync.rs", ""), ("error.rs", "use crate::sync::A;")], "imports from `sync`");
    }

    #[test]
    fn up_in_a_group_is_found() {
        complains(
            &[ERROR, RING, ("os/shm.rs", "use crate::{error::E, ring::{self, Ring}};")],
            "from `ring`",
        );
    }

    #[test]
    fn up_in_a_body_or_a_macro_is_found() {
        complains(&[RING, ("error.rs", "fn f() { g(&crate::ring::R); }")], "from `ring`");
        complains(&[RING, ("error.rs", "fn f() { vec![crate::ring::R]; }")], "from `ring`");
        complains(
            &[RING, ("error.rs", "macro_rules! m { () => { $crate::ring::r() } }")],
            "from `ring`",
        );
    }

    #[test]
    fn up_through_the_root_is_found() {
        let lib = ("lib.rs", "mod error; mod ring; pub use ring::{Ring, Slot as Place};");
        complains(&[lib, RING, ("error.rs", "use crate::Ring;")], "from `ring`");
        complains(&[lib, RING, ("error.rs", "use crate::Place;")], "from `ring`");
    }

    #[test]
    fn up_through_super_is_found() {
        complains(&[RING, ("error.rs", "use super::ring::Ring;")], "from `ring`");
        complains(&[RING, ("os/shm.rs", "use super::super::ring::Ring;")], "from `ring`");
        complains(
            &[RING, ("os/shm.rs", "mod a { use super::super::super::ring::Ring; }")],
            "from `ring`",
        );
        assert!(problems(&[RING, ("os/shm.rs", "use super::ring;")]).is_empty());
    }

    #[test]
    fn the_root_has_no_glob() {
        complains(&[ERROR, ("os/mod.rs", "use crate::*;")], "cannot tell");
        complains(&[ERROR, ("os/mod.rs", "use super::*;")], "cannot tell");
    }

    #[test]
    fn a_name_of_unknown_origin_is_found() {
        complains(&[ERROR, ("os/mod.rs", "use crate::Mystery;")], "cannot tell");
    }

    #[test]
    fn a_module_that_is_not_listed_is_found() {
        complains(&[("attic.rs", "")], "`attic` is not in the table");
    }

    #[test]
    fn tests_and_comments_may_say_anything() {
        let tests = "// crate::ring\n/// [`crate::ring`]\nfn f() {}\n#[cfg(test)]\nmod tests { use crate::ring::Ring; }";
        assert!(problems(&[RING, ("error.rs", tests)]).is_empty());
        let other = "#[cfg(all(test, x))] #[allow(y)] mod models { use crate::ring::Ring; }";
        assert!(problems(&[RING, ("error.rs", other)]).is_empty());
        complains(
            &[RING, ("error.rs", "#[cfg(unix)] mod m { use crate::ring::Ring; }")],
            "from `ring`",
        );
        complains(
            &[RING, ("error.rs", "#[cfg(not(test))] mod m { use crate::ring::Ring; }")],
            "from `ring`",
        );
    }

    #[test]
    fn unsafe_is_opened_in_its_rooms_only() {
        let open = "#![allow(unsafe_code)] // reason";
        let files = [("os/shm.rs", open), ("ring/slots.rs", open), ("error.rs", "")];
        let rooms = unsafe_rooms(DOCUMENT);
        assert!(Crate::of("low", &files).unsafe_outside(&rooms).is_empty());
        for bad in [
            open,
            "\n#[allow(dead_code, unsafe_code)] fn f() {}",
            "#[expect(unsafe_code)] fn f() {}",
        ] {
            let found = Crate::of("low", &[("ring/mod.rs", bad)]).unsafe_outside(&rooms);
            assert_eq!(found.len(), 1, "{bad}");
        }
        let denied = Crate::of("low", &[("lib.rs", "#![deny(unsafe_code)]")]);
        assert!(denied.unsafe_outside(&rooms).is_empty());
    }

    #[test]
    fn mentions_are_found_outside_the_room() {
        let files = [
            ("os/mod.rs", "use libc::c_int;"),
            ("ring/mod.rs", "fn f() { libc::getpid(); } // libc"),
        ];
        assert_eq!(
            Crate::of("low", &files).mentions("libc", &["os"]),
            ["low/src/ring/mod.rs:1: `libc`"]
        );
    }
}
