//! What a trainer says of its checkpoints, held against what was asked of it.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use ceteris_shared::{
    ids::Epoch,
    lineage::LineageKey,
    spec::Trainable,
    trainer::{EpochReport, Start, StepReport, Train},
};

/// What a trainer still has to report.
#[derive(Debug)]
pub(super) struct Expected {
    /// What the trainer writes to.
    directory: PathBuf,
    epochs: VecDeque<(Epoch, LineageKey, Trainable)>,
    /// Steps of the first of them that are behind it.
    step: u32,
}

/// The folder of an epoch's files.
pub(super) fn epoch_folder(directory: &Path, report: &EpochReport) -> PathBuf {
    directory.join(format!("epoch-{}", report.epoch))
}

/// The folder of a step's files.
pub(super) fn step_folder(directory: &Path, report: &StepReport) -> PathBuf {
    directory.join(format!("epoch-{}-step-{}", report.epoch, report.step))
}

impl Expected {
    pub(super) fn of(train: &Train) -> Self {
        let step = match &train.start {
            Start::Checkpoint { position: Some(position), .. } => position.step,
            Start::Random | Start::Weights { .. } | Start::Checkpoint { position: None, .. } => 0,
        };
        let epochs = train.work.epochs.iter().map(|work| (work.epoch, work.key, work.train)).collect();
        Self { directory: train.directory.clone(), epochs, step }
    }

    /// Epochs that are still to be reported.
    pub(super) fn epochs(&self) -> usize {
        self.epochs.len()
    }

    /// Takes the next epoch that was asked for, with files where they were told to be. Returns what it trained.
    pub(super) fn epoch(&mut self, report: &EpochReport) -> Result<Trainable, String> {
        let train = self.next(report.epoch, report.key, "")?;
        let predictions = report.predictions.iter().map(|(_, path)| path);
        let paths = [&report.frozen, &report.trained, &report.optimizer].into_iter().chain(predictions);
        inside(&epoch_folder(&self.directory, report), paths)?;
        self.epochs.pop_front();
        self.step = 0;
        Ok(train)
    }

    /// Takes a later step of the epoch in flight, with files where they were told to be.
    pub(super) fn step(&mut self, report: &StepReport) -> Result<(), String> {
        let StepReport { epoch, step, .. } = *report;
        self.next(epoch, report.key, &format!("step {step} of "))?;
        if step <= self.step {
            return Err(format!("the trainer reported step {step} of epoch {epoch} after step {}", self.step));
        }
        let paths = [&report.frozen, &report.trained, &report.optimizer, &report.progress];
        inside(&step_folder(&self.directory, report), paths)?;
        self.step = step;
        Ok(())
    }

    fn next(&self, epoch: Epoch, key: LineageKey, what: &str) -> Result<Trainable, String> {
        match self.epochs.front() {
            Some(&(expected, lineage, train)) if (expected, lineage) == (epoch, key) => Ok(train),
            Some((expected, lineage, _)) => Err(format!(
                "the trainer reported {what}epoch {epoch} with lineage {} where epoch {expected} with lineage {} was next",
                key.short(),
                lineage.short()
            )),
            None => Err(format!("the trainer reported {what}epoch {epoch}, which was not asked for")),
        }
    }
}

fn inside<'a>(folder: &Path, paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), String> {
    match paths.into_iter().find(|path| path.parent() != Some(folder)) {
        Some(path) => Err(format!("the trainer wrote {} outside {}", path.display(), folder.display())),
        None => Ok(()),
    }
}
