//! Where there is room: the workers with free slots, by what their slots are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ceteris_shared::{checkpoint::Environment, ids::WorkerId, planted};

use crate::{
    Scheduler,
    queue::Need,
    scheduler::{Connection, Worker},
};

/// What a slot is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// First, so that what needs little leaves the large devices to what needs much.
    pub(crate) memory: u64,
    pub(crate) class: Arc<Environment>,
}

impl Kind {
    pub(crate) fn of(connection: &Connection) -> Self {
        Self { memory: connection.slot_memory, class: Arc::clone(&connection.environment) }
    }

    /// Whether it is enough.
    pub(crate) fn meets(&self, need: &Need) -> bool {
        let fits = |class: &Arc<Environment>| *class == self.class || planted!(OtherClassUsed);
        self.memory >= need.memory && need.class.as_ref().is_none_or(fits)
    }
}

/// Workers with free slots, those with the most first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rooms {
    kinds: BTreeMap<Kind, BTreeSet<(Reverse<usize>, WorkerId)>>,
}

/// Whom to give a segment to, if it is all the same otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Preference {
    /// Who had it, or what it continues, last: features, data and checkpoint are there.
    pub(crate) known: [Option<WorkerId>; 2],
    /// Where it failed last.
    pub(crate) avoid: Option<WorkerId>,
}

impl Rooms {
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    pub(crate) fn contains(&self, kind: &Kind, free: usize, worker: WorkerId) -> bool {
        self.kinds.get(kind).is_some_and(|workers| workers.contains(&(Reverse(free), worker)))
    }

    /// Number of workers with room.
    pub(crate) fn len(&self) -> usize {
        self.kinds.values().map(BTreeSet::len).sum()
    }

    /// Whether there is any for this.
    pub(crate) fn meet(&self, need: &Need) -> bool {
        self.kinds.keys().any(|kind| kind.meets(need))
    }

    /// The worker with the most free slots, of the smallest device that will do; among equals one that is preferred, and
    /// then the one with the lowest id.
    pub(crate) fn best(&self, need: &Need, preference: Preference) -> Option<WorkerId> {
        let mut last_resort = None;
        for (_, workers) in self.kinds.iter().filter(|(kind, _)| kind.meets(need)) {
            let avoided = |worker: WorkerId| preference.avoid == Some(worker);
            // At most one is avoided, so the second is none of those.
            let first = workers.iter().find(|(_, worker)| !avoided(*worker));
            let Some(&(free, first)) = first else {
                last_resort = last_resort.or(workers.first().map(|&(_, worker)| worker));
                continue;
            };
            let known = preference.known.into_iter().flatten();
            let mut known = known.filter(|&worker| !avoided(worker) && workers.contains(&(free, worker)));
            return Some(known.next().unwrap_or(first));
        }
        last_resort
    }

    fn insert(&mut self, kind: Kind, free: usize, worker: WorkerId) {
        self.kinds.entry(kind).or_default().insert((Reverse(free), worker));
    }

    fn remove(&mut self, kind: &Kind, free: usize, worker: WorkerId) {
        if let Some(workers) = self.kinds.get_mut(kind) {
            workers.remove(&(Reverse(free), worker));
            if workers.is_empty() {
                self.kinds.remove(kind);
            }
        }
    }
}

/// Slots of a worker that something can be started on: none where it is not connected, leaving, drained or set aside.
pub(crate) fn free_slots(worker: &Worker) -> usize {
    let usable = worker.connection.as_ref().filter(|connection| !connection.leaving && !worker.set_aside);
    let more = usize::from(planted!(BeyondSlots));
    usable.map_or(0, |connection| (worker.usable(connection.slots) + more).saturating_sub(worker.held.len()))
}

impl Scheduler {
    /// Lists a worker's free slots, after anything about it changed.
    pub(crate) fn list_room(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let free = free_slots(worker);
        let room = worker.connection.as_ref().filter(|_| free > 0).map(|connection| (Kind::of(connection), free));
        if worker.room == room {
            return;
        }
        if let Some((kind, free)) = std::mem::replace(&mut worker.room, room.clone()) {
            self.rooms.remove(&kind, free, id);
        }
        if let Some((kind, free)) = room {
            self.rooms.insert(kind, free, id);
        }
    }
}
