//! Many processes in one program.

use std::{collections::HashSet, time::Duration};

use msgproc::{Options, Resource, prelude::*};
use testkit::{Test, test};

use crate::common::{Worker, WorkerCalls};

const CROWD: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_thousand_by_fork, timeout = 180),
        test!(a_thousand_by_a_fork_server, timeout = 180),
        test!(a_limit_is_told_before_the_first_starts),
        test!(what_had_been_started_is_stopped_again),
    ]
}

fn a_thousand_by_fork() -> Result<()> {
    lives(|number| MessageProcess::fork(&format!("w-{number}"), |_: &Start| Worker))
}

fn a_thousand_by_a_fork_server() -> Result<()> {
    let server = ForkServer::options().spares(0).start()?;
    let before = testkit::fd_count_of(server.pid());
    lives(|number| {
        MessageProcess::fork_from(&server, &format!("w-{number}"), (), |(), _: &Start| Worker)
    })?;
    let same = || testkit::fd_count_of(server.pid()) == before;
    assert!(testkit::wait_until(PATIENCE, same), "the server keeps descriptors");
    assert!(testkit::wait_until(PATIENCE, || testkit::children_of(server.pid()).is_empty()));
    Ok(())
}

/// One call to each, one event from each, and an end in order.
fn lives(start: impl Fn(usize) -> Result<MessageProcess<Worker>>) -> Result<()> {
    let mut manager = Manager::new()?;
    start(0)?; // what is made once for all
    let before = testkit::fd_count();
    let ids = manager.start_many(CROWD, start)?;
    assert_eq!(manager.living(), CROWD);
    let mut pids = HashSet::new();
    let replies: Result<Vec<_>> = ids.iter().map(|id| manager[*id].ping().send()).collect();
    for reply in replies? {
        assert!(pids.insert(reply.wait()?));
    }
    assert_eq!(pids.len(), CROWD);
    for id in &ids {
        manager[*id].say(1).tell()?;
    }
    let mut said = HashSet::new();
    while said.len() < CROWD {
        match manager.next(PATIENCE)? {
            Some(Happening::Event { process, event: 0 }) => assert!(said.insert(process)),
            Some(Happening::Reply { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    let ends = manager.stop();
    assert_eq!(ends.len(), CROWD);
    for (_, exit) in ends {
        assert!(exit?.is_clean());
    }
    ids.into_iter().for_each(|id| drop(manager.remove(id)));
    assert_eq!(testkit::fd_count(), before);
    assert!(pids.iter().all(|pid| !testkit::alive(*pid)));
    Ok(())
}

/// The limit holds for a backend that is a frontend itself, so that the test keeps its own.
struct Poor;

#[backend]
impl Poor {
    fn c__start(&self, processes: usize) -> Result<(String, usize)> {
        let mut manager = Manager::new()?;
        let start = |_| MessageProcess::fork("below", |_: &Start| Worker);
        let error = manager.start_many(processes, start).unwrap_err();
        assert!(manager.is_empty());
        Ok((error.to_string(), testkit::descendants_of(std::process::id()).len()))
    }

    fn c__one_by_one(&self) -> Result<(String, usize)> {
        let mut processes = Vec::new();
        loop {
            match MessageProcess::fork("below", |_: &Start| Worker) {
                Ok(process) => processes.push(process),
                Err(error) => return Ok((error.to_string(), processes.len())),
            }
        }
    }
}

fn a_limit_is_told_before_the_first_starts() -> Result<()> {
    let poor: Options<Poor> = MessageProcess::options("poor").rlimits(Resource::OpenFiles, 64, 80);
    let mut poor = poor.fork(|_: &Start| Poor)?;
    let (error, below) = poor.start(100).wait()?;
    assert!(error.contains("cannot start 100 processes"), "{error}");
    assert!(error.contains("416 are needed") && error.contains("of 64 are free"), "{error}");
    assert!(error.contains("ulimit -n") && error.contains("the hard limit is 80"), "{error}");
    assert_eq!(below, 0);
    poor.stop()?;
    // Also where nobody has asked before, whichever of the descriptors of a start is the last.
    for limit in 64..72 {
        let options: Options<Poor> = MessageProcess::options("poor");
        let mut poor = options.rlimits(Resource::OpenFiles, limit, 80).fork(|_: &Start| Poor)?;
        let (error, count) = poor.one_by_one().wait()?;
        assert!((5..16).contains(&count), "{count}");
        assert!(error.contains("ulimit -n"), "with {limit}: {error}");
        poor.stop()?;
    }
    Ok(())
}

fn what_had_been_started_is_stopped_again() -> Result<()> {
    let mut manager: Manager<Worker> = Manager::new()?;
    MessageProcess::fork("w", |_: &Start| Worker)?; // what is made once for all
    let before = testkit::fd_count();
    let error = manager.start_many(10, |number| match number {
        7 => Err("no more of them".into()),
        _ => MessageProcess::fork("w", |_: &Start| Worker),
    });
    assert_eq!(error.unwrap_err().to_string(), "no more of them");
    assert!(manager.is_empty());
    assert_eq!(testkit::fd_count(), before);
    assert!(testkit::children_of(std::process::id()).is_empty());
    Ok(())
}
