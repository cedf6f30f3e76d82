//! Fork servers: what they load, what they fork ahead, and what their death leaves.

use std::{
    collections::HashSet,
    io::Read,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use msgproc::prelude::*;
use testkit::{Process, Test, test};

use crate::{
    common::{SOON, at_once},
    ways::{LOADED, Mood, Moody, MoodyCalls},
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_fork_server_loads_once_for_all),
        test!(a_server_that_cannot_load_says_so),
        test!(backends_outlive_their_server),
        test!(the_end_of_a_server_is_told),
        test!(a_server_dies_with_its_frontend),
        test!(each_backend_of_a_server_has_its_own_exit),
        test!(what_waits_is_taken),
        test!(without_spares_nothing_waits),
        test!(what_was_killed_while_it_waited_is_passed_over),
        test!(what_waits_ends_with_its_server),
        test!(what_waits_ends_when_the_server_is_given_up),
        test!(starts_go_on_while_servers_are_killed),
        test!(a_server_that_does_not_answer_is_told),
        test!(a_server_that_does_not_answer_is_waited_for_once),
        test!(a_server_that_is_replaced_holds_up_nobody),
    ]
}

fn start(server: &ForkServer, name: &str) -> Result<MessageProcess<Moody>> {
    MessageProcess::fork_from(server, name, Mood::of(name), Moody::new)
}

/// Waits until so many processes of this server wait for their greeting.
fn spares_of(server: u32, count: usize) -> Vec<Process> {
    let waiting = || {
        let children = testkit::children_of(server).into_iter();
        let named = children.filter(|pid| testkit::name_of(*pid).as_deref() == Some("spare"));
        named.filter_map(Process::observe).collect::<Vec<Process>>()
    };
    assert!(testkit::wait_until(SOON, || waiting().len() == count), "{:?}", waiting());
    waiting()
}

fn what_waits_is_taken() -> Result<()> {
    let server = ForkServer::options().spares(2).start()?;
    let mut pids = HashSet::new();
    for _ in 0..5 {
        let spares = spares_of(server.pid(), 2);
        let process = start(&server, "taken")?;
        assert!(spares.iter().any(|spare| spare.pid() == process.pid()));
        assert_eq!(testkit::name_of(process.pid()).as_deref(), Some("taken"));
        assert_eq!(process.mood().wait()?.0, "taken");
        assert!(pids.insert(process.pid()));
    }
    // More at once than wait.
    let many: Vec<_> = (0..10).map(|_| start(&server, "many")).collect::<Result<_>>()?;
    for process in many {
        assert_eq!(process.mood().wait()?.0, "many");
        assert!(pids.insert(process.pid()));
    }
    spares_of(server.pid(), 2);
    Ok(())
}

fn without_spares_nothing_waits() -> Result<()> {
    let server = ForkServer::options().spares(0).start()?;
    assert!(testkit::children_of(server.pid()).is_empty());
    let process = start(&server, "good")?;
    assert_eq!(testkit::children_of(server.pid()), [process.pid()]);
    assert_eq!(process.mood().wait()?.0, "good");
    Ok(())
}

fn what_was_killed_while_it_waited_is_passed_over() -> Result<()> {
    let server = ForkServer::options().spares(3).start()?;
    for killed in [1, 3] {
        let spares = spares_of(server.pid(), 3);
        for spare in &spares[..killed] {
            testkit::kill9(spare.pid());
        }
        assert!(testkit::wait_until(SOON, || !spares[..killed].iter().any(Process::alive)));
        let process = start(&server, "good")?;
        assert_eq!(process.mood().wait()?.0, "good");
        // It has its own end, not that of another.
        process.end(3).tell()?;
        assert!(testkit::wait_until(SOON, || !process.is_alive()));
        assert_eq!(process.exit().unwrap().how, How::Code(3));
    }
    Ok(())
}

fn what_waits_ends_with_its_server() -> Result<()> {
    let server = ForkServer::options().spares(3).start()?;
    let spares = spares_of(server.pid(), 3);
    testkit::kill9(server.pid());
    let gone = || !spares.iter().any(Process::alive);
    assert!(testkit::wait_until(Duration::from_secs(1), gone));
    assert_eq!(start(&server, "next")?.mood().wait()?.0, "next");
    Ok(())
}

fn what_waits_ends_when_the_server_is_given_up() -> Result<()> {
    ForkServer::start()?; // what is made once for all
    let before = testkit::fd_count();
    let server = ForkServer::options().spares(3).start()?;
    let mut spares = spares_of(server.pid(), 3);
    server.restart()?;
    start(&server, "good")?;
    spares.extend(spares_of(server.pid(), 3));
    drop(server);
    assert!(!spares.iter().any(Process::alive));
    assert_eq!(testkit::fd_count(), before);
    Ok(())
}

fn a_server_that_does_not_answer_is_told() -> Result<()> {
    let server = ForkServer::options().name("slow").start()?;
    spares_of(server.pid(), 1);
    assert!(testkit::signal(server.pid(), libc::SIGSTOP));
    let start_soon = |name| -> Result<MessageProcess<Moody>> {
        let options = MessageProcess::options(name).start_timeout(Duration::from_millis(200));
        options.fork_from(&server, Mood::of(name), Moody::new)
    };
    // The one that waits needs no server.
    assert_eq!(start_soon("first")?.mood().wait()?.0, "first");
    match start_soon("second") {
        Err(Error::TimedOut { process, .. }) => assert_eq!(process, "slow"),
        other => panic!("{other:?}"),
    }
    assert!(testkit::signal(server.pid(), libc::SIGCONT));
    assert_eq!(start(&server, "third")?.mood().wait()?.0, "third");
    // What was asked for in vain has nobody to wait for.
    spares_of(server.pid(), 1);
    assert!(testkit::wait_until(SOON, || testkit::children_of(server.pid()).len() == 1));
    Ok(())
}

/// Whatever a start has just come to when its server dies, the next server makes it again.
fn starts_go_on_while_servers_are_killed() -> Result<()> {
    const KILLS: u64 = 40;
    let server = ForkServer::start()?;
    let (kills, mut pids) = (AtomicU64::new(0), Vec::new());
    thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while kills.load(Relaxed) < KILLS {
                // Anywhere in one of the starts that follow each other.
                sleep(Duration::from_micros(15_000 + kills.load(Relaxed) * 370 % 1500));
                testkit::kill9(server.pid());
                kills.fetch_add(1, Relaxed);
            }
        });
        while kills.load(Relaxed) < KILLS {
            let process = start(&server, "good").inspect_err(|_| kills.store(KILLS, Relaxed))?;
            assert_eq!(process.mood().wait()?.0, "good");
            pids.extend(Process::observe(process.pid()));
        }
        Ok(())
    })?;
    assert!(pids.len() as u64 > KILLS);
    let gone = || !pids.iter().any(Process::alive);
    assert!(testkit::wait_until(SOON, gone));
    Ok(())
}

fn a_fork_server_loads_once_for_all() -> Result<()> {
    let server = ForkServer::options()
        .preload(|| LOADED.set(std::process::id()).unwrap())
        .name("loader")
        .start()?;
    assert_eq!(testkit::name_of(server.pid()).unwrap(), "loader");
    let mut pids = Vec::new();
    for _ in 0..3 {
        let mut process: MessageProcess<Moody> =
            MessageProcess::fork_from(&server, "moody", Mood::of("good"), Moody::new)?;
        let (loader, pid) = process.loaded().wait()?;
        assert_eq!(loader, server.pid());
        assert_eq!(pid, process.pid());
        pids.push(pid);
        process.stop()?;
    }
    pids.dedup();
    assert_eq!(pids.len(), 3);
    Ok(())
}

fn a_server_that_cannot_load_says_so() {
    let error = ForkServer::options().preload(|| panic!("no model")).start().unwrap_err();
    assert!(error.to_string().contains("no model"), "{error}");
    let threads = || {
        std::thread::spawn(|| sleep(SOON));
    };
    let error = ForkServer::options().preload(threads).start().unwrap_err();
    assert!(error.to_string().contains("2 threads"), "{error}");
}

fn backends_outlive_their_server() -> Result<()> {
    let server = ForkServer::start()?;
    let start = |name| MessageProcess::fork_from(&server, name, Mood::of(name), Moody::new);
    let mut first: MessageProcess<Moody> = start("first")?;
    let old = server.pid();
    testkit::kill9(old);
    assert_eq!(first.mood().wait()?.0, "first");
    assert!(testkit::wait_until(SOON, || !server.is_alive()));
    assert_eq!(server.exit().unwrap().how.signal_name(), Some("SIGKILL"));
    let mut second: MessageProcess<Moody> = start("second")?;
    assert_ne!(server.pid(), old);
    assert_eq!(second.mood().wait()?.0, "second");
    testkit::kill9(first.pid());
    let end = at_once(|| first.next_event(Duration::from_millis(500)))?;
    let Some(Event::Ended(exit)) = end else { panic!("no end") };
    assert_eq!(exit.how, How::Unknown);
    first.restart()?;
    assert_eq!(first.mood().wait()?, ("first".into(), 1));
    first.stop()?;
    second.stop()
}

fn the_end_of_a_server_is_told() -> Result<()> {
    const SERVER: Token = Token(7);
    let server = ForkServer::start()?;
    let mut manager: Manager<Moody> = Manager::new()?;
    let process = MessageProcess::fork_from(&server, "moody", Mood::of("good"), Moody::new)?;
    let id = manager.add(process)?;
    for _ in 0..2 {
        manager.watch(server.pidfd()?, Interest::Readable, SERVER)?;
        assert!(manager.next(Duration::from_millis(20))?.is_none());
        testkit::kill9(server.pid());
        match manager.next(SOON)? {
            Some(Happening::Ready(SERVER)) => {}
            other => panic!("{other:?}"),
        }
        assert!(manager.unwatch(SERVER));
        assert_eq!(server.exit().unwrap().how.signal_name(), Some("SIGKILL"));
        // What it had started goes on.
        assert_eq!(manager[id].mood().wait()?.0, "good");
        server.restart()?;
        assert!(server.is_alive() && server.exit().is_none());
    }
    Ok(())
}

fn a_server_dies_with_its_frontend() -> Result<()> {
    let (reading, writing) = std::io::pipe()?;
    let frontend = testkit::forked(move || {
        let server = ForkServer::options().spares(3).start().unwrap();
        std::io::Write::write_all(&mut &writing, &server.pid().to_ne_bytes()).unwrap();
        sleep(SOON);
    });
    let mut pid = [0; 4];
    (&reading).read_exact(&mut pid)?;
    let server = u32::from_ne_bytes(pid);
    let mut all = spares_of(server, 3);
    all.push(Process::observe(server).unwrap());
    testkit::kill9(frontend.as_raw() as u32);
    let gone = || !all.iter().any(Process::alive);
    assert!(testkit::wait_until(Duration::from_millis(1300), gone));
    Ok(())
}

fn each_backend_of_a_server_has_its_own_exit() -> Result<()> {
    let server = ForkServer::start()?;
    let start = || MessageProcess::fork_from(&server, "moody", Mood::of("good"), Moody::new);
    let processes = (0..20).map(|_| start()).collect::<Result<Vec<MessageProcess<Moody>>>>()?;
    for (code, process) in processes.iter().enumerate() {
        process.end(code as i32).tell()?;
    }
    for (code, process) in processes.iter().enumerate().rev() {
        let lost = process.next_event(SOON)?;
        assert!(matches!(lost, Some(Event::Failed(Error::Undelivered { begun: true, .. }))));
        let Some(Event::Ended(exit)) = process.next_event(SOON)? else { panic!("no end") };
        assert_eq!(exit.how, How::Code(code as i32));
    }
    Ok(())
}

fn a_server_that_does_not_answer_is_waited_for_once() -> Result<()> {
    let server = ForkServer::start()?;
    let processes: Vec<_> = (0..5).map(|_| start(&server, "good")).collect::<Result<_>>()?;
    assert!(testkit::signal(server.pid(), libc::SIGSTOP));
    let began = Instant::now();
    for process in &processes {
        testkit::kill9(process.pid());
        let Some(Event::Ended(exit)) = process.next_event(SOON)? else { panic!("no end") };
        assert_eq!(exit.how, How::Unknown);
    }
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    assert!(testkit::signal(server.pid(), libc::SIGCONT));
    // From now on it answers.
    for _ in 0..2 {
        let process = start(&server, "good")?;
        process.end(3).tell()?;
        assert!(testkit::wait_until(SOON, || !process.is_alive()));
        assert_eq!(process.exit().unwrap().how, How::Code(3));
    }
    Ok(())
}

/// How long a server takes to load.
const LOADING: Duration = Duration::from_millis(1500);

fn a_server_that_is_replaced_holds_up_nobody() -> Result<()> {
    let server = ForkServer::options().preload(|| sleep(LOADING)).start()?;
    let process = start(&server, "good")?;
    let replacing = thread::spawn({
        let server = server.clone();
        move || server.restart().unwrap()
    });
    sleep(LOADING / 3);
    testkit::kill9(process.pid());
    let end = at_once(|| process.next_event(SOON))?;
    assert!(matches!(end, Some(Event::Ended(_))), "{end:?}");
    assert!(!replacing.is_finished());
    replacing.join().unwrap();
    Ok(())
}
