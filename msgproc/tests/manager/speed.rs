//! How soon a death is told, and how soon there is another process.

use std::time::{Duration, Instant};

use msgproc::{manager::Policy, prelude::*};
use testkit::{Test, test};

use crate::common::{Told, Worker, WorkerCalls, next, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_death_is_told_soon_and_the_next_one_works_soon, timeout = 120),
        test!(the_next_one_of_a_fork_server_works_soon, timeout = 120),
    ]
}

const ROUNDS: usize = 5;
const KILLS: usize = 40;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn a_death_is_told_soon_and_the_next_one_works_soon() -> Result<()> {
    is_replaced_soon(worker("dies"))
}

fn the_next_one_of_a_fork_server_works_soon() -> Result<()> {
    let server = ForkServer::start()?;
    is_replaced_soon(MessageProcess::fork_from(&server, "dies", (), |(), _: &Start| Worker)?)
}

/// The machine may be busy with other tests: one round of several has to be good.
fn is_replaced_soon(process: MessageProcess<Worker>) -> Result<()> {
    let mut manager = Manager::new()?;
    let policy = Policy::permanent().at_most(ROUNDS * KILLS, Duration::from_secs(600));
    let id = manager.add_with(process, policy)?;
    for n in 0..8 {
        manager.add(worker(&format!("other-{n}")))?;
    }
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        let (mut told, mut works) = (Vec::new(), Vec::new());
        for _ in 0..KILLS {
            manager[id].ping().wait()?;
            let since = Instant::now();
            testkit::kill9(manager[id].pid());
            assert!(matches!(next(&mut manager), Told::Ended { .. }));
            told.push(since.elapsed());
            assert!(matches!(next(&mut manager), Told::Restarted { .. }));
            manager[id].ping().wait()?;
            works.push(since.elapsed());
        }
        for (best, times) in best.iter_mut().zip([told, works]) {
            *best = (*best).min(median(times));
        }
    }
    println!("kill -9 to `Ended`: {:?}; to the next one's first answer: {:?}", best[0], best[1]);
    assert!(best[0] < Duration::from_millis(2), "{best:?}");
    assert!(best[1] < Duration::from_millis(10), "{best:?}");
    Ok(())
}
