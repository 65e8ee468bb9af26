//! Checkpoints and predictions go to disk beside training: the training thread hands over copies in memory and goes on.
//!
//! What is frozen does not change within a stage, so it is written once, and later checkpoints of the stage link to it.
//! Files are complete and on disk before they are reported, and reported in the order in which they were handed over.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Scope, ScopedJoinHandle},
};

use ceteris_shared::{
    architecture::Part,
    ids::{Attempt, Epoch},
    lineage::LineageKey,
    predictions::Predictions,
    trainer::{EpochReport, MetricPoint, Report, Scored, Spent, StepReport},
};

use super::Error;
use crate::{
    checkpoint::{Parts, Progress},
    files,
    tensors::{Contents, StateDict},
};

/// Checkpoints that wait for the disk before training does.
const QUEUE: usize = 1;

/// Where reports go, from whichever thread.
pub(super) type Reporter<'a> = Mutex<&'a mut (dyn FnMut(Report) + Send)>;

/// Reports, one thread at a time.
pub(super) fn tell(reporter: &Reporter<'_>, report: Report) {
    reporter.lock().unwrap_or_else(PoisonError::into_inner)(report);
}

/// A state, copied off the device.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub epoch: Epoch,
    pub key: LineageKey,
    /// The first trained part: within a stage it stays the same, and so does what is frozen.
    pub first: Part,
    /// What is frozen, where it has not been written for this stage.
    pub frozen: Option<StateDict>,
    pub trained: StateDict,
    pub optimizer: Contents,
}

/// What is written, and then reported.
#[derive(Debug)]
pub(super) enum Job {
    /// An epoch's end.
    Epoch { snapshot: Snapshot, metrics: Vec<MetricPoint>, predictions: Vec<(Scored, Predictions)>, spent: Spent },
    /// Within an epoch.
    Step { snapshot: Snapshot, progress: Progress },
}

/// The writing thread.
pub(super) struct Writer<'scope> {
    queue: SyncSender<Job>,
    thread: ScopedJoinHandle<'scope, Result<(), Error>>,
}

impl<'scope> Writer<'scope> {
    /// Starts it, for an execution that writes to `directory`.
    pub fn start<'env: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        attempt: Attempt,
        directory: &'env Path,
        classes: Vec<String>,
        reporter: &'env Reporter<'env>,
    ) -> Self {
        let (queue, jobs) = sync_channel(QUEUE);
        let files = Files { attempt, directory, classes, frozen: None };
        Self { queue, thread: scope.spawn(move || files.write_all(&jobs, reporter)) }
    }

    /// Hands over. False where the thread has ended: [`Self::finish`] says why.
    pub fn hand_over(&self, job: Job) -> bool {
        self.queue.send(job).is_ok()
    }

    /// Waits until everything is written and reported.
    ///
    /// # Errors
    /// When the disk refused.
    pub fn finish(self) -> Result<(), Error> {
        drop(self.queue);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

struct Files<'env> {
    attempt: Attempt,
    directory: &'env Path,
    classes: Vec<String>,
    /// What was frozen in the last stage that wrote it, and where it lies.
    frozen: Option<(Part, PathBuf)>,
}

impl Files<'_> {
    fn write_all(mut self, jobs: &Receiver<Job>, reporter: &Reporter<'_>) -> Result<(), Error> {
        for job in jobs {
            let (Job::Epoch { snapshot, .. } | Job::Step { snapshot, .. }) = &job;
            let epoch = snapshot.epoch;
            let report = self.write(job).map_err(|source| Error::Write { epoch, source })?;
            tell(reporter, report);
        }
        Ok(())
    }

    fn write(&mut self, job: Job) -> Result<Report, files::Error> {
        match job {
            Job::Epoch { snapshot, metrics, predictions, spent } => {
                let folder = self.folder(&format!("epoch-{}", snapshot.epoch))?;
                let (epoch, key) = (snapshot.epoch, snapshot.key);
                let Parts { frozen, trained, optimizer } = self.write_parts(&folder, snapshot)?;
                let predictions = write_predictions(&folder, &predictions)?;
                self.sync(&folder)?;
                Ok(Report::Epoch(Box::new(EpochReport {
                    attempt: self.attempt,
                    epoch,
                    key,
                    metrics,
                    classes: self.classes.clone(),
                    frozen,
                    trained,
                    optimizer,
                    predictions,
                    spent,
                })))
            }
            Job::Step { snapshot, progress } => {
                let folder = self.folder(&format!("epoch-{}-step-{}", snapshot.epoch, progress.step))?;
                let (epoch, key, step) = (snapshot.epoch, snapshot.key, progress.step);
                let Parts { frozen, trained, optimizer } = self.write_parts(&folder, snapshot)?;
                let file = folder.join("progress.json");
                files::write(&file, &progress.to_bytes())?;
                self.sync(&folder)?;
                Ok(Report::Step(Box::new(StepReport {
                    attempt: self.attempt,
                    epoch,
                    step,
                    key,
                    classes: self.classes.clone(),
                    frozen,
                    trained,
                    optimizer,
                    progress: file,
                })))
            }
        }
    }

    fn folder(&self, name: &str) -> Result<PathBuf, files::Error> {
        let folder = self.directory.join(name);
        fs::create_dir_all(&folder).map_err(files::at(&folder, "cannot be created"))?;
        Ok(folder)
    }

    fn write_parts(&mut self, folder: &Path, snapshot: Snapshot) -> Result<Parts, files::Error> {
        let parts = Parts::in_folder(folder);
        let model = |tensors| Contents { tensors, step: None };
        if let Some(frozen) = snapshot.frozen {
            // Under a name of its own: the agent removes a checkpoint's folder once it is stored.
            let kept = self.directory.join(format!("frozen-below-{:?}.safetensors", snapshot.first).to_lowercase());
            model(frozen).write(&kept)?;
            self.frozen = Some((snapshot.first, kept));
        }
        match &self.frozen {
            Some((first, kept)) if *first == snapshot.first => link(kept, &parts.frozen)?,
            _ => unreachable!("the first snapshot of a stage carries what is frozen"),
        }
        model(snapshot.trained).write(&parts.trained)?;
        snapshot.optimizer.write(&parts.optimizer)?;
        Ok(parts)
    }

    fn sync(&self, folder: &Path) -> Result<(), files::Error> {
        files::sync_folder(folder).and_then(|()| files::sync_folder(self.directory))?;
        ceteris_crash::here(ceteris_crash::Point::CheckpointWritten);
        Ok(())
    }
}

/// A second name for a file that is complete and on disk.
fn link(file: &Path, name: &Path) -> Result<(), files::Error> {
    match fs::hard_link(file, name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            fs::copy(file, name).map(|_| ()).map_err(files::at(name, "cannot be written"))
        }
        made => made.map_err(files::at(name, "cannot be linked")),
    }
}

fn write_predictions(
    folder: &Path,
    predictions: &[(Scored, Predictions)],
) -> Result<Vec<(Scored, PathBuf)>, files::Error> {
    let mut written = Vec::new();
    for (index, (scored, predictions)) in predictions.iter().enumerate() {
        let file = match scored {
            Scored::Split(split) => folder.join(format!("predictions-{split}.safetensors")),
            // Named by position: a data set's name is not to be trusted as part of a path.
            Scored::External(_) => folder.join(format!("predictions-{index}.safetensors")),
        };
        files::write(&file, &predictions.to_bytes())?;
        written.push((scored.clone(), file));
    }
    Ok(written)
}
