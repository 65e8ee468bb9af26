//! Ready segments meet free slots.

use std::cmp::Reverse;

use ceteris_shared::{
    checkpoint::Environment,
    ids::{Attempt, SegmentId, WorkerId},
    planted,
    spec::EnvironmentRule,
};

use crate::{
    Change, Message, Scheduler, Start, StartAttempt, State, Timestamp,
    replay::remaining,
    scheduler::{Effects, Experiment, Order, Segment, Worker},
};

impl Scheduler {
    /// First in, first out, as far as there is room where the experiment may be trained.
    pub(crate) fn assign(&mut self, now: Timestamp, effects: &mut Effects) {
        while let Some(&(at, id)) = self.delayed.first()
            && at <= now
        {
            self.delayed.remove(&(at, id));
            self.index(id, now);
        }
        let mut from = Order::FIRST;
        while let Some(&(order, id)) = self.ready.range((from, SegmentId::FIRST)..).next() {
            if !self.workers.values().any(|worker| free_slots(worker) > 0) {
                return;
            }
            match self.freest_worker(id) {
                Some(worker) => self.start(now, id, worker, effects),
                // No worker has room for anything of this experiment.
                None => from = order.next_submission(),
            }
        }
    }

    /// The worker with the most free slots in the experiment's environment class; among equals the one that had the
    /// segment or what it continues last, whose features and data are there, and then the one with the lowest id.
    fn freest_worker(&self, id: SegmentId) -> Option<WorkerId> {
        let segment = self.segments.get(&id)?;
        let class = self.class(segment);
        let parent = segment.parent.and_then(|parent| self.segments.get(&parent));
        let known = [Some(segment), parent].map(|segment| segment.and_then(|segment| segment.last_worker));
        let free = self.workers.iter().filter_map(|(&id, worker)| {
            let connection = worker.connection.as_ref()?;
            let fits = class.is_none_or(|class| *class == connection.environment || planted!(OtherClassUsed));
            let free = free_slots(worker);
            (fits && free > 0).then_some((Reverse(free), !known.contains(&Some(id)), id))
        });
        free.min().map(|(_, _, id)| id)
    }

    /// The environment class that a segment may be trained in, if it is no longer free.
    pub(crate) fn class(&self, segment: &Segment) -> Option<&Environment> {
        self.experiments.get(&segment.experiment)?.environment.as_ref()
    }

    fn start(&mut self, now: Timestamp, id: SegmentId, worker: WorkerId, effects: &mut Effects) {
        let connection = self.workers.get(&worker).and_then(|worker| worker.connection.as_ref());
        let Some(environment) = connection.map(|connection| connection.environment.clone()) else { return };
        let (checkpoint, again) = self.origin(id, &environment);
        let Some(segment) = self.segments.get_mut(&id) else { return };
        let Some(experiment) = self.experiments.get_mut(&segment.experiment) else { return };
        segment.attempts += 1;
        segment.environment = Some(environment.clone());
        segment.last_worker = Some(worker);
        let replays = u32::try_from(again.len()).unwrap_or(u32::MAX);
        segment.replays = replays;
        let attempt = Attempt { segment: id, number: segment.attempts };
        let message = StartAttempt {
            attempt,
            work: remaining(segment, again),
            dataset: experiment.dataset,
            external: experiment.external.clone(),
            start: checkpoint.map_or(initial(experiment), Start::Checkpoint),
        };
        if experiment.rule == EnvironmentRule::Same && experiment.environment.is_none() {
            experiment.environment = Some(environment.clone());
            let (experiment, environment) = (segment.experiment, environment.clone());
            effects.persist(Change::ExperimentBound { experiment, environment });
        }
        effects.persist(Change::AttemptAssigned { attempt, worker, environment, replays, at: now });
        let lease = now.after(self.config.lease);
        self.set_state(id, State::Assigned { attempt: attempt.number, worker, lease }, now, effects);
        self.send(worker, Message::Start(Box::new(message)), effects);
    }
}

/// Slots of a connected worker that no live attempt has; none of one that is leaving.
pub(crate) fn free_slots(worker: &Worker) -> usize {
    let staying = worker.connection.as_ref().filter(|connection| !connection.leaving);
    let more = usize::from(planted!(BeyondSlots));
    staying.map_or(0, |connection| (connection.slots + more).saturating_sub(worker.held.len()))
}

fn initial(experiment: &Experiment) -> Start {
    experiment.init.map_or(Start::Random, Start::Weights)
}
