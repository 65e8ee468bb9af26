//! Ready segments meet free slots.

use std::sync::Arc;

use ceteris_shared::{
    checkpoint::Environment,
    ids::{Attempt, SegmentId, WorkerId},
    spec::EnvironmentRule,
};

use crate::{
    AttemptEnd, Change, Message, Scheduler, Start, StartAttempt, State, Timestamp,
    replay::remaining,
    room::Preference,
    scheduler::{Effects, Experiment, Segment},
};

impl Scheduler {
    /// Starts what can be started, as long as anything can.
    pub(crate) fn assign(&mut self, now: Timestamp, effects: &mut Effects) {
        while let Some(&(at, id)) = self.delayed.first()
            && at <= now
        {
            self.delayed.remove(&(at, id));
            self.enter_ready(id);
        }
        self.take_back(now);
        while !self.rooms.is_empty() {
            let Some((id, worker)) = self.next_start() else { return };
            self.start(now, id, worker, effects);
        }
    }

    /// What waited long enough.
    fn enter_ready(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get(&id) else { return };
        if let Some(experiment) = self.experiments.get_mut(&segment.experiment) {
            experiment.ready.insert(segment.position);
            let of = segment.experiment;
            self.enqueue(of);
        }
    }

    /// The segment whose turn it is among those that there is room for, and where it goes.
    fn next_start(&self) -> Option<(SegmentId, WorkerId)> {
        let placeable = self.queue.next().filter(|(need, _)| self.rooms.meet(need));
        let (need, turn) = placeable.min_by_key(|(_, turn)| *turn)?;
        let experiment = self.experiments.get(&turn.experiment)?;
        let id = *experiment.segments.get(*experiment.ready.first()?)?;
        let worker = self.rooms.best(need, self.preference(self.segments.get(&id)?))?;
        Some((id, worker))
    }

    fn preference(&self, segment: &Segment) -> Preference {
        let parent = segment.parent.and_then(|parent| self.segments.get(&parent));
        let known = [segment.last_worker, parent.and_then(|parent| parent.last_worker)];
        let failed = matches!(segment.last_end.as_deref(), Some(AttemptEnd::Failed { .. } | AttemptEnd::Lost));
        Preference { known, avoid: segment.last_worker.filter(|_| failed) }
    }

    fn start(&mut self, now: Timestamp, id: SegmentId, worker: WorkerId, effects: &mut Effects) {
        let connection = self.workers.get(&worker).and_then(|worker| worker.connection.as_ref());
        let Some(environment) = connection.map(|connection| Arc::clone(&connection.environment)) else { return };
        let (checkpoint, again) = self.origin(id, &environment);
        let Some(segment) = self.segments.get_mut(&id) else { return };
        let Some(experiment) = self.experiments.get_mut(&segment.experiment) else { return };
        segment.attempts += 1;
        segment.environment = Some(Arc::clone(&environment));
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
            experiment.environment = Some(Arc::clone(&environment));
            let (experiment, environment) = (segment.experiment, Environment::clone(&environment));
            effects.persist(Change::ExperimentBound { experiment, environment });
        }
        let environment = Environment::clone(&environment);
        effects.persist(Change::AttemptAssigned { attempt, worker, environment, replays, at: now });
        let lease = now.after(self.config.lease);
        self.set_state(id, State::Assigned { attempt: attempt.number, worker, lease }, now, effects);
        self.send(worker, Message::Start(Box::new(message)), effects);
    }
}

fn initial(experiment: &Experiment) -> Start {
    experiment.init.map_or(Start::Random, Start::Weights)
}
