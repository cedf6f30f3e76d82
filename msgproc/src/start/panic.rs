//! Panics as values: message, place, backtrace.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    cell::RefCell,
    mem,
    panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind},
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

/// A panic as the hook saw it.
#[derive(Debug)]
struct Seen {
    message: String,
    location: Option<String>,
    /// It is put into words when somebody wants to read it: that takes long.
    backtrace: Option<Backtrace>,
}

struct Scope {
    page: Arc<Page>,
    seen: Option<Seen>,
}

/// A panic that was caught in a thread which may have many: it has a backtrace if those are switched
/// on. It may go on in another thread, as what it is.
#[derive(Debug)]
pub(crate) struct Panic(Box<Seen>);

/// Runs `f`, and gives its panic. Once [`note_panics`] was called, it is known where that was.
#[inline]
pub(crate) fn catch_here<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(f)).map_err(Panic::of)
}

impl Panic {
    /// One that was caught in this thread just now.
    #[cold]
    pub(crate) fn of(payload: Box<dyn Any + Send>) -> Panic {
        let payload = match payload.downcast::<Panic>() {
            Ok(raised) => return *raised,
            Err(payload) => payload,
        };
        let message = text_of(&*payload);
        if !payload.is::<&str>() && !payload.is::<String>() {
            // Its destructor might panic again.
            mem::forget(payload);
        }
        let last = LAST.try_with(RefCell::take).ok().flatten();
        // Not that of another which was caught by somebody else.
        let seen = last.filter(|seen| seen.message == message);
        Panic(Box::new(seen.unwrap_or(Seen { message, location: None, backtrace: None })))
    }

    /// Goes on here.
    pub(crate) fn raise(self) -> ! {
        resume_unwind(Box::new(self))
    }

    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    pub(crate) fn location(&self) -> Option<&str> {
        self.0.location.as_deref()
    }

    pub(crate) fn backtrace(&self) -> Option<String> {
        self.0.backtrace.as_ref().map(Backtrace::to_string)
    }
}

/// Lets the hook note panics, if it does not yet.
pub(crate) fn note_panics() {
    if OURS.load(Relaxed).is_null() {
        hook();
    }
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
    /// The last one, until somebody takes it.
    static LAST: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic in it is noted on the page, printed as usual, and given as a value.
pub(crate) fn catch<R>(page: &Arc<Page>, f: impl FnOnce() -> R) -> Result<R, Caught> {
    note_panics();
    let scope = Scope { page: page.clone(), seen: None };
    SCOPES.with_borrow_mut(|scopes| scopes.push(scope));
    let result = catch_unwind(AssertUnwindSafe(f));
    let scope = SCOPES.with_borrow_mut(Vec::pop);
    result.map_err(|payload| {
        let seen =
            scope.and_then(|scope| scope.seen).map(|Seen { message, location, backtrace }| {
                let backtrace = backtrace.map(|backtrace| backtrace.to_string());
                Caught { message, location, backtrace }
            });
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
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    let seen = Seen { message: message.clone(), location: location.clone(), backtrace };
    // A thread that is ending has none of these any more.
    let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = Some(seen)));
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
        let backtrace = Some(Backtrace::force_capture());
        scope.seen = Some(Seen { message, location, backtrace });
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
    fn a_panic_goes_on_in_another_thread() {
        note_panics();
        let there = thread::spawn(|| catch_here(|| panic!("no film")).unwrap_err());
        let panic = catch_here(|| there.join().unwrap().raise()).unwrap_err();
        assert_eq!(panic.message(), "no film");
        assert!(panic.location().unwrap().contains("panic.rs"));
        // What somebody else has caught is not what is raised later.
        let _ = catch_unwind(|| panic!("another"));
        let panic = catch_here(|| resume_unwind(Box::new("raised"))).unwrap_err();
        assert_eq!((panic.message(), panic.location()), ("raised", None));
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
