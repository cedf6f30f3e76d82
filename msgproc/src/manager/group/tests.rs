use proptest::prelude::*;

use super::*;
use crate::manager::slots::Slots;

const AT_ONCE: Restart = Restart::After(Duration::ZERO);

fn ids(count: usize) -> Vec<ProcessId> {
    let mut slots = Slots::new();
    (0..count).map(|_| slots.insert(())).collect()
}

fn unit(group: Group, policies: &[Policy]) -> (Unit, Vec<ProcessId>, Instant) {
    let ids = ids(policies.len());
    let mut unit = Unit::of(group);
    for (id, policy) in ids.iter().zip(policies) {
        unit.add(*id, *policy);
    }
    (unit, ids, Instant::now())
}

const MINUTE: Duration = Duration::from_secs(60);

fn permanent() -> Policy {
    Policy::permanent().at_most(100, MINUTE)
}

/// Does all steps that come at once, ends and starts included; gives them in their order.
fn run(unit: &mut Unit, now: Instant) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        let step = unit.step(now);
        match step {
            Step::Nothing => return steps,
            Step::Wait(_) | Step::GiveUp => {}
            Step::Stop(id) => {
                assert!(unit.lets_go(id));
                unit.ended(id, now, End::Stopped, 0.0);
            }
            Step::Start(id, _) => unit.ready(id),
        }
        steps.push(step);
        if matches!(step, Step::Wait(_)) {
            return steps;
        }
    }
}

#[test]
fn one_for_one_leaves_the_others_alone() {
    let (mut unit, id, now) = unit(Group::one_for_one(), &[permanent(); 3]);
    assert_eq!(unit.ended(id[1], now, End::Failed, 0.0), AT_ONCE);
    assert_eq!(run(&mut unit, now), [Step::Start(id[1], Some(id[1]))]);
}

#[test]
fn one_for_one_does_not_wait_for_another_start_or_another_pause() {
    let slow = permanent().backoff(Duration::from_secs(5));
    let (mut unit, id, now) = unit(Group::one_for_one(), &[permanent(), slow, permanent()]);
    unit.ended(id[0], now, End::Failed, 0.0);
    unit.ended(id[1], now, End::Failed, 0.0);
    assert_eq!(unit.step(now), Step::Start(id[0], Some(id[0])));
    unit.ended(id[2], now, End::Clean, 0.0);
    assert_eq!(unit.step(now), Step::Start(id[2], Some(id[2])));
    let later = now + Duration::from_secs(5);
    assert_eq!(unit.step(now), Step::Wait(later));
    assert_eq!(unit.step(later), Step::Start(id[1], Some(id[1])));
    assert_eq!(unit.step(later), Step::Nothing);
}

#[test]
fn one_for_all_stops_from_the_last_and_starts_from_the_first() {
    let (mut unit, id, now) = unit(Group::one_for_all(), &[permanent(); 3]);
    assert_eq!(unit.ended(id[1], now, End::Failed, 0.0), AT_ONCE);
    let expected = [
        Step::Stop(id[2]),
        Step::Stop(id[0]),
        Step::Start(id[0], Some(id[1])),
        Step::Start(id[1], Some(id[1])),
        Step::Start(id[2], Some(id[1])),
    ];
    assert_eq!(run(&mut unit, now), expected);
}

#[test]
fn rest_for_one_takes_those_that_came_after() {
    let (mut unit, id, now) = unit(Group::rest_for_one(), &[permanent(); 4]);
    unit.ended(id[2], now, End::Failed, 0.0);
    let expected =
        [Step::Stop(id[3]), Step::Start(id[2], Some(id[2])), Step::Start(id[3], Some(id[2]))];
    assert_eq!(run(&mut unit, now), expected);
}

#[test]
fn the_next_one_waits_until_the_one_before_is_ready() {
    let (mut unit, id, now) = unit(Group::one_for_all(), &[permanent(); 2]);
    unit.ended(id[0], now, End::Failed, 0.0);
    assert_eq!(unit.step(now), Step::Stop(id[1]));
    assert_eq!(unit.step(now), Step::Nothing, "it has not ended yet");
    assert_eq!(unit.ended(id[1], now, End::Stopped, 0.0), AT_ONCE);
    assert_eq!(unit.step(now), Step::Start(id[0], Some(id[0])));
    assert_eq!(unit.step(now), Step::Nothing, "it is not ready yet");
    unit.ready(id[0]);
    assert_eq!(unit.step(now), Step::Start(id[1], Some(id[0])));
}

#[test]
fn the_pause_holds_for_all_of_them() {
    let pause = Duration::from_secs(3);
    let (mut unit, id, now) = unit(Group::one_for_all(), &[permanent().backoff(pause); 2]);
    assert_eq!(unit.ended(id[1], now, End::Failed, 0.0), Restart::After(pause));
    assert_eq!(unit.step(now), Step::Stop(id[0]));
    let then = now + Duration::from_secs(1);
    let left = Restart::After(Duration::from_secs(2));
    assert_eq!(unit.ended(id[0], then, End::Failed, 0.0), left, "its end asks for no other round");
    assert_eq!(run(&mut unit, then), [Step::Wait(now + pause)]);
    let expected = [Step::Start(id[0], Some(id[1])), Step::Start(id[1], Some(id[1]))];
    assert_eq!(run(&mut unit, now + pause), expected);
}

#[test]
fn a_start_that_fails_begins_a_new_round() {
    let (mut unit, id, now) = unit(Group::rest_for_one(), &[permanent(); 3]);
    unit.ended(id[0], now, End::Failed, 0.0);
    assert_eq!(unit.step(now), Step::Stop(id[2]));
    unit.ended(id[2], now, End::Stopped, 0.0);
    assert_eq!(unit.step(now), Step::Stop(id[1]));
    unit.ended(id[1], now, End::Stopped, 0.0);
    assert_eq!(unit.step(now), Step::Start(id[0], Some(id[0])));
    unit.ready(id[0]);
    assert_eq!(unit.step(now), Step::Start(id[1], Some(id[0])));
    assert_eq!(unit.ended(id[1], now, End::Failed, 0.0), AT_ONCE);
    assert_eq!(
        run(&mut unit, now),
        [Step::Start(id[1], Some(id[1])), Step::Start(id[2], Some(id[1]))]
    );
}

#[test]
fn each_kind_of_member_has_its_way() {
    let transient = Policy::transient();
    let policies = [permanent(), transient, Policy::temporary(), transient, permanent()];
    let (mut unit, id, now) = unit(Group::one_for_all(), &policies);
    // Neither of these is a failure of the group.
    assert_eq!(unit.ended(id[1], now, End::Clean, 0.0), Restart::No);
    assert_eq!(unit.ended(id[4], now, End::Stopped, 0.0), Restart::No);
    assert_eq!(run(&mut unit, now), []);
    assert_eq!(unit.ended(id[3], now, End::Failed, 0.0), AT_ONCE);
    let expected = [
        Step::Stop(id[2]),
        Step::Stop(id[0]),
        Step::Start(id[0], Some(id[3])),
        Step::Start(id[1], Some(id[3])),
        Step::Start(id[3], Some(id[3])),
    ];
    assert_eq!(run(&mut unit, now), expected);
    assert_eq!(unit.ended(id[2], now, End::Failed, 0.0), Restart::No);
}

#[test]
fn too_many_ends_are_the_end_of_the_group() {
    for group in [Group::one_for_one(), Group::one_for_all(), Group::rest_for_one()] {
        let (mut unit, id, now) = unit(group.at_most(2, MINUTE), &[permanent(); 3]);
        for member in [0, 1] {
            assert_eq!(unit.ended(id[member], now, End::Failed, 0.0), AT_ONCE);
            run(&mut unit, now);
        }
        assert_eq!(unit.ended(id[1], now, End::Failed, 0.0), Restart::GivenUp);
        assert_eq!(run(&mut unit, now), [Step::Stop(id[2]), Step::Stop(id[0]), Step::GiveUp]);
        assert_eq!(run(&mut unit, now), []);

        // Ends that are far apart are not too many.
        let (mut unit, id, now) = self::unit(group.at_most(2, MINUTE), &[permanent(); 3]);
        for number in 0..10 {
            let now = now + MINUTE * number / 2;
            assert_eq!(unit.ended(id[1], now, End::Failed, 0.0), AT_ONCE);
            run(&mut unit, now);
        }
    }
}

#[test]
fn a_member_that_is_given_up_takes_along_those_that_hang_on_it() {
    let never = Policy::permanent().at_most(0, MINUTE);
    let policies = [permanent(), never];
    let (mut unit, id, now) = unit(Group::one_for_one(), &policies);
    assert_eq!(unit.ended(id[1], now, End::Failed, 0.0), Restart::GivenUp);
    assert_eq!(run(&mut unit, now), []);
    let (mut unit, id, now) = self::unit(Group::rest_for_one(), &policies);
    assert_eq!(unit.ended(id[1], now, End::Failed, 0.0), Restart::GivenUp);
    assert_eq!(run(&mut unit, now), [Step::Stop(id[0]), Step::GiveUp]);
}

#[test]
fn a_group_that_was_given_up_can_be_started_again() {
    let (mut unit, id, now) = unit(Group::one_for_all().at_most(0, MINUTE), &[permanent(); 2]);
    assert_eq!(unit.ended(id[0], now, End::Failed, 0.0), Restart::GivenUp);
    assert_eq!(run(&mut unit, now), [Step::Stop(id[1]), Step::GiveUp]);
    unit.renew(now);
    assert_eq!(run(&mut unit, now), [Step::Start(id[0], None), Step::Start(id[1], None)]);
    assert_eq!(unit.ended(id[0], now, End::Failed, 0.0), Restart::GivenUp);
}

#[test]
fn nothing_is_started_after_a_halt() {
    let (mut unit, id, now) = unit(Group::one_for_all(), &[permanent(); 2]);
    unit.ended(id[0], now, End::Failed, 0.0);
    unit.halt();
    assert_eq!(unit.ended(id[1], now, End::Stopped, 0.0), Restart::No);
    assert_eq!(run(&mut unit, now), []);
    unit.started_by_hand(id[0]);
    assert_eq!(unit.ended(id[0], now, End::Failed, 0.0), AT_ONCE);
    assert_eq!(
        run(&mut unit, now),
        [Step::Start(id[0], Some(id[0]))],
        "the other was told to stop"
    );
}

#[test]
fn a_member_that_was_removed_holds_up_nothing() {
    let (mut unit, id, now) = unit(Group::one_for_all(), &[permanent(); 3]);
    unit.ended(id[0], now, End::Failed, 0.0);
    assert_eq!(unit.step(now), Step::Stop(id[2]));
    unit.remove(id[2]);
    let expected =
        [Step::Stop(id[1]), Step::Start(id[0], Some(id[0])), Step::Start(id[1], Some(id[0]))];
    assert_eq!(run(&mut unit, now), expected);
    assert_eq!(unit.members().collect::<Vec<_>>(), [id[0], id[1]]);
}

/// What a process of the property test is.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Life {
    Up,
    Starting,
    Leaving,
    Down,
}

proptest! {
    /// Whatever ends and comes in whatever order: nobody starts while one that hangs on it is up,
    /// one starts at a time, and in the end all are up.
    #[test]
    fn a_group_comes_back_in_order(
        all: bool,
        what in prop::collection::vec((0usize..4, 0usize..3), 0..60),
    ) {
        let group = if all { Group::one_for_all() } else { Group::rest_for_one() };
        let policy = Policy::permanent().at_most(1000, MINUTE);
        let (mut unit, id, now) = unit(group.at_most(1000, MINUTE), &[policy; 4]);
        let mut lives = [Life::Up; 4];
        let mut what = what.into_iter();
        let mut quiet = 0;
        while quiet < 30 {
            match unit.step(now) {
                Step::Stop(id) => {
                    prop_assert!(matches!(lives[id.index()], Life::Up | Life::Starting));
                    lives[id.index()] = Life::Leaving;
                }
                Step::Start(one, _) => {
                    prop_assert!(!lives.contains(&Life::Starting), "{lives:?}");
                    prop_assert!(lives[one.index()..].iter().all(|life| *life == Life::Down), "{one:?} {lives:?}");
                    lives[one.index()] = Life::Starting;
                }
                Step::Nothing => {}
                other => prop_assert!(false, "{other:?}"),
            }
            // Something happens to somebody; in the end only what was asked for.
            let (who, happens) = what.next().unwrap_or_else(|| {
                quiet += 1;
                (quiet % 4, 1)
            });
            match (lives[who], happens) {
                (Life::Down, _) | (Life::Up, 1) | (_, 2) => {}
                (Life::Starting, 1) => {
                    lives[who] = Life::Up;
                    unit.ready(id[who]);
                }
                (life, _) => {
                    lives[who] = Life::Down;
                    let end = if life == Life::Leaving { End::Stopped } else { End::Failed };
                    let restart = unit.ended(id[who], now, end, 0.0);
                    prop_assert_eq!(restart, AT_ONCE);
                }
            }
        }
        prop_assert_eq!(lives, [Life::Up; 4]);
    }
}
