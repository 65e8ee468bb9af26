//! What the scheduler wants done. The order within one list is the order to do it in, and nothing is sent before
//! everything that is to be persisted is committed.

use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, SessionId, WorkerId},
    lineage::LineageKey,
    plan::Work,
};

use crate::{AttemptEnd, CommittedEpoch, CommittedStep, Drain, Reused, Sharing, State, Timestamp};

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write it; all of one event's are one transaction.
    Persist(Change),
    /// Tell a worker, after the commit.
    Send {
        /// Whom.
        worker: WorkerId,
        /// On which connection; if that is gone, the message is not wanted any more.
        session: SessionId,
        /// What.
        message: Message,
    },
    /// What happened was refused, or part of it: log and count.
    Reject(Rejection),
}

/// A change of what is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A segment is known.
    SegmentAdded {
        /// Which.
        segment: SegmentId,
        /// Of which experiment.
        experiment: ExperimentId,
        /// Its index in the plan.
        position: usize,
        /// Its first state.
        state: State,
    },
    /// An epoch that is trained already counts for a segment too.
    EpochReused {
        /// For which.
        segment: SegmentId,
        /// Which epoch.
        epoch: Epoch,
        /// Where it was trained, and to what.
        reused: Reused,
    },
    /// A segment's state changed.
    SegmentChanged {
        /// Which.
        segment: SegmentId,
        /// To what.
        state: State,
        /// Infrastructure failures in a row.
        failures: u32,
        /// Losses, and failures of the object store, in a row.
        losses: u32,
    },
    /// An execution was given to a worker.
    AttemptAssigned {
        /// Which.
        attempt: Attempt,
        /// To whom.
        worker: WorkerId,
        /// What the worker's results depend on.
        environment: Environment,
        /// How many of its first epochs are committed already, and trained again because no checkpoint of them is left.
        replays: u32,
        /// When.
        at: Timestamp,
    },
    /// An execution began to train.
    AttemptStarted {
        /// Which.
        attempt: Attempt,
        /// When the coordinator knew.
        at: Timestamp,
    },
    /// An execution is over.
    AttemptEnded {
        /// Which.
        attempt: Attempt,
        /// How.
        end: AttemptEnd,
        /// When the coordinator knew.
        at: Timestamp,
    },
    /// A checkpoint within an epoch counts from now on, in the place of the segment's last one.
    StepCommitted {
        /// By which execution.
        attempt: Attempt,
        /// What.
        committed: CommittedStep,
        /// When the coordinator knew.
        at: Timestamp,
    },
    /// An epoch counts from now on, and no checkpoint within it any more.
    EpochCommitted {
        /// By which execution.
        attempt: Attempt,
        /// What.
        committed: CommittedEpoch,
        /// When the coordinator knew.
        at: Timestamp,
    },
    /// A committed epoch was trained again: from now on its checkpoint is this one.
    EpochReplayed {
        /// By which execution.
        attempt: Attempt,
        /// Of which segment the epoch is: the execution's, or one that it continues.
        segment: SegmentId,
        /// What.
        committed: CommittedEpoch,
        /// When the coordinator knew.
        at: Timestamp,
    },
    /// Nothing goes on from a checkpoint any more: it is not what was stored, or gone.
    CheckpointDamaged {
        /// Which execution found it.
        attempt: Attempt,
        /// Digest of its manifest.
        manifest: Digest,
        /// When the coordinator knew.
        at: Timestamp,
    },
    /// A checkpoint's parts are given up: nothing goes on from it any more.
    CheckpointCollected {
        /// Digest of its manifest.
        manifest: Digest,
        /// When.
        at: Timestamp,
    },
    /// An experiment is trained in this environment class alone from now on.
    ExperimentBound {
        /// Which.
        experiment: ExperimentId,
        /// To what.
        environment: Environment,
    },
    /// Nothing of an experiment is started until it is resumed.
    ExperimentPaused {
        /// Which.
        experiment: ExperimentId,
        /// Since when; `None` when it goes on.
        since: Option<Timestamp>,
    },
    /// How an experiment shares the fleet from now on.
    ExperimentShared {
        /// Which.
        experiment: ExperimentId,
        /// How.
        sharing: Sharing,
    },
    /// What of a worker is not to be used from now on.
    WorkerDrained {
        /// Whose.
        worker: WorkerId,
        /// What; `None` when all of it is used again.
        drain: Option<Drain>,
    },
    /// Nothing more of an experiment is wanted.
    ExperimentCancelled {
        /// Which.
        experiment: ExperimentId,
        /// When.
        at: Timestamp,
    },
}

impl Change {
    /// The segment whose record changes, where it is one segment's.
    pub fn segment(&self) -> Option<SegmentId> {
        match self {
            Self::SegmentAdded { segment, .. }
            | Self::EpochReused { segment, .. }
            | Self::SegmentChanged { segment, .. } => Some(*segment),
            Self::AttemptAssigned { attempt, .. }
            | Self::AttemptStarted { attempt, .. }
            | Self::AttemptEnded { attempt, .. }
            | Self::StepCommitted { attempt, .. }
            | Self::EpochCommitted { attempt, .. }
            | Self::EpochReplayed { attempt, .. }
            | Self::CheckpointDamaged { attempt, .. } => Some(attempt.segment),
            Self::CheckpointCollected { .. }
            | Self::ExperimentBound { .. }
            | Self::ExperimentPaused { .. }
            | Self::ExperimentShared { .. }
            | Self::WorkerDrained { .. }
            | Self::ExperimentCancelled { .. } => None,
        }
    }
}

/// Something for a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Execute a segment, or what remains of it.
    Start(Box<StartAttempt>),
    /// Stop now; the epoch in flight is not wanted.
    Stop(Attempt),
    /// Begin nothing on these slots, counted from 0, and hand back what runs there after its epoch. Replaces what was said
    /// before.
    Drain {
        /// Which; none where all are used again.
        slots: Vec<u32>,
    },
    /// The attempt is no longer the worker's.
    Revoke {
        /// Which execution.
        attempt: Attempt,
        /// Why, for the log.
        reason: Rejection,
    },
}

/// An execution and where its inputs are.
#[derive(Clone, Debug, PartialEq)]
pub struct StartAttempt {
    /// Which execution.
    pub attempt: Attempt,
    /// The epochs that remain.
    pub work: Work,
    /// Digest of the data set's manifest.
    pub dataset: Digest,
    /// External data sets: name and digest of the manifest.
    pub external: Vec<(String, Digest)>,
    /// Where the weights come from.
    pub start: Start,
}

/// Where an execution's weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Drawn from the seed.
    Random,
    /// A safetensors file.
    Weights(Digest),
    /// The manifest of the deepest committed checkpoint on the way to the first epoch, or within it.
    Checkpoint(Digest),
}

/// Why something that was said is refused. A peer can cause each of these; none is a fault of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Rejection {
    #[error("experiment {experiment} is not known")]
    UnknownExperiment { experiment: ExperimentId },
    #[error("experiment {experiment} has ended already")]
    ExperimentEnded { experiment: ExperimentId },
    #[error("nothing of experiment {experiment} failed in a way that trying again could mend")]
    NothingFailed { experiment: ExperimentId },
    #[error("the plan of experiment {experiment} contradicts itself: {problem}")]
    MalformedPlan { experiment: ExperimentId, problem: &'static str },
    #[error("session {session} of worker {worker} is not its current connection")]
    StaleSession { worker: WorkerId, session: SessionId },
    #[error("attempt {attempt} is of no known segment")]
    UnknownSegment { attempt: Attempt },
    #[error("attempt {attempt} is over; attempt {current} has the segment")]
    StaleAttempt { attempt: Attempt, current: u32 },
    #[error("attempt {attempt} is over, and no other has the segment")]
    NotLive { attempt: Attempt },
    #[error("attempt {attempt} belongs to worker {owner}")]
    OtherWorker { attempt: Attempt, owner: WorkerId },
    #[error("attempt {attempt} committed epoch {got}, but epoch {expected} comes next")]
    EpochOutOfOrder { attempt: Attempt, expected: Epoch, got: Epoch },
    #[error("attempt {attempt} committed epoch {got}, but its segment ends with epoch {last}")]
    BeyondBudget { attempt: Attempt, last: Epoch, got: Epoch },
    #[error("attempt {attempt} committed epoch {epoch} with lineage {got}, but the plan says {expected}")]
    OtherLineage { attempt: Attempt, epoch: Epoch, expected: LineageKey, got: LineageKey },
    #[error(
        "attempt {attempt} trained epoch {epoch} again and got other weights: {got}, where {expected} are committed (segment {owner}), in one \
         environment class. Training is not reproducible there: nothing that rests on this epoch is to be trusted until it is known why"
    )]
    OtherWeights { attempt: Attempt, epoch: Epoch, owner: SegmentId, expected: Digest, got: Digest },
    #[error("attempt {attempt} says that it finished, but only {committed} of {epochs} epochs are committed")]
    FinishedEarly { attempt: Attempt, committed: usize, epochs: usize },
    #[error("attempt {attempt} committed epoch {epoch} with two sets of predictions of the same data")]
    AmbiguousPredictions { attempt: Attempt, epoch: Epoch },
    #[error("attempt {attempt} committed epoch {epoch} again")]
    Repeated { attempt: Attempt, epoch: Epoch },
    #[error("attempt {attempt} committed step {step} of epoch {epoch}, but what is committed goes further")]
    StepBehind { attempt: Attempt, epoch: Epoch, step: u32 },
}
