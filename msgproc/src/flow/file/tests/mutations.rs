//! Files that are broken, at random and on purpose. The corpus is that of fuzzing, too.

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::anything::read_check_write;
use super::*;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/flow/file/tests/corpus");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().into(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn the_corpus_is_what_it_says() {
    for (name, bytes) in corpus() {
        read_check_write(&bytes);
        let text = String::from_utf8(bytes).unwrap();
        let json = name.ends_with("json");
        let read = if json { GraphFile::from_json(&text) } else { GraphFile::from_yaml(&text) };
        let broken = ["broken", "tabs", "cut"].iter().any(|word| name.starts_with(word));
        assert_eq!(read.is_err(), broken, "{name}: {read:?}");
    }
}

/// What files are made of.
const PIECES: [&str; 40] = [
    "\n",
    "\n  ",
    "\n- ",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "!!int ",
    "? ",
    "| \n",
    ">-\n",
    "---\n",
    "...\n",
    "~",
    "0",
    "-1",
    "1e999",
    ".nan",
    "99999999999999999999",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{2028}",
    "\t",
    "nodes",
    "connections",
    " -> ",
    " (feedback, credits 9)",
    " (latest)",
    "a",
    ".in",
    "class: Both",
];

#[derive(Clone, Debug)]
enum Change {
    Insert(Index, usize),
    Remove(Index, usize),
    Flip(Index, u8),
    Repeat(Index, usize),
    /// Goes on with another file.
    Splice(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 0..PIECES.len()).prop_map(|(at, piece)| Change::Insert(at, piece)),
        2 => (at(), 1..40_usize).prop_map(|(at, len)| Change::Remove(at, len)),
        1 => (at(), any::<u8>()).prop_map(|(at, bits)| Change::Flip(at, bits)),
        1 => (at(), 1..60_usize).prop_map(|(at, len)| Change::Repeat(at, len)),
        1 => (at(), at(), at()).prop_map(|(at, file, from)| Change::Splice(at, file, from)),
    ]
}

fn change_by(bytes: &mut Vec<u8>, change: &Change, files: &[(String, Vec<u8>)]) {
    let end = bytes.len() + 1;
    match change {
        Change::Insert(at, piece) => {
            let at = at.index(end);
            bytes.splice(at..at, PIECES[*piece].bytes());
        }
        Change::Remove(at, len) => {
            let at = at.index(end);
            drop(bytes.drain(at..(at + len).min(end - 1)));
        }
        Change::Flip(at, bits) => {
            if let Some(byte) = bytes.get_mut(at.index(end)) {
                *byte = (*byte ^ bits) & 0x7f;
            }
        }
        Change::Repeat(at, len) => {
            let at = at.index(end);
            let part = bytes[at..(at + len).min(end - 1)].to_vec();
            bytes.splice(at..at, part);
        }
        Change::Splice(at, file, from) => {
            let (_, other) = file.get(files);
            bytes.truncate(at.index(end));
            bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
        }
    }
}

proptest! {
    #[test]
    fn no_change_to_a_file_is_a_panic(file in any::<Index>(), changes in vec(change(), 1..6)) {
        let files = corpus();
        let mut bytes = file.get(&files).1.clone();
        for change in &changes {
            change_by(&mut bytes, change, &files);
        }
        read_check_write(&bytes);
    }
}
