//! What must hold between any two events, written down once. Tests check it after every event; restoring checks it
//! of what was stored.

use std::collections::BTreeSet;

use ceteris_shared::ids::SegmentId;

use crate::{Outcome, Scheduler, State, StopReason, scheduler::Segment};

/// Something that must hold of a segment, and does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment}: {rule}")]
pub struct Violation {
    /// Where.
    pub segment: SegmentId,
    /// What must hold.
    pub rule: &'static str,
}

impl Scheduler {
    /// # Errors
    /// The first rule that does not hold, which is a mistake in this crate or in what it was restored from.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        let (mut leases, mut queued, mut held) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (&id, segment) in &self.segments {
            if let Some(rule) = self.broken(segment) {
                return Err(Violation { segment: id, rule });
            }
            if let Some(live) = segment.state.live() {
                leases.insert((live.until, id));
                held.insert((live.worker, id));
            }
            if matches!(segment.state, State::Queued { .. }) && !self.is_paused(segment.experiment) {
                queued.insert(id);
            }
        }
        let indexed_held = self.workers.iter().flat_map(|(&id, worker)| worker.held.iter().map(move |&s| (id, s)));
        let indexed_queued = self.ready.iter().map(|&(_, id)| id).chain(self.delayed.iter().map(|&(_, id)| id));
        for experiment in self.experiments.values() {
            let Some(class) = &experiment.environment else { continue };
            let elsewhere = |id: &&SegmentId| {
                let live = self.segments.get(id).filter(|segment| segment.state.live().is_some());
                live.and_then(|segment| segment.environment.as_ref()).is_some_and(|environment| environment != class)
            };
            if let Some(&segment) = experiment.segments.iter().find(elsewhere) {
                return Err(Violation {
                    segment,
                    rule: "what is bound to an environment class is trained in it alone",
                });
            }
        }
        let indexes = [
            (leases == self.leases, "the index of leases is that of live attempts"),
            (held == indexed_held.collect(), "each worker holds exactly its live attempts"),
            (queued == indexed_queued.collect(), "the queue is the queued segments that are not paused"),
            (queued.len() == self.ready.len() + self.delayed.len(), "a segment is queued once"),
        ];
        let first = self.segments.keys().next().copied();
        match (indexes.into_iter().find(|(holds, _)| !holds), first) {
            (Some((_, rule)), Some(segment)) => Err(Violation { segment, rule }),
            _ => Ok(()),
        }
    }

    /// Committed epochs on the way to the next epoch of a segment.
    fn committed_on_path(&self, segment: &Segment) -> usize {
        let (mut count, mut at) = (0, Some(segment));
        while let Some(segment) = at {
            count += segment.committed.len();
            at = segment.parent.and_then(|parent| self.segments.get(&parent));
        }
        count
    }

    fn broken(&self, segment: &Segment) -> Option<&'static str> {
        let parent = segment.parent.and_then(|parent| self.segments.get(&parent));
        let parent_trained = parent.is_none_or(Segment::all_committed);
        let cancelled = self.experiments.get(&segment.experiment).is_some_and(|experiment| experiment.cancelled);
        if segment.committed.len() > segment.work.epochs.len() {
            return Some("no epoch past the budget is committed");
        }
        if !segment.committed.is_empty() && !parent_trained {
            return Some("nothing is trained before what it continues");
        }
        if segment.step.as_ref().is_some_and(|step| {
            segment.all_committed() || step.epoch != segment.next_epoch() || step.attempt > segment.attempts
        }) {
            return Some(
                "a checkpoint within an epoch is of the epoch that comes next, and of an attempt that was made",
            );
        }
        if usize::try_from(segment.replays).is_ok_and(|replays| replays > self.committed_on_path(segment))
            || (segment.replays > 0 && segment.state.live().is_none())
        {
            return Some("only committed epochs are trained again, and only by a live attempt");
        }
        if (segment.attempts == 0) != segment.environment.is_none() {
            return Some("the last attempt was made somewhere");
        }
        let holds = match &segment.state {
            State::Waiting { parent } => Some(*parent) == segment.parent && !parent_trained && !cancelled,
            State::Queued { .. } => parent_trained && !cancelled && !segment.all_committed(),
            State::Assigned { attempt, .. } => {
                parent_trained && *attempt == segment.attempts && !segment.all_committed() && !cancelled
            }
            State::Running { attempt, epoch, .. } => {
                parent_trained && *attempt == segment.attempts && *epoch == segment.next_epoch()
            }
            State::Stopping { attempt, reason, .. } => {
                *attempt == segment.attempts && cancelled == (*reason == StopReason::Cancelled)
            }
            State::Done(Outcome::Completed) => segment.all_committed(),
            State::Done(Outcome::Cancelled) => cancelled && !segment.all_committed(),
            State::Done(Outcome::Failed { .. }) => !segment.all_committed(),
            State::Done(Outcome::Blocked { by }) => {
                segment.attempts == 0
                    && self.segments.get(by).is_some_and(|by| matches!(by.state, State::Done(Outcome::Failed { .. })))
            }
        };
        (!holds).then_some(match segment.state {
            State::Waiting { .. } => "what waits continues something that is not trained yet",
            State::Queued { .. } => "what is queued can be trained and has epochs left",
            State::Assigned { .. } | State::Running { .. } => "a live attempt is the last one, and its epoch the next",
            State::Stopping { .. } => "only what was cancelled or paused is being stopped",
            State::Done(_) => "what has ended ended for a reason",
        })
    }
}
