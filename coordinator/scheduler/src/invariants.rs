//! What must hold between any two events, written down once. Tests check it after every event; restoring checks it
//! of what was stored.

use std::collections::{BTreeMap, BTreeSet};

use ceteris_shared::ids::{ExperimentId, SegmentId, WorkerId};

use crate::{
    Outcome, Scheduler, State, StopReason,
    queue::{Need, Turn},
    room::{Kind, free_slots},
    scheduler::{Experiment, Segment, Worker},
};

/// Something that must hold of a segment, and does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment}: {rule}")]
pub struct Violation {
    /// Where.
    pub segment: SegmentId,
    /// What must hold.
    pub rule: &'static str,
}

/// What an experiment's segments add up to.
#[derive(Debug, Default)]
struct Tally {
    live: usize,
    open: usize,
    /// Queued segments that its queue has.
    ready: usize,
}

impl Tally {
    /// Counts a queued segment if its experiment's queue has it.
    fn enter(&mut self, position: usize, experiment: Option<&Experiment>) -> bool {
        let ready = experiment.is_some_and(|experiment| experiment.ready.contains(&position));
        self.ready += usize::from(ready);
        ready
    }
}

impl Scheduler {
    /// # Errors
    /// The first rule that does not hold, which is a mistake in this crate or in what it was restored from.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        let (mut leases, mut held, mut delayed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut tallies: BTreeMap<ExperimentId, Tally> = BTreeMap::new();
        let mut preempting = 0;
        for (id, segment) in self.segments.iter() {
            if let Some(rule) = self.broken(segment) {
                return Err(Violation { segment: id, rule });
            }
            let tally = tallies.entry(segment.experiment).or_default();
            tally.open += usize::from(!segment.state.is_done());
            if let Some(live) = segment.state.live() {
                leases.insert((live.until, id));
                held.insert((live.worker, id));
                tally.live += 1;
            }
            if let State::Queued { not_before } = segment.state
                && !tally.enter(segment.position, self.experiments.get(&segment.experiment))
            {
                delayed.insert((not_before, id));
            }
            preempting += usize::from(matches!(segment.state, State::Stopping { reason: StopReason::Preempted, .. }));
        }
        for (id, experiment) in &self.experiments {
            let tally = tallies.remove(id).unwrap_or_default();
            if let Some(&segment) = experiment.segments.first()
                && let Some(rule) = self.broken_experiment(*id, experiment, &tally)
            {
                return Err(Violation { segment, rule });
            }
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
        let indexed_held = self.workers.iter().flat_map(|(&id, worker)| worker.held.iter().map(move |&s| (id, s)));
        let listed = self.workers.values().filter(|worker| worker.room.is_some()).count();
        let queued = self.experiments.values().filter(|experiment| experiment.place.is_some()).count();
        let indexes = [
            (leases == self.leases, "the index of leases is that of live attempts"),
            (held == indexed_held.collect(), "each worker holds exactly its live attempts"),
            (delayed == self.delayed, "a queued segment is ready or backs off, and not both"),
            (preempting == self.preempting, "what is stopped for a higher priority is counted"),
            (self.workers.iter().all(|(id, worker)| self.is_listed(*id, worker)), "free slots are listed"),
            (listed == self.rooms.len(), "nothing but free slots is listed"),
            (queued == self.queue.all().count(), "only what has something to start is in the queue"),
        ];
        let first = self.segments.iter().next().map(|(id, _)| id);
        match (indexes.into_iter().find(|(holds, _)| !holds), first) {
            (Some((_, rule)), Some(segment)) => Err(Violation { segment, rule }),
            _ => Ok(()),
        }
    }

    fn broken_experiment(&self, id: ExperimentId, experiment: &Experiment, tally: &Tally) -> Option<&'static str> {
        let place = (experiment.wanted() > 0).then(|| (experiment.need(), experiment.turn(id)));
        let listed = |(need, turn): &(Need, Turn)| self.queue.all().any(|(n, t)| (n, t) == (need, turn));
        if tally.ready != experiment.ready.len() {
            return Some("the queue of an experiment is its queued segments that do not back off");
        }
        if (tally.live, tally.open) != (experiment.live, experiment.open) {
            return Some("what is live and what has not ended is counted");
        }
        if place != experiment.place || !experiment.place.as_ref().is_none_or(listed) {
            return Some("an experiment that has something to start is in its place in the queue");
        }
        None
    }

    fn is_listed(&self, id: WorkerId, worker: &Worker) -> bool {
        let free = free_slots(worker);
        let room = worker.connection.as_ref().filter(|_| free > 0).map(|connection| (Kind::of(connection), free));
        worker.room == room && room.is_none_or(|(kind, free)| self.rooms.contains(&kind, free, id))
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
