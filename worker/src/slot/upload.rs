//! From a checkpoint's files to a committed checkpoint: parts, predictions, manifest, and then the events. Runs beside
//! training.
//!
//! Epochs are stored one after the other, and none is left out. A checkpoint within an epoch is stored while no epoch
//! waits, and given up as soon as one does: its epoch takes its place.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ceteris_proto::fleet::{EpochCommitted, EventKind, StepCommitted};
use ceteris_shared::{
    checkpoint::{Manifest, Part, Role, SCHEMA},
    digest::Digest,
    ids::{Attempt, Epoch},
    lineage::LineageKey,
    plan::Work,
    trainer::{EpochReport, StepReport},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Failure, Shared,
    check::{epoch_folder, step_folder},
    newest::{Newest, Waiting},
};
use crate::{cache::patiently, spool};

/// Most points in one event.
const POINTS_PER_EVENT: usize = 5000;
/// Epochs that wait for the store before training does.
pub(super) const QUEUE: usize = 2;

/// Stores and commits epochs in the order they come, and the newest steps between them.
pub(super) struct Uploader {
    pub shared: Arc<Shared>,
    pub work: Work,
    /// What the trainer writes to.
    pub directory: PathBuf,
    /// Where steps wait.
    pub steps: Arc<Newest>,
    /// Ends it between two objects. Events that it began to write down are written, unless there is no room for them.
    pub cancel: CancellationToken,
    /// The parts of the last checkpoint, which are kept for the next attempt.
    pub kept: Vec<Digest>,
}

/// Why epochs are no longer committed.
#[derive(Debug)]
pub(super) enum Error {
    /// The attempt fails.
    Attempt(Failure),
    /// The agent does.
    Spool(spool::Error),
}

impl From<spool::Error> for Error {
    fn from(error: spool::Error) -> Self {
        Self::Spool(error)
    }
}

/// A checkpoint in the store, by digest.
struct Stored {
    manifest: Digest,
    weights: Digest,
    parts: Vec<Digest>,
}

/// What a checkpoint's manifest says besides what is the same for all of an attempt.
struct Checkpoint<'a> {
    attempt: Attempt,
    epoch: Epoch,
    step: Option<u32>,
    key: LineageKey,
    classes: &'a [String],
    /// In the order of [`Role`].
    parts: Vec<(Role, &'a Path)>,
}

impl Uploader {
    /// Commits what comes until the queue closes, and then the step that waits.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<EpochReport>) -> Result<(), Error> {
        let cancel = self.cancel.clone();
        let mut next = self.work.start().next();
        let mut waiting = None;
        loop {
            let epoch = match waiting.take() {
                Some(epoch) => Some(epoch),
                None => tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Ok(()),
                    epoch = queue.recv() => epoch,
                    step = self.steps.taken(next) => {
                        waiting = self.store_step(step, &mut queue).await?;
                        continue;
                    }
                },
            };
            let Some(report) = epoch else { break };
            let (committed, parts) = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                stored = self.store_epoch(&report) => stored?,
            };
            next = report.epoch.next();
            let folder = epoch_folder(&self.directory, &report);
            if !self.commit_epoch(report, committed).await? {
                return Ok(());
            }
            self.keep(parts).await;
            remove(&folder).await;
        }
        if let Some(step) = self.steps.take(next) {
            self.store_step(step, &mut queue).await?;
        }
        Ok(())
    }

    /// Stores and commits a step unless an epoch comes meanwhile, which it then returns. That a step cannot be stored is
    /// no reason to end an attempt: it costs some steps if the attempt has to be repeated.
    async fn store_step(
        &mut self,
        step: Waiting,
        queue: &mut mpsc::Receiver<EpochReport>,
    ) -> Result<Option<EpochReport>, Error> {
        let (Waiting::Next(report) | Waiting::Late(report)) = &step;
        let folder = step_folder(&self.directory, report);
        let mut epoch = None;
        if matches!(step, Waiting::Next(_)) {
            let (attempt, number) = (report.attempt, report.step);
            let stored = tokio::select! {
                biased;
                () = self.cancel.cancelled() => None,
                Some(report) = queue.recv() => {
                    epoch = Some(report);
                    None
                }
                stored = self.store(step_checkpoint(report)) => Some(stored),
            };
            match stored {
                None => {
                    tracing::debug!(%attempt, epoch = %report.epoch, step = number, "a step's checkpoint is given up")
                }
                Some(Err(error)) => {
                    tracing::warn!(%attempt, epoch = %report.epoch, step = number, %error, "a step's checkpoint cannot be stored");
                }
                Some(Ok(stored)) => {
                    tracing::info!(%attempt, epoch = %report.epoch, step = number, checkpoint = %stored.manifest.short(), "committed");
                    let StepReport { epoch, step, key, .. } = **report;
                    let committed = StepCommitted { epoch, step, key, manifest: stored.manifest };
                    self.tell(attempt, EventKind::StepCommitted(committed)).await?;
                    self.keep(stored.parts).await;
                }
            }
        }
        remove(&folder).await;
        Ok(epoch)
    }

    /// Stores everything that the epoch left; also the checkpoint's parts.
    async fn store_epoch(&self, report: &EpochReport) -> Result<(EpochCommitted, Vec<Digest>), Error> {
        let failed = |error: ceteris_blob::Error| {
            let about = |error: &dyn std::fmt::Display| {
                Failure::infrastructure(format!("epoch {} cannot be stored: {error}", report.epoch))
            };
            Error::Attempt(Failure::of_store(&error, about))
        };
        let mut predictions = Vec::with_capacity(report.predictions.len());
        for (scored, path) in &report.predictions {
            predictions.push((scored.clone(), self.store_file(path).await.map_err(failed)?.0));
        }
        ceteris_crash::here(ceteris_crash::Point::PredictionsStored);
        let Stored { manifest, weights, parts } = self.store(epoch_checkpoint(report)).await.map_err(failed)?;
        let EpochReport { epoch, key, spent, .. } = *report;
        Ok((EpochCommitted { epoch, key, manifest, predictions, spent, weights: Some(weights) }, parts))
    }

    /// Stores parts and then the manifest.
    async fn store(&self, checkpoint: Checkpoint<'_>) -> Result<Stored, ceteris_blob::Error> {
        let mut parts = Vec::with_capacity(checkpoint.parts.len());
        for (role, path) in checkpoint.parts {
            let (digest, bytes) = self.store_file(path).await?;
            ceteris_crash::here(ceteris_crash::Point::CheckpointPartStored);
            // An attempt that goes on from here begins with what is here already.
            self.shared.cache.adopt(digest, path).await;
            parts.push(Part { role, digest, bytes });
        }
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            key: checkpoint.key,
            epoch: checkpoint.epoch,
            step: checkpoint.step,
            attempt: checkpoint.attempt,
            arch: self.work.arch,
            classes: checkpoint.classes.to_vec(),
            environment: self.shared.environment.clone(),
            parts,
        };
        let (weights, bytes) = (manifest.weights(), manifest.to_bytes());
        let parts = manifest.parts.iter().map(|part| part.digest).collect();
        let blobs = self.shared.cache.blobs();
        let manifest = patiently(self.shared.limits.store_patience, || blobs.put_bytes(&bytes)).await?;
        ceteris_crash::here(ceteris_crash::Point::CheckpointManifestStored);
        Ok(Stored { manifest, weights, parts })
    }

    /// Keeps the parts of the newest checkpoint in the cache, and those of the one before it no longer.
    async fn keep(&mut self, parts: Vec<Digest>) {
        let mut old = std::mem::replace(&mut self.kept, parts);
        old.retain(|digest| !self.kept.contains(digest));
        self.shared.cache.forget(old).await;
    }

    /// Writes an event down. False where there was no room for it until the end.
    async fn tell(&self, attempt: Attempt, kind: EventKind) -> Result<bool, spool::Error> {
        self.shared.outbox.append_unless(&self.cancel, attempt, kind).await
    }

    async fn store_file(&self, path: &Path) -> Result<(Digest, u64), ceteris_blob::Error> {
        let blobs = self.shared.cache.blobs();
        patiently(self.shared.limits.store_patience, || blobs.put_file(path, None)).await
    }

    /// False where there was no room for its events until the end.
    async fn commit_epoch(&self, report: EpochReport, committed: EpochCommitted) -> Result<bool, Error> {
        // The points stand right before the commit, so that few are ever told of an epoch that does not count.
        for points in report.metrics.chunks(POINTS_PER_EVENT) {
            if !self.tell(report.attempt, EventKind::Metrics(points.to_vec())).await? {
                return Ok(false);
            }
        }
        let manifest = committed.manifest;
        let told = self.tell(report.attempt, EventKind::EpochCommitted(committed)).await?;
        if told {
            tracing::info!(attempt = %report.attempt, epoch = %report.epoch, checkpoint = %manifest.short(), "committed");
        }
        Ok(told)
    }
}

fn epoch_checkpoint(report: &EpochReport) -> Checkpoint<'_> {
    let parts =
        vec![(Role::Frozen, &*report.frozen), (Role::Trained, &report.trained), (Role::Optimizer, &report.optimizer)];
    let EpochReport { attempt, epoch, key, classes, .. } = report;
    Checkpoint { attempt: *attempt, epoch: *epoch, step: None, key: *key, classes, parts }
}

fn step_checkpoint(report: &StepReport) -> Checkpoint<'_> {
    let parts = vec![
        (Role::Frozen, &*report.frozen),
        (Role::Trained, &report.trained),
        (Role::Optimizer, &report.optimizer),
        (Role::Progress, &report.progress),
    ];
    let StepReport { attempt, epoch, step, key, classes, .. } = report;
    Checkpoint { attempt: *attempt, epoch: *epoch, step: Some(*step), key: *key, classes, parts }
}

/// What stays is removed with the attempt's folder.
pub(super) async fn remove(folder: &Path) {
    if let Err(error) = tokio::fs::remove_dir_all(folder).await {
        tracing::warn!(folder = %folder.display(), %error, "a checkpoint's files stay until the attempt ends");
    }
}
