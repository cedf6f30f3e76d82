use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// An item that says where it came from.
type Item = (usize, u64);

/// What happens to a join: an item of an input with this key, in this order.
fn pushes(inputs: usize) -> impl Strategy<Value = Vec<(usize, u64)>> {
    vec((0..inputs, 0..24_u64), 0..80)
}

/// The keys that each input sends in order, and in which order the inputs are looked at.
fn ordered(inputs: usize) -> impl Strategy<Value = (Vec<Vec<u64>>, Vec<usize>)> {
    let keys = vec(0..40_u64, 0..30).prop_map(|mut keys| {
        keys.sort_unstable();
        keys.dedup();
        keys
    });
    (vec(keys, inputs), vec(0..inputs, 400))
}

fn count<T>(rows: &[Vec<T>], input: usize, is: impl Fn(&T) -> bool) -> u64 {
    rows.iter().filter(|row| is(&row[input])).count() as u64
}

/// What remains of `keys` when an input may go back by `slack`, each key once.
fn in_time(keys: &[u64], slack: u64) -> Vec<u64> {
    let mut newest = 0;
    let mut taken = Vec::new();
    for &key in keys {
        if key + slack >= newest && !taken.contains(&key) {
            taken.push(key);
        }
        newest = newest.max(key);
    }
    taken
}

fn of(pushes: &[(usize, u64)], input: usize) -> Vec<u64> {
    pushes.iter().filter(|push| push.0 == input).map(|push| push.1).collect()
}

/// Pushes only where the join accepts, and fails if it accepts nowhere.
fn drive<J>(
    join: &mut J,
    keys: &[Vec<u64>],
    mut choices: impl Iterator<Item = usize>,
    accepts: impl Fn(&J, usize) -> bool,
    push: impl Fn(&mut J, usize, u64) -> Rows<Item>,
    end: impl Fn(&mut J, usize) -> Rows<Item>,
    exhausted: impl Fn(&J) -> bool,
) -> Rows<Item> {
    let mut rows = Vec::new();
    let mut next = vec![0; keys.len()];
    let mut ended = vec![false; keys.len()];
    while !exhausted(join) {
        let able: Vec<usize> = (0..keys.len())
            .filter(|&i| !ended[i] && (next[i] == keys[i].len() || accepts(join, i)))
            .collect();
        assert!(!able.is_empty(), "the join reads nobody");
        let input = able[choices.next().unwrap_or(0) % able.len()];
        if let Some(&key) = keys[input].get(next[input]) {
            next[input] += 1;
            rows.extend(push(join, input, key));
        } else {
            ended[input] = true;
            rows.extend(end(join, input));
        }
    }
    rows
}

proptest! {
    #[test]
    fn by_tick_gives_what_all_have(pushes in pushes(3), slack in 0..4_u64) {
        let mut join = ByTick::new(3, 100).slack(slack);
        let mut rows = Vec::new();
        for &(input, tick) in &pushes {
            rows.extend(join.push(input, tick, (input, tick)));
        }
        for input in 0..3 {
            rows.extend(join.end(input));
        }
        let taken: Vec<_> = (0..3).map(|input| in_time(&of(&pushes, input), slack)).collect();
        let model: Vec<Vec<Item>> = (0..24)
            .filter(|tick| taken.iter().all(|taken| taken.contains(tick)))
            .map(|tick| (0..3).map(|input| (input, tick)).collect())
            .collect();
        prop_assert_eq!(&rows, &model);
        prop_assert!(join.is_finished() && join.is_exhausted() && join.open() == 0);
        for input in 0..3 {
            let pushed = of(&pushes, input).len() as u64;
            prop_assert_eq!(join.discarded()[input] + rows.len() as u64, pushed);
        }
    }

    #[test]
    fn by_tick_keeps_to_its_window(pushes in pushes(3), slack in 0..4_u64, window in 1..5_usize) {
        let mut join = ByTick::new(3, window).slack(slack);
        let mut rows: Rows<Item> = Vec::new();
        for (done, &(input, tick)) in pushes.iter().enumerate() {
            rows.extend(join.push(input, tick, (input, tick)));
            prop_assert!(join.open() <= window);
            let told = rows.len() as u64 * 3 + join.discarded().iter().sum::<u64>();
            prop_assert!(told <= done as u64 + 1);
        }
        for input in 0..3 {
            rows.extend(join.end(input));
        }
        prop_assert!(rows.iter().all(|row| row.iter().all(|item| item.1 == row[0].1)));
        prop_assert!(rows.windows(2).all(|two| two[0][0].1 < two[1][0].1));
        let told = rows.len() as u64 * 3 + join.discarded().iter().sum::<u64>();
        prop_assert_eq!(told, pushes.len() as u64);
    }

    #[test]
    fn by_tick_loses_nothing_to_speed((keys, choices) in ordered(3), window in 1..4_usize) {
        let rows = drive(
            &mut ByTick::new(3, window),
            &keys,
            choices.into_iter(),
            ByTick::accepts,
            |join, input, tick| join.push(input, tick, (input, tick)),
            ByTick::end,
            ByTick::is_exhausted,
        );
        let model: Vec<u64> = (0..40).filter(|tick| keys.iter().all(|of| of.contains(tick))).collect();
        prop_assert_eq!(rows.iter().map(|row| row[0].1).collect::<Vec<_>>(), model);
    }

    #[test]
    fn latest_gives_the_newest(inputs in vec(0..3_usize, 0..60), hold in 1..4_usize) {
        let mut join = Latest::new(3, Before::Hold(hold));
        let items: Vec<Item> = inputs.iter().enumerate().map(|(n, &i)| (i, n as u64)).collect();
        let mut rows = Vec::new();
        for &item in &items {
            rows.extend(join.push(item.0, item));
        }
        for input in 0..3 {
            rows.extend(join.end(input));
        }
        let newest = |input, n| items[..=n].iter().rev().find(|item| item.0 == input).copied();
        let ready = (0..items.len()).find(|&n| newest(1, n).is_some() && newest(2, n).is_some());
        let mut model = Vec::new();
        if let Some(ready) = ready {
            let held: Vec<_> = items[..ready].iter().filter(|item| item.0 == 0).collect();
            for &&item in &held[held.len().saturating_sub(hold)..] {
                model.push(vec![item, newest(1, ready).unwrap(), newest(2, ready).unwrap()]);
            }
            for (n, &item) in items.iter().enumerate().skip(ready) {
                if item.0 == 0 {
                    model.push(vec![item, newest(1, n).unwrap(), newest(2, n).unwrap()]);
                }
            }
        }
        prop_assert_eq!(&rows, &model);
        prop_assert!(join.is_finished() && join.is_exhausted());
        for input in 0..3 {
            let pushed = items.iter().filter(|item| item.0 == input);
            let used = pushed.clone().filter(|&item| count(&rows, input, |o| o == item) > 0);
            prop_assert_eq!(join.discarded()[input] + used.count() as u64, pushed.count() as u64);
        }
    }

    #[test]
    fn nearest_is_nearest(pushes in pushes(3), tolerance in 0..8_u64) {
        let mut join = Nearest::new(3, tolerance, 100);
        let mut rows = Vec::new();
        for &(input, time) in &pushes {
            rows.extend(join.push(input, time, (input, time)));
        }
        for input in 0..3 {
            rows.extend(join.end(input));
        }
        let mut leading = Vec::new();
        for time in of(&pushes, 0) {
            if leading.last().is_none_or(|&last| time >= last) {
                leading.push(time);
            }
        }
        prop_assert_eq!(&rows, &nearest_of(&leading, &[in_time(&of(&pushes, 1), 0), in_time(&of(&pushes, 2), 0)], tolerance));
        prop_assert!(join.is_finished() && join.is_exhausted());
        let pushed = of(&pushes, 0).len() as u64;
        prop_assert_eq!(join.discarded()[0] + rows.len() as u64, pushed);
        for input in 1..3 {
            let mut used: Vec<_> = rows.iter().map(|row| row[input]).collect();
            used.dedup();
            let pushed = of(&pushes, input).len();
            prop_assert_eq!(join.discarded()[input] + used.len() as u64, pushed as u64);
        }
    }

    #[test]
    fn nearest_loses_nothing_to_speed(
        (keys, choices) in ordered(3), capacity in 2..5_usize, tolerance in 0..8_u64
    ) {
        let rows = drive(
            &mut Nearest::new(3, tolerance, capacity),
            &keys,
            choices.into_iter(),
            Nearest::accepts,
            |join, input, time| join.push(input, time, (input, time)),
            Nearest::end,
            Nearest::is_exhausted,
        );
        prop_assert_eq!(rows, nearest_of(&keys[0], &keys[1..], tolerance));
    }

    #[test]
    fn nearest_keeps_to_its_capacity(pushes in pushes(3), capacity in 2..5_usize) {
        let mut join = Nearest::new(3, 5, capacity);
        for &(input, time) in &pushes {
            join.push(input, time, (input, time));
            prop_assert!(join.held().iter().all(|&held| held <= capacity));
        }
    }
}

fn nearest_of(leading: &[u64], others: &[Vec<u64>], tolerance: u64) -> Rows<Item> {
    let row = |&time: &u64| -> Option<Vec<Item>> {
        let mut row = vec![(0, time)];
        for (other, times) in others.iter().enumerate() {
            let (_, near) = times.iter().map(|&at| (at.abs_diff(time), at)).min()?;
            row.push((other + 1, near));
        }
        row.iter().all(|item| item.1.abs_diff(time) <= tolerance).then_some(row)
    };
    leading.iter().filter_map(row).collect()
}

#[test]
fn by_tick_ends_early() {
    let mut join = ByTick::new(2, 4);
    join.push(0, 1, 'a');
    join.push(0, 2, 'b');
    assert_eq!(join.push(1, 1, 'c'), [['a', 'c']]);
    join.end(1);
    assert!(join.is_exhausted() && !join.is_finished());
    assert!(!join.accepts(1));
    assert!(join.push(0, 3, 'd').is_empty());
    assert!(join.push(1, 3, 'e').is_empty()); // after its end
    join.end(0);
    assert!(join.is_finished());
    assert_eq!(join.discarded(), [2, 1]);
}

#[test]
fn by_tick_waits_for_smaller_ones_within_the_slack() {
    let mut join = ByTick::new(2, 8).slack(2);
    join.push(0, 5, 50);
    assert!(join.push(1, 5, 51).is_empty()); // 4 may still come
    join.push(0, 4, 40);
    assert!(join.push(1, 4, 41).is_empty()); // and 3
    assert_eq!(join.push(0, 7, 70), [[40, 41], [50, 51]]);
    assert!(join.push(1, 7, 71).is_empty()); // 6 may still come
    assert!(join.push(0, 4, 42).is_empty()); // too late
    assert_eq!(join.end(0), [[70, 71]]);
    assert_eq!(join.discarded(), [1, 0]);
}

#[test]
fn by_tick_takes_the_largest_numbers() {
    let mut join = ByTick::new(2, 1).slack(u64::MAX);
    assert!(join.push(0, u64::MAX, 1).is_empty());
    assert!(join.push(1, u64::MAX, 2).is_empty());
    assert!(join.push(0, 0, 3).is_empty()); // no room for it
    assert_eq!(join.end(0), [[1, 2]]);
    assert_eq!(join.discarded(), [1, 0]);
}

#[test]
fn of_one_input_each_item_is_a_row() {
    assert_eq!(ByTick::new(1, 1).push(0, 3, 'x'), [['x']]);
    assert_eq!(Latest::new(1, Before::Discard).push(0, 'x'), [['x']]);
    assert_eq!(Nearest::new(1, 0, 2).push(0, 3, 'x'), [['x']]);
    assert_eq!(Sticky::new(0, 1).push_row(vec!['x']), [['x']]);
}

#[test]
fn latest_before_the_first() {
    let mut discards = Latest::new(2, Before::Discard);
    assert!(discards.push(0, 1).is_empty());
    assert!(!discards.accepts(0));
    assert!(discards.push(1, 10).is_empty());
    assert_eq!(discards.push(0, 2), [[2, 10]]);
    assert_eq!(discards.discarded(), [1, 0]);

    let mut uses = Latest::new(2, Before::Use(0));
    assert_eq!(uses.push(0, 1), [[1, 0]]);
    uses.end(1);
    assert!(!uses.is_exhausted());
    assert_eq!(uses.push(0, 2), [[2, 0]]);
    uses.end(0);
    assert!(uses.is_finished());
}

#[test]
fn latest_of_an_input_that_never_spoke() {
    let mut join = Latest::new(2, Before::Hold(9));
    join.push(0, 1);
    join.push(0, 2);
    join.end(1);
    assert!(join.is_exhausted() && !join.is_finished());
    assert!(join.push(0, 3).is_empty());
    join.end(0);
    assert!(join.is_finished());
    assert_eq!(join.discarded(), [3, 0]);
}

#[test]
fn latest_holds_after_the_leader_ended() {
    let mut join = Latest::new(2, Before::Hold(9));
    join.push(0, 1);
    join.end(0);
    assert!(!join.is_exhausted());
    assert_eq!(join.push(1, 10), [[1, 10]]);
    assert!(join.is_exhausted());
    join.push(1, 20);
    assert_eq!(join.discarded(), [0, 1]);
    join.end(1);
    assert!(join.is_finished());
}

#[test]
fn sticky_lasts_beyond_its_end() {
    let mut join = Sticky::new(2, 2);
    for n in 0..3 {
        assert!(join.push_row(vec![n]).is_empty());
    }
    assert!(!join.accepts_row());
    assert!(join.push(1, 91).is_empty());
    join.end(1);
    assert_eq!(join.push(0, 90), [[1, 90, 91], [2, 90, 91]]);
    join.end(0);
    assert_eq!(join.push_row(vec![3]), [[3, 90, 91]]);
    assert!(!join.is_exhausted());
    join.end_rows();
    assert!(join.is_finished());
    assert_eq!((join.discarded_rows(), join.discarded()), (1, &[0, 0][..]));
}

#[test]
fn nearest_counts_what_is_too_old() {
    let mut join = Nearest::new(2, 100, 4);
    join.push(1, 10, 'a');
    join.push(1, 10, 'b'); // a second one of the same time
    join.push(1, 9, 'c'); // backwards
    join.push(1, 20, 'd');
    assert_eq!(join.push(0, 20, 'x'), [['x', 'd']]);
    assert_eq!(join.push(0, 20, 'y'), [['y', 'd']]); // two leading ones at a time are two
    assert!(join.push(0, 19, 'z').is_empty());
    assert_eq!(join.discarded(), [1, 3]);
}

#[test]
#[should_panic(expected = "window")]
fn a_window_of_nothing_is_a_mistake() {
    let _ = ByTick::<()>::new(2, 0);
}
