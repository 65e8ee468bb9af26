//! What of a scheduler is to be found in the store again, for those who compare the two.

use ceteris_shared::ids::{SegmentId, SessionId, WorkerId};

use crate::{SavedSegment, Scheduler};

impl Scheduler {
    /// Every segment as it would have to be stored, for [`Scheduler::restore`] to bring it back.
    pub fn saved(&self) -> impl Iterator<Item = (SegmentId, SavedSegment)> + '_ {
        self.segments.iter().map(|(id, segment)| {
            let saved = SavedSegment {
                state: segment.state.clone(),
                attempts: segment.attempts,
                failures: segment.failures,
                losses: segment.losses,
                committed: segment.committed.clone(),
                replays: segment.replays,
                step: segment.step.as_deref().cloned(),
                environment: segment.environment.as_deref().cloned(),
                last_end: segment.last_end.as_deref().cloned(),
            };
            (id, saved)
        })
    }

    /// The connected workers.
    pub fn connections(&self) -> impl Iterator<Item = (WorkerId, SessionId)> + '_ {
        let connected =
            |(&id, worker): (&WorkerId, &crate::scheduler::Worker)| Some((id, worker.connection.as_ref()?.session));
        self.workers.iter().filter_map(connected)
    }
}
