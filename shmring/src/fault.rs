//! Named points at which a process kills itself, so that tests can stop it at every half step.
//!
//! Without the feature `fault` a point costs nothing and this module has nothing in it.

/// Whether this build has fault points: then it is no build to measure.
pub const ENABLED: bool = cfg!(feature = "fault");

/// A named fault point: `fault!("spsc.publish.before")`.
macro_rules! fault {
    ($name:literal) => {
        #[cfg(feature = "fault")]
        $crate::fault::pass($name);
        #[cfg(all(test, shmring_loom))]
        $crate::fault::model::pass();
    };
}
pub(crate) use fault;

#[cfg(feature = "fault")]
pub use enabled::{arm, disarm, pass, watch};

#[cfg(feature = "fault")]
mod enabled {
    use std::sync::Mutex;

    use crate::{
        os,
        sync::local::{AtomicBool, Ordering},
    };

    struct Armed {
        name: String,
        passes_left: u32,
    }

    // Spares a point the mutex while no test has armed any: one load instead.
    static ANY: AtomicBool = AtomicBool::new(false);
    static ARMED: Mutex<Option<Armed>> = Mutex::new(None);
    static WATCH: Mutex<Option<fn(&'static str)>> = Mutex::new(None);

    /// Kills this process with SIGKILL when it passes the point `name` for the `n`-th time from
    /// now (1 is the next).
    pub fn arm(name: &str, n: u32) {
        *ARMED.lock().unwrap_or_else(|poison| poison.into_inner()) =
            Some(Armed { name: name.into(), passes_left: n });
        ANY.store(true, Ordering::Relaxed);
    }

    /// Takes back what [`arm`] ordered. Tells whether it was still waiting.
    pub fn disarm() -> bool {
        ARMED.lock().unwrap_or_else(|poison| poison.into_inner()).take().is_some()
    }

    /// Has each point that this process passes from now on told to `look`, and each that a process
    /// passes which is forked from it: a test that counts them, or kills where it likes.
    pub fn watch(look: fn(&'static str)) {
        *WATCH.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(look);
        ANY.store(true, Ordering::Relaxed);
    }

    /// Passes a point.
    #[inline]
    pub fn pass(name: &'static str) {
        if ANY.load(Ordering::Relaxed) {
            pass_armed(name);
        }
    }

    #[cold]
    fn pass_armed(name: &'static str) {
        let watch = *WATCH.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(look) = watch {
            look(name);
        }
        let mut armed = ARMED.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(wanted) = armed.as_mut().filter(|wanted| wanted.name == name) {
            wanted.passes_left = wanted.passes_left.saturating_sub(1);
            if wanted.passes_left == 0 {
                os::kill_self();
            }
        }
    }
}

/// In a model a process is a thread, and dying is never coming back from a fault point.
#[cfg(all(test, shmring_loom))]
pub(crate) mod model {
    use std::{
        cell::Cell,
        panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    };

    struct Died;

    loom::thread_local! {
        static PASSES_LEFT: Cell<u32> = Cell::new(0);
    }

    /// Passes a point.
    pub(crate) fn pass() {
        let dies = PASSES_LEFT.with(|left| {
            let now = left.get();
            left.set(now.saturating_sub(1));
            now == 1
        });
        if dies {
            resume_unwind(Box::new(Died));
        }
    }

    /// Runs `life` until it passes its `n`-th fault point (0: it lives). Tells whether it died.
    pub(crate) fn live(n: u32, life: impl FnOnce()) -> bool {
        PASSES_LEFT.with(|left| left.set(n));
        let outcome = catch_unwind(AssertUnwindSafe(life));
        PASSES_LEFT.with(|left| left.set(0));
        match outcome {
            Ok(()) => false,
            Err(panic) if panic.is::<Died>() => true,
            Err(panic) => resume_unwind(panic),
        }
    }
}
