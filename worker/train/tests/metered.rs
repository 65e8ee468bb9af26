//! What an execution is said to cost: samples through the frozen part, and the training thread's time.

#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, time::Instant};

use ceteris_shared::{
    spec::{Augment, Trainable},
    trainer::{FeatureFolder, Train},
};
use ceteris_train::{
    backend::{self, DeviceName},
    engine::{Control, Meter, Outcome, train_metered},
};
use common::{epoch, feature_folder, request, small_dataset};

/// Two epochs on ten images as they are, with four of val after each and four of test at the end.
fn two_epochs(folder: &Path, name: &str, trainable: Trainable, features: Option<&FeatureFolder>) -> Train {
    let data = small_dataset(&folder.join("data"));
    let mut epochs = vec![epoch(1, trainable, true), epoch(2, trainable, false)];
    epochs.iter_mut().for_each(|epoch| epoch.augment = Augment::NONE);
    let mut request = request(&folder.join(name), &data, epochs);
    request.work.endpoint = true;
    request.features = features.cloned();
    request
}

fn metered(request: &Train) -> Meter {
    let opened = backend::open(DeviceName::Cpu, 1).unwrap();
    let meter = Meter::default();
    let outcome = train_metered(request, &opened, &Control::alone(), &meter, &mut |_| {}).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    meter
}

#[test]
fn every_pass_through_the_frozen_part_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let features = feature_folder(&folder.path().join("features"));
    let samples = |name: &str, trainable, features| {
        metered(&two_epochs(folder.path(), name, trainable, features)).frozen_samples()
    };
    assert_eq!(samples("computed", Trainable::Head, None), 2 * (10 + 4) + 4);
    assert_eq!(samples("making", Trainable::Head, Some(&features)), 10 + 4 + 4, "each sample once");
    assert_eq!(samples("finding", Trainable::Head, Some(&features)), 0);
    assert_eq!(samples("all", Trainable::All, Some(&features)), 0, "nothing is frozen");
}

#[test]
fn checkpoints_are_a_part_of_the_epochs_time() {
    let folder = tempfile::tempdir().unwrap();
    let request = two_epochs(folder.path(), "out", Trainable::Head, None);
    let began = Instant::now();
    let meter = metered(&request);
    let all = began.elapsed();
    assert!(!meter.checkpoints().is_zero());
    assert!(meter.checkpoints() < meter.epochs() && meter.epochs() < all, "{meter:?} in {all:?}");
}
