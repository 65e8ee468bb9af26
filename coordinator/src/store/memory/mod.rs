//! The store in memory, for tests and the simulation: it keeps nothing when it is dropped, and costs next to nothing.
//!
//! It has the tables of the databases as ordered maps. Every write first asks whether all of it is possible, and only
//! then begins, so that a commit is all or nothing here too.

mod read;
mod tables;
#[cfg(test)]
mod tests;
mod write;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use ceteris_scheduler::Snapshot;
use ceteris_shared::{
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, WorkerId},
    lineage::LineageKey,
    trainer::{MetricPoint, Scored},
};

use super::{
    Change, DatasetRecord, Error, ExperimentRecord, ExperimentSummary, LogBatch, References, RunRef, SegmentRecord,
    SeriesPoint, SeriesQuery, Store, TrainedEpoch, WeightsRecord, WorkerRecord,
};
use tables::Tables;

/// A store that is gone with its process.
#[derive(Debug, Default)]
pub struct Memory {
    /// None once it is closed.
    tables: Mutex<Option<Tables>>,
}

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Self { tables: Mutex::new(Some(Tables::default())) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Tables>> {
        // Nothing between the checks and the end of a write can panic, so a panic elsewhere leaves nothing half-done.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Tables) -> Result<T, Error>) -> Result<T, Error> {
        match self.lock().as_mut() {
            Some(tables) => work(tables),
            None => Err(database("it is closed")),
        }
    }
}

fn database(cause: impl Into<String>) -> Error {
    Error::Database { place: PathBuf::from("memory"), cause: cause.into() }
}

#[async_trait]
impl Store for Memory {
    async fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        self.with(|tables| tables.commit(changes))
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.with(|tables| tables.snapshot())
    }

    async fn trained(&self, keys: &[LineageKey]) -> Result<HashMap<LineageKey, Vec<TrainedEpoch>>, Error> {
        self.with(|tables| Ok(tables.trained(keys)))
    }

    async fn references(&self) -> Result<References, Error> {
        self.with(|tables| Ok(tables.references()))
    }

    async fn last_sequence(&self, worker: WorkerId) -> Result<u64, Error> {
        self.with(|tables| Ok(tables.workers.get(&worker).map_or(0, |worker| worker.sequence)))
    }

    async fn append_metrics(
        &self,
        worker: WorkerId,
        sequence: u64,
        attempt: Attempt,
        points: &[MetricPoint],
    ) -> Result<bool, Error> {
        self.with(|tables| Ok(tables.append_metrics(worker, sequence, attempt, points)))
    }

    async fn append_log(
        &self,
        worker: WorkerId,
        sequence: u64,
        attempt: Attempt,
        lines: &[String],
    ) -> Result<bool, Error> {
        self.with(|tables| Ok(tables.append_log(worker, sequence, attempt, lines)))
    }

    async fn register_dataset(&self, dataset: &DatasetRecord) -> Result<DatasetRecord, Error> {
        self.with(|tables| tables.register_dataset(dataset))
    }

    async fn datasets(&self) -> Result<Vec<DatasetRecord>, Error> {
        self.with(|tables| Ok(tables.datasets.values().cloned().collect()))
    }

    async fn find_dataset(&self, name: &str) -> Result<DatasetRecord, Error> {
        self.with(|tables| tables.find_dataset(name))
    }

    async fn register_weights(&self, weights: &WeightsRecord) -> Result<WeightsRecord, Error> {
        self.with(|tables| tables.register_weights(weights))
    }

    async fn weights(&self) -> Result<Vec<WeightsRecord>, Error> {
        self.with(|tables| Ok(tables.weights.values().cloned().collect()))
    }

    async fn find_weights(&self, name: &str) -> Result<WeightsRecord, Error> {
        self.with(|tables| tables.find_weights(name))
    }

    async fn experiments(&self) -> Result<Vec<ExperimentSummary>, Error> {
        self.with(|tables| Ok(tables.summaries()))
    }

    async fn find_experiment(&self, text: &str) -> Result<ExperimentRecord, Error> {
        self.with(|tables| tables.find_experiment(text))
    }

    async fn find_run(&self, text: &str) -> Result<RunRef, Error> {
        self.with(|tables| tables.find_run(text))
    }

    async fn segments(&self, experiment: ExperimentId) -> Result<Vec<SegmentRecord>, Error> {
        self.with(|tables| Ok(tables.segment_records(experiment)))
    }

    async fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesPoint>, Error> {
        self.with(|tables| Ok(tables.series(query)))
    }

    async fn predictions(&self, segment: SegmentId, epoch: Epoch, scored: &Scored) -> Result<Option<Digest>, Error> {
        self.with(|tables| Ok(tables.predictions(segment, epoch, scored)))
    }

    async fn logs(&self, segments: &[SegmentId], after: i64, limit: u32) -> Result<Vec<LogBatch>, Error> {
        self.with(|tables| Ok(tables.log_batches(segments, after, limit)))
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>, Error> {
        self.with(|tables| Ok(tables.worker_records()))
    }

    async fn close(&self) {
        self.lock().take();
    }
}
