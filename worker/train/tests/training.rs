//! Executions on small images: what moves, what does not, and to the bit.

mod common;

use std::{fs, path::Path, sync::LazyLock};

use ceteris_shared::{
    dataset::Split,
    ids::Epoch,
    predictions::Predictions,
    spec::Trainable,
    trainer::{FailureCause, Report, Scored, Start},
};
use ceteris_train::{
    engine::{Outcome, Stop},
    model::{Part, random, split},
    tensors::{Contents, HostTensor, StateDict},
};
use common::{attempt, bytes, checkpoint, dataset, epoch, epochs, request, small_dataset, train, train_until};

/// What executions of seed 3 start from.
static INITIAL: LazyLock<StateDict> = LazyLock::new(|| random(3, 2));

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
        let (frozen, trained) = split(initial.clone(), first);
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
        let stop = Stop::default();
        let hear = |report: &Report| {
            if matches!(report, Report::Started { .. }) {
                stop.request(request.attempt, now);
            }
        };
        let (outcome, reports) = train_until(&request, &stop, hear).unwrap();
        assert_eq!((outcome, epochs(&reports).len()), (Outcome::Stopped, expected), "now: {now}");
    }
    let stop = Stop::default();
    stop.request(attempt(7), true);
    let request = request(&folder.path().join("other"), &data, vec![epoch(1, Trainable::Head, true)]);
    assert_eq!(train_until(&request, &stop, |_| {}).unwrap().0, Outcome::Finished, "a wish for another execution");
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

/// What training from `state` says, after `spoil` was applied to it or to its bytes.
fn refusal(folder: &Path, spoil: impl FnOnce(&mut StateDict) -> Option<Vec<u8>>) -> (FailureCause, String) {
    let data = small_dataset(&folder.join("data"));
    let mut state = INITIAL.clone();
    let file = folder.join("weights.safetensors");
    match spoil(&mut state) {
        Some(bytes) => fs::write(&file, bytes).unwrap(),
        None => Contents { tensors: state, step: None }.write(&file).unwrap(),
    }
    let mut request = request(&folder.join("out"), &data, vec![epoch(1, Trainable::Head, true)]);
    request.start = Start::Weights { file };
    let error = train(&request).unwrap_err();
    (error.cause(), error.to_string().replace(&folder.display().to_string(), ""))
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let folder = folder();
    let whole = Contents { tensors: INITIAL.clone(), step: None }.to_bytes();
    let conv0 = "features.conv0.weight";
    type Spoil<'a> = Box<dyn FnOnce(&mut StateDict) -> Option<Vec<u8>> + 'a>;
    let cases: Vec<(&str, Spoil)> = vec![
        ("tensor features.conv0.weight is missing", Box::new(|s| s.0.remove(conv0).and(None))),
        (
            "tensor features.conv0.weight has shape [1]; the network's is [64, 3, 7, 7]",
            Box::new(|s| s.0.insert(conv0.to_owned(), HostTensor { shape: vec![1], values: vec![0.0] }).and(None)),
        ),
        (
            "tensor features.conv0.weight holds a value that is not a finite number",
            Box::new(|s| {
                s.0.get_mut(conv0)?.values[5] = f32::NAN;
                None
            }),
        ),
        (
            "tensor features.extra is none of the network's",
            Box::new(|s| {
                let extra = HostTensor { shape: vec![0], values: vec![] };
                s.0.insert("features.extra".to_owned(), extra).and(None)
            }),
        ),
        ("not a safetensors file", Box::new(|_| Some(Vec::new()))),
        ("not a safetensors file", Box::new(|_| Some(b"PK\x03\x04 a zip, as .pth files are".to_vec()))),
        ("not a safetensors file", Box::new(|_| Some(whole[..whole.len() / 2].to_vec()))),
        ("not a safetensors file", Box::new(|_| Some(u64::MAX.to_le_bytes().to_vec()))),
        (
            "tensor features.conv0.weight is F16 of shape [1], not 32-bit floating point; import the weights again",
            Box::new(|_| {
                let header = br#"{"features.conv0.weight":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}"#;
                Some([&(header.len() as u64).to_le_bytes()[..], header, &[0, 0]].concat())
            }),
        ),
    ];
    for (expected, spoil) in cases {
        let (cause, message) = refusal(folder.path(), spoil);
        assert_eq!(cause, FailureCause::User, "{message}");
        assert!(message.starts_with("initial weights: ") && message.contains(expected), "{message}");
    }
}

#[test]
fn weights_give_the_features_and_the_seed_a_new_head() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    // A head of another number of classes, as imported weights have it.
    let weights = random(9, 1000);
    let file = folder.path().join("weights.safetensors");
    Contents { tensors: weights.clone(), step: None }.write(&file).unwrap();
    let mut request = request(&folder.path().join("out"), &data, vec![epoch(1, Trainable::Head, true)]);
    request.start = Start::Weights { file };
    request.work.epochs[0].lr = 1e-12;
    let (_, reports) = train(&request).unwrap();
    let report = epochs(&reports)[0];
    assert!(Contents::read(&report.frozen).unwrap().tensors == split(weights, Part::Head).0);
    let head = Contents::read(&report.trained).unwrap().tensors;
    let drawn = &*INITIAL;
    for (name, tensor) in &head.0 {
        let far = tensor.values.iter().zip(&drawn.0[name].values).any(|(a, b)| (a - b).abs() > 1e-9);
        assert!(!far, "{name} is not the one drawn from the seed");
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused_before_training() {
    let folder = folder();
    let none = dataset(&folder.path().join("none"), [(Split::Train, 0), (Split::Val, 1), (Split::Test, 0)]);
    let error = train(&request(&folder.path().join("a"), &none, two_stages())).unwrap_err();
    assert_eq!(
        (error.cause(), error.to_string().contains("no training sample")),
        (FailureCause::User, true),
        "{error}"
    );

    let data = small_dataset(&folder.path().join("data"));
    let mut single = request(&folder.path().join("b"), &data, two_stages());
    single.work.batch_size = 1;
    let error = train(&single).unwrap_err();
    assert_eq!((error.cause(), error.to_string().contains("BatchNorm")), (FailureCause::User, true), "{error}");

    fs::write(&data.shards[0], b"short").unwrap();
    let error = train(&request(&folder.path().join("c"), &data, two_stages())).unwrap_err();
    assert_eq!(error.cause(), FailureCause::Infrastructure, "{error}");

    fs::remove_file(&data.shards[0]).unwrap();
    let error = train(&request(&folder.path().join("d"), &data, two_stages())).unwrap_err();
    assert_eq!(error.cause(), FailureCause::Infrastructure, "{error}");

    fs::write(&data.manifest, b"{").unwrap();
    let error = train(&request(&folder.path().join("e"), &data, two_stages())).unwrap_err();
    assert_eq!(error.cause(), FailureCause::User, "{error}");
}

#[test]
fn a_checkpoint_of_another_boundary_is_refused_where_the_optimizer_goes_on() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    let (_, reports) = train(&request(&folder.path().join("a"), &data, vec![epoch(1, Trainable::Head, true)])).unwrap();
    let mut next = request(&folder.path().join("b"), &data, vec![epoch(2, Trainable::Denseblock4, false)]);
    next.start = checkpoint(epochs(&reports)[0]);
    let error = train(&next).unwrap_err();
    assert_eq!(error.cause(), FailureCause::Infrastructure);
    assert!(error.to_string().contains(".moment1 is missing"), "{error}");
    assert_eq!(epochs(&reports)[0].epoch, Epoch(1));
}
