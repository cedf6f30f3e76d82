//! The smallest async runtime: one thread, one future, and a poll over the descriptors it waits for.

use std::{
    future::Future,
    io,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shmring::future::AsyncReady;

struct Waits {
    fd: OwnedFd,
    ready: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

static ALL: Mutex<Vec<Weak<Waits>>> = Mutex::new(Vec::new());

/// A descriptor in this reactor, of which there is one.
pub(crate) struct Own(Arc<Waits>);

impl AsyncReady for Own {
    fn new(fd: OwnedFd) -> io::Result<Own> {
        let waits = Arc::new(Waits { fd, ready: true.into(), waker: Mutex::default() });
        ALL.lock().unwrap().push(Arc::downgrade(&waits));
        Ok(Own(waits))
    }

    fn is_here(&self) -> bool {
        true
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        *self.0.waker.lock().unwrap() = Some(cx.waker().clone());
        match self.0.ready.swap(false, Ordering::AcqRel) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs a future to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let woken = Arc::new(Woken(true.into()));
    let waker = Waker::from(woken.clone());
    loop {
        if woken.0.swap(false, Ordering::AcqRel)
            && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return output;
        }
        let all: Vec<_> = ALL.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        let mut fds: Vec<_> =
            all.iter().map(|waits| PollFd::new(waits.fd.as_fd(), PollFlags::POLLIN)).collect();
        let timeout = if woken.0.load(Ordering::Acquire) { 0u16 } else { 1000 };
        poll(&mut fds, PollTimeout::from(timeout)).unwrap();
        for (waits, fd) in all.iter().zip(&fds) {
            if fd.any().unwrap() {
                waits.ready.store(true, Ordering::Release);
                let waker = waits.waker.lock().unwrap().take();
                waker.into_iter().for_each(Waker::wake);
            }
        }
    }
}
