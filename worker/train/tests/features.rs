//! Kept features are those that are computed: the same files to the bit, and no sample passes the frozen part twice.

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use ceteris_shared::{
    dataset::Split,
    features::{FeatureKey, MANIFEST_FILE, shard_file},
    plan::EpochWork,
    spec::{Augment, PolicyName, Precision, Trainable},
    trainer::{Report, Start, Train},
};
use ceteris_train::{engine::Outcome, model::random, tensors::Contents};
use common::{bytes, dataset, epoch, epochs, feature_folder, request, small_dataset, train};

/// What an execution made.
struct Run {
    /// For each epoch the bytes of all its files, by name.
    files: Vec<BTreeMap<String, Vec<u8>>>,
    wanted: Vec<FeatureKey>,
    made: Vec<FeatureKey>,
}

fn run(request: &Train) -> Run {
    let (outcome, reports) = train(request).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    let mut run = Run { files: epochs(&reports).into_iter().map(bytes).collect(), wanted: vec![], made: vec![] };
    for report in reports {
        match report {
            Report::FeaturesWanted { key, .. } => run.wanted.push(key),
            Report::FeaturesMade { key, .. } => run.made.push(key),
            _ => {}
        }
    }
    run
}

fn two_epochs(trainable: Trainable, augment: PolicyName) -> Vec<EpochWork> {
    let mut epochs = vec![epoch(1, trainable, true), epoch(2, trainable, false)];
    epochs.iter_mut().for_each(|epoch| epoch.augment = Augment::Named(augment));
    epochs
}

/// Trains without keeping features, making them, and finding them.
fn kept_are_computed(trainable: Trainable) {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let features = feature_folder(&folder.path().join("features"));
    for (augment, precision) in [
        (PolicyName::None, Precision::Fp32),
        (PolicyName::None, Precision::Bf16),
        (PolicyName::Light, Precision::Fp32),
        (PolicyName::Light, Precision::Bf16),
    ] {
        if precision == Precision::Bf16 && !cfg!(feature = "libtorch") {
            continue;
        }
        let label = format!("{} {} {}", trainable.name(), augment.name(), precision.name());
        let run = |name: &str, keep: bool| {
            let out = folder.path().join(format!("{label} {name}"));
            let mut request = request(&out, &data, two_epochs(trainable, augment));
            request.work.precision = precision;
            request.work.endpoint = true;
            request.features = keep.then(|| features.clone());
            run(&request)
        };
        let (computed, making, finding) = (run("computed", false), run("making", true), run("finding", true));
        assert_eq!((computed.wanted.len(), computed.made.len()), (0, 0), "{label}");
        // Train, and val and test; with draws train once for each epoch, and then val and test are already there.
        let (wanted, made) = if augment == PolicyName::None { (3, 3) } else { (4, 2) };
        assert_eq!((making.wanted.len(), making.made.len()), (wanted, made), "{label}");
        assert_eq!((&finding.wanted, finding.made.len()), (&making.wanted, 0), "{label}");
        for (what, other) in [("making", making), ("finding", finding)] {
            for (number, (got, expected)) in other.files.iter().zip(&computed.files).enumerate() {
                let differing: Vec<&String> =
                    expected.keys().filter(|name| got.get(*name) != expected.get(*name)).collect();
                assert!(differing.is_empty(), "{label}, {what}, epoch {}: {differing:?} differ", number + 1);
                assert_eq!(got.len(), expected.len(), "{label}, {what}");
            }
            assert_eq!(other.files.len(), 2, "{label}, {what}");
        }
    }
}

#[test]
fn a_head_on_kept_features_is_that_on_computed_ones() {
    kept_are_computed(Trainable::Head);
}

#[test]
fn denseblock4_on_kept_features_is_that_on_computed_ones() {
    kept_are_computed(Trainable::Denseblock4);
}

#[test]
fn denseblock3_on_kept_features_is_that_on_computed_ones() {
    kept_are_computed(Trainable::Denseblock3);
}

/// Heads on the same weights, of other seeds and learning rates, scored on everything.
#[test]
fn heads_that_share_a_folder_pass_each_sample_through_the_frozen_part_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder.path().join("data"), [(Split::Train, 10), (Split::Val, 9), (Split::Test, 2)]);
    let external = small_dataset(&folder.path().join("external"));
    let file = folder.path().join("weights.safetensors");
    let arch = ceteris_shared::architecture::Arch::Densenet121;
    Contents { tensors: random(arch, 9, 2), step: None }.write(&file).unwrap();
    let features = feature_folder(&folder.path().join("features"));
    let mut made = Vec::new();
    for seed in 1..=4 {
        let mut stage: Vec<EpochWork> = (1..=3).map(|number| epoch(number, Trainable::Head, number == 1)).collect();
        for epoch in &mut stage {
            epoch.augment = Augment::NONE;
            epoch.lr = 1e-3 * seed as f64;
        }
        let mut request = request(&folder.path().join(seed.to_string()), &data, stage);
        request.work.seed = seed;
        request.work.endpoint = true;
        request.external = vec![("elsewhere".to_owned(), external.clone())];
        request.start = Start::Weights { file: file.clone() };
        request.features = Some(features.clone());
        let run = run(&request);
        assert_eq!(run.wanted.len(), 4, "train, val, test and elsewhere are asked for once in a run");
        assert_eq!(run.made.len(), if seed == 1 { 4 } else { 0 }, "seed {seed}");
        made.extend(run.made);
    }
    let sets = fs::read_dir(&features.directory).unwrap().count();
    assert_eq!((made.len(), sets), (4, 4));
}

#[test]
fn stages_have_sets_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let mut stages = vec![epoch(1, Trainable::Head, true), epoch(2, Trainable::Denseblock4, true)];
    stages.push(epoch(3, Trainable::All, true));
    stages.iter_mut().for_each(|epoch| epoch.augment = Augment::NONE);
    let mut request = request(&folder.path().join("out"), &data, stages);
    request.features = Some(feature_folder(&folder.path().join("features")));
    let run = run(&request);
    assert_eq!(
        (run.wanted.len(), run.made.len()),
        (4, 4),
        "train and val of two boundaries; nothing is frozen below all"
    );
}

#[test]
fn a_damaged_set_is_computed_again_with_the_same_result() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let features = feature_folder(&folder.path().join("features"));
    let run = |name: &str| {
        let out = folder.path().join(name);
        let mut request = request(&out, &data, two_epochs(Trainable::Head, PolicyName::None));
        request.features = Some(features.clone());
        run(&request)
    };
    let whole = run("whole");
    assert_eq!(whole.made.len(), 2);
    let change = |file: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(file).unwrap();
        change(&mut bytes);
        // As something that does not know what is mapped would do it: another file under the same name.
        fs::remove_file(file).unwrap();
        fs::write(file, bytes).unwrap();
    };
    let flip = |bytes: &mut Vec<u8>| bytes[7] ^= 0x40;
    let halve = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    type Damage<'a> = Box<dyn Fn(&Path, &Path) + 'a>;
    let damages: Vec<(&str, Damage)> = vec![
        ("a flipped bit", Box::new(|shard, _| change(shard, &flip))),
        ("half a shard", Box::new(|shard, _| change(shard, &halve))),
        ("an empty shard", Box::new(|shard, _| change(shard, &|bytes| bytes.clear()))),
        ("no shard", Box::new(|shard, _| fs::remove_file(shard).unwrap())),
        ("half a manifest", Box::new(|_, manifest| change(manifest, &halve))),
        ("no manifest", Box::new(|_, manifest| fs::remove_file(manifest).unwrap())),
    ];
    for (what, damage) in damages {
        for key in &whole.made {
            let set = features.directory.join(key.folder());
            damage(&set.join(shard_file(0)), &set.join(MANIFEST_FILE));
        }
        let again = run(what);
        assert_eq!(again.made, whole.made, "{what}");
        assert!(again.files == whole.files, "{what}: the results differ");
        let found = run(&format!("after {what}"));
        assert_eq!(found.made.len(), 0, "{what}: it is whole again");
        assert!(found.files == whole.files, "{what}: the results differ then");
    }
}

#[test]
fn a_folder_that_may_hold_nothing_or_cannot_be_written_costs_only_time() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let run = |name: &str, limit_bytes: Option<u64>| {
        let mut request = request(&folder.path().join(name), &data, two_epochs(Trainable::Head, PolicyName::None));
        let mut features = feature_folder(&folder.path().join("features"));
        if let Some(limit_bytes) = limit_bytes {
            features.limit_bytes = limit_bytes;
        } else {
            // A file where the folder should be: every write fails, whoever runs this.
            features.directory = folder.path().join("a file");
            fs::write(&features.directory, b"").unwrap();
        }
        request.features = Some(features);
        run(&request)
    };
    let (made, full, broken) = (run("made", Some(1 << 30)), run("full", Some(0)), run("broken", None));
    assert_eq!(made.made.len(), 2);
    assert_eq!(full.made.len(), 0, "all sets were found: they were made before the limit");
    assert_eq!(broken.made.len(), 0);
    assert!(full.files == made.files && broken.files == made.files);
    fs::remove_dir_all(folder.path().join("features")).unwrap();
    let none = run("none", Some(0));
    assert_eq!(none.made.len(), 0, "nothing fits");
    assert!(none.files == made.files);
}
