//! What the suites share: a small data set on disk, and requests to train on it.
#![allow(dead_code)]

pub mod trainer;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ceteris_shared::{
    dataset::{self, Manifest, Sample, Shard, Split},
    digest::Digest,
    ids::{Attempt, Epoch, SegmentId},
    lineage::LineageKey,
    plan::{EpochSettings, EpochWork, Work},
    spec::{Arch, Augment, Memory, Optimization, PolicyName, Precision, Rates, Trainable},
    trainer::{DatasetFiles, EpochReport, FeatureFolder, Position, Report, Start, StepReport, Train},
};
use ceteris_train::{
    backend::{self, DeviceName},
    engine::{self, Control, Error, Outcome},
};

pub const SIZE: u32 = 32;

/// Writes a data set of two classes that differ in brightness; `samples` of each class in each split.
pub fn dataset(folder: &Path, samples: [(Split, u32); 3]) -> DatasetFiles {
    dataset_of_size(folder, samples, SIZE)
}

/// The same with images of `size × size` pixels.
pub fn dataset_of_size(folder: &Path, samples: [(Split, u32); 3], size: u32) -> DatasetFiles {
    fs::create_dir_all(folder).unwrap();
    let (mut listed, mut pixels) = (Vec::new(), Vec::new());
    for (split, count) in samples {
        for class in 0..2 {
            for number in 0..count {
                let at = |place: u32| (place * 7 + number * 31 + split as u32 * 13) % 90 + class * 120;
                let image: Vec<u8> = (0..size * size).map(|place| at(place) as u8).collect();
                listed.push(Sample {
                    file: format!("{split}/{class}/{number:04}.png"),
                    split,
                    class,
                    patient: None,
                    source: Digest::of(&image),
                    pixels: Digest::of(&image),
                });
                pixels.extend(image);
            }
        }
    }
    let shard = Shard { digest: Digest::of(&pixels), samples: listed.len() as u32 };
    let manifest = Manifest {
        schema: dataset::SCHEMA.to_owned(),
        transform: dataset::TRANSFORM.to_owned(),
        image_size: size,
        classes: vec!["NORMAL".to_owned(), "PNEUMONIA".to_owned()],
        samples: listed,
        shards: vec![shard],
    };
    let files = DatasetFiles { manifest: folder.join("manifest.json"), shards: vec![folder.join("shard-0")] };
    fs::write(&files.manifest, manifest.to_bytes()).unwrap();
    fs::write(&files.shards[0], pixels).unwrap();
    files
}

/// Three batches to train on, four images to validate and four to test.
pub fn small_dataset(folder: &Path) -> DatasetFiles {
    dataset(folder, [(Split::Train, 5), (Split::Val, 2), (Split::Test, 2)])
}

pub fn attempt(number: u32) -> Attempt {
    Attempt { segment: SegmentId(uuid::Uuid::from_u128(1)), number }
}

/// An epoch of a stage.
pub fn epoch(epoch: u32, train: Trainable, optimizer_starts: bool) -> EpochWork {
    let settings = EpochSettings {
        epoch: Epoch(epoch),
        train,
        optimizer_starts,
        lr: 1e-3,
        rates: Rates::Constant,
        augment: Augment::Named(PolicyName::Light),
    };
    EpochWork::new(LineageKey(Digest::of(&epoch.to_le_bytes())), settings)
}

/// A request that writes below `folder`, from random weights.
pub fn request(folder: &Path, dataset: &DatasetFiles, epochs: Vec<EpochWork>) -> Train {
    fs::create_dir_all(folder).unwrap();
    Train {
        attempt: attempt(1),
        work: Work {
            arch: Arch::Densenet121,
            seed: 3,
            batch_size: 4,
            optimization: Optimization::default(),
            precision: Precision::Fp32,
            memory: Memory::Normal,
            checkpoint_every_steps: None,
            epochs,
            endpoint: false,
        },
        dataset: dataset.clone(),
        external: Vec::new(),
        start: Start::Random,
        directory: folder.to_owned(),
        features: None,
    }
}

/// A folder for features that holds all that small runs make.
pub fn feature_folder(directory: &Path) -> FeatureFolder {
    fs::create_dir_all(directory).unwrap();
    FeatureFolder { directory: directory.to_owned(), limit_bytes: 1 << 30 }
}

/// Trains here, on one thread, without an agent that answers.
pub fn train(request: &Train) -> Result<(Outcome, Vec<Report>), Error> {
    train_until(request, &Control::alone(), |_| {})
}

/// Trains here, on one thread; `hear` is told each report.
pub fn train_until(
    request: &Train,
    control: &Control,
    mut hear: impl FnMut(&Report) + Send,
) -> Result<(Outcome, Vec<Report>), Error> {
    let opened = backend::open(DeviceName::default(), 1).unwrap();
    let mut reports = Vec::new();
    let outcome = engine::train(request, &opened, control, &mut |report| {
        hear(&report);
        reports.push(report);
    })?;
    Ok((outcome, reports))
}

/// The epochs among reports.
pub fn epochs(reports: &[Report]) -> Vec<&EpochReport> {
    let mut epochs = Vec::new();
    for report in reports {
        if let Report::Epoch(epoch) = report {
            epochs.push(epoch.as_ref());
        }
    }
    epochs
}

/// The checkpoints within epochs among reports.
pub fn steps(reports: &[Report]) -> Vec<&StepReport> {
    let mut steps = Vec::new();
    for report in reports {
        if let Report::Step(step) = report {
            steps.push(step.as_ref());
        }
    }
    steps
}

/// The state after an epoch, as the next execution starts from it.
pub fn checkpoint(report: &EpochReport) -> Start {
    Start::Checkpoint {
        frozen: report.frozen.clone(),
        trained: report.trained.clone(),
        optimizer: report.optimizer.clone(),
        position: None,
    }
}

/// The state within an epoch, as the next execution starts from it.
pub fn step_checkpoint(report: &StepReport) -> Start {
    Start::Checkpoint {
        frozen: report.frozen.clone(),
        trained: report.trained.clone(),
        optimizer: report.optimizer.clone(),
        position: Some(Position { step: report.step, progress: report.progress.clone() }),
    }
}

/// The bytes of all files that an epoch made, by name.
pub fn bytes(report: &EpochReport) -> BTreeMap<String, Vec<u8>> {
    let model = [&report.frozen, &report.trained, &report.optimizer];
    read_all(model.into_iter().chain(report.predictions.iter().map(|(_, file)| file)))
}

/// The bytes of all files of a checkpoint within an epoch, by name.
pub fn step_bytes(report: &StepReport) -> BTreeMap<String, Vec<u8>> {
    read_all([&report.frozen, &report.trained, &report.optimizer, &report.progress].into_iter())
}

fn read_all<'a>(files: impl Iterator<Item = &'a PathBuf>) -> BTreeMap<String, Vec<u8>> {
    let name = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().into_owned();
    files.map(|file| (name(file), fs::read(file).unwrap())).collect()
}
