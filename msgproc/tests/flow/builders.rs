//! Pipelines, farms, all-to-alls, and runs that are used from outside.

use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::{
    AllToAll, Around, Cause, Error, FailureKind, Farm, Flow, Node, OnError, Outlet, Part, Pipeline,
    Placement, Process, Same, Scheduling, Thread, WorkerInfo, Workers, each, filter, flat_map,
    from_fn, fuse, map, par, try_map,
};
use ndarray::{Array3, Axis};
use shmring::array::{Order, SharedArray2};

use crate::common::PLACES;

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(stages_at_every_pair_of_places),
        testkit::test!(neighbours_in_the_same_place_are_one_node),
        testkit::test!(a_pipeline_of_farms),
        testkit::test!(farms_deal_as_they_are_told),
        testkit::test!(farms_keep_the_order),
        testkit::test!(workers_that_are_chains),
        testkit::test!(emitters_and_collectors),
        testkit::test!(farms_skip_and_retry),
        testkit::test!(all_of_one_set_reach_all_of_the_other),
        testkit::test!(parts_go_round),
        testkit::test!(what_went_round_is_kept_in_order),
        testkit::test!(a_circle_in_a_pipeline),
        testkit::test!(workers_that_die_on_the_way_round),
        testkit::test!(a_pipeline_is_used_from_outside),
        testkit::test!(an_accelerator_freezes),
        testkit::test!(an_accelerator_stops_at_once),
        testkit::test!(errors_reach_who_takes_results),
        testkit::test!(a_failed_run_lets_go_of_who_gives_items),
        testkit::test!(results_that_nobody_takes),
        testkit::test!(order_and_dealing_that_do_not_go_together),
        testkit::test!(rows_are_shared_by_workers),
        testkit::test!(rows_that_fail),
    ]
}

fn stages_at_every_pair_of_places() {
    for a in PLACES {
        for b in PLACES {
            let items = Pipeline::source("numbers", a, 0..500_u64)
                .stage("triple", b, |_| map(|n: u64| 3 * n))
                .stage("even", a, |_| filter(|n: &u64| n.is_multiple_of(2)))
                .run_collect()
                .unwrap();
            let expected: Vec<u64> =
                (0..500).map(|n| 3 * n).filter(|n: &u64| n.is_multiple_of(2)).collect();
            assert_eq!(items, expected, "{a} {b}");
        }
    }
}

/// Also with items between them that could not go to another thread.
fn neighbours_in_the_same_place_are_one_node() {
    let report = Pipeline::from(0..100_u64)
        .stage("wrap", Same, |_| map(std::rc::Rc::<u64>::new))
        .stage("unwrap", Same, |_| map(|n: std::rc::Rc<u64>| *n + 1))
        .stage("there", Thread, |_| map(|n: u64| n))
        .stage("check", Same, |_| each(|n: u64| assert!((1..=100).contains(&n))))
        .run()
        .unwrap();
    let names: Vec<_> = report.nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(names, ["source+wrap+unwrap", "there", "check"]);
    assert_eq!(report.node("check").unwrap().items_in(), 100);
}

fn a_pipeline_of_farms() {
    for place in PLACES {
        let texts = Farm::new("texts", place, |_| map(|n: u64| n.to_string())).workers(3);
        let lens = Farm::new("lens", place, |_| map(|text: String| text.len() as u64)).workers(2);
        let sum: u64 = Pipeline::from(0..1000_u64)
            .part(texts)
            .stage("same", Thread, |_| map(|text: String| text))
            .part(lens)
            .run_collect()
            .unwrap()
            .into_iter()
            .sum();
        assert_eq!(sum, 10 + 2 * 90 + 3 * 900, "{place}");
    }
}

/// What each worker got.
fn dealt(place: Placement, scheduling: Scheduling<u64>) -> BTreeMap<usize, Vec<u64>> {
    let farm = Farm::new("mark", place, |worker| {
        let index = worker.index;
        map(move |n: u64| (index, n))
    });
    let farm = farm.workers(3).scheduling(scheduling);
    let mut dealt: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for (worker, n) in farm.run_collect(0..300).unwrap() {
        dealt.entry(worker).or_default().push(n);
    }
    dealt
}

fn farms_deal_as_they_are_told() {
    for place in PLACES {
        let all: Vec<u64> = (0..300).collect();
        let of = |dealt: &BTreeMap<usize, Vec<u64>>| {
            let mut items: Vec<u64> = dealt.values().flatten().copied().collect();
            items.sort_unstable();
            items
        };
        assert_eq!(of(&dealt(place, Scheduling::on_demand())), all, "{place}");

        let robin = dealt(place, Scheduling::round_robin());
        assert_eq!(of(&robin), all, "{place}");
        assert!(robin.values().all(|items| items.len() == 100), "{place}");

        let each = dealt(place, Scheduling::broadcast());
        assert_eq!(each.len(), 3, "{place}");
        assert!(each.values().all(|items| *items == all), "{place}");

        let keyed = dealt(place, Scheduling::by_key(|n: &u64| n % 7));
        assert_eq!(of(&keyed), all, "{place}");
        for key in 0..7 {
            let has = |items: &&Vec<u64>| items.iter().any(|n| n % 7 == key);
            assert_eq!(keyed.values().filter(has).count(), 1, "{place}");
        }

        let custom = dealt(place, Scheduling::custom(|n: &u64| (*n / 100) as usize));
        for (worker, items) in custom {
            let first = 100 * worker as u64;
            assert_eq!(items, (first..first + 100).collect::<Vec<_>>(), "{place}");
        }
    }
}

fn slowly(n: u64) -> u64 {
    if n.is_multiple_of(97) {
        sleep(Duration::from_micros(300));
    }
    n
}

fn farms_keep_the_order() {
    for place in PLACES {
        let farm = Farm::new("slowly", place, |_| map(slowly)).workers(3).ordered().capacity(16);
        let items = farm.run_collect(0..2000).unwrap();
        assert_eq!(items, (0..2000).collect::<Vec<_>>(), "{place}");
    }
}

/// Each worker has nodes of its own: what passes its first passes its second.
fn workers_that_are_chains() {
    for (a, b) in [(Placement::Thread, Placement::Process), (Placement::Process, Placement::Thread)]
    {
        for ordered in [false, true] {
            let chains = Workers::new("first", a, |worker| {
                let index = worker.index;
                flat_map(move |n: u64| [(n, index), (n + 10_000, index)])
            })
            .next("second", b, |worker| {
                let index = worker.index;
                filter(move |(n, first): &(u64, usize)| {
                    assert_eq!(*first, index);
                    n % 3 == 0
                })
            })
            .next("third", b, |_| map(|(n, _): (u64, usize)| slowly(n)))
            .count(3);
            let farm = Farm::of(chains);
            let farm = if ordered { farm.ordered() } else { farm };
            let mut items = farm.run_collect(0..1000).unwrap();
            let mut expected: Vec<u64> =
                (0..1000).flat_map(|n| [n, n + 10_000]).filter(|n| n % 3 == 0).collect();
            if !ordered {
                items.sort_unstable();
                expected.sort_unstable();
            }
            assert_eq!(items, expected, "{a} {b} {ordered}");
        }
    }
}

fn emitters_and_collectors() {
    for place in PLACES {
        let work = Farm::new("work", place, |worker| {
            let index = worker.index as u64;
            map(move |n: u64| n * 10 + index)
        });
        let part = work
            .workers(2)
            .emitter("deal", place, |_| {
                from_fn(|n: u64, out: &mut Outlet<u64>| {
                    out.send_to((n >= 100).into(), n)?;
                    Ok(Flow::GoOn)
                })
            })
            .collector("sum", Same, |_| Sum(0));
        let sum: u64 = (0..200).map(|n| n * 10 + u64::from(n >= 100)).sum();
        assert_eq!(part.run_collect(0..200).unwrap(), [sum], "{place}");
    }
}

struct Sum(u64);

impl Node for Sum {
    type In = u64;
    type Out = u64;

    fn svc(&mut self, item: u64, _: &mut Outlet<u64>) -> Result<Flow, Cause> {
        self.0 += item;
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, out: &mut Outlet<u64>) -> Result<(), Cause> {
        Ok(out.send(self.0)?)
    }
}

fn farms_skip_and_retry() {
    for place in PLACES {
        let odd = |n: u64| if n % 2 == 1 { Ok(n) } else { Err("even") };
        let farm = Farm::new("odd", place, move |_| try_map(odd)).workers(2).skip_errors();
        let mut items = farm.run_collect(0..100).unwrap();
        items.sort_unstable();
        assert_eq!(items, (0..100).filter(|n| n % 2 == 1).collect::<Vec<_>>(), "{place}");

        let farm = Farm::new("flaky", place, |_| {
            let mut calls = 0;
            try_map(move |n: u64| {
                calls += 1;
                if calls % 3 == 0 { Err("not now") } else { Ok(n) }
            })
        });
        let farm = farm.workers(2).on_error(OnError::retry(1)).ordered();
        assert_eq!(farm.run_collect(0..100).unwrap(), (0..100).collect::<Vec<_>>(), "{place}");
    }
}

fn all_of_one_set_reach_all_of_the_other() {
    for (a, b) in PLACES.into_iter().flat_map(|a| PLACES.map(|b| (a, b))) {
        let first = Workers::new("first", a, |worker| {
            let index = worker.index;
            from_fn(move |n: u64, out: &mut Outlet<(usize, u64)>| {
                assert_eq!(out.workers(), 3);
                (0..3).try_for_each(|to| out.send_to(to, (index, n)))?;
                Ok(Flow::GoOn)
            })
        });
        let second = Workers::new("second", b, |worker| {
            let index = worker.index;
            map(move |(from, n): (usize, u64)| (from, index, n))
        });
        let both = AllToAll::new(first.count(2), second.count(3))
            .scheduling(Scheduling::custom(|n: &u64| *n as usize));
        let mut items = both.run_collect(0..100).unwrap();
        items.sort_unstable();
        let mut expected: Vec<_> =
            (0..100_u64).flat_map(|n| (0..3).map(move |to| (n as usize % 2, to, n))).collect();
        expected.sort_unstable();
        assert_eq!(items, expected, "{a} {b}");
    }
}

fn countdown(n: u64) -> Around<u64, String> {
    match n % 10 {
        0 => Around::On(n.to_string()),
        _ => Around::Back(n - 1),
    }
}

fn parts_go_round() {
    for place in PLACES {
        let farm = Farm::new("down", place, |_| map(countdown)).workers(2);
        let mut items = farm.wrap_around(Process, 20).run_collect(0..300).unwrap();
        items.sort_unstable();
        let mut expected: Vec<_> = (0..300).map(|n: u64| (n / 10 * 10).to_string()).collect();
        expected.sort_unstable();
        assert_eq!(items, expected, "{place}");
    }
}

/// What leaves a circle of several workers comes in any order, and is kept in that from then on.
fn what_went_round_is_kept_in_order() {
    for place in PLACES {
        for workers in [1, 2] {
            let round = Farm::new("down", place, |_| map(countdown)).workers(workers);
            let keeps = Farm::new("keeps", place, |_| map(|n: String| n)).workers(2).ordered();
            let report = Pipeline::source("numbers", place, 0..200_u64)
                .part(round.wrap_around(Process, 20))
                .part(keeps)
                .stage("check", Thread, |_| each(|n: String| assert!(n.ends_with('0'))))
                .run()
                .unwrap();
            assert_eq!(report.node("check").unwrap().items_in(), 200, "{place}\n{report}");
        }
    }
}

/// With a farm, an emitter and a collector in the circle; and nothing that leaves it.
fn a_circle_in_a_pipeline() {
    for place in PLACES {
        let part = || {
            Farm::new("down", place, |_| map(|n: u64| n))
                .workers(3)
                .emitter("deal", place, |_| map(|n: u64| n))
                .collector("sort", Same, |_| map(countdown))
                .wrap_around(place, 5)
        };
        let report = Pipeline::source("numbers", place, 0..200_u64)
            .part(part())
            .stage("check", Thread, |_| each(|n: String| assert!(n.ends_with('0'))))
            .run()
            .unwrap();
        assert_eq!(report.node("check").unwrap().items_in(), 200, "{place}");
        let rounds: u64 = (0..200).map(|n| n % 10 + 1).sum();
        assert_eq!(report.node("down").unwrap().items_in(), rounds, "{place}");

        let report = Pipeline::source("numbers", place, 0..200_u64).part(part()).run().unwrap();
        assert_eq!(report.node("down").unwrap().items_in(), rounds, "{place}");
    }
}

/// Runs numbers through a part in which workers die; gives how many relays it has.
fn deaths_go_round(part: impl Part<In = u64, Out = String>) -> usize {
    let report = Pipeline::source("numbers", Thread, 0..200_u64)
        .part(part)
        .stage("check", Thread, |_| each(|n: String| assert!(n.ends_with('0'))))
        .run()
        .unwrap();
    assert_eq!(report.node("check").unwrap().items_in(), 200);
    let down = report.node("down").unwrap();
    let restarts: u64 = down.workers.iter().map(|worker| worker.restarts).sum();
    assert!((1..=3).contains(&restarts), "{report}");
    report.nodes.iter().filter(|node| node.name == "relay to down").count()
}

/// Each of them dies once, over the first number it gets that ends in 3.
fn workers_that_die_on_the_way_round() {
    let work = |me: &WorkerInfo| {
        let dies = me.restarts == 0;
        map(move |n: u64| {
            if dies && n % 10 == 3 {
                testkit::kill9(std::process::id());
            }
            n
        })
    };
    let farm = || Farm::new("down", Process, work).workers(3).on_error(OnError::retry(2));
    let sort = |_: &WorkerInfo| map(countdown);
    let dealt = farm().emitter("deal", Thread, |_| map(|n: u64| n)).collector("sort", Thread, sort);
    assert_eq!(deaths_go_round(dealt.wrap_around(Process, 30)), 0);
    // What would begin in a process that is replaced, begins in the program.
    let bare = farm().collector("sort", Thread, sort);
    assert_eq!(deaths_go_round(bare.wrap_around(Process, 30)), 1);
    let ordered = farm().ordered().collector("sort", Thread, sort);
    assert_eq!(deaths_go_round(ordered.wrap_around(Process, 30)), 1);
    let one = Farm::new("down", Process, move |me| fuse(work(me), map(countdown)));
    assert_eq!(deaths_go_round(one.on_error(OnError::retry(2)).wrap_around(Process, 30)), 1);
}

fn a_pipeline_is_used_from_outside() {
    for place in PLACES {
        let mut run = Pipeline::feed::<u64, _>(place, 8)
            .stage("next", place, |_| map(|n: u64| n + 1))
            .part(Farm::new("text", place, |_| map(|n: u64| n.to_string())).workers(2).ordered())
            .start()
            .unwrap();
        assert_eq!(run.try_result(), None);
        // One after the other: no item waits for the next.
        for n in 0..20 {
            run.offload(n).unwrap();
            assert_eq!(run.result(), Some((n + 1).to_string()), "{place}");
        }
        assert_eq!(run.result_timeout(Duration::from_millis(5)), None);
        assert_eq!(run.report().node("next").unwrap().items_in(), 20, "{place}");
        for n in 0..5 {
            run.try_offload(n).unwrap();
        }
        run.stop();
        assert!(run.offload(5).is_err());
        assert_eq!(run.collect().unwrap(), ["1", "2", "3", "4", "5"], "{place}");
    }
}

fn an_accelerator_freezes() {
    let farm = Farm::new("same", Thread, |_| map(|n: u64| n)).workers(2);
    let run = farm.accelerate(Thread, 16).unwrap();
    run.offload(1).unwrap();
    assert_eq!(run.result(), Some(1));
    for n in 2..10 {
        run.freeze();
        run.offload(n).unwrap();
        assert_eq!(run.result_timeout(Duration::from_millis(3)), None);
        run.thaw();
        assert_eq!(run.result(), Some(n));
    }
    run.offload(9).unwrap();
    assert_eq!(run.result_timeout(Duration::MAX), Some(9));
    // A frozen one is thawed to come to its end.
    run.freeze();
    run.offload(10).unwrap();
    assert_eq!(run.collect().unwrap(), [10]);
}

fn an_accelerator_stops_at_once() {
    for place in PLACES {
        let farm = Farm::new("same", place, |_| map(|n: u64| n));
        let run = farm.accelerate(place, 4).unwrap();
        run.offload(1).unwrap();
        run.stop_now();
        let until = Instant::now() + Duration::from_secs(10);
        while run.offload(2).is_ok() {
            assert!(Instant::now() < until);
        }
        while run.result().is_some() {}
        assert!(matches!(run.wait(), Err(Error::Stopped)), "{place}");
        // And so does one that is dropped.
        drop(Farm::new("same", place, |_| map(|n: u64| n)).accelerate(place, 4).unwrap());
    }
}

fn fails_at(place: Placement, at: u64) -> Farm<u64, u64> {
    let wrong = move |n: u64| if n == at { Err("no more") } else { Ok(n) };
    Farm::new("fails", place, move |_| try_map(wrong)).workers(2).ordered()
}

fn errors_reach_who_takes_results() {
    for place in PLACES {
        let run = fails_at(place, 5).accelerate(place, 64).unwrap();
        for n in 0..10 {
            // It may be told by then.
            let _ = run.offload(n);
        }
        let began = Instant::now();
        let mut results = 0;
        while let Some(n) = run.result() {
            assert_eq!(n, results);
            results += 1;
        }
        assert!(results <= 5 && run.is_ended(), "{place}");
        let Err(Error::Failed(failure)) = run.wait() else { panic!("it ended well") };
        assert_eq!((&*failure.node, &*failure.message), ("fails", "no more"), "{place}");
        assert_eq!(failure.kind, FailureKind::Error);
        assert!(began.elapsed() < Duration::from_secs(2), "{place}: {:?}", began.elapsed());
    }
}

/// Who waits for room, and takes no results.
fn a_failed_run_lets_go_of_who_gives_items() {
    for place in PLACES {
        let run = fails_at(place, 3).accelerate(place, 2).unwrap();
        let began = Instant::now();
        while run.offload(3).is_ok() {}
        assert!(run.wait().is_err(), "{place}");
        assert!(began.elapsed() < Duration::from_secs(2), "{place}: {:?}", began.elapsed());
    }
}

fn results_that_nobody_takes() {
    let run = fails_at(Placement::Thread, u64::MAX).accelerate(Thread, 2).unwrap();
    for n in 0..3 {
        run.offload(n).unwrap();
    }
    let report = run.wait().unwrap();
    assert_eq!(report.node("fails").unwrap().items_in(), 3);
}

fn order_and_dealing_that_do_not_go_together() {
    let farm = Farm::new("same", Thread, |_| map(|n: u64| n)).workers(2).ordered();
    let error = farm.scheduling(Scheduling::broadcast()).run_collect(0..5).unwrap_err();
    assert!(error.to_string().contains("cannot keep the order"), "{error}");
}

fn rows_are_shared_by_workers() {
    for place in PLACES {
        for (rows, workers) in [(1, 2), (100, 3), (1000, 2), (0, 2)] {
            let input =
                Array3::from_shape_fn((rows, 4, 5), |(row, y, x)| (row * 100 + y * 10 + x) as i64);
            let mut output = SharedArray2::<i64>::anonymous((rows, 4)).unwrap();
            let input = input.into_shared();
            let report = par::map_rows(&input, &mut output, place, workers, |frame, mut sums| {
                sums.assign(&frame.sum_axis(Axis(1)));
            });
            let report = report.unwrap();
            assert_eq!(*output.read().unwrap(), input.sum_axis(Axis(2)), "{place} {rows}");
            let blocks = report.node("rows").unwrap().items_in();
            assert!(blocks <= 16 * workers as u64 && blocks >= (rows as u64).min(16), "{blocks}");

            let report = par::for_each_row(&mut output, place, workers, |index, mut row| {
                row -= &ndarray::arr1(&[index as i64; 4]);
            });
            report.unwrap();
            let mut expected = input.sum_axis(Axis(2));
            for (index, mut row) in expected.rows_mut().into_iter().enumerate() {
                row -= index as i64;
            }
            assert_eq!(*output.read().unwrap(), expected, "{place} {rows}");
        }
    }
}

fn rows_that_fail() {
    let input = Array3::<u8>::zeros((4, 2, 2)).into_shared();
    let mut output = SharedArray2::<u8>::anonymous((5, 2)).unwrap();
    let error = par::map_rows(&input, &mut output, Same, 2, |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("has not as many rows"), "{error}");

    for place in PLACES {
        let error = par::for_each_row(&mut output, place, 2, |index, _| assert_ne!(index, 3));
        let error = error.unwrap_err();
        assert_eq!(error.failure().unwrap().kind, FailureKind::Panic, "{place}");
        // The lock went with the worker.
        output.write().unwrap().fill(1);
    }

    let mut fortran =
        SharedArray2::<u8>::options().order(Order::Fortran).anonymous((3, 3)).unwrap();
    let error = par::for_each_row(&mut fortran, Same, 2, |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("Fortran"), "{error}");
}
