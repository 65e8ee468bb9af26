//! Why a segment is where it is: the answer to "why is my run not running".

use std::fmt;

use ceteris_shared::ids::{RunId, SegmentId, WorkerId};

use crate::{AttemptEnd, Scheduler, State, Timestamp};

/// A segment's place and its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Which segment.
    pub segment: SegmentId,
    /// Where it is.
    pub state: State,
    /// Epochs committed.
    pub committed: usize,
    /// Epochs it has.
    pub epochs: usize,
    /// Executions so far.
    pub attempts: u32,
    /// How the last execution that is over ended.
    pub last_end: Option<AttemptEnd>,
    /// Why it is there.
    pub why: Why,
}

/// Why a segment is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Why {
    /// The segment that it continues is not trained yet.
    ParentNotTrained { parent: SegmentId, committed: usize, epochs: usize },
    /// It waits after failures.
    BackingOff { until: Timestamp, failures: u32, losses: u32 },
    /// No worker is connected.
    NoWorker,
    /// Every slot of every connected worker is taken; `ahead` segments come before it.
    NoFreeSlot { workers: usize, slots: u64, ahead: usize },
    /// A worker has it. A worker that is not connected has it until its lease ends.
    OnWorker { worker: WorkerId, connected: bool, until: Timestamp },
    /// The state says it all.
    Ended,
}
