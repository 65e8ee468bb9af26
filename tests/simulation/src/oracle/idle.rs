//! Who is given work: nobody stands idle while something waits that it could train, and only what is not to be used hands
//! back what it was given.

use std::collections::BTreeMap;

use ceteris_scheduler::{Drain, State, Timestamp};
use ceteris_shared::{
    ids::{Attempt, ExperimentId, WorkerId},
    spec::EnvironmentRule,
};

use super::{Connected, Planned, Record};

impl Record {
    /// What of a worker is not to be used is changed.
    pub(super) fn drain(&mut self, worker: WorkerId, drain: Option<&Drain>) {
        let Some(drain) = drain else { return drop(self.drains.remove(&worker)) };
        self.drains.insert(worker, drain.clone());
        let live = self.segments.values_mut().filter_map(|own| own.live.as_mut());
        live.filter(|live| live.worker == worker).for_each(|live| live.drained = true);
    }

    /// Who stops an attempt unasked is shutting down, and needs no work until it connects again. What it stopped before it
    /// connected says nothing of what it does now.
    pub(super) fn note_leaving(&mut self, life: u64, worker: WorkerId, attempt: Attempt) {
        let asked = self.live(attempt).is_some_and(|live| live.stopping);
        if let Some(open) = self.lives.get_mut(&life).and_then(|life| life.connections.get_mut(&worker)) {
            open.leaving |= !asked && open.here.contains(&attempt);
        }
    }

    /// A worker that goes on hands back what it was given for slots that are not to be used, or was told to stop, and nothing
    /// else.
    pub(super) fn check_handed_back(&mut self, attempt: Attempt) {
        let drained = self.live(attempt).is_none_or(|live| live.drained || live.stopping);
        self.require(drained, "only what is not to be used hands back", || {
            format!("{attempt} is handed back, and nothing was drained or told to stop since it began")
        });
    }

    /// After every event all that could be started is.
    pub(super) fn check_idle(&mut self, life: u64, now: Timestamp, is_set_aside: impl Fn(WorkerId) -> bool) {
        let Some(life) = self.lives.get(&life) else { return };
        let (mut held, mut trained) = (BTreeMap::<WorkerId, usize>::new(), BTreeMap::<ExperimentId, u32>::new());
        for own in self.segments.values() {
            if let Some(live) = &own.live {
                *held.entry(live.worker).or_default() += 1;
                *trained.entry(own.experiment).or_default() += 1;
            }
        }
        let has_room = |worker: WorkerId, open: &Connected| {
            let free = self.usable(worker, open.slots) > held.get(&worker).copied().unwrap_or(0);
            free && !open.leaving && !is_set_aside(worker)
        };
        let idle: Vec<_> = life.connections.iter().filter(|(worker, open)| has_room(**worker, open)).collect();
        if idle.is_empty() {
            return;
        }
        let place = |own: &Planned| {
            let known = self.experiments.get(&own.experiment)?;
            let more = known.most.is_none_or(|most| trained.get(&own.experiment).is_none_or(|trained| *trained < most));
            let bound = known.bound.as_ref().filter(|_| known.rule == EnvironmentRule::Same);
            let fits = |open: &Connected| bound.is_none_or(|bound| *bound == open.environment);
            let place = idle.iter().find(|(_, open)| fits(open)).map(|(worker, _)| **worker);
            place.filter(|_| more && !known.paused && !known.cancelled)
        };
        let is_ready = |own: &Planned| matches!(own.state, Some(State::Queued { not_before }) if not_before <= now);
        let mut ready = self.segments.iter().filter(|(_, own)| is_ready(own));
        let missed = ready.find_map(|(id, own)| Some((*id, place(own)?)));
        if let Some((id, worker)) = missed {
            self.broken("free slots are used", format!("{id} waits, and {worker} has a slot for it"));
        }
    }

    /// How many slots of a worker may be used.
    fn usable(&self, worker: WorkerId, slots: u32) -> usize {
        let is_usable = |slot: &u32| match self.drains.get(&worker) {
            None => true,
            Some(Drain::Worker) => false,
            Some(Drain::Slots(drained)) => !drained.contains(slot),
        };
        (0..slots).filter(is_usable).count()
    }
}
