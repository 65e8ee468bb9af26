//! What is stored, as the rest of the coordinator sees it.

use std::collections::BTreeMap;

use ceteris_scheduler::{AttemptEnd, Reused, Sharing, State, Timestamp};
use ceteris_shared::{
    checkpoint::Environment,
    dataset::Split,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, RunId, SegmentId, WorkerId},
    lineage::LineageKey,
    plan::{Pins, Plan},
    spec::{Arch, ExperimentSpec},
    trainer::{MetricPoint, Scored, Spent},
};

/// A change of what is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new experiment; its segments follow as [`ceteris_scheduler::Change::SegmentAdded`].
    Experiment(Box<ExperimentRecord>),
    /// What the scheduler decided.
    Scheduler(ceteris_scheduler::Change),
    /// A worker registered or was heard of: the record replaces an older one, except for `first_seen`.
    Worker(WorkerRecord),
    /// The event of `worker` with this sequence number is part of this commit.
    Sequence {
        /// Whose.
        worker: WorkerId,
        /// Which.
        sequence: u64,
    },
}

/// An experiment as it was submitted.
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentRecord {
    /// Its identity.
    pub id: ExperimentId,
    /// What was asked for; its name is the experiment's.
    pub spec: ExperimentSpec,
    /// The text that the user wrote.
    pub source: String,
    /// What the spec's names stood for.
    pub pins: Pins,
    /// Its runs and segments.
    pub plan: Plan,
    /// When it came.
    pub submitted_at: Timestamp,
    /// When nothing more of it was wanted.
    pub cancelled_at: Option<Timestamp>,
    /// Since when nothing of it is started; none where it goes on.
    pub paused_at: Option<Timestamp>,
    /// The environment class that it is trained in alone, once that is known and if there is one.
    pub environment: Option<Environment>,
    /// How it shares the fleet with others.
    pub sharing: Sharing,
}

/// A line of the list of experiments.
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentSummary {
    /// Its identity.
    pub id: ExperimentId,
    /// What people call it.
    pub name: String,
    /// When it came.
    pub submitted_at: Timestamp,
    /// When nothing more of it was wanted.
    pub cancelled_at: Option<Timestamp>,
    /// Since when nothing of it is started; none where it goes on.
    pub paused_at: Option<Timestamp>,
    /// Number of runs.
    pub runs: u64,
    /// Number of segments in each state, by [`State::name`]; states without any are absent.
    pub segments: BTreeMap<String, u64>,
    /// Epochs to train, shared ones counted once.
    pub epochs: u64,
    /// Epochs committed.
    pub committed: u64,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRef {
    /// Its identity.
    pub run: RunId,
    /// The experiment that it belongs to.
    pub experiment: ExperimentId,
    /// Its index in the plan's runs.
    pub position: usize,
}

/// A segment and what was done for it.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentRecord {
    /// Its identity.
    pub id: SegmentId,
    /// Its index in the plan.
    pub position: usize,
    /// Its state when it was last stored; a lease in it may have been renewed since.
    pub state: State,
    /// Infrastructure failures in a row.
    pub failures: u32,
    /// Losses, and failures of the object store, in a row.
    pub losses: u32,
    /// All executions, the first first.
    pub attempts: Vec<AttemptRecord>,
    /// Committed epochs, ascending.
    pub committed: Vec<CommittedRecord>,
    /// Epochs that its executions trained again, in order.
    pub replayed: Vec<ReplayedRecord>,
}

impl SegmentRecord {
    /// Its epochs that an earlier experiment trained.
    pub fn reused(&self) -> impl Iterator<Item = &CommittedRecord> {
        self.committed.iter().filter(|committed| committed.source != self.id)
    }
}

/// An execution.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRecord {
    /// Which.
    pub attempt: Attempt,
    /// Who had it.
    pub worker: WorkerId,
    /// What its results depend on.
    pub environment: Environment,
    /// When it was given away.
    pub assigned_at: Timestamp,
    /// When it began to train.
    pub started_at: Option<Timestamp>,
    /// When and how it ended.
    pub ended: Option<(Timestamp, AttemptEnd)>,
}

/// A committed epoch that was trained again, because no checkpoint of it was left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplayedRecord {
    /// Which: of the segment, or of one that it continues.
    pub epoch: Epoch,
    /// The number of the execution.
    pub attempt: u32,
    /// What it cost.
    pub spent: Spent,
}

/// An epoch that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedRecord {
    /// Which.
    pub epoch: Epoch,
    /// The lineage key of the state after it.
    pub key: LineageKey,
    /// The segment that trained it: the one that it counts for, or one of an earlier experiment.
    pub source: SegmentId,
    /// The number of that segment's execution.
    pub attempt: u32,
    /// What the weights depend on besides their lineage.
    pub environment: Environment,
    /// Digest of the checkpoint's manifest: the last one, where it was trained again.
    pub manifest: Digest,
    /// Digest of weights and optimizer, where it is known.
    pub weights: Option<Digest>,
    /// What it cost.
    pub spent: Spent,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// Predictions files.
    pub predictions: Vec<(Scored, Digest)>,
}

impl CommittedRecord {
    /// As what another experiment takes.
    pub(crate) fn as_reused(&self) -> Reused {
        Reused { source: self.source, manifest: self.manifest, weights: self.weights }
    }
}

/// Where an epoch was trained.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainedEpoch {
    /// By which segment.
    pub segment: SegmentId,
    /// Digest of the checkpoint's manifest: the last one, where it was trained again.
    pub manifest: Digest,
    /// Digest of weights and optimizer, where it is known.
    pub weights: Option<Digest>,
    /// In which environment class.
    pub environment: Environment,
    /// True where everything that it rests on was trained in that class too: its experiment is bound to it.
    pub bound: bool,
    /// What predictions there are of.
    pub scored: Vec<Scored>,
}

/// Which measured values are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesQuery {
    /// Of these segments.
    pub segments: Vec<SegmentId>,
    /// With these names; empty: with any.
    pub names: Vec<String>,
    /// Also of epochs that are not committed yet, as the latest attempt measured them.
    pub uncommitted: bool,
}

/// One measured value and where it belongs.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesPoint {
    /// For which segment it counts, and the number of the execution that measured it: that segment's, or another one's.
    pub attempt: Attempt,
    /// What it measured.
    pub point: MetricPoint,
}

/// What an execution measured or printed: an event that the scheduler has no part in.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The worker's number of the event.
    pub sequence: u64,
    /// Of which execution.
    pub attempt: Attempt,
    /// What.
    pub what: Observation,
}

/// What was measured or printed.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// Measured values.
    Metrics(Vec<MetricPoint>),
    /// Lines of the log.
    Log(Vec<String>),
}

impl Observed {
    /// About as many bytes as it takes in memory and in the database; never 0.
    pub fn bytes(&self) -> usize {
        match &self.what {
            Observation::Metrics(points) => 64 + 48 * points.len(),
            Observation::Log(lines) => 64 + lines.iter().map(|line| 32 + line.len()).sum::<usize>(),
        }
    }
}

/// Log lines that came together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    /// Where to go on reading.
    pub cursor: i64,
    /// The execution that printed them.
    pub attempt: Attempt,
    /// In order.
    pub lines: Vec<String>,
}

/// A named data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetRecord {
    /// What people call it.
    pub name: String,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Height and width in pixels.
    pub image_size: u32,
    /// Class names in the order of the head's outputs.
    pub classes: Vec<String>,
    /// Number of samples per class in each split that has any.
    pub counts: BTreeMap<Split, Vec<u64>>,
    /// Number of patients, where every sample names one.
    pub patients: Option<u64>,
    /// When it was named.
    pub registered_at: Timestamp,
}

/// Named initial weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsRecord {
    /// What people call them.
    pub name: String,
    /// Digest of the safetensors file.
    pub digest: Digest,
    /// The network that they are of.
    pub arch: Arch,
    /// When they were named.
    pub registered_at: Timestamp,
}

/// What names objects in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Manifests of committed epochs, those that were given up among them.
    pub checkpoints: Vec<Digest>,
    /// Manifests whose parts were given up.
    pub collected: Vec<Digest>,
    /// Manifests within epochs of what can still go on from them.
    pub steps: Vec<Digest>,
    /// Predictions.
    pub predictions: Vec<Digest>,
    /// Manifests of data sets.
    pub datasets: Vec<Digest>,
    /// Initial weights.
    pub weights: Vec<Digest>,
}

/// A worker that registered at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRecord {
    /// Its identity.
    pub id: WorkerId,
    /// What people call it.
    pub name: String,
    /// Version of its agent.
    pub version: String,
    /// Attempts it can execute at once.
    pub slots: u32,
    /// What its results depend on.
    pub environment: Environment,
    /// When it registered first.
    pub first_seen: Timestamp,
    /// When it registered or left last.
    pub last_seen: Timestamp,
}
