//! Workers, or single devices of theirs, that are to be used no more: before maintenance, or because one is broken.

use std::collections::BTreeSet;

use ceteris_shared::ids::WorkerId;

use crate::{Change, Message, Scheduler, scheduler::Effects};

/// What of a worker is not to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nothing of it.
    Worker,
    /// Not these slots, counted from 0.
    Slots(BTreeSet<u32>),
}

impl Drain {
    /// Which of a worker's slots it means, in order.
    pub fn slots(&self, slots: usize) -> Vec<u32> {
        let all = 0..u32::try_from(slots).unwrap_or(u32::MAX);
        match self {
            Self::Worker => all.collect(),
            Self::Slots(drained) => all.filter(|slot| drained.contains(slot)).collect(),
        }
    }
}

impl Scheduler {
    /// Nothing new is begun there, and what runs there is handed back after its epoch. `None` uses all of it again.
    pub(crate) fn drain(&mut self, id: WorkerId, drain: Option<Drain>, effects: &mut Effects) {
        let drain = drain.filter(|drain| *drain != Drain::Slots(BTreeSet::new()));
        if self.drains.get(&id) == drain.as_ref() {
            return;
        }
        match &drain {
            Some(drain) => drop(self.drains.insert(id, drain.clone())),
            None => drop(self.drains.remove(&id)),
        }
        effects.persist(Change::WorkerDrained { worker: id, drain: drain.clone() });
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.drain = drain;
            self.list_room(id);
            self.tell_drain(id, effects);
        }
    }

    /// Says to a connected worker which slots are not to be used.
    pub(crate) fn tell_drain(&self, id: WorkerId, effects: &mut Effects) {
        let Some(worker) = self.workers.get(&id) else { return };
        let Some(connection) = &worker.connection else { return };
        let slots = worker.drain.as_ref().map_or(Vec::new(), |drain| drain.slots(connection.slots));
        self.send(id, Message::Drain { slots }, effects);
    }
}
