//! Training that is stopped or ends anywhere, and goes on: the files of every epoch are those of an undisturbed run, to the
//! bit.

mod common;

use std::{collections::BTreeMap, path::Path};

use ceteris_shared::{
    plan::EpochWork,
    spec::Trainable,
    trainer::{DatasetFiles, EpochReport, MetricPoint, Report, Start, Train},
};
use ceteris_train::engine::{Control, Outcome};
use common::{
    attempt, bytes, checkpoint, epoch, epochs, request, small_dataset, step_bytes, step_checkpoint, steps, train,
    train_until,
};

/// Three stages of one epoch of three steps: the boundary moves each time, and the optimizer starts anew.
fn stages() -> Vec<EpochWork> {
    vec![epoch(1, Trainable::Head, true), epoch(2, Trainable::Denseblock4, true), epoch(3, Trainable::All, true)]
}

/// The steps within epochs: an epoch's last one is its end.
const WITHIN: [(u32, u32); 6] = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)];

/// What must be the same.
#[derive(PartialEq)]
struct Result {
    files: BTreeMap<String, Vec<u8>>,
    metrics: Vec<MetricPoint>,
    spent: (u64, u64),
}

fn result(report: &EpochReport) -> Result {
    Result { files: bytes(report), metrics: report.metrics.clone(), spent: (report.spent.steps, report.spent.samples) }
}

/// Compares the last epochs of `expected` with what a run made that began within or before the first of them.
fn assert_same(got: &[Result], expected: &[Result], label: &str) {
    let expected = &expected[expected.len() - got.len()..];
    for (got, expected) in got.iter().zip(expected) {
        let differing: Vec<&String> =
            expected.files.keys().filter(|name| got.files.get(*name) != expected.files.get(*name)).collect();
        assert!(differing.is_empty(), "{label}: {differing:?} differ");
        assert!(got == expected, "{label}: the figures differ");
    }
}

/// What remains of the stages from `epoch` on.
fn rest(out: &Path, data: &DatasetFiles, epoch: u32, start: Start) -> Train {
    let mut request = request(out, data, stages().split_off(epoch as usize - 1));
    request.start = start;
    request
}

/// An undisturbed run with a checkpoint after every step.
fn undisturbed(folder: &Path, data: &DatasetFiles) -> Vec<Report> {
    let mut whole = request(&folder.join("whole"), data, stages());
    whole.work.checkpoint_every_steps = Some(1);
    let (outcome, reports) = train(&whole).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    let within: Vec<_> = steps(&reports).into_iter().map(|step| (step.epoch.0, step.step)).collect();
    assert_eq!((within.as_slice(), epochs(&reports).len()), (&WITHIN[..], 3));
    reports
}

#[test]
fn going_on_from_any_step_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let reports = undisturbed(folder.path(), &data);
    let whole: Vec<Result> = epochs(&reports).into_iter().map(result).collect();

    let (_, without) = train(&request(&folder.path().join("without"), &data, stages())).unwrap();
    assert!(steps(&without).is_empty());
    assert_same(&epochs(&without).into_iter().map(result).collect::<Vec<_>>(), &whole, "without checkpoints of steps");

    for step in steps(&reports) {
        let label = format!("after step {} of epoch {}", step.step, step.epoch);
        let request = rest(&folder.path().join(&label), &data, step.epoch.0, step_checkpoint(step));
        let (outcome, again) = train(&request).unwrap();
        assert_eq!((outcome, epochs(&again).len()), (Outcome::Finished, 4 - step.epoch.0 as usize), "{label}");
        assert_same(&epochs(&again).into_iter().map(result).collect::<Vec<_>>(), &whole, &label);
        std::fs::remove_dir_all(folder.path().join(&label)).unwrap();
    }
}

#[test]
fn a_stop_at_any_step_leaves_the_checkpoint_of_that_step() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let reports = undisturbed(folder.path(), &data);
    for step in steps(&reports) {
        let label = format!("at step {} of epoch {}", step.step, step.epoch);
        let request = rest(&folder.path().join(&label), &data, step.epoch.0, step_checkpoint(step));
        let control = Control::alone();
        control.request(request.attempt, true);
        let (outcome, stopped) = train_until(&request, &control, |_| {}).unwrap();
        assert_eq!((outcome, epochs(&stopped).len()), (Outcome::Stopped, 0), "{label}");
        let [again] = steps(&stopped)[..] else { panic!("{label}: one checkpoint is left") };
        assert_eq!((again.epoch, again.step, again.key), (step.epoch, step.step, step.key), "{label}");
        assert!(step_bytes(again) == step_bytes(step), "{label}: the files differ");
    }
}

/// Trains to the end in as many executions as it takes: each is stopped at the first report that `stops`, and the next
/// goes on from the last checkpoint. The epochs' results, and how many executions there were.
fn in_pieces(folder: &Path, data: &DatasetFiles, every: Option<u32>, stops: fn(&Report) -> bool) -> (Vec<Result>, u32) {
    let (mut results, mut next, mut start) = (Vec::new(), 1, Start::Random);
    for number in 1.. {
        let mut request = rest(&folder.join(format!("piece-{number}")), data, next, start.clone());
        request.attempt = attempt(number);
        request.work.checkpoint_every_steps = every;
        let control = Control::alone();
        let hear = |report: &Report| {
            if stops(report) {
                control.request(attempt(number), true);
            }
        };
        let (outcome, reports) = train_until(&request, &control, hear).unwrap();
        results.extend(epochs(&reports).into_iter().map(result));
        if outcome == Outcome::Finished {
            return (results, number);
        }
        match reports.last() {
            Some(Report::Step(step)) => (next, start) = (step.epoch.0, step_checkpoint(step)),
            Some(Report::Epoch(epoch)) => (next, start) = (epoch.epoch.0 + 1, checkpoint(epoch)),
            other => panic!("the last report of an execution that was stopped is its last checkpoint, not {other:?}"),
        }
    }
    unreachable!("the numbers do not end")
}

#[test]
fn a_run_that_is_stopped_after_every_checkpoint_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let reports = undisturbed(folder.path(), &data);
    let whole: Vec<Result> = epochs(&reports).into_iter().map(result).collect();
    let stops = |report: &Report| matches!(report, Report::Step(_));
    let (pieces, count) = in_pieces(folder.path(), &data, Some(1), stops);
    assert_eq!(pieces.len(), whole.len());
    // Where a wish comes between two steps depends on the disk: how often it does is not certain, that it does is.
    assert!(count > 1, "{count} executions");
    assert_same(&pieces, &whole, "stopped");
}

/// All steps of an epoch are made when the wish comes: its evaluation is what the next execution begins with.
#[test]
fn a_run_that_is_stopped_in_every_evaluation_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let reports = undisturbed(folder.path(), &data);
    let whole: Vec<Result> = epochs(&reports).into_iter().map(result).collect();
    let stops = |report: &Report| matches!(report, Report::Progress { step, steps, .. } if step == steps);
    let (pieces, count) = in_pieces(folder.path(), &data, None, stops);
    assert_eq!((pieces.len(), count), (whole.len(), 4), "a stop in each of three epochs");
    assert_same(&pieces, &whole, "stopped");
}
