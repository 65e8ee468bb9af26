//! Checkpoints within an epoch: what they are good for, and for whom.

use ceteris_shared::{
    checkpoint::Environment,
    ids::{Attempt, Epoch},
    trainer::FailureCause,
};

use super::fixture::{Fixture, environment, manifest, step_manifest};
use crate::{Change, CommittedStep, Effect, Message, Rejection, Report, Start, State};

/// Lets the only worker fail with what it has, and waits until the segment is given away again.
fn again(f: &mut Fixture, attempt: Attempt) -> Start {
    let failed = Report::Failed { cause: FailureCause::Infrastructure, message: String::new() };
    f.report(0, attempt, failed);
    if let State::Queued { not_before } = f.state(0) {
        f.advance(not_before.since(f.now));
    }
    let start = f.last_start(0);
    assert_eq!(start.attempt, Attempt { number: attempt.number + 1, ..attempt });
    start.start
}

fn first(f: &mut Fixture) -> Attempt {
    f.connect(0, 0, 2, &[]);
    Attempt { segment: f.segment(0), number: 1 }
}

#[test]
fn the_next_attempt_goes_on_in_the_middle_of_the_epoch() {
    let mut f = Fixture::submitted();
    let attempt = first(&mut f);
    f.commit_step(0, attempt, 1, 3);
    f.commit_step(0, attempt, 1, 6);
    assert!(matches!(f.state(0), State::Running { epoch: Epoch(1), .. }), "it is training, whatever was not heard");
    assert_eq!(again(&mut f, attempt), Start::Checkpoint(step_manifest(attempt, 1, 6)));
    let start = f.last_start(0);
    assert_eq!(start.work.epochs.iter().map(|work| work.epoch).collect::<Vec<_>>(), [Epoch(1), Epoch(2)]);
}

#[test]
fn an_epoch_takes_the_place_of_its_steps() {
    let mut f = Fixture::submitted();
    let attempt = first(&mut f);
    f.commit_step(0, attempt, 1, 6);
    f.commit(0, attempt, 1);
    assert_eq!(again(&mut f, attempt), Start::Checkpoint(manifest(attempt, 1)));
    let second = Attempt { number: 2, ..attempt };
    f.commit_step(0, second, 2, 1);
    assert_eq!(again(&mut f, second), Start::Checkpoint(step_manifest(second, 2, 1)));
}

#[test]
fn another_environment_goes_on_from_the_epochs_beginning() {
    let other = Environment { threads: 9, ..environment() };
    let mut f = Fixture::submitted();
    let attempt = first(&mut f);
    f.commit(0, attempt, 1);
    f.commit_step(0, attempt, 2, 6);
    f.connect_in(other.clone(), 1, 1, 2, &[]);
    f.report(0, attempt, Report::Stopped);
    let start = f.last_start(1);
    let second = Attempt { number: 2, ..attempt };
    assert_eq!((start.attempt, start.start), (second, Start::Checkpoint(manifest(attempt, 1))));

    f.commit_step(1, second, 2, 1);
    f.connect_in(other, 2, 2, 2, &[]);
    f.report(1, second, Report::Stopped);
    let start = f.last_start(2);
    assert_eq!(start.start, Start::Checkpoint(step_manifest(second, 2, 1)), "the later attempt's, though it is behind");
}

#[test]
fn a_step_is_of_the_environment_that_its_attempt_was_given_to() {
    let other = Environment { threads: 9, ..environment() };
    let mut f = Fixture::submitted();
    let attempt = first(&mut f);
    f.connect_in(other, 0, 1, 2, &[attempt]);
    f.commit_step(0, attempt, 1, 6);
    assert_eq!(again(&mut f, attempt), Start::Random, "its agent came back with other threads");
}

#[test]
fn steps_that_lead_nowhere_change_nothing() {
    let mut f = Fixture::submitted();
    let attempt = first(&mut f);
    f.commit(0, attempt, 1);
    f.commit_step(0, attempt, 2, 5);
    let before = f.scheduler.clone();
    for (epoch, step) in [(2, 5), (2, 4), (2, 0), (1, 9)] {
        f.commit_step(0, attempt, epoch, step);
        assert_eq!(f.scheduler, before);
        assert_eq!(f.effects, [Effect::Reject(Rejection::StepBehind { attempt, epoch: Epoch(epoch), step })]);
    }
}

#[test]
fn steps_that_are_not_the_plans_end_the_attempt() {
    type Spoil = fn(&mut CommittedStep);
    let cases: [(Spoil, &str); 3] = [
        (|step| step.epoch = Epoch(2), "epoch 1 comes next"),
        (|step| step.epoch = Epoch(3), "ends with epoch 2"),
        (|step| step.key.0.0[0] ^= 1, "but the plan says"),
    ];
    for (spoil, expected) in cases {
        let mut f = Fixture::submitted();
        let attempt = first(&mut f);
        let mut step = f.step(attempt, 1, 3);
        spoil(&mut step);
        f.report(0, attempt, Report::StepCommitted(step));
        let rejection = f.rejections().pop().expect("it is refused").to_string();
        assert!(rejection.contains(expected), "{rejection}");
        assert!(
            f.sent(0).iter().any(|message| matches!(message, Message::Revoke { attempt: of, .. } if *of == attempt))
        );
        assert!(matches!(f.state(0), State::Assigned { attempt: 2, .. }));
    }
}

#[test]
fn a_stale_attempts_steps_do_not_count() {
    let mut f = Fixture::submitted();
    let attempt = first(&mut f);
    f.commit_step(0, attempt, 1, 3);
    again(&mut f, attempt);
    f.commit_step(0, attempt, 1, 4);
    let revoked = Message::Revoke { attempt, reason: Rejection::StaleAttempt { attempt, current: 2 } };
    assert_eq!(f.sent(0), [revoked]);
    assert!(!f.effects.iter().any(|effect| matches!(effect, Effect::Persist(Change::StepCommitted { .. }))));
    let second = Attempt { number: 2, ..attempt };
    assert_eq!(again(&mut f, second), Start::Checkpoint(step_manifest(attempt, 1, 3)));
}

#[test]
fn a_step_forgives_failures() {
    let mut f = Fixture::submitted();
    let mut attempt = first(&mut f);
    for step in 1..=2 * f.config.max_failures {
        f.commit_step(0, attempt, 1, step);
        assert_eq!(again(&mut f, attempt), Start::Checkpoint(step_manifest(attempt, 1, step)));
        attempt.number += 1;
    }
}
