//! The tutorial's book and its programs cannot drift apart: what the book includes and links to
//! exists, and every program is in it, with its output.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A page of the book.
struct Page {
    path: PathBuf,
    text: String,
}

fn book() -> PathBuf {
    tests::repository().join("tutorial/book")
}

fn files(dir: &Path, ending: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            found.insert(path);
        }
    }
    found
}

fn pages() -> Vec<Page> {
    let paths = files(&book(), ".md");
    paths.into_iter().map(|path| Page { text: fs::read_to_string(&path).unwrap(), path }).collect()
}

/// What stands between each `open` and the next `close`.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| Some(rest.split_once(close)?.0))
}

/// The paths and anchors of `{{#include PATH:ANCHOR}}`.
fn includes(page: &Page) -> Vec<(PathBuf, Option<&str>)> {
    let parts = between(&page.text, "{{#", "}}").map(|inside| {
        let what = inside.strip_prefix("include ").unwrap_or_else(|| {
            panic!("{}: {{{{#{inside}}}}} is not an include", page.path.display())
        });
        let (path, anchor) = match what.split_once(':') {
            Some((path, anchor)) => (path, Some(anchor)),
            None => (what, None),
        };
        (resolve(page, path), anchor)
    });
    parts.collect()
}

/// The path that a page means by `target`, without `..` in it.
fn resolve(page: &Page, target: &str) -> PathBuf {
    let mut path = page.path.parent().unwrap().to_owned();
    for part in target.split('/') {
        match part {
            "." => {}
            ".." => assert!(path.pop()),
            part => path.push(part),
        }
    }
    path
}

/// The targets of links to other pages: path and fragment.
fn links(page: &Page) -> impl Iterator<Item = (&str, Option<&str>)> {
    between(&page.text, "](", ")").filter(|target| !target.starts_with("http")).map(|target| {
        match target.split_once('#') {
            Some((path, fragment)) => (path, Some(fragment)),
            None => (target, None),
        }
    })
}

/// The name of a heading in a link: small letters, digits, and dashes for spaces.
fn fragment(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn every_include_exists() {
    let mut count = 0;
    for page in pages() {
        for (path, anchor) in includes(&page) {
            count += 1;
            let here = page.path.display();
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{here} includes {}: {error}", path.display()));
            let Some(anchor) = anchor else { continue };
            for mark in ["ANCHOR: ", "ANCHOR_END: "] {
                let line = format!("{mark}{anchor}");
                assert!(
                    text.lines().any(|l| l.trim_end().ends_with(&line)),
                    "{here} includes {anchor} of {}, which has no \"{line}\"",
                    path.display()
                );
            }
        }
    }
    assert!(count > 0, "the book includes nothing");
}

#[test]
fn every_program_is_in_the_book_with_its_output() {
    let included: BTreeSet<PathBuf> =
        pages().iter().flat_map(includes).map(|(path, _)| path).collect();
    let tutorial = tests::repository().join("tutorial");
    let programs = files(&tutorial.join("src/bin"), ".rs");
    assert!(programs.len() >= 6, "{programs:?}");
    for program in programs {
        assert!(included.contains(&program), "no page includes {}", program.display());
        let name = program.file_stem().unwrap().to_str().unwrap();
        let output = tutorial.join(format!("expected/{name}.txt"));
        assert!(included.contains(&output), "no page includes {}", output.display());
    }
}

#[test]
fn every_page_is_in_the_summary() {
    let pages = pages();
    let is_summary = |page: &&Page| page.path.ends_with("SUMMARY.md");
    let summary = pages.iter().find(is_summary).expect("there is a SUMMARY.md");
    let listed: BTreeSet<PathBuf> =
        links(summary).map(|(path, _)| resolve(summary, path)).collect();
    let there: BTreeSet<PathBuf> =
        pages.iter().filter(|page| !is_summary(page)).map(|page| page.path.clone()).collect();
    assert_eq!(listed, there);
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    for page in &pages {
        for (path, wanted) in links(page) {
            let target = if path.is_empty() { page.path.clone() } else { resolve(page, path) };
            let here = page.path.display();
            let to = pages.iter().find(|page| page.path == target);
            let to = to.unwrap_or_else(|| panic!("{here} links to {path}, which is no page"));
            let Some(wanted) = wanted else { continue };
            let headings = to.text.lines().filter(|line| line.starts_with('#'));
            let mut names = headings.map(|line| fragment(line.trim_start_matches('#')));
            assert!(names.any(|name| name == wanted), "{here} links to {path}#{wanted}");
        }
    }
}

/// The mark that ends a code block is a line of its own; one that is missing would swallow the
/// rest of the page.
#[test]
fn code_blocks_end() {
    for page in pages() {
        let fences = page.text.lines().filter(|line| line.starts_with("```")).count();
        assert!(fences % 2 == 0, "{}: {fences} lines with ```", page.path.display());
    }
}
