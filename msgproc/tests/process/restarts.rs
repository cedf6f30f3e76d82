//! What the constructor of a replacement is told.

use std::time::Duration;

use msgproc::{RestartBy, RestartCause, StopStep, prelude::*};
use testkit::{Test, test};

use crate::common::SOON;

pub(crate) fn tests() -> Vec<Test> {
    vec![test!(the_first_is_told_nothing), test!(the_next_is_told_how_the_one_before_ended)]
}

struct Reporter {
    cause: Option<RestartCause>,
}

#[backend]
impl Reporter {
    fn c__cause(&self) -> Option<RestartCause> {
        self.cause.clone()
    }

    fn c__panic(&self, text: String) {
        eprintln!("about to panic");
        panic!("{text}");
    }

    fn c__spin(&self) {
        loop {
            std::hint::spin_loop();
        }
    }
}

fn reporter() -> Result<MessageProcess<Reporter>> {
    let short = Duration::from_millis(50);
    MessageProcess::options("reporter")
        .stop_timeouts(StopOptions::default().graceful(short).urgent(short))
        .capture_stderr(500)
        .fork(|start: &Start| Reporter { cause: start.restart().cloned() })
}

fn the_first_is_told_nothing() -> Result<()> {
    let mut process = reporter()?;
    assert_eq!(process.cause().wait()?, None);
    process.stop()
}

fn the_next_is_told_how_the_one_before_ended() -> Result<()> {
    let mut process = reporter()?;
    let first = process.pid();
    testkit::kill9(first);
    assert!(matches!(process.next_event(SOON)?, Some(Event::Ended(_))));
    process.restart()?;
    let cause = process.cause().wait()?.expect("this is a restart");
    assert_eq!((cause.number, cause.exit.pid, cause.by), (1, first, RestartBy::Caller));
    assert_eq!(cause.exit.how, How::Signal { number: 9, core: false });
    assert_eq!((cause.exit.stopped_by, cause.exit.panic), (None, None));

    process.panic("no film".into()).tell()?;
    while !matches!(process.next_event(SOON)?, Some(Event::Ended(_))) {}
    process.restart()?;
    let cause = process.cause().wait()?.expect("this is a restart");
    assert_eq!((cause.number, cause.exit.how), (2, How::Code(101)));
    let panic = cause.exit.panic.unwrap();
    assert!(panic.starts_with("no film (") && panic.contains("restarts.rs"), "{panic}");
    assert!(cause.exit.stderr.contains(&"about to panic".into()), "{:?}", cause.exit.stderr);

    process.spin().tell()?;
    process.restart()?;
    let cause = process.cause().wait()?.expect("this is a restart");
    assert_eq!((cause.number, cause.exit.stopped_by), (3, Some(StopStep::Terminate)));
    process.stop()
}
