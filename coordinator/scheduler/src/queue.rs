//! Whose turn it is: the experiments that have something to start, in the order in which they may.
//!
//! Priority goes first. Among equals it is the experiment that has the fewest slots for its weight, and then the one
//! that was submitted first; within an experiment it is the plan's order. So that this costs the same with ten segments
//! and with a million, experiments are kept sorted, and only one whose place changes is moved.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ceteris_shared::{checkpoint::Environment, ids::ExperimentId, planted};

use crate::{Scheduler, scheduler::Experiment};

/// How an experiment shares the fleet with others. Nothing here influences a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// What has a higher one goes first, and takes slots from what has a lower one when that has committed its epoch.
    pub priority: i32,
    /// Among experiments of one priority, slots are shared in proportion to these. At least 1.
    pub weight: u32,
    /// Most of its segments that are trained at once.
    pub max_concurrent: Option<u32>,
    /// Bytes of memory that a device must have for it; 0 where any will do.
    pub device_memory: u64,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { priority: 0, weight: 1, max_concurrent: None, device_memory: 0 }
    }
}

/// What a slot must have for an experiment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need {
    /// The environment class, if it is no longer free.
    pub(crate) class: Option<Arc<Environment>>,
    /// Bytes of the device's memory.
    pub(crate) memory: u64,
}

/// The slots that an experiment would have with one more, for its weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    slots: u64,
    weight: u64,
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        // Both are counts below 2³², so that the products are exact.
        (self.slots * other.weight).cmp(&(other.slots * self.weight))
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Share {}

/// An experiment's place in the order; the smallest is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    pub(crate) priority: Reverse<i32>,
    share: Share,
    submission: u64,
    pub(crate) experiment: ExperimentId,
}

/// The experiments that have something to start and may start it, by what they need.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Queue {
    needs: BTreeMap<Need, BTreeSet<Turn>>,
}

impl Queue {
    fn insert(&mut self, need: Need, turn: Turn) {
        self.needs.entry(need).or_default().insert(turn);
    }

    fn remove(&mut self, need: &Need, turn: &Turn) {
        if let Some(turns) = self.needs.get_mut(need) {
            turns.remove(turn);
            if turns.is_empty() {
                self.needs.remove(need);
            }
        }
    }

    /// For everything that is needed by someone: the experiment that is next.
    pub(crate) fn next(&self) -> impl Iterator<Item = (&Need, Turn)> {
        self.needs.iter().filter_map(|(need, turns)| Some((need, *turns.first()?)))
    }

    /// Everyone, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Need, &Turn)> {
        self.needs.iter().flat_map(|(need, turns)| turns.iter().map(move |turn| (need, turn)))
    }

    /// Those with a need that `met` accepts and a priority above `priority`.
    pub(crate) fn above(&self, priority: i32, met: impl Fn(&Need) -> bool) -> impl Iterator<Item = ExperimentId> {
        let needs = self.needs.iter().filter(move |(need, _)| met(need));
        let higher = move |turn: &&Turn| turn.priority.0 > priority;
        needs.flat_map(move |(_, turns)| turns.iter().take_while(higher)).map(|turn| turn.experiment)
    }
}

impl Experiment {
    /// What a slot must have for it.
    pub(crate) fn need(&self) -> Need {
        Need { class: self.environment.clone(), memory: self.sharing.device_memory }
    }

    /// How many more of its segments could be started if there were slots.
    pub(crate) fn wanted(&self) -> usize {
        let limit = self.sharing.max_concurrent.map_or(usize::MAX, |max| max as usize);
        if (self.paused && !planted!(PausedIsAssigned)) || self.cancelled {
            0
        } else {
            self.ready.len().min(limit.saturating_sub(self.live))
        }
    }

    /// Its place in the order, whether or not it has something to start.
    pub(crate) fn turn(&self, experiment: ExperimentId) -> Turn {
        let weight = u64::from(self.sharing.weight.max(1));
        let share = Share { slots: (self.live as u64).saturating_add(1).min(u64::from(u32::MAX)), weight };
        Turn { priority: Reverse(self.sharing.priority), share, submission: self.submission, experiment }
    }
}

impl Scheduler {
    /// Puts an experiment where it belongs in the order, after anything about it changed.
    pub(crate) fn enqueue(&mut self, id: ExperimentId) {
        let Some(experiment) = self.experiments.get_mut(&id) else { return };
        let place = (experiment.wanted() > 0).then(|| (experiment.need(), experiment.turn(id)));
        if experiment.place == place {
            return;
        }
        if let Some((need, turn)) = std::mem::replace(&mut experiment.place, place.clone()) {
            self.queue.remove(&need, &turn);
        }
        if let Some((need, turn)) = place {
            self.queue.insert(need, turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_compared_exactly() {
        let share = |slots, weight| Share { slots, weight };
        assert!(share(1, 3) < share(1, 2));
        assert_eq!(share(2, 4), share(1, 2));
        let big = u64::from(u32::MAX);
        assert!(share(big - 1, big) < share(1, 1));
    }
}
