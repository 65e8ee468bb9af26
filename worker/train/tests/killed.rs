//! The real program, killed after every checkpoint and started again: what it ends with are the bytes of an undisturbed run.

mod common;

use std::{fs, path::Path};

use ceteris_shared::{
    plan::EpochWork,
    spec::Trainable,
    trainer::{DatasetFiles, Report, Request, Start, Train},
};
use common::{
    attempt, bytes, checkpoint, epoch, epochs, request, small_dataset, step_checkpoint, train, trainer::Trainer,
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
fn rest(out: &Path, data: &DatasetFiles, number: u32, epoch: u32, start: Start) -> Train {
    let mut request = request(out, data, stages().split_off(epoch as usize - 1));
    request.attempt = attempt(number);
    request.work.checkpoint_every_steps = Some(1);
    request.start = start;
    request
}

#[test]
fn a_trainer_that_is_killed_at_every_checkpoint_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let (_, reports) = train(&request(&folder.path().join("whole"), &data, stages())).unwrap();
    let whole: Vec<_> = epochs(&reports).into_iter().map(bytes).collect();

    let (mut files, mut killed) = (Vec::new(), Vec::new());
    let (mut number, mut next, mut start) = (0, 1, Start::Random);
    while next as usize <= stages().len() {
        number += 1;
        let own = folder.path().join(number.to_string());
        fs::create_dir(&own).unwrap();
        let mut trainer = Trainer::start(&own);
        trainer.say(&Request::Train(Box::new(rest(&own.join("out"), &data, number, next, start))));
        (next, start) = loop {
            match trainer.hear() {
                Report::Step(step) => {
                    killed.push((step.epoch.0, Some(step.step)));
                    break (step.epoch.0, step_checkpoint(&step));
                }
                Report::Epoch(report) => {
                    killed.push((report.epoch.0, None));
                    files.push(bytes(&report));
                    break (report.epoch.0 + 1, checkpoint(&report));
                }
                Report::Started { .. } | Report::Progress { .. } => {}
                report => panic!("{report:?}"),
            }
        };
        // In the middle of whatever it does after that report.
        trainer.kill();
    }
    let expected: Vec<_> = (1..=4).flat_map(|epoch| [Some(1), Some(2), None].map(|step| (epoch, step))).collect();
    assert_eq!(killed, expected);
    assert_eq!(files.len(), whole.len());
    for (number, (got, expected)) in files.iter().zip(&whole).enumerate() {
        let differing: Vec<&String> = expected.keys().filter(|name| got.get(*name) != expected.get(*name)).collect();
        assert!(differing.is_empty(), "epoch {}: {differing:?} differ", number + 1);
    }
}
