//! The backend that the tests manage.

use std::{thread::sleep, time::Duration};

use msgproc::{manager::ProcessId, prelude::*};

#[derive(Default)]
pub(crate) struct Worker;

#[backend(event = u64, calls = pub(crate) WorkerCalls)]
impl Worker {
    fn c__ping(&self) -> u32 {
        std::process::id()
    }

    fn c__say(&mut self, count: u64, ctx: &mut Context<u64>) -> Result<()> {
        for number in 0..count {
            ctx.emit(number)?;
        }
        Ok(())
    }

    /// Emits it after the reply.
    fn c__say_later(&mut self, number: usize, ctx: &mut Context<u64>) {
        ctx.after(Duration::ZERO, Token(number));
    }

    fn on_timer(&mut self, token: Token, ctx: &mut Context<u64>) -> Result<()> {
        ctx.emit(token.0 as u64)
    }

    fn c__sleep_and_say(&mut self, milliseconds: u64, ctx: &mut Context<u64>) -> Result<()> {
        sleep(Duration::from_millis(milliseconds));
        ctx.emit(milliseconds)
    }

    fn c__sleep(&mut self, milliseconds: u64) {
        sleep(Duration::from_millis(milliseconds));
    }

    fn c__fail(&mut self) -> Result<()> {
        Err("no film".into())
    }

    fn c__panic(&mut self, text: String) {
        eprintln!("about to panic");
        panic!("{text}");
    }

    fn c__exit_with(&mut self, code: i32) {
        std::process::exit(code);
    }

    fn c__leave(&mut self, ctx: &mut Context<u64>) {
        ctx.stop();
    }

    fn c__spin(&mut self) {
        loop {
            std::hint::spin_loop();
        }
    }

    fn c__deafen(&mut self) -> Result<()> {
        nix::sys::signal::SigSet::all().thread_block().map_err(Error::other)
    }

    fn c__descriptors(&self) -> usize {
        testkit::fd_count()
    }

    /// A backend may manage signals of its own.
    fn c__own_signal(&mut self) -> Result<bool> {
        let mut manager = Manager::<Worker>::new()?;
        manager.handle_signals()?;
        testkit::signal(std::process::id(), 15);
        Ok(matches!(manager.next(SOON)?, Some(Happening::Signal(_))))
    }
}

pub(crate) type Told = Happening<u64>;

/// How long something may take that should be immediate, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// How long nothing must happen.
pub(crate) const QUIET: Duration = Duration::from_millis(50);

pub(crate) fn worker(name: &str) -> MessageProcess<Worker> {
    MessageProcess::fork(name, |_: &Start| Worker).unwrap()
}

pub(crate) fn manager(workers: usize) -> (Manager<Worker>, Vec<ProcessId>) {
    let mut manager = Manager::new().unwrap();
    let ids = (0..workers).map(|n| manager.add(worker(&format!("worker-{n}"))).unwrap()).collect();
    (manager, ids)
}

/// What happens next; something must.
#[track_caller]
pub(crate) fn next(manager: &mut Manager<Worker>) -> Told {
    manager.next(SOON).unwrap().expect("something happens")
}

/// The process has died in the handler of this command, that nobody waits for.
#[track_caller]
pub(crate) fn died_in(manager: &mut Manager<Worker>, expected: &str) {
    match next(manager) {
        Told::Failed { error: Error::Undelivered { command, begun: true, .. }, .. } => {
            assert_eq!(command, expected);
        }
        other => panic!("{other:?}"),
    }
}

/// Nothing more happens.
#[track_caller]
pub(crate) fn nothing(manager: &mut Manager<Worker>) {
    let told = manager.next(QUIET).unwrap();
    assert!(told.is_none(), "{told:?}");
}

/// Steps of a stop that are soon over.
pub(crate) fn short_steps() -> StopOptions {
    let short = Duration::from_millis(100);
    StopOptions::default().graceful(short).urgent(short).terminate(short)
}
