//! How workers stand: one on which attempt after attempt fails is given nothing for a while, so that a broken device
//! does not use up the tries of every segment.
//!
//! What a worker with many slots loses at once, because it was restarted or cut off, is one failure and not as many as it
//! had attempts: when one counts, those that the worker had beside it do not count any more.

use std::collections::BTreeSet;

use ceteris_shared::ids::{Attempt, WorkerId};

use crate::{
    Scheduler, Timestamp,
    scheduler::{Worker, doubled},
};

/// After how many of the longest whiles a worker that is not heard of any more is forgotten.
const REMEMBERED: u32 = 24;

/// What went wrong on a worker since it committed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Attempts in a row that failed or were lost, those that ran beside each other counted once.
    pub(crate) failures: u32,
    /// Those that ran beside the last one that counted.
    excused: BTreeSet<Attempt>,
    /// Until when it is given nothing.
    pub(crate) until: Option<Timestamp>,
    /// When that was last changed.
    changed: Timestamp,
}

/// Whether work can be given to a worker at all, be it busy or not.
fn is_usable(worker: &Worker) -> bool {
    let connection = worker.connection.as_ref().filter(|connection| !connection.leaving && !worker.set_aside);
    connection.is_some_and(|connection| worker.usable(connection.slots) > 0)
}

impl Scheduler {
    /// An attempt that a worker still has failed for want of infrastructure, or was lost.
    pub(crate) fn note_failure(&mut self, now: Timestamp, id: WorkerId, attempt: Attempt) {
        if self.standings.get_mut(&id).is_some_and(|standing| standing.excused.remove(&attempt)) {
            return;
        }
        let beside = self.held_by(id).filter(|other| *other != attempt).collect();
        let config = self.config;
        self.standings.retain(|_, standing| now.since(standing.changed) < config.max_set_aside * REMEMBERED);
        let new = Standing { failures: 0, excused: BTreeSet::new(), until: None, changed: now };
        let standing = self.standings.entry(id).or_insert(new);
        standing.failures = standing.failures.saturating_add(1);
        (standing.changed, standing.excused) = (now, beside);
        let Some(beyond) = standing.failures.checked_sub(config.max_worker_failures.max(1)) else { return };
        // With nobody else there is nothing to protect: segments wait by themselves, and who waits for an answer gets it.
        if !self.workers.iter().any(|(&other, worker)| other != id && is_usable(worker)) {
            return;
        }
        let Some(standing) = self.standings.get_mut(&id) else { return };
        let until = now.after(doubled(config.set_aside, beyond, config.max_set_aside));
        if let Some(before) = standing.until.replace(until) {
            self.set_aside.remove(&(before, id));
        }
        self.set_aside.insert((until, id));
        self.mark_set_aside(id, true);
    }

    /// A checkpoint of a worker counts.
    pub(crate) fn note_success(&mut self, id: WorkerId) {
        if let Some(Standing { until: Some(until), .. }) = self.standings.remove(&id) {
            self.set_aside.remove(&(until, id));
            self.mark_set_aside(id, false);
        }
    }

    /// Gives work again to those whose while is over. One more failure sets them aside for longer.
    pub(crate) fn take_back(&mut self, now: Timestamp) {
        while let Some(&(until, id)) = self.set_aside.first()
            && until <= now
        {
            self.set_aside.remove(&(until, id));
            if let Some(standing) = self.standings.get_mut(&id) {
                standing.until = None;
            }
            self.mark_set_aside(id, false);
        }
    }

    fn mark_set_aside(&mut self, id: WorkerId, set_aside: bool) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.set_aside = set_aside;
        }
        self.list_room(id);
    }
}
