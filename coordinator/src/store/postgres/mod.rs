//! The store in a database on a PostgreSQL server, for coordinators of which one leads and others stand by.
//!
//! Unlike SQLite's, its transactions run beside each other: each that writes begins with the fence that keeps a deposed
//! leader out (`leadership`), and each that brings a worker's event locks that worker's row first, so that two connections
//! of one worker take turns.

mod bulk;
mod leadership;
mod read;
mod server;
#[cfg(test)]
mod tests;
mod write;

use std::{borrow::Cow, collections::HashMap, time::Duration};

use async_trait::async_trait;
use ceteris_scheduler::Snapshot;
use ceteris_shared::{
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, WorkerId},
    lineage::LineageKey,
    trainer::{MetricPoint, Scored},
};
use sqlx::{PgPool, Postgres as Driver, Transaction, postgres::PgPoolOptions};
use tokio::time::timeout;

use super::{
    Change, DatasetRecord, Error, ExperimentRecord, ExperimentSummary, LogBatch, Observation, Observed, References,
    RunRef, SegmentRecord, SeriesPoint, SeriesQuery, Store, TrainedEpoch, WeightsRecord, WorkerRecord, fault::Fault,
};
use leadership::Reign;

pub use leadership::{Candidate, Member, Timing};
pub use server::{Server, ServerError};

/// Connections that read and write, besides the one that leads.
const CONNECTIONS: u32 = 10;
/// Connections of the driver's own: what it decides does not wait behind what workers measured and what people read.
const DECIDING: u32 = 2;
/// How long a call may wait for one of them, and a new one for the server.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what was decided may take to be committed before this process gives up, so that another one can lead: the
/// connection that it leads on may be well while the one that it writes on is dead. A submission of 100,000 segments takes
/// some seconds.
const COMMIT: Duration = Duration::from_secs(60);
/// How long a connection that nobody uses is kept. What lies between may forget one that is silent for minutes.
const UNUSED: Duration = Duration::from_secs(60);

/// An open database, which this process leads on. Dropping it lets another coordinator lead.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    pool: PgPool,
    /// For the driver alone.
    deciding: PgPool,
    reign: Reign,
}

impl Postgres {
    /// Opens a database that this process leads on, and brings its tables up to date.
    async fn open(server: Server, instance: &str, reign: Reign) -> Result<Self, Error> {
        // A connection that died means a server that went away, and that this process leads no more: none is tried out first.
        let connect = async |connections| {
            let options = PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(PATIENCE)
                .idle_timeout(UNUSED)
                .max_lifetime(None)
                .test_before_acquire(false);
            let pool = options.connect_with(server.options(instance)).await;
            pool.map_err(|error| server::sql(server.place(), &error))
        };
        let (pool, deciding) = (connect(CONNECTIONS).await?, connect(DECIDING).await?);
        let migrated = sqlx::migrate!("migrations/postgres").run(&pool).await;
        migrated.map_err(|error| server::migrating(server.place(), error))?;
        ceteris_crash::here(ceteris_crash::Point::DatabaseMigrated);
        Ok(Self { server, pool, deciding, reign })
    }

    /// A transaction that only whoever leads can begin.
    async fn writing(&self) -> Result<Transaction<'static, Driver>, Fault> {
        self.writing_in(&self.pool).await
    }

    async fn writing_in(&self, pool: &PgPool) -> Result<Transaction<'static, Driver>, Fault> {
        let mut transaction = pool.begin().await?;
        self.reign.fence(&mut transaction).await?;
        Ok(transaction)
    }

    /// A transaction that sees one state of the database.
    async fn reading(&self) -> Result<Transaction<'static, Driver>, Fault> {
        Ok(self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
    }

    async fn observe(
        &self,
        worker: WorkerId,
        sequence: u64,
        attempt: Attempt,
        what: Observation,
    ) -> Result<bool, Error> {
        let observed = [Observed { sequence, attempt, what }];
        let known = self.write_observed(worker, &observed).await.map_err(|fault| self.named(fault))?;
        Ok(known.first().copied().unwrap_or_default())
    }

    fn named(&self, fault: Fault) -> Error {
        match fault {
            Fault::Refused(error) => error,
            Fault::Damaged(what) => Error::Damaged { place: self.server.place(), what },
            Fault::Sql(error) => server::sql(self.server.place(), &error),
        }
    }
}

/// PostgreSQL's text holds every character but one. Peers may send that one too, and it is worth no refusal.
fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

#[async_trait]
impl Store for Postgres {
    async fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        let committed = timeout(COMMIT, self.write_changes(changes)).await;
        let late = |_| Err(Fault::Sql(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
        committed.unwrap_or_else(late).map_err(|fault| self.named(fault))
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.read_snapshot().await.map_err(|fault| self.named(fault))
    }

    async fn trained(&self, keys: &[LineageKey]) -> Result<HashMap<LineageKey, Vec<TrainedEpoch>>, Error> {
        self.read_trained(keys).await.map_err(|fault| self.named(fault))
    }

    async fn references(&self) -> Result<References, Error> {
        self.read_references().await.map_err(|fault| self.named(fault))
    }

    async fn last_sequence(&self, worker: WorkerId) -> Result<u64, Error> {
        self.read_sequence(worker).await.map_err(|fault| self.named(fault))
    }

    async fn append_metrics(
        &self,
        worker: WorkerId,
        sequence: u64,
        attempt: Attempt,
        points: &[MetricPoint],
    ) -> Result<bool, Error> {
        self.observe(worker, sequence, attempt, Observation::Metrics(points.to_vec())).await
    }

    async fn append_log(
        &self,
        worker: WorkerId,
        sequence: u64,
        attempt: Attempt,
        lines: &[String],
    ) -> Result<bool, Error> {
        self.observe(worker, sequence, attempt, Observation::Log(lines.to_vec())).await
    }

    async fn append(&self, worker: WorkerId, observed: Vec<Observed>) -> Result<Vec<bool>, Error> {
        match self.write_observed(worker, &observed).await {
            Ok(known) => Ok(known),
            Err(fault) if observed.len() <= 1 => Err(self.named(fault)),
            // What cannot be stored must not take others with it.
            Err(_) => {
                let mut known = Vec::with_capacity(observed.len());
                for alone in observed.chunks(1) {
                    known.extend(self.write_observed(worker, alone).await.map_err(|fault| self.named(fault))?);
                }
                Ok(known)
            }
        }
    }

    async fn register_dataset(&self, dataset: &DatasetRecord) -> Result<DatasetRecord, Error> {
        self.write_dataset(dataset).await.map_err(|fault| self.named(fault))
    }

    async fn datasets(&self) -> Result<Vec<DatasetRecord>, Error> {
        self.read_datasets().await.map_err(|fault| self.named(fault))
    }

    async fn find_dataset(&self, name: &str) -> Result<DatasetRecord, Error> {
        self.read_dataset(name).await.map_err(|fault| self.named(fault))
    }

    async fn register_weights(&self, weights: &WeightsRecord) -> Result<WeightsRecord, Error> {
        self.write_weights(weights).await.map_err(|fault| self.named(fault))
    }

    async fn weights(&self) -> Result<Vec<WeightsRecord>, Error> {
        self.read_all_weights().await.map_err(|fault| self.named(fault))
    }

    async fn find_weights(&self, name: &str) -> Result<WeightsRecord, Error> {
        self.read_weights(name).await.map_err(|fault| self.named(fault))
    }

    async fn experiments(&self) -> Result<Vec<ExperimentSummary>, Error> {
        self.read_experiments().await.map_err(|fault| self.named(fault))
    }

    async fn find_experiment(&self, text: &str) -> Result<ExperimentRecord, Error> {
        self.read_experiment(text).await.map_err(|fault| self.named(fault))
    }

    async fn find_run(&self, text: &str) -> Result<RunRef, Error> {
        self.read_run(text).await.map_err(|fault| self.named(fault))
    }

    async fn segments(&self, experiment: ExperimentId) -> Result<Vec<SegmentRecord>, Error> {
        self.read_segments(experiment).await.map_err(|fault| self.named(fault))
    }

    async fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesPoint>, Error> {
        self.read_series(query).await.map_err(|fault| self.named(fault))
    }

    async fn predictions(&self, segment: SegmentId, epoch: Epoch, scored: &Scored) -> Result<Option<Digest>, Error> {
        self.read_predictions(segment, epoch, scored).await.map_err(|fault| self.named(fault))
    }

    async fn logs(&self, segments: &[SegmentId], after: i64, limit: u32) -> Result<Vec<LogBatch>, Error> {
        self.read_logs(segments, after, limit).await.map_err(|fault| self.named(fault))
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>, Error> {
        self.read_workers().await.map_err(|fault| self.named(fault))
    }

    async fn deposed(&self) -> Error {
        self.reign.deposed().await
    }

    async fn close(&self) {
        // Writers end before the lock is given back. One that waits for a server which is gone is not waited for.
        let _ = timeout(PATIENCE, async { tokio::join!(self.pool.close(), self.deciding.close()) }).await;
        self.reign.end().await;
    }
}
