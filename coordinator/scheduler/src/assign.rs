//! Ready segments meet free slots.

use ceteris_shared::ids::{Attempt, SegmentId, WorkerId};

use crate::{
    Change, Message, Scheduler, Start, StartAttempt, State, Timestamp,
    scheduler::{Effects, Experiment, Segment, Worker},
};

impl Scheduler {
    /// First in, first out, to the worker with the most free slots.
    pub(crate) fn assign(&mut self, now: Timestamp, effects: &mut Effects) {
        while let Some(&(at, id)) = self.delayed.first()
            && at <= now
        {
            self.delayed.remove(&(at, id));
            self.index(id, now);
        }
        while let (Some(&(_, id)), Some(worker)) = (self.ready.first(), self.freest_worker()) {
            self.start(now, id, worker, effects);
        }
    }

    /// Among equals, the one with the lowest id.
    fn freest_worker(&self) -> Option<WorkerId> {
        let free = self.workers.iter().map(|(&id, worker)| (free_slots(worker), id)).filter(|&(free, _)| free > 0);
        free.min_by_key(|&(free, id)| (std::cmp::Reverse(free), id)).map(|(_, id)| id)
    }

    fn start(&mut self, now: Timestamp, id: SegmentId, worker: WorkerId, effects: &mut Effects) {
        let connection = self.workers.get(&worker).and_then(|worker| worker.connection.as_ref());
        let parent = self.segments.get(&id).and_then(|segment| segment.parent);
        let inherited = parent.and_then(|parent| self.segments.get(&parent)?.committed.last().copied());
        let (Some(segment), Some(connection)) = (self.segments.get_mut(&id), connection) else { return };
        let Some(experiment) = self.experiments.get(&segment.experiment) else { return };
        let environment = connection.environment.clone();
        segment.attempts += 1;
        segment.environment = Some(environment.clone());
        let attempt = Attempt { segment: id, number: segment.attempts };
        let message = StartAttempt {
            attempt,
            work: remaining(segment),
            dataset: experiment.dataset,
            external: experiment.external.clone(),
            start: segment.checkpoint(&environment).or(inherited).map_or(initial(experiment), Start::Checkpoint),
        };
        effects.persist(Change::AttemptAssigned { attempt, worker, environment, at: now });
        let lease = now.after(self.config.lease);
        self.set_state(id, State::Assigned { attempt: attempt.number, worker, lease }, now, effects);
        self.send(worker, Message::Start(Box::new(message)), effects);
    }
}

/// Slots of a connected worker that no live attempt has; none of one that is leaving.
pub(crate) fn free_slots(worker: &Worker) -> usize {
    let staying = worker.connection.as_ref().filter(|connection| !connection.leaving);
    staying.map_or(0, |connection| connection.slots.saturating_sub(worker.held.len()))
}

fn remaining(segment: &Segment) -> ceteris_shared::plan::Work {
    let mut work = segment.work.clone();
    work.epochs.drain(..segment.committed.len());
    work
}

fn initial(experiment: &Experiment) -> Start {
    experiment.init.map_or(Start::Random, Start::Weights)
}
