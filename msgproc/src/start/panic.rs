//! Panics as values: message, place, backtrace.

use std::{
    any::Any,
    backtrace::Backtrace,
    cell::RefCell,
    mem,
    panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind},
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicPtr, Ordering::Relaxed},
    },
    thread,
};

use super::Page;

/// A panic that was caught.
#[derive(Debug)]
pub(crate) struct Caught {
    pub(crate) message: String,
    pub(crate) location: Option<String>,
    pub(crate) backtrace: Option<String>,
}

struct Scope {
    page: Arc<Page>,
    seen: Option<Caught>,
}

/// Where the hook is that this process, or its parent, has set last.
static OURS: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Is dropped with such a hook: another may come to lie where it was.
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        OURS.store(ptr::null_mut(), Relaxed);
    }
}

thread_local! {
    static SCOPES: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f`; a panic in it is noted on the page, printed as usual, and given as a value.
pub(crate) fn catch<R>(page: &Arc<Page>, f: impl FnOnce() -> R) -> Result<R, Caught> {
    if OURS.load(Relaxed).is_null() {
        hook();
    }
    let scope = Scope { page: page.clone(), seen: None };
    SCOPES.with_borrow_mut(|scopes| scopes.push(scope));
    let result = catch_unwind(AssertUnwindSafe(f));
    let scope = SCOPES.with_borrow_mut(Vec::pop);
    result.map_err(|payload| {
        let seen = scope.and_then(|scope| scope.seen);
        let caught = seen.unwrap_or_else(|| {
            // Somebody has set another hook since.
            let message = text_of(&*payload);
            page.note_panic(&message);
            Caught { message, location: None, backtrace: None }
        });
        // The destructor of a payload might panic again.
        mem::forget(payload);
        caught
    })
}

/// Sets the hook that notes panics, before the one that is set, unless it is set.
fn hook() {
    // A hook that runs cannot be taken away.
    if thread::panicking() {
        return;
    }
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = panic::take_hook();
    if ptr::addr_eq(&raw const *before, OURS.load(Relaxed)) {
        return panic::set_hook(before);
    }
    let installed = Installed;
    let ours = Box::new(move |info: &PanicHookInfo<'_>| {
        let _ = &installed;
        note(info);
        before(info);
    });
    OURS.store((&raw const *ours).cast_mut().cast(), Relaxed);
    panic::set_hook(ours);
}

/// Runs in the hook, that is before anything unwinds: also where a panic aborts, the page has it.
fn note(info: &PanicHookInfo<'_>) {
    let message = text_of(info.payload());
    let location = info.location().map(ToString::to_string);
    // A thread that is ending has no scopes any more.
    let _ = SCOPES.try_with(|scopes| {
        let Ok(mut scopes) = scopes.try_borrow_mut() else {
            return;
        };
        let Some(scope) = scopes.last_mut() else {
            return;
        };
        match &location {
            Some(location) => scope.page.note_panic(&format!("{message} ({location})")),
            None => scope.page.note_panic(&message),
        }
        scope.seen = Some(Caught {
            message,
            location,
            backtrace: Some(Backtrace::force_capture().to_string()),
        });
    });
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic with a value that is no text".to_owned()
    }
}

/// Before a fork: what is set up at the first use need not be set up in each child, where every
/// page that is touched is mapped or copied.
pub(super) fn prepare() {
    SCOPES.with_borrow_mut(|scopes| scopes.reserve(4));
    // It may be another by now.
    hook();
}

/// In a new child: the scopes of its parent hold a page that it does not have.
#[inline] // As `fork` says.
pub(super) fn forget_scopes() {
    SCOPES.with_borrow_mut(|scopes| scopes.drain(..).for_each(mem::forget));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_place_and_backtrace_are_kept() {
        let page = Arc::new(Page::new().unwrap());
        assert_eq!(catch(&page, || 7).unwrap(), 7);
        let number = 3;
        let caught = catch(&page, || panic!("no film {number}")).unwrap_err();
        assert_eq!(caught.message, "no film 3");
        assert!(caught.location.unwrap().contains("panic.rs"));
        assert!(caught.backtrace.unwrap().contains("message_place"));
        assert!(page.panic().unwrap().starts_with("no film 3 ("));
    }

    #[test]
    fn a_payload_that_panics_when_dropped_does_no_harm() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("bomb");
            }
        }
        let page = Arc::new(Page::new().unwrap());
        let caught = catch(&page, || panic::panic_any(Bomb)).unwrap_err();
        assert!(caught.message.contains("no text"));
    }
}
