//! What has a higher priority takes slots from what has a lower one, when that has committed its epoch: nothing that
//! was computed is lost.

use ceteris_shared::ids::{SegmentId, WorkerId};

use crate::{Scheduler, room::Kind};

impl Scheduler {
    /// Whether the slot that a segment has on a worker is wanted by something of a higher priority, for which no other
    /// slot is being freed already. What could be started elsewhere was.
    pub(crate) fn is_outranked(&self, id: SegmentId, worker: WorkerId) -> bool {
        let experiment = self.segments.get(&id).and_then(|segment| self.experiments.get(&segment.experiment));
        let connection = self.workers.get(&worker).and_then(|worker| worker.connection.as_ref());
        let (Some(experiment), Some(connection)) = (experiment, connection) else { return false };
        let kind = Kind::of(connection);
        let mut wanted = 0usize;
        for above in self.queue.above(experiment.sharing.priority, |need| kind.meets(need)) {
            wanted = wanted.saturating_add(self.experiments.get(&above).map_or(0, |experiment| experiment.wanted()));
            if wanted > self.preempting {
                return true;
            }
        }
        false
    }
}
