//! What iterators give that wait, also for what comes of their own items.

use std::{
    cell::Cell,
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::{
    FailureKind, Flow, Graph, NodeRef, OnError, Outlet, Pipeline, Placement, PlainProcess, Running,
    Same, Thread, each, from_fn, map, source,
};
use testkit::wait_until;

use super::common::{PLACES, at};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(bursts_come_back),
        testkit::test!(bursts_come_back_through_pipelines),
        testkit::test!(bursts_come_back_where_processes_are_replaced),
        testkit::test!(bursts_come_back_in_one_thread),
        testkit::test!(one_that_waits_can_be_stopped),
        testkit::test!(a_failure_elsewhere_does_not_wait_for_it),
        testkit::test!(what_was_asked_for_is_sent),
        testkit::test!(one_that_panics_is_asked_again),
        testkit::test!(all_come_in_their_order),
        testkit::test!(it_is_busy_while_it_is_asked),
        testkit::test!(it_is_made_where_it_is_asked),
        testkit::test!(one_that_never_waits_has_no_thread),
    ]
}

/// So long, and it hangs.
const TOO_LONG: Duration = Duration::from_secs(20);
const BURSTS: [u64; 5] = [1, 2, 10, 100, 1000];

/// What a program gives in and gets back.
struct Ends {
    give: mpsc::Sender<u64>,
    back: mpsc::Receiver<u64>,
}

/// A channel into a run, and one out of it.
fn channels() -> (Ends, mpsc::Receiver<u64>, Arc<Mutex<mpsc::Sender<u64>>>) {
    let (give, given) = mpsc::channel();
    let (answer, back) = mpsc::channel();
    (Ends { give, back }, given, Arc::new(Mutex::new(answer)))
}

/// Gives in so much at a time, and the next when all of that has come back.
fn ping_pong(ends: Ends, running: Running, what: &str) {
    let mut given = 0;
    for burst in BURSTS.iter().cycle().take(4 * BURSTS.len()) {
        (given..given + burst).for_each(|n| ends.give.send(n).unwrap());
        for n in given..given + burst {
            let back = ends.back.recv_timeout(TOO_LONG);
            assert_eq!(back, Ok(n + 1), "{what}, {burst} at a time\n{}", running.report());
        }
        given += burst;
    }
    drop(ends);
    running.wait().unwrap();
}

/// Puts what comes into a channel; fails the run if nobody takes it.
fn answering(graph: &mut Graph, answer: Arc<Mutex<mpsc::Sender<u64>>>) -> NodeRef<u64, ()> {
    let make = move |_: &_| {
        let answer = answer.lock().unwrap().clone();
        each(move |n: u64| answer.send(n).unwrap())
    };
    graph.node("answer", Same, make).add()
}

/// A step and an answer behind a source.
fn begin(
    mut graph: Graph,
    numbers: NodeRef<(), u64>,
    step: Placement,
    answer: Arc<Mutex<mpsc::Sender<u64>>>,
) -> Running {
    let step = graph.node("step", step, |_| map(|n: u64| n + 1)).add();
    let answer = answering(&mut graph, answer);
    graph.connect(numbers.output(), step.input());
    graph.connect(step.output(), answer.input());
    graph.start().unwrap()
}

fn bursts_come_back() {
    for from in [Placement::Same, Placement::Thread] {
        for step in PLACES {
            let (ends, given, answer) = channels();
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", from, given);
            ping_pong(ends, begin(graph, numbers, step, answer), &format!("{from} to {step}"));
        }
    }
    // Nothing is known of a node that waits by itself.
    for step in [Placement::Same, Placement::Thread, Placement::Process] {
        let (ends, given, answer) = channels();
        let given = Mutex::new(Some(given));
        let mut graph = Graph::new();
        let make = move |_: &_| {
            let given = given.lock().unwrap().take().unwrap();
            from_fn(move |(), out: &mut Outlet<u64>| {
                let Ok(n) = given.recv() else { return Ok(Flow::Eos) };
                out.send(n)?;
                Ok(Flow::GoOn)
            })
        };
        let numbers = graph.node("numbers", Thread, make).add();
        ping_pong(ends, begin(graph, numbers, step, answer), &format!("a node to {step}"));
    }
}

fn bursts_come_back_through_pipelines() {
    fn add(n: u64) -> u64 {
        n + 1
    }
    // The first two are one node, and so are the last two.
    for place in PLACES {
        let (ends, given, answer) = channels();
        let pipeline = Pipeline::from(given)
            .stage("first", Same, |_| map(add))
            .stage("there", place, |_| map(add))
            .stage("back", Same, |_| map(|n: u64| n - 1))
            .stage("answer", Same, move |_| {
                let answer = answer.lock().unwrap().clone();
                each(move |n: u64| answer.send(n).unwrap())
            });
        ping_pong(ends, pipeline.start().unwrap(), &format!("by {place}"));
    }
    let (ends, given, answer) = channels();
    let given = given.into_iter().map(|n| n * 2).filter(|n| n % 2 == 0);
    let pipeline = Pipeline::source("numbers", Thread, given)
        .stage("halves", PlainProcess, |_| map(|n: u64| n / 2 + 1))
        .stage("answer", Same, move |_| {
            let answer = answer.lock().unwrap().clone();
            each(move |n: u64| answer.send(n).unwrap())
        });
    ping_pong(ends, pipeline.start().unwrap(), "plain data");
}

/// Numbers that are read from a socket.
struct Read64(UnixStream);

impl Iterator for Read64 {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes).ok().map(|()| u64::from_le_bytes(bytes))
    }
}

/// Gives numbers into a socket that come in by a channel.
fn forward(given: mpsc::Receiver<u64>, mut to: UnixStream) {
    std::thread::spawn(move || given.iter().try_for_each(|n| to.write_all(&n.to_le_bytes())));
}

fn bursts_come_back_where_processes_are_replaced() {
    let again = OnError::retry(3);
    for (from, step) in [
        (Placement::Process, Placement::Process),
        (Placement::Process, Placement::Thread),
        (at(1, 0), at(1, 0)),
        (at(1, 1), at(1, 2)),
        (Placement::Same, Placement::Process),
    ] {
        for survives in [false, true] {
            let (ends, given, answer) = channels();
            let (write, read) = UnixStream::pair().unwrap();
            let read = Mutex::new(Some(read));
            let on_error = if survives { again } else { OnError::fail() };
            let mut graph = Graph::new();
            let make = move |_: &_| source(Read64(read.lock().unwrap().take().unwrap()));
            let numbers = graph.node("numbers", from, make).on_error(on_error).add();
            let step = graph.node("step", step, |_| map(|n: u64| n + 1)).on_error(on_error).add();
            let answer = answering(&mut graph, answer);
            graph.connect(numbers.output(), step.input());
            graph.connect(step.output(), answer.input());
            let running = graph.start().unwrap();
            // The program's copy of what the source reads stays open in its graph.
            forward(given, write.try_clone().unwrap());
            let what = format!("{from}, survives: {survives}");
            let mut given = 0;
            for burst in BURSTS.iter().cycle().take(2 * BURSTS.len()) {
                (given..given + burst).for_each(|n| ends.give.send(n).unwrap());
                for n in given..given + burst {
                    let back = ends.back.recv_timeout(TOO_LONG);
                    assert_eq!(back, Ok(n + 1), "{what}, {burst} at a time\n{}", running.report());
                }
                given += burst;
            }
            write.shutdown(std::net::Shutdown::Both).unwrap();
            running.wait().unwrap();
        }
    }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// There the iterator is asked by who runs all the others, too.
fn bursts_come_back_in_one_thread() {
    let back = Arc::new(AtomicU64::new(0));
    let (count, counted) = (back.clone(), back.clone());
    let mut given = 0;
    // It gives the second of two when the first is back: nothing of it may wait for others.
    let numbers = std::iter::from_fn(move || {
        assert_eq!(threads(), 1);
        assert_eq!(count.load(Ordering::Relaxed), given, "it is kept back");
        given += 1;
        (given <= 1000).then_some(given)
    });
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Same, numbers);
    let step = graph.node("step", Same, |_| map(|n: u64| n)).add();
    let more = graph.node("more", Same, |_| map(|n: u64| n)).workers(3).add();
    let answer = graph
        .node("answer", Same, move |_| {
            let counted = counted.clone();
            each(move |_: u64| {
                let _ = counted.fetch_add(1, Ordering::Relaxed);
            })
        })
        .add();
    graph.connect(numbers.output(), step.input());
    graph.connect(step.output(), more.input());
    graph.connect(more.output(), answer.input());
    graph.run().unwrap();
    assert_eq!(back.load(Ordering::Relaxed), 1000);
}

/// A channel whose other end stays open for as long as this lives.
fn nothing() -> (mpsc::Sender<u64>, impl Iterator<Item = u64> + Send) {
    let (give, given) = mpsc::channel();
    (give, (0..10).chain(given))
}

fn one_that_waits_can_be_stopped() {
    for now in [false, true] {
        let (_open, numbers) = nothing();
        let taken = Arc::new(AtomicU64::new(0));
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, numbers);
        let sink = graph.node("sink", Placement::Process, |_| map(|n: u64| n)).add();
        let last = count_in(&mut graph, Placement::Same, &taken);
        graph.connect(numbers.output(), sink.input());
        graph.connect(sink.output(), last.input());
        let running = graph.start().unwrap();
        assert!(wait_until(TOO_LONG, || taken.load(Ordering::Relaxed) == 10));
        let began = Instant::now();
        if now {
            running.stop_now()
        } else {
            running.stop()
        }
        let ended = running.wait();
        assert_eq!(ended.is_err(), now, "{ended:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

fn a_failure_elsewhere_does_not_wait_for_it() {
    let (_open, numbers) = nothing();
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, numbers);
    let fails = |n: u64| {
        if n == 5 {
            panic!("five")
        }
    };
    let sink = graph.node("sink", Placement::Process, move |_| each(fails)).add();
    graph.connect(numbers.output(), sink.input());
    let began = Instant::now();
    let error = graph.run().unwrap_err();
    assert!(error.to_string().contains("five"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// A run that is stopped takes in what its source has given before.
fn what_was_asked_for_is_sent() {
    for quick in [false, true] {
        let (given, taken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let count = given.clone();
        let numbers = (0_u64..).inspect(move |_| {
            if !quick {
                sleep(Duration::from_micros(200));
            }
            count.fetch_add(1, Ordering::Relaxed);
        });
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, numbers);
        let last = count_in(&mut graph, Placement::Thread, &taken);
        graph.connect(numbers.output(), last.input());
        let running = graph.start().unwrap();
        assert!(wait_until(TOO_LONG, || taken.load(Ordering::Relaxed) > 100));
        running.stop();
        running.wait().unwrap();
        let [given, taken] = [given, taken].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(given, taken, "quick: {quick}");
    }
}

fn one_that_panics_is_asked_again() {
    for place in [Placement::Same, Placement::Thread, Placement::Process] {
        for again in [false, true] {
            let mut next = 0;
            let numbers = std::iter::from_fn(move || {
                next += 1;
                assert!(next % 10 != 0, "at {next}");
                (next < 35).then_some(next)
            });
            let taken = Arc::new(AtomicU64::new(0));
            let mut graph = Graph::new();
            let numbers = Mutex::new(Some(numbers));
            let make = move |_: &_| source(numbers.lock().unwrap().take().unwrap());
            let on_error = if again { OnError::retry(1) } else { OnError::fail() };
            let numbers = graph.node("numbers", place, make).on_error(on_error).add();
            let last = count_in(&mut graph, Placement::Thread, &taken);
            graph.connect(numbers.output(), last.input());
            let report = graph.run();
            match again {
                true => {
                    let report = report.unwrap();
                    assert_eq!(report.node("numbers").unwrap().workers[0].retries, 3, "{place}");
                    assert_eq!(taken.load(Ordering::Relaxed), 31, "{place}");
                }
                false => {
                    let error = report.unwrap_err();
                    let msgproc::flow::Error::Failed(failure) = &error else { panic!("{error}") };
                    assert_eq!(
                        (failure.kind, failure.item),
                        (FailureKind::Panic, Some(9)),
                        "{error}"
                    );
                    assert_eq!(failure.message, "panicked: at 10");
                    assert!(taken.load(Ordering::Relaxed) <= 9);
                }
            }
        }
    }
}

/// Also where those who take them are slower, and where they are now and then.
fn all_come_in_their_order() {
    for place in [Placement::Same, Placement::Thread, Placement::Process] {
        for capacity in [1, 5, 1024] {
            let numbers = (0..30_000_u64).inspect(|&n| {
                if n % 4096 == 0 {
                    sleep(Duration::from_millis(1));
                }
            });
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", place, numbers);
            let mut next = 0;
            let check = Mutex::new(Some(move |n: u64| {
                assert_eq!(n, next);
                next += 1;
                if n.is_multiple_of(5000) {
                    sleep(Duration::from_millis(1));
                }
                assert!(n < 29_999 || next == 30_000);
            }));
            let make = move |_: &_| each(check.lock().unwrap().take().unwrap());
            let last = graph.node("last", Thread, make).add();
            graph.edge(numbers.output(), last.input()).capacity(capacity).add();
            let report = graph.run().unwrap();
            assert_eq!(report.node("last").unwrap().items_in(), 30_000);
        }
    }
}

/// Though that is in a thread beside its worker's, which waits for it.
fn it_is_busy_while_it_is_asked() {
    let step = Duration::from_millis(2);
    for (from, slow) in
        [(Placement::Thread, true), (Placement::Process, true), (Placement::Thread, false)]
    {
        let numbers = (0..100_u64).inspect(move |_| {
            if slow {
                sleep(step);
            }
        });
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", from, numbers);
        let last = move |_: u64| {
            if !slow {
                sleep(step)
            }
        };
        let last = graph.node("last", Thread, move |_| each(last)).add();
        graph.edge(numbers.output(), last.input()).capacity(1).add();
        let report = graph.run().unwrap();
        let worker = &report.node("numbers").unwrap().workers[0];
        assert!(worker.waiting_for_input.is_zero(), "{report}");
        match slow {
            true => assert!(worker.busy >= 100 * step, "{report}"),
            // Not while it waits for room.
            false => assert!(worker.busy < 50 * step, "{report}"),
        }
    }
}

/// What an iterator holds need not be sent from thread to thread, if what makes it can.
fn it_is_made_where_it_is_asked() {
    struct Makes;
    impl IntoIterator for Makes {
        type Item = u64;
        type IntoIter = Box<dyn Iterator<Item = u64>>;

        fn into_iter(self) -> Self::IntoIter {
            let count = Rc::new(Cell::new(0));
            Box::new(std::iter::from_fn(move || {
                count.set(count.get() + 1);
                (count.get() <= 100).then(|| count.get())
            }))
        }
    }
    for place in PLACES {
        let taken = Arc::new(AtomicU64::new(0));
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, Makes);
        let last = count_in(&mut graph, Placement::Same, &taken);
        graph.connect(numbers.output(), last.input());
        graph.run().unwrap();
        assert_eq!(taken.load(Ordering::Relaxed), 100, "{place}");
    }
}

/// Adds a node that counts what comes.
fn count_in(graph: &mut Graph, place: Placement, taken: &Arc<AtomicU64>) -> NodeRef<u64, ()> {
    let taken = taken.clone();
    let make = move |_: &_| {
        let taken = taken.clone();
        each(move |_: u64| {
            let _ = taken.fetch_add(1, Ordering::Relaxed);
        })
    };
    graph.node("last", place, make).add()
}

/// Its worker asks it, and there is no other thread.
fn one_that_never_waits_has_no_thread() {
    let numbers = || (0..10_000_u64).inspect(|_| assert_ne!(thread_name(), "flow-source"));
    let taken = Arc::new(AtomicU64::new(0));
    let mut graph = Graph::new();
    let make = move |_: &_| source(numbers()).never_waits();
    let numbers = graph.node("numbers", Thread, make).add();
    let last = count_in(&mut graph, Placement::Thread, &taken);
    graph.connect(numbers.output(), last.input());
    graph.run().unwrap();
    assert_eq!(taken.load(Ordering::Relaxed), 10_000);
}

fn thread_name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}
