//! Damaged checkpoints are not gone on from: what led to them is trained again, and must come out as it was.

use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch},
    spec::EnvironmentRule,
    trainer::FailureCause,
};

use super::fixture::{Fixture, environment, manifest, submission};
use crate::{Change, Effect, Outcome, Rejection, Report, Start, State, Submission, Why};

fn bound() -> Fixture {
    Fixture::of(Submission { rule: EnvironmentRule::Same, ..submission(0) })
}

/// Trains the first root; its first child is running too, like everything that can be.
fn child(f: &mut Fixture) -> (Attempt, Attempt) {
    f.connect(0, 0, 8, &[]);
    let root = Attempt { segment: f.segment(0), number: 1 };
    f.commit(0, root, 1);
    f.commit(0, root, 2);
    f.report(0, root, Report::Finished);
    let child = Attempt { segment: f.segment(1), number: 1 };
    assert_eq!(f.state(1).live().map(|live| live.attempt), Some(1));
    (root, child)
}

/// Ends an attempt, and waits for the next one of its segment: where it goes on from, and its epochs.
fn again(f: &mut Fixture, attempt: Attempt, report: Report) -> (Attempt, Start, Vec<u32>) {
    f.report(0, attempt, report);
    let state = f.scheduler.explain(f.now, attempt.segment).expect("it is known").state;
    if let State::Queued { not_before } = state {
        f.advance(not_before.since(f.now));
    }
    let start = f.last_start(0);
    assert_eq!(start.attempt, Attempt { number: attempt.number + 1, ..attempt });
    (start.attempt, start.start, start.work.epochs.iter().map(|work| work.epoch.0).collect())
}

/// An attempt finds that what it was to go on from is damaged.
fn damaged(f: &mut Fixture, attempt: Attempt, checkpoint: Digest) -> (Attempt, Start, Vec<u32>) {
    again(f, attempt, Report::Damaged { checkpoint, message: "a bit flipped".to_owned() })
}

#[test]
fn what_led_to_a_damaged_checkpoint_is_trained_again_by_who_needs_it() {
    let mut f = bound();
    let (root, first) = child(&mut f);
    let (second, start, epochs) = damaged(&mut f, first, manifest(root, 2));
    assert_eq!((start, &epochs[..]), (Start::Checkpoint(manifest(root, 1)), &[2, 3, 4][..]));
    f.commit(0, second, 2);
    let replayed = |effect: &Effect| matches!(effect, Effect::Persist(Change::EpochReplayed { .. }));
    assert!(f.effects.iter().any(replayed), "{:?}", f.effects);
    assert_eq!(f.state(0), State::Done(Outcome::Completed), "what was committed stays so");
    f.commit(0, second, 3);
    f.commit(0, second, 4);
    f.report(0, second, Report::Finished);
    assert_eq!(f.state(1), State::Done(Outcome::Completed));
    let sibling = Attempt { segment: f.segment(4), number: 1 };
    let failed = Report::Failed { cause: FailureCause::Infrastructure, message: String::new() };
    let (_, start, _) = again(&mut f, sibling, failed);
    assert_eq!(start, Start::Checkpoint(manifest(second, 2)), "siblings go on from the new one");
}

#[test]
fn with_nothing_left_everything_is_trained_again_from_the_beginning() {
    let mut f = bound();
    let (root, first) = child(&mut f);
    let (second, ..) = damaged(&mut f, first, manifest(root, 2));
    let (third, start, epochs) = damaged(&mut f, second, manifest(root, 1));
    assert_eq!((start, &epochs[..]), (Start::Random, &[1, 2, 3, 4][..]));
    f.commit(0, third, 3);
    assert!(matches!(f.rejections()[..], [Rejection::EpochOutOfOrder { expected: Epoch(1), got: Epoch(3), .. }]));
}

#[test]
fn other_weights_in_the_same_environment_end_the_segment_loudly() {
    let mut f = bound();
    let (root, first) = child(&mut f);
    let (second, ..) = damaged(&mut f, first, manifest(root, 2));
    let mut epoch = f.epoch(second, 2);
    epoch.weights = Some(Digest::of(b"others"));
    f.report(0, second, Report::EpochCommitted(epoch));
    assert!(matches!(f.rejections()[..], [Rejection::OtherWeights { epoch: Epoch(2), .. }]));
    let State::Done(Outcome::Failed { cause: FailureCause::Irreproducible, message }) = f.state(1) else {
        panic!("{:?}", f.state(1));
    };
    assert!(message.contains("trained epoch 2 again and got other weights"), "{message}");
}

#[test]
fn where_any_environment_will_do_other_weights_are_gone_on_from() {
    let mut f = Fixture::submitted();
    let (root, first) = child(&mut f);
    let (second, ..) = damaged(&mut f, first, manifest(root, 2));
    let mut epoch = f.epoch(second, 2);
    epoch.weights = Some(Digest::of(b"others"));
    f.report(0, second, Report::EpochCommitted(epoch));
    assert!(f.rejections().is_empty());
    f.commit(0, second, 3);
    assert!(matches!(f.state(1), State::Running { epoch: Epoch(4), .. }));
}

#[test]
fn a_checkpoint_that_was_made_anew_and_is_damaged_again_counts_as_a_failure() {
    let mut f = bound();
    let (root, first) = child(&mut f);
    let (mut attempt, ..) = damaged(&mut f, first, manifest(root, 2));
    let wait = |f: &mut Fixture| {
        if let State::Queued { not_before } = f.state(1) {
            f.advance(not_before.since(f.now));
            f.heartbeat_all(0);
        }
    };
    for _ in 1..f.config.max_failures {
        f.commit(0, attempt, 2);
        let failed = Report::Failed { cause: FailureCause::Infrastructure, message: String::new() };
        let made = manifest(attempt, 2);
        f.report(0, attempt, failed);
        if let State::Done(Outcome::Failed { .. }) = f.state(1) {
            return;
        }
        wait(&mut f);
        let next = Attempt { number: attempt.number + 1, ..attempt };
        f.report(0, next, Report::Damaged { checkpoint: made, message: "again".to_owned() });
        if let State::Done(Outcome::Failed { .. }) = f.state(1) {
            return;
        }
        wait(&mut f);
        attempt = Attempt { number: next.number + 1, ..next };
    }
    panic!("a store that damages what it is given is used for ever");
}

#[test]
fn damage_that_is_no_damage_of_the_path_is_an_ordinary_failure() {
    let mut f = bound();
    let (root, first) = child(&mut f);
    let checkpoint = Digest::of(b"something else");
    f.report(0, first, Report::Damaged { checkpoint, message: "it is not there".to_owned() });
    let damage = |effect: &Effect| matches!(effect, Effect::Persist(Change::CheckpointDamaged { .. }));
    assert!(!f.effects.iter().any(damage));
    assert!(matches!(f.state(1), State::Assigned { attempt: 2, .. }));
    assert_eq!(f.last_start(0).start, Start::Checkpoint(manifest(root, 2)), "nothing is known to be damaged");
}

#[test]
fn an_experiment_stays_in_the_environment_class_of_its_first_attempt() {
    let mut f = bound();
    let other = Environment { threads: 9, ..environment() };
    f.connect(0, 0, 1, &[]);
    let root = f.started(0);
    f.connect_in(other.clone(), 1, 1, 4, &[]);
    assert!(f.sent(1).is_empty(), "the other root waits, though there is room elsewhere");
    f.disconnect(0, 0);
    f.handle(crate::Event::PauseExperiment(submission(0).experiment));
    f.handle(crate::Event::ResumeExperiment(submission(0).experiment));
    let why = f.scheduler.explain(f.now, f.segment(2)).expect("it is known").why;
    let Why::OtherEnvironment { ref needed, ref differs, workers: 1 } = why else { panic!("{why:?}") };
    assert_eq!((&**needed, &differs[..]), (&environment(), &["threads"][..]));
    assert_eq!(
        why.to_string(),
        "ready, but the experiment is trained in one environment class (engine 1, libtorch 2, device cpu, AVX2, threads 1, \
         default), and no connected worker is of it (connected workers: 1; the nearest one differs in threads): start such \
         a worker, or submit with `controls.environment = \"any\"`"
    );
    f.connect(0, 2, 2, &[root]);
    assert_eq!(f.last_start(0).attempt.segment, f.segment(2));
}

#[test]
fn what_one_experiment_waits_for_does_not_hold_up_another() {
    let mut f = bound();
    f.connect(0, 0, 1, &[]);
    f.handle(crate::Event::ExperimentSubmitted(Box::new(Submission {
        rule: EnvironmentRule::Any,
        environment: None,
        ..submission(1)
    })));
    f.connect_in(Environment { threads: 9, ..environment() }, 1, 1, 1, &[]);
    let start = f.last_start(1).attempt.segment;
    assert!(submission(1).plan.segments.iter().any(|segment| segment.id == start));
}

#[test]
fn a_pause_stops_what_is_trained_again_after_its_epoch() {
    let mut f = bound();
    let (root, first) = child(&mut f);
    let (second, ..) = damaged(&mut f, first, manifest(root, 2));
    let (third, ..) = damaged(&mut f, second, manifest(root, 1));
    f.report(0, third, Report::Started);
    f.handle(crate::Event::PauseExperiment(submission(0).experiment));
    assert!(matches!(f.state(1), State::Running { .. }), "its epoch is waited for");
    f.commit(0, third, 1);
    assert!(matches!(f.state(1), State::Stopping { reason: crate::StopReason::Paused, .. }));
    f.report(0, third, Report::Stopped);
    f.handle(crate::Event::ResumeExperiment(submission(0).experiment));
    assert_eq!(f.last_start(0).start, Start::Checkpoint(manifest(third, 1)), "what was trained again stays");
}

#[test]
fn what_is_still_gone_on_from_is_not_given_up() {
    let mut f = bound();
    let (root, first) = child(&mut f);
    let collected = |f: &Fixture| {
        let manifest = |effect: &Effect| match effect {
            Effect::Persist(Change::CheckpointCollected { manifest, .. }) => Some(*manifest),
            _ => None,
        };
        f.effects.iter().filter_map(manifest).collect::<Vec<_>>()
    };
    let all = vec![manifest(root, 1), manifest(root, 2)];
    f.handle(crate::Event::CollectCheckpoints(all.clone()));
    assert_eq!(collected(&f), [manifest(root, 1)], "children go on from the last one");
    f.handle(crate::Event::CollectCheckpoints(all));
    assert!(collected(&f).is_empty(), "it is given up once");
    let (_, start, epochs) = damaged(&mut f, first, manifest(root, 2));
    assert_eq!((start, &epochs[..]), (Start::Random, &[1, 2, 3, 4][..]), "what was given up is trained again");
}
