//! The store in one SQLite file.
//!
//! One connection writes and a few read (WAL, full synchronisation: what is committed survives a power cut). Every write
//! is a transaction and every read runs to its end, so that no open statement keeps the log from being folded back into
//! the file ([`writer`]); what workers measure is committed together ([`append`]). A lock file beside it keeps a second coordinator out: two schedulers on one database would both give work
//! away.

mod append;
pub mod backup;
#[cfg(test)]
mod golden;
mod read;
#[cfg(test)]
mod tests;
mod write;
mod writer;

use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    path::Path,
};

use async_trait::async_trait;
use ceteris_scheduler::Snapshot;
use ceteris_shared::{
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, WorkerId},
    lineage::LineageKey,
    trainer::{MetricPoint, Scored},
};
use sqlx::{
    Sqlite as Driver, SqlitePool, Transaction,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use append::Appender;
use writer::{BUSY, Writer, beside};

use super::{
    Change, DatasetRecord, Error, ExperimentRecord, ExperimentSummary, LogBatch, Observation, Observed, References,
    RunRef, SegmentRecord, SeriesPoint, SeriesQuery, Store, TrainedEpoch, WeightsRecord, WorkerRecord, fault::Fault,
};

/// Connections that only read.
const READERS: u32 = 4;

/// An open database. Dropping it lets another coordinator open it.
#[derive(Debug)]
pub struct Sqlite {
    writer: Writer,
    appender: Appender,
    readers: SqlitePool,
    lock: File,
}

impl Sqlite {
    /// Opens a database, makes it if it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::InUse`], [`Error::Newer`], [`Error::Damaged`].
    pub async fn open(place: &Path) -> Result<Self, Error> {
        let lock = lock(place)?;
        let options = SqliteConnectOptions::new()
            .filename(place)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let pool =
            |connections| SqlitePoolOptions::new().max_connections(connections).idle_timeout(None).max_lifetime(None);
        let writing = options.clone().create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
        let writer = pool(1).connect_with(writing).await.map_err(|error| opening(place, error))?;
        backup::MIGRATOR.run(&writer).await.map_err(|error| migrating(place, error))?;
        ceteris_crash::here(ceteris_crash::Point::DatabaseMigrated);
        let readers =
            pool(READERS).connect_with(options.read_only(true)).await.map_err(|error| opening(place, error))?;
        let writer = Writer::new(place, writer);
        Ok(Self { appender: Appender::start(writer.clone()), writer, readers, lock })
    }

    /// A transaction that sees one state of the database.
    async fn reading(&self) -> Result<Transaction<'static, Driver>, Fault> {
        Ok(self.readers.begin().await?)
    }

    fn named(&self, fault: Fault) -> Error {
        self.writer.named(&fault)
    }
}

/// Held until the file is closed, which the end of the process does in any case.
fn lock(place: &Path) -> Result<File, Error> {
    let not_writable = |error: std::io::Error| Error::NotWritable { place: place.to_owned(), cause: error.to_string() };
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).map_err(not_writable)?;
    }
    let beside = beside(place, ".lock");
    let file = File::options().create(true).truncate(false).write(true).open(beside).map_err(not_writable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { place: place.to_owned() }),
        Err(TryLockError::Error(error)) => Err(not_writable(error)),
    }
}

/// SQLite's primary result code (<https://sqlite.org/rescode.html>), if it is a result of SQLite's.
fn result_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

fn sql(place: &Path, error: &sqlx::Error) -> Error {
    let place = place.to_owned();
    let cause = error.to_string();
    match result_code(error) {
        Some(8 | 14) => Error::NotWritable { place, cause },
        Some(11 | 26) => Error::Damaged { place, what: cause },
        Some(13) => Error::Full { place },
        _ => Error::Database { place, cause },
    }
}

fn opening(place: &Path, error: sqlx::Error) -> Error {
    match sql(place, &error) {
        Error::Database { place, cause } => Error::NotWritable { place, cause },
        other => other,
    }
}

fn migrating(place: &Path, error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(migration) => Error::Newer { place: place.to_owned(), migration },
        MigrateError::VersionMismatch(migration) => Error::Damaged {
            place: place.to_owned(),
            what: format!("its migration {migration} is another one than this program's"),
        },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => sql(place, &error),
        other => Error::Database { place: place.to_owned(), cause: other.to_string() },
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        self.write_changes(changes).await.map_err(|fault| self.named(fault))
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
        let what = Observation::Metrics(points.to_vec());
        let known = self.append(worker, vec![Observed { sequence, attempt, what }]).await?;
        Ok(known == [true])
    }

    async fn append_log(
        &self,
        worker: WorkerId,
        sequence: u64,
        attempt: Attempt,
        lines: &[String],
    ) -> Result<bool, Error> {
        let what = Observation::Log(lines.to_vec());
        let known = self.append(worker, vec![Observed { sequence, attempt, what }]).await?;
        Ok(known == [true])
    }

    async fn append(&self, worker: WorkerId, observed: Vec<Observed>) -> Result<Vec<bool>, Error> {
        self.appender.append(worker, observed).await
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

    async fn close(&self) {
        self.readers.close().await;
        self.writer.pool.close().await;
        // It fails only where locks are not kept, and there nothing is locked.
        let _ = self.lock.unlock();
    }
}
