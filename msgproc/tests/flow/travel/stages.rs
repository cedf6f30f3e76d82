//! Stages whose processes are no forks of the program.

use std::pin::pin;

use futures_util::StreamExt;
use msgproc::flow::stage::{from_iter, from_stream, process, task, thread};

use super::Beside;

pub(super) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(stages_run_in_a_program_with_a_runtime),
        testkit::test!(stages_end_in_any_way),
        testkit::test!(stages_that_are_forks_are_told_what_to_do),
        testkit::test!(a_stage_that_was_killed_goes_on),
    ]
}

fn runtime_of_threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn stages_run_in_a_program_with_a_runtime() {
    let runtime = runtime_of_threads();
    let came = runtime.block_on(async {
        let (send, receive) = tokio::sync::mpsc::channel::<u64>(10);
        tokio::spawn(async move {
            for n in 0..10_000 {
                send.send(n).await.unwrap();
            }
        });
        let source = futures_util::stream::unfold(receive, |mut receive| async move {
            receive.recv().await.map(|n| (n, receive))
        });
        let mut stream = pin!(
            from_stream(source)
                .through(3, |numbers, factor: u64| {
                    (numbers
                        | process::map(move |n: u64| (n * factor, std::process::id())).workers(2)
                        | task::map(|pair| async move { pair }).workers(3)
                        | process::filter(|(n, _): &(u64, u32)| n % 2 == 0)
                        | thread::map(|pair| pair))
                    .ordered()
                })
                .into_stream()
        );
        let mut came = Vec::new();
        while let Some(item) = stream.next().await {
            came.push(item.unwrap());
        }
        came
    });
    let main = std::process::id();
    assert!(came.iter().all(|(_, pid)| *pid != main));
    assert!(came.into_iter().map(|(n, _)| n).eq((0..10_000).map(|n| 3 * n).filter(|n| n % 2 == 0)));
}

fn stages_end_in_any_way() {
    let _beside = Beside::start();
    let stages = || {
        from_iter(0..3000_u64)
            .through(1, |items, more: u64| items | process::map(move |n: u64| n + more))
    };
    assert!(stages().collect::<Vec<u64>>().unwrap().into_iter().eq(1..=3000));
    assert_eq!(stages().run().unwrap().node("map").unwrap().items_in(), 3000);
    assert!(stages().into_iter().map(Result::unwrap).eq(1..=3000));
    assert!(stages().into_iter().take(10).map(Result::unwrap).eq(1..=10));
}

fn stages_that_are_forks_are_told_what_to_do() {
    let _beside = Beside::start();
    let stages = from_iter(0..10_u64) | process::map(|n: u64| n);
    let error = stages.run().unwrap_err();
    assert!(format!("{error:?}").contains("`Stages::through`"), "{error:?}");
    let stages = (from_iter(0..10_u64) | thread::map(|n: u64| n))
        .through((), |items, ()| items | process::map(|n: u64| n));
    let error = stages.run().unwrap_err();
    assert!(format!("{error:?}").contains("`through` follows a source"), "{error:?}");
}

fn a_stage_that_was_killed_goes_on() {
    let _beside = Beside::start();
    let stages = from_iter(0..3000_u64).through(testkit::name("stage"), |items, done: String| {
        items
            | process::map(move |n: u64| {
                let done = format!("/dev/shm/{done}");
                if n == 1000 && std::fs::metadata(&done).is_err() {
                    std::fs::write(&done, "").unwrap();
                    testkit::kill9(std::process::id());
                }
                if n == 2999 {
                    std::fs::remove_file(&done).unwrap();
                }
                n
            })
            .retry(3)
    });
    assert!(stages.collect::<Vec<u64>>().unwrap().into_iter().eq(0..3000));
}
