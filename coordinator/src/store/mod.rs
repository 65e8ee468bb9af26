//! What the coordinator remembers. One trait of domain verbs; each database writes its own SQL behind it.
//!
//! Everything that decides what happens next goes through [`Store::commit`], one transaction per event, from the driver
//! alone. Metrics and log lines never pass the scheduler: sessions append them directly, in one transaction with the
//! worker's sequence number, so that receiving them twice changes nothing. The rest is reading.

mod codec;
#[cfg(test)]
pub(crate) mod contract;
mod database;
mod fault;
mod lookup;
#[cfg(any(test, feature = "simulation"))]
mod memory;
pub mod postgres;
mod record;
mod select;
mod sqlite;

use std::{collections::HashMap, path::PathBuf};

use async_trait::async_trait;
use ceteris_scheduler::Snapshot;
use ceteris_shared::{
    dataset::Split,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, WorkerId},
    lineage::LineageKey,
    trainer::{MetricPoint, Scored},
};

pub use database::Database;
#[cfg(any(test, feature = "simulation"))]
pub use memory::Memory;
pub use postgres::Postgres;
pub use record::{
    AttemptRecord, Change, CommittedRecord, DatasetRecord, ExperimentRecord, ExperimentSummary, LogBatch, Observation,
    Observed, References, ReplayedRecord, RunRef, SegmentRecord, SeriesPoint, SeriesQuery, TrainedEpoch, WeightsRecord,
    WorkerRecord,
};
pub use sqlite::{Sqlite, backup};

/// What the coordinator remembers.
#[async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// Makes all changes, in order, or none of them; durable when it returns.
    async fn commit(&self, changes: &[Change]) -> Result<(), Error>;

    /// Everything that the scheduler has to know to go on.
    async fn snapshot(&self) -> Result<Snapshot, Error>;

    /// Those of `keys` whose epoch is trained, with every training of it, the first first.
    async fn trained(&self, keys: &[LineageKey]) -> Result<HashMap<LineageKey, Vec<TrainedEpoch>>, Error>;

    /// Everything that names an object in the store.
    async fn references(&self) -> Result<References, Error>;

    /// The highest sequence number of `worker` whose event is stored; 0 before the first.
    async fn last_sequence(&self, worker: WorkerId) -> Result<u64, Error>;

    /// Adds measured values, and records the event's sequence number with them. Values that are there already are left
    /// as they are. False, with only the sequence recorded, when the attempt was never `worker`'s.
    async fn append_metrics(
        &self,
        worker: WorkerId,
        sequence: u64,
        attempt: Attempt,
        points: &[MetricPoint],
    ) -> Result<bool, Error>;

    /// Adds lines of an attempt's log, and records the event's sequence number with them. False, with only the
    /// sequence recorded, when the attempt was never `worker`'s.
    async fn append_log(
        &self,
        worker: WorkerId,
        sequence: u64,
        attempt: Attempt,
        lines: &[String],
    ) -> Result<bool, Error>;

    /// Adds what a worker measured and printed, event after event, as [`Self::append_metrics`] and [`Self::append_log`] do;
    /// durable when it returns. For each event, whether its attempt was ever the worker's.
    ///
    /// # Errors
    /// When one cannot be stored: then those before it may be, none after it is, and the sequence number says so.
    async fn append(&self, worker: WorkerId, observed: Vec<Observed>) -> Result<Vec<bool>, Error> {
        let mut known = Vec::with_capacity(observed.len());
        for Observed { sequence, attempt, what } in observed {
            known.push(match what {
                Observation::Metrics(points) => self.append_metrics(worker, sequence, attempt, &points).await?,
                Observation::Log(lines) => self.append_log(worker, sequence, attempt, &lines).await?,
            });
        }
        Ok(known)
    }

    /// Names a data set. Naming the same one again gives the first record.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when the name means another one.
    async fn register_dataset(&self, dataset: &DatasetRecord) -> Result<DatasetRecord, Error>;

    /// All data sets, by name.
    async fn datasets(&self) -> Result<Vec<DatasetRecord>, Error>;

    /// The data set with this name, or this digest.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    async fn find_dataset(&self, name: &str) -> Result<DatasetRecord, Error>;

    /// Names initial weights. Naming the same ones again gives the first record.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when the name means others.
    async fn register_weights(&self, weights: &WeightsRecord) -> Result<WeightsRecord, Error>;

    /// All initial weights, by name.
    async fn weights(&self) -> Result<Vec<WeightsRecord>, Error>;

    /// The weights with this name, or this digest.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    async fn find_weights(&self, name: &str) -> Result<WeightsRecord, Error>;

    /// All experiments, the newest first.
    async fn experiments(&self) -> Result<Vec<ExperimentSummary>, Error>;

    /// The experiment with this id, this name (the newest of that name), or this beginning of an id.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Ambiguous`] when several ids begin so.
    async fn find_experiment(&self, text: &str) -> Result<ExperimentRecord, Error>;

    /// The run with this id or this beginning of one.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Ambiguous`] when several ids begin so.
    async fn find_run(&self, text: &str) -> Result<RunRef, Error>;

    /// All segments of an experiment, in the plan's order, with their attempts and committed epochs.
    async fn segments(&self, experiment: ExperimentId) -> Result<Vec<SegmentRecord>, Error>;

    /// Measured values, by segment, split, name, epoch and step. Of each epoch only one attempt's are given: the
    /// one that committed it.
    async fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesPoint>, Error>;

    /// What was predicted on `scored` after `epoch` of `segment`: digest of the predictions file.
    async fn predictions(&self, segment: SegmentId, epoch: Epoch, scored: &Scored) -> Result<Option<Digest>, Error>;

    /// At most `limit` batches of log lines of all attempts of `segments`, in the order of arrival, after the batch
    /// with the cursor `after` (0: from the first).
    async fn logs(&self, segments: &[SegmentId], after: i64, limit: u32) -> Result<Vec<LogBatch>, Error>;

    /// All workers that ever registered, the one heard of last first.
    async fn workers(&self) -> Result<Vec<WorkerRecord>, Error>;

    /// Ready with the reason when another coordinator may write here and this one may not. Never, where nobody else can.
    async fn deposed(&self) -> Error {
        std::future::pending().await
    }

    /// Ends all use, so that another coordinator can open the same place; everything fails from then on.
    async fn close(&self);
}

/// Why the store did not do it. Each message names the place, the cause and the way out. A place is a SQLite file, or the
/// URL of a database on a PostgreSQL server without its password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("no {what} is called {text:?}; {hint}")]
    NotFound { what: What, text: String, hint: &'static str },
    #[error("{text:?} is the beginning of {}{} {what} ids: {}; give more digits", matches.len(), if *more { " or more" } else { "" }, matches.join(", "))]
    Ambiguous { what: What, text: String, matches: Vec<String>, more: bool },
    #[error(
        "the name {name:?} already means the {what} {existing}, so it cannot mean {given}: choose another name (what an experiment was \
         submitted with never changes)"
    )]
    NameTaken { what: What, name: String, existing: Digest, given: Digest },
    #[error(
        "the database {} was written by a newer version of ceteris (its migration {migration} is not known here): run that version, \
         or give another database", place.display()
    )]
    Newer { place: PathBuf, migration: i64 },
    #[error("the database {} cannot be opened for writing: {cause}; give a place that this user can write to", place.display())]
    NotWritable { place: PathBuf, cause: String },
    #[error(
        "the database {} is in use by another coordinator: stop that one, or give this one its own database", place.display()
    )]
    InUse { place: PathBuf },
    #[error("the database {} cannot be reached: {cause}; {hint}", place.display())]
    Unreachable { place: PathBuf, cause: String, hint: &'static str },
    #[error(
        "this coordinator no longer leads on the database {}: {cause}. What it acknowledged is stored, and it writes nothing more; \
         start it again to stand by", place.display()
    )]
    Deposed { place: PathBuf, cause: String },
    #[error("the database {} is not what was written: {what}; restore it from a backup", place.display())]
    Damaged { place: PathBuf, what: String },
    #[error("the disk of the database {} is full: free some space and start the coordinator again; nothing that was committed is lost", place.display())]
    Full { place: PathBuf },
    #[error("the database {} cannot be used: {cause}", place.display())]
    Database { place: PathBuf, cause: String },
}

/// What a name or an id is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum What {
    Dataset,
    Weights,
    Experiment,
    Run,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dataset => "data set",
            Self::Weights => "weights",
            Self::Experiment => "experiment",
            Self::Run => "run",
        })
    }
}

/// How what was scored is written in the database: `split:test`, `external:nih`.
fn scored_text(scored: &Scored) -> String {
    match scored {
        Scored::Split(split) => format!("split:{split}"),
        Scored::External(name) => format!("external:{name}"),
    }
}

/// The reverse of [`scored_text`].
fn scored_of(text: &str) -> Option<Scored> {
    match text.split_once(':')? {
        ("split", split) => split.parse::<Split>().ok().map(Scored::Split),
        ("external", name) => Some(Scored::External(name.to_owned())),
        _ => None,
    }
}
