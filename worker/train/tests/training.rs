//! Executions on small images: what moves, what does not, and to the bit.

mod common;

use std::{fs, sync::LazyLock};

use ceteris_shared::{
    architecture::{Arch, Part},
    dataset::Split,
    predictions::Predictions,
    spec::Trainable,
    trainer::{FailureCause, Report, Scored, Start},
};
use ceteris_train::{
    backend::{self, DeviceName},
    engine::{self, Control, Outcome},
    model::{random, split},
    tensors::{Contents, StateDict},
};
use common::{attempt, bytes, checkpoint, dataset, epoch, epochs, request, small_dataset, train, train_until};

const ARCH: Arch = Arch::Densenet121;

/// What executions of seed 3 start from.
static INITIAL: LazyLock<StateDict> = LazyLock::new(|| random(ARCH, 3, 2));

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Head for two epochs, then the last block for two.
fn two_stages() -> Vec<ceteris_shared::plan::EpochWork> {
    vec![
        epoch(1, Trainable::Head, true),
        epoch(2, Trainable::Head, false),
        epoch(3, Trainable::Denseblock4, true),
        epoch(4, Trainable::Denseblock4, false),
    ]
}

#[test]
fn resuming_at_any_boundary_gives_the_same_bytes() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    let whole = request(&folder.path().join("whole"), &data, two_stages());
    let (outcome, reports) = train(&whole).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    let whole = epochs(&reports);
    assert_eq!(whole.len(), 4);

    for done in 1..4 {
        let out = folder.path().join(format!("after-{done}"));
        let mut rest = request(&out, &data, two_stages().split_off(done));
        rest.start = checkpoint(whole[done - 1]);
        let (_, reports) = train(&rest).unwrap();
        let rest = epochs(&reports);
        assert_eq!(rest.len(), 4 - done);
        for (again, first) in rest.iter().zip(&whole[done..]) {
            assert!(bytes(again) == bytes(first), "epoch {} differs when resumed after {done}", first.epoch);
            assert_eq!((again.epoch, again.key, &again.metrics), (first.epoch, first.key, &first.metrics));
        }
    }
}

#[test]
fn what_is_frozen_does_not_move_and_what_is_trained_does() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    let (_, reports) = train(&request(&folder.path().join("out"), &data, two_stages())).unwrap();
    let reports = epochs(&reports);
    let initial = &*INITIAL;

    for (report, first) in reports.iter().zip([Part::Head, Part::Head, Part::Block4, Part::Block4]) {
        let (frozen, trained) = split(initial.clone(), ARCH, 2, first);
        assert!(Contents::read(&report.frozen).unwrap().tensors == frozen, "epoch {}", report.epoch);
        let after = Contents::read(&report.trained).unwrap().tensors;
        assert!(after.0.keys().eq(trained.0.keys()), "epoch {}", report.epoch);
    }
    let last = Contents::read(&reports[3].trained).unwrap().tensors;
    let still: Vec<_> = last.0.iter().filter(|(name, tensor)| initial.0[*name] == **tensor).map(|(n, _)| n).collect();
    assert!(still.is_empty(), "trained and unmoved: {still:?}");
    assert_eq!(Contents::read(&reports[3].optimizer).unwrap().step, Some(6), "two epochs of three steps");
    assert_ne!(bytes(reports[0])["trained.safetensors"], bytes(reports[1])["trained.safetensors"]);
}

#[test]
fn training_everything_moves_everything_and_its_frozen_part_is_empty() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    let request = request(&folder.path().join("out"), &data, vec![epoch(1, Trainable::All, true)]);
    let (_, reports) = train(&request).unwrap();
    let report = epochs(&reports)[0];
    assert_eq!(Contents::read(&report.frozen).unwrap(), Contents::default());
    let (initial, after) = (&*INITIAL, Contents::read(&report.trained).unwrap().tensors);
    assert!(after.0.keys().eq(initial.0.keys()));
    assert!(after.0.iter().all(|(name, tensor)| initial.0[name] != *tensor));
}

#[test]
fn a_seed_decides_every_bit_and_another_seed_others() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    let run = |name: &str, seed: u64| {
        let mut request = request(&folder.path().join(name), &data, vec![epoch(1, Trainable::Head, true)]);
        request.work.seed = seed;
        // A thread of its own each: nothing may be left over from the thread before.
        let reports = std::thread::scope(|scope| scope.spawn(|| train(&request)).join()).unwrap().unwrap().1;
        bytes(epochs(&reports)[0])
    };
    let (first, again, other) = (run("a", 5), run("b", 5), run("c", 6));
    assert!(first == again);
    assert_ne!(first["trained.safetensors"], other["trained.safetensors"]);
}

#[test]
fn an_epoch_reports_what_was_measured() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    let mut request = request(&folder.path().join("out"), &data, vec![epoch(1, Trainable::Head, true)]);
    request.work.endpoint = true;
    request.external = vec![("else/../where".to_owned(), small_dataset(&folder.path().join("external")))];
    let (_, reports) = train(&request).unwrap();
    assert!(matches!(reports[0], Report::Started { .. }));
    let report = epochs(&reports)[0];
    let named = |split, name: &str| {
        report.metrics.iter().filter(|p| p.split == split && p.name == name).map(|p| p.step).collect::<Vec<_>>()
    };
    assert_eq!(named(Split::Train, "step_loss"), [1, 2, 3]);
    assert_eq!(named(Split::Train, "loss"), [3]);
    for name in ["loss", "accuracy", "auc"] {
        assert_eq!(named(Split::Val, name), [3], "{name}");
        assert_eq!(named(Split::Test, name), [0u32; 0], "test is not looked at: {name}");
    }
    assert_eq!((report.spent.steps, report.spent.samples), (3, 10));
    let scored: Vec<_> = report.predictions.iter().map(|(scored, _)| scored.clone()).collect();
    let external = Scored::External("else/../where".to_owned());
    assert_eq!(scored, [Scored::Split(Split::Val), Scored::Split(Split::Test), external]);
    let rows = |index: usize| {
        let file = &report.predictions[index].1;
        assert!(file.starts_with(folder.path().join("out/epoch-1")), "{}", file.display());
        Predictions::from_bytes(&fs::read(file).unwrap()).unwrap().samples
    };
    assert_eq!((rows(0), rows(1), rows(2).len()), (vec![10, 11, 12, 13], vec![14, 15, 16, 17], 18));
}

#[test]
fn bright_and_dark_are_told_apart() {
    let folder = folder();
    let data = dataset(&folder.path().join("data"), [(Split::Train, 8), (Split::Val, 4), (Split::Test, 0)]);
    let stage = (1..=4).map(|number| epoch(number, Trainable::Head, number == 1));
    let (_, reports) = train(&request(&folder.path().join("out"), &data, stage.collect())).unwrap();
    let auc = |report: &ceteris_shared::trainer::EpochReport| {
        report.metrics.iter().find(|point| point.name == "auc").map(|point| point.value)
    };
    assert_eq!(auc(epochs(&reports)[3]), Some(1.0));
}

#[test]
fn a_stop_is_obeyed_after_the_epoch_or_at_once() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    for (now, expected) in [(false, 1), (true, 0)] {
        let request = request(&folder.path().join(format!("now-{now}")), &data, two_stages());
        let control = Control::default();
        let hear = |report: &Report| {
            if matches!(report, Report::Started { .. }) {
                control.request(request.attempt, now);
            }
        };
        let (outcome, reports) = train_until(&request, &control, hear).unwrap();
        assert_eq!((outcome, epochs(&reports).len()), (Outcome::Stopped, expected), "now: {now}");
    }
    let control = Control::default();
    control.request(attempt(7), true);
    let request = request(&folder.path().join("other"), &data, vec![epoch(1, Trainable::Head, true)]);
    assert_eq!(train_until(&request, &control, |_| {}).unwrap().0, Outcome::Finished, "a wish for another execution");
}

#[test]
fn a_loss_that_is_no_number_is_the_outcome() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    let mut work = epoch(1, Trainable::Head, true);
    work.lr = 1e38;
    let error = train(&request(&folder.path().join("out"), &data, vec![work])).unwrap_err();
    assert_eq!(error.cause(), FailureCause::Diverged, "{error}");
    assert!(error.to_string().starts_with("epoch 1: "), "{error}");
    assert!(!folder.path().join("out/epoch-1").exists());
}

#[test]
fn weights_give_the_features_and_the_seed_a_new_head() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    // A head of another number of classes, as imported weights have it.
    let weights = random(ARCH, 9, 1000);
    let file = folder.path().join("weights.safetensors");
    Contents { tensors: weights.clone(), step: None }.write(&file).unwrap();
    let mut request = request(&folder.path().join("out"), &data, vec![epoch(1, Trainable::Head, true)]);
    request.start = Start::Weights { file };
    request.work.epochs[0].lr = 1e-12;
    let (_, reports) = train(&request).unwrap();
    let report = epochs(&reports)[0];
    assert!(Contents::read(&report.frozen).unwrap().tensors == split(weights, ARCH, 1000, Part::Head).0);
    let head = Contents::read(&report.trained).unwrap().tensors;
    let drawn = &*INITIAL;
    for (name, tensor) in &head.0 {
        let far = tensor.values.iter().zip(&drawn.0[name].values).any(|(a, b)| (a - b).abs() > 1e-9);
        assert!(!far, "{name} is not the one drawn from the seed");
    }
}

#[test]
fn divergence_names_the_step_and_the_last_good_checkpoint() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    let mut stage = vec![epoch(1, Trainable::Head, true), epoch(2, Trainable::Denseblock4, true)];
    stage[1].lr = 1e30;
    let request = request(&folder.path().join("out"), &data, stage);
    let mut reports = Vec::new();
    let opened = backend::open(DeviceName::default(), 1).unwrap();
    let error = engine::train(&request, &opened, &Control::alone(), &mut |report| reports.push(report)).unwrap_err();
    assert_eq!((error.cause(), epochs(&reports).len()), (FailureCause::Diverged, 1), "what was good stands");
    insta::assert_snapshot!(error);
}
