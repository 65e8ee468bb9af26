//! States of runs and experiments, and what is counted once.

use std::collections::BTreeMap;

use ceteris_proto::fleet::Progress;
use ceteris_scheduler::{AttemptEnd, Outcome, State as Scheduled, Timestamp};
use ceteris_shared::{
    checkpoint::Environment,
    compare,
    dataset::Split,
    digest::Digest,
    document::{Document, Experiment, Ledger, SegmentState, State},
    ids::{Attempt, Epoch, ExperimentId, SegmentId, WorkerId},
    plan::{Pins, plan},
    spec::{Format, parse},
    trainer::{FailureCause, MetricPoint, Spent},
};

use crate::{
    rpc::view::{Known, Now, experiment},
    store::{AttemptRecord, CommittedRecord, ExperimentRecord, ReplayedRecord, SegmentRecord, SeriesPoint},
};

const WORKER: WorkerId = WorkerId(uuid::Uuid::from_u128(9));

/// Two arms that share their first two epochs of four, one seed: segments 0 (shared), 1 (frozen), 2 (finetuned).
fn submitted() -> Known {
    let text = r#"
        name = "frozen-vs-finetuned"
        data.dataset = "kermany"
        model.init = "random"
        budget.epochs = 4
        seeds.count = 1
        [[arm]]
        name = "frozen"
        stages = [{ epochs = 4, train = "head" }]
        [[arm]]
        name = "finetuned"
        stages = [{ epochs = 2, train = "head" }, { epochs = 2, train = "denseblock4", lr = 1e-4 }]
    "#;
    let spec = parse(text, Format::Toml).expect("a valid spec");
    let id = ExperimentId(uuid::Uuid::from_u128(1));
    let pins = Pins { dataset: Some(Digest([1; 32])), ..Pins::default() };
    let plan = plan(id, &spec, &pins).expect("a valid spec");
    assert_eq!(plan.segments.len(), 3);
    let record = |(position, segment): (usize, &ceteris_shared::plan::Segment)| SegmentRecord {
        id: segment.id,
        position,
        state: match segment.parent {
            Some(parent) => Scheduled::Waiting { parent: plan.segments[parent].id },
            None => Scheduled::Queued { not_before: Timestamp(0) },
        },
        failures: 0,
        losses: 0,
        attempts: Vec::new(),
        committed: Vec::new(),
        replayed: Vec::new(),
    };
    let segments = plan.segments.iter().enumerate().map(record).collect();
    let (source, submitted_at) = (text.to_owned(), Timestamp(1_732_292_100_250));
    Known {
        experiment: ExperimentRecord {
            id,
            spec,
            source,
            pins,
            plan,
            submitted_at,
            cancelled_at: None,
            paused_at: None,
            environment: None,
            sharing: Default::default(),
        },
        segments,
    }
}

fn environment() -> Environment {
    let [engine, libtorch, device, instructions, determinism] =
        ["2", "2.9.1", "cpu", "AVX512", "default"].map(str::to_owned);
    Environment { engine, libtorch, device, instructions, threads: 2, determinism }
}

impl Known {
    fn with(mut self, index: usize, state: Scheduled, committed: usize) -> Self {
        let segment = &mut self.segments[index];
        segment.state = state;
        let attempt = Attempt { segment: segment.id, number: 1 };
        segment.attempts = vec![AttemptRecord {
            attempt,
            worker: WORKER,
            environment: environment(),
            assigned_at: Timestamp(1),
            started_at: Some(Timestamp(2)),
            ended: None,
        }];
        let work = &self.experiment.plan.segments[index].work;
        segment.committed = work.epochs[..committed]
            .iter()
            .map(|epoch| CommittedRecord {
                epoch: epoch.epoch,
                key: epoch.key,
                source: attempt.segment,
                attempt: 1,
                environment: environment(),
                manifest: Digest([2; 32]),
                weights: None,
                spent: Spent { steps: 10, samples: 320, seconds: 1.5 },
                committed_at: Timestamp(3),
                predictions: Vec::new(),
            })
            .collect();
        self
    }

    fn told(&self) -> Experiment {
        experiment(self, &[], &Now::default())
    }

    fn states(&self) -> (State, Vec<State>) {
        let told = self.told();
        (told.state, told.arms.iter().flat_map(|arm| &arm.runs).map(|run| run.state).collect())
    }
}

const COMPLETED: Scheduled = Scheduled::Done(Outcome::Completed);

fn running(epoch: u32) -> Scheduled {
    Scheduled::Running { attempt: 1, worker: WORKER, lease: Timestamp(9), epoch: Epoch(epoch) }
}

fn failed(cause: FailureCause) -> Scheduled {
    Scheduled::Done(Outcome::Failed { cause, message: "what happened".to_owned() })
}

#[test]
fn states_follow_from_segments() {
    use State::*;
    let shared = |state, committed| submitted().with(0, state, committed);
    let blocked = Scheduled::Done(Outcome::Blocked { by: submitted().segments[0].id });
    let cancelled = Scheduled::Done(Outcome::Cancelled);
    let cases = [
        ("submitted", submitted(), Queued, [Queued; 2]),
        ("first epoch", shared(running(1), 0), Running, [Running; 2]),
        ("between segments", shared(COMPLETED, 2), Running, [Running; 2]),
        ("one done", shared(COMPLETED, 2).with(1, COMPLETED, 2), Running, [Done, Running]),
        ("all done", shared(COMPLETED, 2).with(1, COMPLETED, 2).with(2, COMPLETED, 2), Done, [Done; 2]),
        (
            "one failed",
            shared(COMPLETED, 2).with(1, COMPLETED, 2).with(2, failed(FailureCause::User), 1),
            Failed,
            [Done, Failed],
        ),
        (
            "one failed, the other goes on",
            shared(COMPLETED, 2).with(1, running(3), 0).with(2, failed(FailureCause::Diverged), 1),
            Running,
            [Running, Failed],
        ),
        (
            "the shared beginning failed",
            shared(failed(FailureCause::User), 1).with(1, blocked.clone(), 0).with(2, blocked, 0),
            Failed,
            [Failed; 2],
        ),
        (
            "cancelled in the middle",
            shared(COMPLETED, 2).with(1, COMPLETED, 2).with(2, cancelled.clone(), 1),
            Cancelled,
            [Done, Cancelled],
        ),
        (
            "cancelled and stopping",
            shared(COMPLETED, 2).with(1, cancelled, 0).with(
                2,
                Scheduled::Stopping {
                    attempt: 1,
                    worker: WORKER,
                    deadline: Timestamp(9),
                    reason: ceteris_scheduler::StopReason::Cancelled,
                },
                0,
            ),
            Running,
            [Cancelled, Running],
        ),
    ];
    for (name, known, experiment, runs) in cases {
        assert_eq!(known.states(), (experiment, runs.to_vec()), "{name}");
        let mut counts = BTreeMap::new();
        known.segments.iter().for_each(|segment| *counts.entry(segment.state.name().to_owned()).or_default() += 1);
        let row = crate::rpc::experiment::summary_state(&counts);
        assert_eq!(row, experiment, "{name}: `ls` and `show` must agree");
    }
}

#[test]
fn shared_epochs_count_once_in_all_and_fully_in_each_run() {
    let known = submitted().with(0, COMPLETED, 2).with(1, COMPLETED, 2).with(2, running(4), 1);
    let told = known.told();
    assert_eq!((told.epochs_asked, told.epochs_to_train, told.epochs_done), (8, 6, 5));
    let [frozen, finetuned] = [&told.arms[0].runs[0], &told.arms[1].runs[0]];
    assert_eq!((frozen.epoch, frozen.epochs, frozen.spent.epochs, frozen.spent.steps), (Epoch(4), 4, 4, 40));
    assert_eq!((finetuned.epoch, finetuned.spent.seconds), (Epoch(3), 4.5));
    assert_eq!(told.segments[0].runs, [frozen.run, finetuned.run]);
    let Ledger { charged, trained, reused, attempts, .. } = told.ledger;
    assert_eq!((charged.epochs, trained.epochs, reused.epochs, attempts), (7, 5, 0, 0));
    assert_eq!((charged.seconds, trained.steps), (frozen.spent.seconds + finetuned.spent.seconds, 50));
    let spans: Vec<_> = told.segments.iter().map(|row| (row.first.0, row.last.0, row.state)).collect();
    assert_eq!(spans, [(1, 2, SegmentState::Done), (3, 4, SegmentState::Done), (3, 4, SegmentState::Running)]);
    assert_eq!(Experiment::from_json(&told.to_json()), Ok(told));
}

#[test]
fn what_earlier_experiments_trained_is_in_a_column_of_its_own() {
    let mut known = submitted().with(0, COMPLETED, 2).with(1, COMPLETED, 2);
    known.segments[0].committed.iter_mut().for_each(|epoch| epoch.source = SegmentId(uuid::Uuid::from_u128(99)));
    known.segments[0].attempts.clear();
    let spent = Spent { steps: 10, samples: 320, seconds: 1.5 };
    known.segments[1].replayed = vec![ReplayedRecord { epoch: Epoch(2), attempt: 1, spent }];
    known.segments[1].attempts[0].ended = Some((Timestamp(61_001), AttemptEnd::Finished));
    let told = known.told();
    assert_eq!((told.epochs_done, told.epochs_reused), (4, 2));
    let Ledger { charged, trained, reused, replayed, attempts, attempt_seconds } = told.ledger;
    assert_eq!((charged.epochs, trained.epochs, reused.epochs, replayed.epochs), (6, 2, 2, 1));
    assert_eq!((attempts, attempt_seconds), (1, 61.0));
}

#[test]
fn values_and_progress_go_to_every_run_that_shares_them() {
    let known = submitted().with(0, running(2), 1);
    let attempt = Attempt { segment: known.segments[0].id, number: 1 };
    let point = |epoch, split, name: &str, value| SeriesPoint {
        attempt,
        point: MetricPoint { epoch: Epoch(epoch), step: 10, split, name: name.to_owned(), value },
    };
    let series =
        [point(1, Split::Val, "auc", 0.9), point(1, Split::Train, "loss", 0.5), point(2, Split::Val, "auc", 0.95)];
    let progress = Progress { attempt, epoch: Epoch(2), step: 3, steps: 10, loss: Some(0.4) };
    let now = Now { live: [(attempt.segment, progress)].into(), names: [(WORKER, "gpu-03".to_owned())].into() };
    let told = experiment(&known, &series, &now);
    for run in told.arms.iter().flat_map(|arm| &arm.runs) {
        assert_eq!(run.val, BTreeMap::from([("auc".to_owned(), 0.9)]), "of the last committed epoch");
        assert_eq!(run.series.len(), 2, "epoch 2 is not committed");
        assert_eq!(run.live.map(|live| (live.epoch, live.step)), Some((Epoch(2), 3)));
    }
    assert_eq!(told.segments[0].worker.as_deref(), Some("gpu-03"));
}

#[test]
fn the_comparison_sees_how_runs_ended() {
    let known = submitted().with(0, COMPLETED, 2).with(1, failed(FailureCause::Diverged), 1).with(2, running(3), 0);
    let runs = &known.experiment.plan.runs;
    let diverged = compare::Outcome::Failed { cause: FailureCause::Diverged, message: "what happened".to_owned() };
    assert_eq!(known.outcome(&runs[0]), diverged);
    assert_eq!(known.outcome(&runs[1]), compare::Outcome::Unfinished);
    assert_eq!(known.committed(&runs[0]).count(), 3);
}
