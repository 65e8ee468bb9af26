//! From an epoch's files to a committed epoch: parts, predictions, manifest, and then the events. Runs beside training.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ceteris_proto::fleet::{EpochCommitted, EventKind};
use ceteris_shared::{
    checkpoint::{Manifest, Part, Role, SCHEMA},
    digest::Digest,
    plan::Work,
    trainer::EpochReport,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Failure, Shared};
use crate::{cache::patiently, spool};

/// Most points in one event.
const POINTS_PER_EVENT: usize = 5000;
/// Epochs that wait for the store before training does.
pub(super) const QUEUE: usize = 2;

/// Stores and commits epochs in the order they come.
pub(super) struct Uploader {
    pub shared: Arc<Shared>,
    pub work: Work,
    /// What the trainer writes to.
    pub directory: PathBuf,
    /// Ends it between two objects. Events that it began to write down are written.
    pub cancel: CancellationToken,
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

impl Uploader {
    /// Commits what comes until the queue closes.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<EpochReport>) -> Result<(), Error> {
        while let Some(report) = queue.recv().await {
            let (epoch, attempt) = (report.epoch, report.attempt);
            let committed = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Ok(()),
                committed = self.store_all(&report) => committed?,
            };
            self.commit(report, committed).await?;
            let folder = self.directory.join(format!("epoch-{epoch}"));
            if let Err(error) = tokio::fs::remove_dir_all(&folder).await {
                tracing::warn!(%attempt, folder = %folder.display(), %error, "an epoch's files stay until the attempt ends");
            }
        }
        Ok(())
    }

    /// Stores everything that the epoch left.
    async fn store_all(&self, report: &EpochReport) -> Result<EpochCommitted, Error> {
        let mut parts = Vec::with_capacity(3);
        for (role, path) in
            [(Role::Frozen, &report.frozen), (Role::Trained, &report.trained), (Role::Optimizer, &report.optimizer)]
        {
            let (digest, bytes) = self.store(report, path).await?;
            parts.push(Part { role, digest, bytes });
        }
        let mut predictions = Vec::with_capacity(report.predictions.len());
        for (scored, path) in &report.predictions {
            predictions.push((scored.clone(), self.store(report, path).await?.0));
        }
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            key: report.key,
            epoch: report.epoch,
            attempt: report.attempt,
            arch: self.work.arch,
            classes: report.classes.clone(),
            environment: self.shared.environment.clone(),
            parts,
        }
        .to_bytes();
        let blobs = self.shared.cache.blobs();
        let stored = patiently(self.shared.limits.store_patience, || blobs.put_bytes(&manifest)).await;
        let manifest = stored.map_err(|error| failed(report, &error))?;
        Ok(EpochCommitted { epoch: report.epoch, key: report.key, manifest, predictions, spent: report.spent })
    }

    async fn commit(&self, report: EpochReport, committed: EpochCommitted) -> Result<(), Error> {
        // The points stand right before the commit, so that few are ever told of an epoch that does not count.
        for points in report.metrics.chunks(POINTS_PER_EVENT) {
            self.shared.outbox.append(report.attempt, EventKind::Metrics(points.to_vec())).await?;
        }
        tracing::info!(attempt = %report.attempt, epoch = %report.epoch, checkpoint = %committed.manifest.short(), "committed");
        Ok(self.shared.outbox.append(report.attempt, EventKind::EpochCommitted(committed)).await?)
    }

    async fn store(&self, report: &EpochReport, path: &Path) -> Result<(Digest, u64), Error> {
        let blobs = self.shared.cache.blobs();
        let stored = patiently(self.shared.limits.store_patience, || blobs.put_file(path, None)).await;
        stored.map_err(|error| failed(report, &error))
    }
}

fn failed(report: &EpochReport, error: &ceteris_blob::Error) -> Error {
    Error::Attempt(Failure::infrastructure(format!("epoch {} cannot be stored: {error}", report.epoch)))
}
