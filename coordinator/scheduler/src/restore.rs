//! From what is stored back to a scheduler.

use ceteris_shared::digest::Digest;

use crate::{AttemptEnd, State, Submission};

/// Everything that the scheduler has to know to go on where it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// In the order of submission.
    pub experiments: Vec<SavedExperiment>,
}

/// One experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedExperiment {
    /// As it was submitted.
    pub submission: Submission,
    /// True when nothing more of it is wanted.
    pub cancelled: bool,
    /// As many as its plan has, in the plan's order.
    pub segments: Vec<SavedSegment>,
}

/// One segment.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedSegment {
    /// Its state; leases and deadlines begin anew.
    pub state: State,
    /// Executions so far.
    pub attempts: u32,
    /// Infrastructure failures in a row.
    pub failures: u32,
    /// Losses in a row.
    pub losses: u32,
    /// Manifests of the committed epochs, from the segment's first on.
    pub committed: Vec<Digest>,
    /// How the last execution that is over ended.
    pub last_end: Option<AttemptEnd>,
}
