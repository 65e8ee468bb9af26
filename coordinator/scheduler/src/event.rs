//! What can happen to the scheduler.

use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, SessionId, WorkerId},
    lineage::LineageKey,
    plan::Plan,
    spec::EnvironmentRule,
    trainer::{FailureCause, Scored, Spent},
};

use crate::{Drain, Sharing};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A planned experiment is to be trained.
    ExperimentSubmitted(Box<Submission>),
    /// Nothing more of an experiment is wanted.
    CancelExperiment(ExperimentId),
    /// Nothing of an experiment is to be started until it is resumed; what is running stops after its epoch.
    PauseExperiment(ExperimentId),
    /// A paused experiment goes on.
    ResumeExperiment(ExperimentId),
    /// What failed of an experiment is to be tried again; what diverged would diverge again.
    RetryExperiment(ExperimentId),
    /// How an experiment shares the fleet is changed.
    ShareExperiment {
        /// Which.
        experiment: ExperimentId,
        /// From now on.
        sharing: Sharing,
    },
    /// What of a worker is to be used is changed; it need not be connected.
    DrainWorker {
        /// Whose.
        worker: WorkerId,
        /// What is not; `None` uses all of it again.
        drain: Option<Drain>,
    },
    /// These checkpoints, by their manifests, are to be given up; those that something still goes on from are not.
    CollectCheckpoints(Vec<Digest>),
    /// A worker's stream is open.
    WorkerConnected(WorkerConnected),
    /// A worker's stream is closed.
    WorkerDisconnected {
        /// Whose.
        worker: WorkerId,
        /// Which; an older one than the worker's current one says nothing.
        session: SessionId,
    },
    /// A worker says which attempts it is still executing.
    Heartbeat {
        /// Who.
        worker: WorkerId,
        /// On which connection.
        session: SessionId,
        /// Their leases are renewed.
        running: Vec<Attempt>,
    },
    /// A worker says what became of an attempt.
    AttemptReported {
        /// Who.
        worker: WorkerId,
        /// On which connection.
        session: SessionId,
        /// Of which execution.
        attempt: Attempt,
        /// What.
        report: Report,
    },
    /// The coordinator itself was held up for long: nobody could be heard meanwhile, so that all leases begin anew, as after
    /// a restart.
    HeldUp,
    /// Time has passed: see [`crate::Scheduler::next_deadline`]. Only this ends leases, so that a driver that was held
    /// up can hand in the heartbeats that came meanwhile first.
    Tick,
}

/// A planned experiment, and what its names stand for.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// Its identity.
    pub experiment: ExperimentId,
    /// What to train.
    pub plan: Plan,
    /// Digest of the data set's manifest.
    pub dataset: Digest,
    /// External data sets: name and digest of the manifest.
    pub external: Vec<(String, Digest)>,
    /// Digest of the initial weights; `None` draws them from the seed.
    pub init: Option<Digest>,
    /// For each segment, its first epochs as far as they are trained already; empty where nothing is.
    pub reused: Vec<Vec<Reused>>,
    /// Where it may be trained.
    pub rule: EnvironmentRule,
    /// The environment class that it is bound to from the start, by what is trained already.
    pub environment: Option<Environment>,
    /// How it shares the fleet.
    pub sharing: Sharing,
}

/// An epoch that another experiment has trained: the same lineage key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reused {
    /// The segment that trained it.
    pub source: SegmentId,
    /// Digest of the checkpoint's manifest.
    pub manifest: Digest,
    /// Digest of weights and optimizer, where it is known.
    pub weights: Option<Digest>,
}

/// What a worker says of itself when it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConnected {
    /// Who.
    pub worker: WorkerId,
    /// The new connection.
    pub session: SessionId,
    /// Attempts it can execute at once.
    pub slots: u32,
    /// Bytes of memory of each slot's device; 0 where it is not known.
    pub slot_memory: u64,
    /// What its results depend on.
    pub environment: Environment,
    /// Attempts it is still executing: adopted or revoked.
    pub running: Vec<Attempt>,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Training begins.
    Started,
    /// A checkpoint within an epoch is in the store.
    StepCommitted(CommittedStep),
    /// An epoch's objects are all in the store.
    EpochCommitted(CommittedEpoch),
    /// All epochs are committed.
    Finished,
    /// A stop was obeyed, or the worker is shutting down.
    Stopped,
    /// It stopped after an epoch, because its slot is drained.
    HandedBack,
    /// It cannot go on.
    Failed {
        /// Who must act.
        cause: FailureCause,
        /// What happened.
        message: String,
    },
    /// The checkpoint that it was to go on from is not what was stored, or gone: nothing goes on from it any more.
    Damaged {
        /// Digest of its manifest.
        checkpoint: Digest,
        /// What is wrong with it.
        message: String,
    },
}

/// A checkpoint within an epoch whose objects are in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedStep {
    /// The epoch in flight.
    pub epoch: Epoch,
    /// Optimizer steps of it that are done.
    pub step: u32,
    /// The lineage key of the epoch in flight.
    pub key: LineageKey,
    /// Digest of the checkpoint's manifest.
    pub manifest: Digest,
}

/// An epoch whose objects are in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedEpoch {
    /// Which.
    pub epoch: Epoch,
    /// The lineage key of the state after it.
    pub key: LineageKey,
    /// Digest of the checkpoint's manifest.
    pub manifest: Digest,
    /// Predictions files.
    pub predictions: Vec<(Scored, Digest)>,
    /// What it cost.
    pub spent: Spent,
    /// Digest of weights and optimizer, where the worker says it.
    pub weights: Option<Digest>,
}
