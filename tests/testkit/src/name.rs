//! Names of segments that no other test uses.

use std::cell::Cell;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Set in the child of the runner, before the test starts; processes which the
/// test forks inherit it.
static OF_THIS_TEST: OnceLock<String> = OnceLock::new();

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OF_THIS_THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Gives the prefix of all names of this test: `t-<pid>-<n>-`.
///
/// Under [`run`](crate::run) it belongs to the test, and processes forked by
/// the test see the same. Under the usual harness it belongs to the thread,
/// that is, to the test too.
pub fn prefix() -> String {
    if let Some(prefix) = OF_THIS_TEST.get() {
        return prefix.clone();
    }
    let n = OF_THIS_THREAD.with(|cell| {
        let n = cell.get().unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed));
        cell.set(Some(n));
        n
    });
    compose(process::id(), n)
}

/// Gives a name for a segment of this test: the [`prefix`], then `tag`.
///
/// # Panics
///
/// Panics when `tag` has characters other than `A-Z a-z 0-9 . _ -`.
pub fn name(tag: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    assert!(tag.chars().all(allowed), "{tag:?} cannot be part of the name of a segment");
    prefix() + tag
}

pub(crate) fn compose(pid: u32, n: usize) -> String {
    format!("t-{pid}-{n}-")
}

pub(crate) fn enter(prefix: String) {
    OF_THIS_TEST.set(prefix).expect("a test starts once");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_calls_agree() {
        assert_eq!(name("a"), name("a"));
        assert!(name("a").ends_with("-a"));
    }

    #[test]
    fn threads_differ() {
        let other = std::thread::spawn(|| name("a")).join().unwrap();
        assert_ne!(name("a"), other);
    }

    #[test]
    fn starts_with_a_letter() {
        assert!(name("x.y_z-1").starts_with("t-"));
    }

    #[test]
    #[should_panic(expected = "cannot be part")]
    fn slash_is_refused() {
        name("a/b");
    }
}
