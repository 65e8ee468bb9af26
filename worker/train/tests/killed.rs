//! The real program, killed after every checkpoint and started again: what it ends with are the bytes of an undisturbed run.

mod common;

use std::{fs, path::Path};

use ceteris_shared::{
    dataset::Split,
    plan::EpochWork,
    spec::Trainable,
    trainer::{DatasetFiles, Report, Request, Start, Train},
};
use common::{
    attempt, bytes, checkpoint, dataset_of_size, epoch, epochs, request, small_dataset, step_checkpoint, train,
    trainer::Trainer,
};

fn stages() -> Vec<EpochWork> {
    vec![
        epoch(1, Trainable::Head, true),
        epoch(2, Trainable::Denseblock4, true),
        epoch(3, Trainable::Denseblock4, false),
        epoch(4, Trainable::All, true),
    ]
}

/// What remains of the stages from `epoch` on, with a checkpoint after every step.
fn rest(out: &Path, data: &DatasetFiles, stages: &[EpochWork], number: u32, epoch: u32, start: Start) -> Train {
    let mut request = request(out, data, stages[epoch as usize - 1..].to_vec());
    request.attempt = attempt(number);
    request.work.checkpoint_every_steps = Some(1);
    request.start = start;
    request
}

/// Kills the trainer after each checkpoint that `kills` chooses by epoch and step (None at the end of an epoch), goes on
/// from that checkpoint in a new process, and compares each epoch's files with those of an undisturbed run. What was
/// killed after.
fn killed(
    folder: &Path,
    data: &DatasetFiles,
    stages: &[EpochWork],
    kills: impl Fn(u32, Option<u32>) -> bool,
) -> Vec<(u32, Option<u32>)> {
    let (_, reports) = train(&request(&folder.join("whole"), data, stages.to_vec())).unwrap();
    let whole: Vec<_> = epochs(&reports).into_iter().map(bytes).collect();

    let (mut files, mut killed) = (Vec::new(), Vec::new());
    let (mut number, mut next, mut start) = (0, 1, Start::Random);
    while next as usize <= stages.len() {
        number += 1;
        let own = folder.join(number.to_string());
        fs::create_dir(&own).unwrap();
        let mut trainer = Trainer::start(&own);
        trainer.say(&Request::Train(Box::new(rest(&own.join("out"), data, stages, number, next, start.clone()))));
        loop {
            let place = match trainer.hear() {
                Report::Step(step) => {
                    (next, start) = (step.epoch.0, step_checkpoint(&step));
                    (step.epoch.0, Some(step.step))
                }
                Report::Epoch(report) => {
                    files.push(bytes(&report));
                    (next, start) = (report.epoch.0 + 1, checkpoint(&report));
                    (report.epoch.0, None)
                }
                Report::Started { .. } | Report::Progress { .. } => continue,
                Report::Finished { .. } => break,
                report => panic!("{report:?}"),
            };
            if kills(place.0, place.1) {
                killed.push(place);
                break;
            }
        }
        // In the middle of whatever it does after that report.
        trainer.kill();
    }
    assert_eq!(files.len(), whole.len());
    for (number, (got, expected)) in files.iter().zip(&whole).enumerate() {
        let differing: Vec<&String> = expected.keys().filter(|name| got.get(*name) != expected.get(*name)).collect();
        assert!(differing.is_empty(), "epoch {}: {differing:?} differ", number + 1);
    }
    killed
}

#[test]
fn a_trainer_that_is_killed_at_every_checkpoint_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let killed = killed(folder.path(), &data, &stages(), |_, _| true);
    let expected: Vec<_> = (1..=4).flat_map(|epoch| [Some(1), Some(2), None].map(|step| (epoch, step))).collect();
    assert_eq!(killed, expected);
}

#[test]
fn a_trainer_that_is_killed_at_sampled_steps_on_images_of_full_size_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let samples = [(Split::Train, 10), (Split::Val, 2), (Split::Test, 2)];
    let data = dataset_of_size(&folder.path().join("data"), samples, 224);
    let stages = [epoch(1, Trainable::All, true), epoch(2, Trainable::All, false)];
    let sampled = [(1, Some(1)), (1, Some(4)), (2, Some(2))];
    let killed = killed(folder.path(), &data, &stages, |epoch, step| sampled.contains(&(epoch, step)));
    assert_eq!(killed, sampled);
}
