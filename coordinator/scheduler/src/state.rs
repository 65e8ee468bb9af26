//! What a segment is doing, with the data of each state in its variant.

use ceteris_shared::{
    ids::{Epoch, SegmentId, WorkerId},
    trainer::FailureCause,
};

use crate::Timestamp;

/// The state of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its first epoch continues a segment whose last epoch is not committed yet.
    Waiting {
        /// The segment that it continues.
        parent: SegmentId,
    },
    /// Ready to be given to a worker.
    Queued {
        /// Not earlier than this: back-off after a failure.
        not_before: Timestamp,
    },
    /// Given to a worker that has not begun yet.
    Assigned {
        /// The execution's number.
        attempt: u32,
        /// Who has it.
        worker: WorkerId,
        /// When it is believed lost unless a heartbeat says otherwise.
        lease: Timestamp,
    },
    /// A worker is training it, or has trained it all and has not said so yet.
    Running {
        /// The execution's number.
        attempt: u32,
        /// Who has it.
        worker: WorkerId,
        /// When it is believed lost unless a heartbeat says otherwise.
        lease: Timestamp,
        /// The epoch in flight.
        epoch: Epoch,
    },
    /// A worker was told to stop.
    Stopping {
        /// The execution's number.
        attempt: u32,
        /// Who has it.
        worker: WorkerId,
        /// When it counts as stopped, whatever the worker says.
        deadline: Timestamp,
        /// Why.
        reason: StopReason,
    },
    /// Nothing will happen any more.
    Done(Outcome),
}

/// Why an attempt was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The experiment was cancelled.
    Cancelled,
    /// The experiment was paused.
    Paused,
    /// Something of a higher priority is to have the slot.
    Preempted,
}

/// How a segment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every epoch is committed.
    Completed,
    /// The experiment was cancelled before that.
    Cancelled,
    /// It could not be trained.
    Failed {
        /// Who must act; [`FailureCause::Diverged`] is a result of the run, not a fault.
        cause: FailureCause,
        /// What happened.
        message: String,
    },
    /// A segment that it continues ended without completing.
    Blocked {
        /// The one that failed.
        by: SegmentId,
    },
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The worker says that every epoch is committed, and it is so.
    Finished,
    /// It stopped; because it was told to, or because its agent is going away.
    Stopped,
    /// It could not go on.
    Failed {
        /// Who must act.
        cause: FailureCause,
        /// What happened.
        message: String,
    },
    /// Nothing is heard of it any more.
    Lost,
}

/// A live execution: the part that three states have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// The execution's number.
    pub attempt: u32,
    /// Who has it.
    pub worker: WorkerId,
    /// Its lease or its deadline.
    pub until: Timestamp,
}

impl State {
    /// The execution that is believed alive.
    pub fn live(&self) -> Option<Live> {
        match *self {
            Self::Assigned { attempt, worker, lease: until }
            | Self::Running { attempt, worker, lease: until, .. }
            | Self::Stopping { attempt, worker, deadline: until, .. } => Some(Live { attempt, worker, until }),
            Self::Waiting { .. } | Self::Queued { .. } | Self::Done(_) => None,
        }
    }

    /// True when nothing will happen any more.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// The name in tables and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Queued { .. } => "queued",
            Self::Assigned { .. } => "assigned",
            Self::Running { .. } => "running",
            Self::Stopping { .. } => "stopping",
            Self::Done(Outcome::Completed) => "completed",
            Self::Done(Outcome::Cancelled) => "cancelled",
            Self::Done(Outcome::Failed { cause: FailureCause::Diverged, .. }) => "diverged",
            Self::Done(Outcome::Failed { .. }) => "failed",
            Self::Done(Outcome::Blocked { .. }) => "blocked",
        }
    }
}
