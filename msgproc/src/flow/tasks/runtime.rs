//! The runtime that all nodes at [`Placement::Task`](crate::flow::Placement::Task) have together.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    thread::{self, JoinHandle},
};

use tokio::{
    runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::LocalSet,
};

use crate::flow::Cause;

/// Begins a future in the thread of the runtime.
type Begin = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The way into the runtime that a thread has.
#[derive(Clone)]
pub(super) struct Here(UnboundedSender<Begin>);

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// The runtime of this thread.
pub(super) fn here() -> Option<Here> {
    HERE.with_borrow(Clone::clone)
}

impl Here {
    pub(super) fn spawn<A>(&self, begin: impl FnOnce() -> A + Send + 'static) -> Result<(), Cause>
    where
        A: Future<Output = ()> + 'static,
    {
        let begin: Begin = Box::new(move || Box::pin(begin()));
        self.0.send(begin).map_err(|_| "the runtime has ended".into())
    }
}

/// Calls this in a thread that has a runtime, whose own thread has this name, and ends the runtime
/// afterwards; with the error if there can be none.
pub(crate) fn in_runtime<T>(name: &str, body: impl FnOnce(io::Result<()>) -> T) -> T {
    let (begin, queue) = unbounded_channel();
    let runtime = match Runtime::start(name, queue) {
        Ok(runtime) => runtime,
        Err(error) => return body(Err(error)),
    };
    let _entered = runtime.handle.enter();
    HERE.set(Some(Here(begin)));
    let _leaves = Leaves;
    body(Ok(()))
}

/// Lets the runtime end.
struct Leaves;

impl Drop for Leaves {
    fn drop(&mut self) {
        HERE.take();
    }
}

struct Runtime {
    handle: runtime::Handle,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    fn start(name: &str, mut queue: UnboundedReceiver<Begin>) -> io::Result<Runtime> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let body = move || {
            LocalSet::new().block_on(&runtime, async {
                while let Some(begin) = queue.recv().await {
                    drop(tokio::task::spawn_local(begin()));
                }
            });
        };
        let thread = thread::Builder::new().name(name.into()).spawn(body)?;
        Ok(Runtime { handle, thread: Some(thread) })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // What failed there was said by its line.
        }
    }
}
