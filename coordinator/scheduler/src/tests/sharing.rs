//! Who goes first, who makes room, and who gets nothing.

use std::{collections::BTreeSet, time::Duration};

use ceteris_shared::ids::{Attempt, SegmentId};

use super::fixture::{Fixture, submission};
use crate::{
    Ahead, Change, Drain, Effect, Event, Message, Rejection, Report, Sharing, State, StopReason, Submission, Why,
};

/// Two experiments that nothing is trained of and that may be trained anywhere, shared like this.
fn both(first: Sharing, second: Sharing) -> Fixture {
    let mut f = Fixture::of(Submission { sharing: first, ..submission(0) });
    let environment = None;
    let rule = submission(0).rule;
    let second = Submission { sharing: second, reused: vec![], environment, rule, ..submission(1) };
    f.handle(Event::ExperimentSubmitted(Box::new(second)));
    f
}

/// How many of the slots of worker 0 each experiment has.
fn split(f: &Fixture) -> [usize; 2] {
    let of = |index: usize| {
        let segments: BTreeSet<SegmentId> = submission(index).plan.segments.iter().map(|segment| segment.id).collect();
        f.scheduler.held_by(f.worker(0)).filter(|attempt| segments.contains(&attempt.segment)).count()
    };
    [of(0), of(1)]
}

fn failed() -> Report {
    Report::Failed { cause: ceteris_shared::trainer::FailureCause::Infrastructure, message: String::new() }
}

#[test]
fn slots_are_shared_by_weight() {
    let weight = |weight| Sharing { weight, ..Sharing::default() };
    for (weights, slots, expected) in
        [((1, 1), 2, [1, 1]), ((1, 2), 3, [1, 2]), ((1, 1), 3, [2, 1]), ((9, 1), 4, [2, 2])]
    {
        let mut f = both(weight(weights.0), weight(weights.1));
        f.connect(0, 0, slots, &[]);
        // Each has two roots: what one cannot use, the other gets.
        assert_eq!(split(&f), expected, "{weights:?}");
    }
}

#[test]
fn a_higher_priority_goes_first_and_takes_slots_after_an_epoch() {
    let urgent = Sharing { priority: 5, ..Sharing::default() };
    let mut f = both(Sharing::default(), urgent);
    f.connect(0, 0, 2, &[]);
    assert_eq!(split(&f), [0, 2]);

    let mut f = Fixture::submitted();
    f.connect(0, 0, 2, &[]);
    let [one, two] = [0, 2].map(|index| Attempt { segment: f.segment(index), number: 1 });
    [one, two].into_iter().for_each(|attempt| f.report(0, attempt, Report::Started));
    let mut single = Submission { reused: vec![], environment: None, sharing: urgent, ..submission(1) };
    single.sharing.max_concurrent = Some(1);
    single.rule = submission(0).rule;
    f.handle(Event::ExperimentSubmitted(Box::new(single)));
    assert!(f.sent(0).is_empty(), "nothing that is being computed is thrown away");
    f.commit(0, one, 1);
    assert_eq!(f.sent(0), [Message::Stop(one)]);
    assert!(matches!(f.state(0), State::Stopping { reason: StopReason::Preempted, .. }));
    f.commit(0, two, 1);
    assert!(f.sent(0).is_empty(), "one slot is wanted, and one is being freed");
    f.report(0, one, Report::Stopped);
    assert_eq!(split(&f), [1, 1]);
    assert!(matches!(f.state(0), State::Queued { not_before } if not_before == f.now), "it is no sign of trouble");
    let why = f.scheduler.explain(f.now, one.segment).expect("it is known").why;
    let turn = Ahead { higher: 0, live: 1, ..Ahead::default() };
    assert_eq!(why, Why::NoFreeSlot { workers: 1, slots: 2, turn }, "the other may have no more than one");
}

#[test]
fn no_more_are_trained_at_once_than_may_be() {
    let limited = Sharing { max_concurrent: Some(1), ..Sharing::default() };
    let mut f = both(limited, limited);
    f.connect(0, 0, 8, &[]);
    assert_eq!(split(&f), [1, 1]);
    let why = f.scheduler.explain(f.now, f.segment(2)).expect("it is known").why;
    assert_eq!(why, Why::AtMostConcurrent { max: 1, ahead: 0 });
    let experiment = submission(0).experiment;
    f.handle(Event::ShareExperiment { experiment, sharing: Sharing::default() });
    assert_eq!(split(&f), [2, 1]);
    assert!(f.effects.contains(&Effect::Persist(Change::ExperimentShared { experiment, sharing: Sharing::default() })));
    f.handle(Event::ShareExperiment { experiment, sharing: Sharing::default() });
    assert!(f.effects.is_empty(), "it is so already");
    f.handle(Event::CancelExperiment(experiment));
    f.handle(Event::ShareExperiment { experiment, sharing: limited });
    assert_eq!(f.rejections(), [Rejection::ExperimentEnded { experiment }]);
}

#[test]
fn what_asks_for_memory_gets_it_and_leaves_the_rest_alone() {
    let large = Sharing { device_memory: 16, ..Sharing::default() };
    let mut f = both(large, Sharing::default());
    f.connect_with(8, 1, 1, 2, &[]);
    assert_eq!(f.scheduler.held_by(f.worker(1)).count(), 2, "what fits goes ahead");
    let why = f.scheduler.explain(f.now, f.segment(0)).expect("it is known").why;
    assert_eq!(why, Why::TooLittleMemory { needed: 16, most: 8 });
    f.connect_with(24, 0, 0, 2, &[]);
    assert_eq!(split(&f), [2, 0]);
}

#[test]
fn a_worker_on_which_everything_fails_is_set_aside_for_ever_longer() {
    let mut f = Fixture::submitted();
    f.config.max_failures = 100;
    f.scheduler.config = f.config;
    // Another one, which is busy and well.
    f.connect(1, 1, 1, &[]);
    f.connect(0, 0, 1, &[]);
    let wait = |f: &mut Fixture, time| {
        f.now = f.now.after(time);
        f.heartbeat_all(1);
        f.advance(Duration::ZERO);
    };
    let mut waits = Vec::new();
    while waits.len() < 8 {
        let held = f.scheduler.held_by(f.worker(0)).next();
        match held {
            Some(attempt) => {
                f.report(0, attempt, failed());
                if let Some(until) = f.scheduler.set_aside_until(f.worker(0)) {
                    waits.push(until.since(f.now).as_secs());
                    let left = until.since(f.now) - Duration::from_millis(1);
                    wait(&mut f, left);
                    assert_eq!(f.scheduler.held_by(f.worker(0)).count(), 0);
                }
            }
            None => wait(&mut f, Duration::from_millis(1)),
        }
    }
    assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    while f.scheduler.held_by(f.worker(0)).next().is_none() {
        wait(&mut f, Duration::from_secs(1));
    }
    let attempt = f.started(0);
    f.commit(0, attempt, 1);
    f.report(0, attempt, failed());
    assert_eq!(f.scheduler.set_aside_until(f.worker(0)), None, "a checkpoint forgives all");
}

#[test]
fn what_a_worker_loses_at_once_is_one_failure() {
    let mut f = Fixture::submitted();
    f.config.max_worker_failures = 2;
    f.scheduler.config = f.config;
    f.connect(0, 0, 2, &[]);
    assert_eq!(f.scheduler.held_by(f.worker(0)).count(), 2);
    f.connect(1, 1, 1, &[]);
    let restarted = |f: &mut Fixture, session| {
        f.disconnect(0, session);
        f.connect(0, session + 10, 2, &[]);
        f.advance(f.config.replay);
    };
    restarted(&mut f, 0);
    assert_eq!(
        f.scheduler.set_aside_until(f.worker(0)),
        None,
        "a restart is one failure, however many slots there are"
    );
    assert!(f.scheduler.held_by(f.worker(0)).next().is_some(), "it is given work again");
    restarted(&mut f, 10);
    assert!(f.scheduler.set_aside_until(f.worker(0)).is_some(), "two in a row are two");
}

#[test]
fn one_that_was_told_to_stop_and_took_long_is_no_failure() {
    let mut f = Fixture::submitted();
    f.config.max_worker_failures = 1;
    f.scheduler.config = f.config;
    f.connect(0, 0, 1, &[]);
    f.connect(1, 1, 1, &[]);
    f.handle(Event::CancelExperiment(submission(0).experiment));
    f.advance(f.config.lease);
    assert_eq!(f.scheduler.held_by(f.worker(0)).count(), 0);
    assert_eq!(f.scheduler.set_aside_until(f.worker(0)), None);
}

#[test]
fn the_only_worker_is_not_set_aside() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let segment = f.started(0).segment;
    while !f.scheduler.explain(f.now, segment).expect("it is known").state.is_done() {
        let held = f.scheduler.held_by(f.worker(0)).next();
        match held {
            Some(attempt) => f.report(0, attempt, failed()),
            None => f.advance(Duration::from_millis(500)),
        }
        assert_eq!(f.scheduler.set_aside_until(f.worker(0)), None);
    }
}

#[test]
fn another_worker_is_tried_after_a_failure() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let attempt = f.started(0);
    f.connect(1, 1, 2, &[]);
    f.handle(Event::CancelExperiment(submission(1).experiment));
    let other = f.started(1);
    f.report(0, attempt, failed());
    assert_eq!(f.last_start(1).attempt, Attempt { number: 2, ..attempt });
    f.report(1, other, failed());
    assert_eq!(f.last_start(0).attempt, Attempt { number: 2, ..other });
}

#[test]
fn a_drained_worker_gets_nothing_until_it_is_used_again() {
    let mut f = Fixture::submitted();
    let worker = f.worker(0);
    f.connect(0, 0, 2, &[]);
    let [one, two] = [0, 2].map(|index| Attempt { segment: f.segment(index), number: 1 });
    let slot = Some(Drain::Slots(BTreeSet::from([1, 7])));
    f.handle(Event::DrainWorker { worker, drain: slot.clone() });
    assert_eq!(f.sent(0), [Message::Drain { slots: vec![1] }]);
    assert!(f.effects.contains(&Effect::Persist(Change::WorkerDrained { worker, drain: slot.clone() })));
    f.handle(Event::DrainWorker { worker, drain: slot });
    assert!(f.effects.is_empty(), "it is so already");
    f.report(0, two, Report::HandedBack);
    assert!(matches!(f.state(2), State::Queued { .. }), "the other slot is taken");
    f.report(0, one, Report::Stopped);
    f.disconnect(0, 0);
    f.handle(Event::DrainWorker { worker, drain: Some(Drain::Worker) });
    f.connect(0, 1, 2, &[]);
    assert_eq!(f.sent(0), [Message::Drain { slots: vec![0, 1] }], "a worker that connects is told");
    let why = f.scheduler.explain(f.now, f.segment(0)).expect("it is known").why;
    assert!(matches!(why, Why::NotUsed { drained: 1, set_aside: 0, .. }), "{why:?}");
    f.handle(Event::DrainWorker { worker, drain: None });
    assert_eq!(f.scheduler.held_by(worker).count(), 2);
    assert_eq!(f.scheduler.drains().get(&worker), None);
}

#[test]
fn what_is_ahead_is_told_in_a_sentence() {
    let none = Ahead::default();
    assert_eq!(none.to_string(), "It is the next to be started");
    let all = Ahead { higher: 1, fairer: 2, own: 1, live: 3 };
    let text = "Before it: 1 experiment of a higher priority, 2 experiments with fewer slots for their weight and 1 segment of its \
                own experiment";
    assert_eq!(all.to_string(), text);
    let why = Why::TooLittleMemory { needed: 24_000_000_000, most: 0 }.to_string();
    assert!(why.contains("24.0 GB") && why.contains("told no size"), "{why}");
}
