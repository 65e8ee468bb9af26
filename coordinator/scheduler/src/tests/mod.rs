//! What the scheduler does, case by case; [`random`] tries everything else.

mod experiments;
mod fixture;
mod random;
mod replay;
mod sharing;
mod steps;

use std::time::Duration;

use ceteris_shared::{
    dataset::Split,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId},
    trainer::{FailureCause, Scored},
};

use crate::{
    Ahead, AttemptEnd, Change, CommittedEpoch, Effect, Event, Message, Outcome, Rejection, Report, Reused,
    SavedExperiment, SavedSegment, Scheduler, Snapshot, Start, State, StopReason, Submission, Timestamp, Why,
};
use uuid::Uuid;

use fixture::{Fixture, LEASE, manifest, submission};

const INFRASTRUCTURE: FailureCause = FailureCause::Infrastructure;

fn failed(cause: FailureCause) -> Report {
    Report::Failed { cause, message: "why".to_owned() }
}

#[test]
fn a_segment_is_trained_and_releases_its_children() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let root = f.started(0);
    assert_eq!((root.number, root.segment), (1, f.segment(0)));
    f.report(0, root, Report::Started);
    f.commit(0, root, 1);
    assert!(matches!(f.state(1), State::Waiting { .. }), "one of two epochs is committed");
    f.commit(0, root, 2);
    assert!(matches!(f.state(1), State::Queued { .. }), "the only slot is still the parent's");
    f.report(0, root, Report::Finished);
    assert_eq!(f.state(0), State::Done(Outcome::Completed));
    let child = f.started(0);
    assert_eq!(child.segment, f.segment(1));
    let start = f.sent(0).into_iter().find_map(|message| match message {
        Message::Start(start) => Some(start.start),
        _ => None,
    });
    assert_eq!(start, Some(Start::Checkpoint(manifest(root, 2))), "a child continues its parent's last checkpoint");
}

#[test]
fn a_lost_attempt_resumes_from_the_deepest_checkpoint() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let first = f.started(0);
    f.commit(0, first, 1);
    f.disconnect(0, 0);
    f.connect(1, 1, 1, &[]);
    assert!(f.sent(1).iter().all(|m| !matches!(m, Message::Start(s) if s.attempt.segment == first.segment)));
    f.advance(LEASE - Duration::from_millis(1));
    f.heartbeat_all(1);
    f.advance(Duration::from_millis(1));
    let second = Attempt { number: 2, ..first };
    assert!(matches!(f.state(0), State::Queued { .. }), "the only connected worker is busy with the other seed");
    let busy = f.started(1);
    f.report(1, busy, failed(INFRASTRUCTURE));
    let start = f.last_start(1);
    assert_eq!((start.attempt, start.start), (second, Start::Checkpoint(manifest(first, 1))));
    assert_eq!(start.work.epochs.iter().map(|work| work.epoch).collect::<Vec<_>>(), [Epoch(2)]);

    f.connect(0, 2, 1, &[first]);
    let revoked = Message::Revoke { attempt: first, reason: Rejection::StaleAttempt { attempt: first, current: 2 } };
    assert!(f.sent(0).contains(&revoked));
    f.report(0, first, Report::Finished);
    assert!(f.sent(0).contains(&revoked), "a stale report is answered with a revocation");
}

#[test]
fn a_worker_that_stops_unasked_is_given_nothing_until_it_connects_again() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let stopped = f.started(0);
    f.report(0, stopped, Report::Stopped);
    let started = |f: &Fixture| f.sent(0).iter().any(|message| matches!(message, Message::Start(_)));
    assert!(!started(&f), "no attempt number is spent on a worker that is shutting down");
    f.disconnect(0, 0);
    f.connect(0, 1, 1, &[]);
    assert_eq!(f.last_start(0).attempt, Attempt { number: 2, ..stopped });
}

#[test]
fn a_worker_that_comes_back_in_time_keeps_its_attempts() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let attempt = f.started(0);
    f.report(0, attempt, Report::Started);
    f.disconnect(0, 0);
    f.advance(LEASE - Duration::from_millis(1));
    f.connect(0, 1, 1, &[attempt]);
    assert!(f.sent(0).is_empty());
    f.advance(LEASE - Duration::from_millis(1));
    assert!(matches!(f.state(0), State::Running { attempt: 1, .. }));
}

#[test]
fn an_agent_that_restarted_is_believed_before_its_lease_ends_and_its_replay_counts() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let attempt = f.started(0);
    f.report(0, attempt, Report::Started);
    f.connect(0, 1, 1, &[]);
    f.commit(0, attempt, 1);
    assert!(matches!(f.state(0), State::Running { epoch: Epoch(2), .. }), "what it had spooled is accepted");
    f.advance(f.config.replay);
    let next = f.last_start(0);
    assert_eq!((next.attempt.number, next.start), (2, Start::Checkpoint(manifest(attempt, 1))));
}

#[test]
fn a_worker_that_still_tells_what_became_of_its_attempts_is_waited_for() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 2, &[]);
    let [one, two] = [0, 2].map(|index| Attempt { segment: f.segment(index), number: 1 });
    f.disconnect(0, 0);
    f.connect(0, 1, 2, &[]);
    let almost = f.config.replay - Duration::from_millis(1);
    for epoch in 1..=2 {
        f.advance(almost);
        f.commit(0, one, epoch);
        assert_eq!(f.rejections(), []);
    }
    f.advance(almost);
    f.commit(0, two, 1);
    assert_eq!(f.rejections(), [], "it had not come to this one yet");
    f.advance(f.config.replay);
    f.commit(0, two, 2);
    assert_eq!(f.rejections(), [Rejection::StaleAttempt { attempt: two, current: 2 }], "what is not told of is lost");
}

#[test]
fn a_coordinator_that_was_held_up_gives_everyone_a_lease_to_be_heard_of_in() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let attempt = f.started(0);
    f.now = f.now.after(10 * LEASE);
    f.handle(Event::HeldUp);
    f.advance(Duration::ZERO);
    assert_eq!(f.started(0), attempt);
    f.advance(LEASE);
    assert_ne!(f.scheduler.held_by(f.worker(0)).next(), Some(attempt));
}

#[test]
fn a_clock_that_was_ahead_holds_nothing_up() {
    let mut f = Fixture::submitted();
    let ahead = f.now.after(Duration::from_secs(7200));
    let saved = |index: usize| SavedSegment {
        state: if matches!(index, 0 | 2) { State::Queued { not_before: ahead } } else { f.state(index) },
        attempts: 0,
        failures: 0,
        losses: 0,
        committed: vec![],
        replays: 0,
        step: None,
        environment: None,
        last_end: None,
    };
    let segments = (0..submission(0).plan.segments.len()).map(saved).collect();
    let experiment =
        SavedExperiment { submission: submission(0), cancelled: false, paused: false, environment: None, segments };
    let snapshot = Snapshot { experiments: vec![experiment], ..Snapshot::default() };
    f.scheduler = Scheduler::restore(f.config, f.now, snapshot).expect("it is whole");
    f.connect(0, 0, 1, &[]);
    assert_eq!(f.started(0).segment, f.segment(0), "nothing failed, so nothing waits");
}

#[test]
fn infrastructure_failures_back_off_and_end() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 2, &[]);
    f.config.max_worker_failures = 100;
    f.scheduler.config = f.config;
    let mut waits = Vec::new();
    for number in 1..=f.config.max_failures {
        let attempt = Attempt { segment: f.segment(0), number };
        f.report(0, attempt, failed(INFRASTRUCTURE));
        if let State::Queued { not_before } = f.state(0) {
            waits.push(not_before.since(f.now).as_secs());
            f.advance(not_before.since(f.now));
            f.heartbeat_all(0);
        } else {
            assert!(
                matches!(f.state(0), State::Assigned { .. } | State::Done(_)),
                "the first failure waits for nothing"
            );
        }
    }
    assert_eq!(waits, [1, 2, 4]);
    assert!(matches!(f.state(0), State::Done(Outcome::Failed { cause: FailureCause::Infrastructure, .. })));
    assert_eq!(f.state(1), State::Done(Outcome::Blocked { by: f.segment(0) }));
}

#[test]
fn a_store_that_is_away_is_waited_for_as_long_as_it_takes() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 2, &[]);
    let mut longest = Duration::ZERO;
    for number in 1..=50 {
        f.report(0, Attempt { segment: f.segment(0), number }, failed(FailureCause::Store));
        if let State::Queued { not_before } = f.state(0) {
            let wait = not_before.since(f.now);
            longest = longest.max(wait);
            f.advance(wait);
            f.heartbeat_all(0);
        }
        assert!(matches!(f.state(0), State::Assigned { .. }), "after {number}: {:?}", f.state(0));
    }
    assert_eq!(longest, f.config.max_backoff);
    let last = Attempt { segment: f.segment(0), number: 51 };
    f.commit(0, last, 1);
    f.report(0, last, failed(FailureCause::Store));
    assert!(matches!(f.state(0), State::Assigned { .. }), "it is the first in a row again");
}

#[test]
fn progress_forgives_failures() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 2, &[]);
    let first = Attempt { segment: f.segment(0), number: 1 };
    f.report(0, first, failed(INFRASTRUCTURE));
    let second = Attempt { number: 2, ..first };
    f.commit(0, second, 1);
    f.report(0, second, failed(INFRASTRUCTURE));
    assert_eq!(f.last_start(0).attempt, Attempt { number: 3, ..first }, "it is the first in a row again");
}

#[test]
fn user_failures_and_divergence_are_final() {
    for cause in [FailureCause::User, FailureCause::Diverged] {
        let mut f = Fixture::submitted();
        f.connect(0, 0, 1, &[]);
        let attempt = f.started(0);
        f.report(0, attempt, failed(cause));
        assert_eq!(f.state(0), State::Done(Outcome::Failed { cause, message: "why".to_owned() }));
    }
}

#[test]
fn epochs_that_are_not_the_plans_end_the_attempt() {
    type Spoil = fn(&mut CommittedEpoch);
    let cases: [(Spoil, &str); 4] = [
        (|epoch| epoch.predictions = vec![(Scored::Split(Split::Val), epoch.manifest); 2], "two sets of predictions"),
        (|epoch| epoch.epoch = Epoch(2), "epoch 1 comes next"),
        (|epoch| epoch.epoch = Epoch(3), "ends with epoch 2"),
        (|epoch| epoch.key.0.0[0] ^= 1, "but the plan says"),
    ];
    for (spoil, expected) in cases {
        let mut f = Fixture::submitted();
        f.connect(0, 0, 1, &[]);
        let attempt = f.started(0);
        let mut epoch = f.epoch(attempt, 1);
        spoil(&mut epoch);
        f.report(0, attempt, Report::EpochCommitted(epoch));
        let rejection = f.rejections().pop().expect("it is refused").to_string();
        assert!(rejection.contains(expected), "{rejection}");
        assert!(matches!(f.sent(0)[..], [Message::Revoke { .. }, ..]), "{:?}", f.sent(0));
        assert!(matches!(f.state(0), State::Assigned { attempt: 2, .. }));
    }
}

#[test]
fn an_epoch_committed_twice_changes_nothing() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let attempt = f.started(0);
    f.commit(0, attempt, 1);
    let before = f.scheduler.clone();
    f.commit(0, attempt, 1);
    assert_eq!(f.scheduler, before);
    assert_eq!(f.effects, [Effect::Reject(Rejection::Repeated { attempt, epoch: Epoch(1) })]);
}

#[test]
fn an_early_finish_is_a_failure_of_the_machine() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let attempt = f.started(0);
    f.report(0, attempt, Report::Finished);
    let ended = f.effects.iter().any(|effect| {
        matches!(effect, Effect::Persist(Change::AttemptEnded { end: AttemptEnd::Failed { cause, .. }, .. })
            if *cause == INFRASTRUCTURE)
    });
    assert!(ended && matches!(f.state(0), State::Assigned { attempt: 2, .. }));
}

#[test]
fn cancelling_ends_what_is_queued_and_stops_what_runs() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let attempt = f.started(0);
    let experiment = submission(0).experiment;
    f.handle(Event::CancelExperiment(experiment));
    assert_eq!(f.sent(0), [Message::Stop(attempt)]);
    assert!(matches!(f.state(0), State::Stopping { reason: StopReason::Cancelled, .. }));
    assert_eq!(f.state(1), State::Done(Outcome::Cancelled));
    f.handle(Event::CancelExperiment(experiment));
    assert!(f.effects.is_empty(), "cancelling twice changes nothing");
    f.report(0, attempt, Report::Stopped);
    assert_eq!(f.state(0), State::Done(Outcome::Cancelled));
    assert_eq!(f.scheduler.has_ended(experiment), Some(true));
}

#[test]
fn a_worker_that_does_not_obey_is_waited_for_no_longer_than_a_lease() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    f.handle(Event::CancelExperiment(submission(0).experiment));
    f.heartbeat_all(0);
    f.advance(LEASE);
    assert_eq!(f.state(0), State::Done(Outcome::Cancelled));
    assert!(matches!(f.sent(0)[..], [Message::Revoke { .. }]));
}

#[test]
fn a_replaced_connection_says_nothing() {
    let mut f = Fixture::submitted();
    f.connect(0, 0, 1, &[]);
    let attempt = f.started(0);
    let old = f.session(0);
    f.connect(0, 1, 1, &[attempt]);
    f.handle(Event::AttemptReported { worker: f.worker(0), session: old, attempt, report: Report::Stopped });
    assert!(matches!(f.rejections()[..], [Rejection::StaleSession { .. }]));
    f.handle(Event::WorkerDisconnected { worker: f.worker(0), session: old });
    f.report(0, attempt, Report::Started);
    assert!(matches!(f.state(0), State::Running { .. }));
}

#[test]
fn explanations_tell_the_reason() {
    let mut f = Fixture::submitted();
    let root = f.segment(0);
    let child = f.segment(1);
    let why = |f: &Fixture, segment| f.scheduler.explain(f.now, segment).expect("it is known").why;
    assert_eq!(why(&f, root), Why::NoWorker);
    assert_eq!(why(&f, child), Why::ParentNotTrained { parent: root, committed: 0, epochs: 2 });
    f.connect(0, 0, 1, &[]);
    assert!(matches!(why(&f, root), Why::OnWorker { connected: true, .. }));
    let other = f.segment(2);
    assert_eq!(why(&f, other), Why::NoFreeSlot { workers: 1, slots: 1, turn: Ahead { live: 1, ..Ahead::default() } });
    for number in [1, 2] {
        f.report(0, Attempt { segment: root, number }, failed(INFRASTRUCTURE));
    }
    assert_eq!(why(&f, root), Why::BackingOff { wait: Duration::from_secs(1), failures: 2, losses: 0 });
    let text = why(&f, root).to_string();
    assert_eq!(
        text,
        "waits 1 s before the next attempt, after 2 infrastructure failures and 0 attempts in a row that were lost or could not use the store"
    );
}

#[test]
fn the_next_deadline_is_the_first_lease_or_the_end_of_a_wait() {
    let mut f = Fixture::submitted();
    assert_eq!(f.scheduler.next_deadline(), None);
    f.connect(0, 0, 1, &[]);
    assert_eq!(f.scheduler.next_deadline(), Some(f.now.after(LEASE)));
    for number in [1, 2] {
        let attempt = Attempt { segment: f.segment(0), number };
        f.report(0, attempt, failed(INFRASTRUCTURE));
    }
    assert_eq!(f.scheduler.next_deadline(), Some(f.now.after(Duration::from_secs(1))));
    assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
}

#[test]
fn what_is_trained_already_is_not_trained_again() {
    let mut f = Fixture::submitted();
    let mut again = submission(1);
    // All of both seeds but the second epochs of two arms.
    again.reused = again.plan.segments.iter().map(|segment| trained(segment.work.epochs.len())).collect();
    again.reused[3].truncate(1);
    again.reused[5].clear();
    let (experiment, plan) = (again.experiment, again.plan.clone());
    f.handle(Event::ExperimentSubmitted(Box::new(again)));
    let reused = |effect: &&Effect| matches!(effect, Effect::Persist(Change::EpochReused { .. }));
    assert_eq!(f.effects.iter().filter(reused).count(), 16 - 3);
    let state = |f: &Fixture, index: usize| f.scheduler.segments[&plan.segments[index].id].state.clone();
    for index in [0, 1, 2, 4, 6, 7] {
        assert_eq!(state(&f, index), State::Done(Outcome::Completed));
    }
    assert_eq!([3, 5].map(|index| state(&f, index)), [(); 2].map(|()| State::Queued { not_before: f.now }));

    f.handle(Event::CancelExperiment(submission(0).experiment));
    f.connect(0, 0, 1, &[]);
    let started = f.last_start(0);
    assert_eq!(started.attempt.segment, plan.segments[3].id);
    assert_eq!(started.start, Start::Checkpoint(trained(1)[0].manifest));
    assert_eq!(started.work.epochs.iter().map(|work| work.epoch).collect::<Vec<_>>(), [Epoch(4)]);
    f.commit(0, started.attempt, 4);
    f.report(0, started.attempt, Report::Finished);
    let next = f.last_start(0);
    assert_eq!((next.attempt.segment, next.start), (plan.segments[5].id, Start::Checkpoint(trained(2)[1].manifest)));
    for epoch in [3, 4] {
        f.commit(0, next.attempt, epoch);
    }
    f.report(0, next.attempt, Report::Finished);
    assert_eq!(f.scheduler.has_ended(experiment), Some(true));
}

fn trained(epochs: usize) -> Vec<Reused> {
    let source = SegmentId(Uuid::from_u128(77));
    (0..epochs).map(|epoch| Reused { source, manifest: Digest::of(&[epoch as u8]), weights: None }).collect()
}

#[test]
fn what_cannot_have_been_trained_is_refused() {
    let mut f = Fixture::submitted();
    let root = trained(2);
    for reused in [vec![trained(3)], vec![root.clone(), root.clone(), vec![], trained(1)], vec![vec![]; 9]] {
        f.handle(Event::ExperimentSubmitted(Box::new(Submission { reused, ..submission(1) })));
        assert!(matches!(f.rejections()[..], [Rejection::MalformedPlan { .. }]));
    }
}

#[test]
fn what_failed_is_tried_again_and_what_it_blocked_waits_for_it() {
    let mut f = Fixture::submitted();
    let experiment = submission(0).experiment;
    f.handle(Event::RetryExperiment(experiment));
    assert_eq!(f.rejections(), [Rejection::NothingFailed { experiment }]);
    f.connect(0, 0, 2, &[]);
    let [first, second] = [0, 2].map(|index| Attempt { segment: f.segment(index), number: 1 });
    f.report(0, first, failed(FailureCause::User));
    f.report(0, second, failed(FailureCause::Diverged));
    let (root, other) = (f.segment(0), f.segment(2));
    assert_eq!(f.state(4), State::Done(Outcome::Blocked { by: root }));
    f.handle(Event::RetryExperiment(experiment));
    assert_eq!(f.last_start(0).attempt, Attempt { segment: root, number: 2 });
    assert_eq!(f.state(4), State::Waiting { parent: root });
    assert_eq!(f.state(3), State::Done(Outcome::Blocked { by: other }), "what diverged would diverge again");
    f.handle(Event::RetryExperiment(experiment));
    assert_eq!(f.rejections(), [Rejection::NothingFailed { experiment }]);
    f.handle(Event::RetryExperiment(ExperimentId(Uuid::from_u128(50))));
    assert!(matches!(f.rejections()[..], [Rejection::UnknownExperiment { .. }]));
}

#[test]
fn a_paused_experiment_stops_after_its_epoch_and_goes_on_from_there() {
    let mut f = Fixture::submitted();
    let experiment = submission(0).experiment;
    f.connect(0, 0, 2, &[]);
    let [first, second] = [0, 2].map(|index| Attempt { segment: f.segment(index), number: 1 });
    f.report(0, first, Report::Started);
    f.handle(Event::PauseExperiment(experiment));
    assert_eq!(f.sent(0), [Message::Stop(second)], "what has not begun need not begin");
    assert!(matches!(f.state(0), State::Running { .. }));
    f.commit(0, first, 1);
    assert_eq!(f.sent(0), [Message::Stop(first)]);
    for attempt in [first, second] {
        f.report(0, attempt, Report::Stopped);
    }
    assert_eq!(f.scheduler.held_by(f.worker(0)).count(), 0);
    assert_eq!(f.scheduler.explain(f.now, f.segment(0)).expect("it is known").why, Why::Paused);
    f.advance(Duration::from_secs(3600));
    assert_eq!(f.scheduler.next_deadline(), None, "nothing is due");

    f.handle(Event::ResumeExperiment(experiment));
    let start = f.last_start(0);
    assert_eq!(start.attempt, Attempt { number: 2, ..second }, "in the order of the plan");
    let starts = |message| if let Message::Start(start) = message { Some((start.attempt, start.start)) } else { None };
    let starts: Vec<_> = f.sent(0).into_iter().filter_map(starts).collect();
    assert_eq!(starts[0], (Attempt { number: 2, ..first }, Start::Checkpoint(manifest(first, 1))));
    f.handle(Event::PauseExperiment(experiment));
    f.handle(Event::CancelExperiment(experiment));
    assert!(matches!(f.state(2), State::Stopping { reason: StopReason::Cancelled, .. }));
    f.handle(Event::PauseExperiment(experiment));
    assert_eq!(f.rejections(), [Rejection::ExperimentEnded { experiment }]);
}
