//! Until when attempts are believed alive and segments wait, as one life of the coordinator has to have it.

use std::collections::BTreeSet;

use ceteris_scheduler::{Scheduler, State, Timestamp};
use ceteris_shared::ids::{Attempt, SegmentId, SessionId, WorkerId};

use super::{Connected, Record};

impl Record {
    /// Until when a life waits with what is stored to wait until `stored`.
    pub(super) fn waits_until(&self, life: u64, segment: SegmentId, stored: Timestamp) -> Timestamp {
        match self.lives.get(&life).and_then(|life| life.waits.get(&segment)) {
            Some((then, here)) if *then == stored => *here,
            _ => stored,
        }
    }

    /// After a restart every live attempt has a whole lease in which its worker can come back.
    pub(super) fn restored(&mut self, life: u64, scheduler: &Scheduler, lease: Timestamp) {
        let live: Vec<_> = scheduler.saved().filter_map(|(id, saved)| Some((id, saved.state.live()?))).collect();
        for (segment, live) in live {
            let attempt = Attempt { segment, number: live.attempt };
            self.require(live.until == lease, "a restart renews leases", || {
                format!("{attempt} is believed alive until {} after a restart, not {lease}", live.until)
            });
            if let Some(life) = self.lives.get_mut(&life) {
                life.until.insert(attempt, lease);
            }
        }
        for (segment, saved) in scheduler.saved() {
            let waits = |state: &State| if let State::Queued { not_before } = state { Some(*not_before) } else { None };
            let own = self.segments.get(&segment).and_then(|own| own.state.as_ref()).and_then(waits);
            let (Some(own), Some(now)) = (own, waits(&saved.state)) else { continue };
            self.require(now <= own, "a restart makes no wait longer", || {
                format!("{segment} waits until {now} after a restart, and waited until {own}")
            });
            self.lives.entry(life).or_default().waits.insert(segment, (own, now));
        }
    }

    pub(super) fn renew(&mut self, life: u64, now: Timestamp, worker: WorkerId, attempt: Attempt) {
        let renewed = self.live(attempt).is_some_and(|live| live.worker == worker && !live.stopping);
        let until = now.after(self.config.lease);
        if let Some(life) = self.lives.get_mut(&life).filter(|_| renewed) {
            life.until.insert(attempt, until);
        }
    }

    /// Who still tells of attempts that it has no more has time for all of them.
    pub(super) fn renew_over(&mut self, life: u64, now: Timestamp, worker: WorkerId, session: SessionId) {
        let soon = now.after(self.config.replay);
        if !self.is_current(life, worker, session) {
            return;
        }
        let Some(record) = self.lives.get_mut(&life) else { return };
        let over = record.connections.get(&worker).map(|open| &open.over).into_iter().flatten();
        for attempt in over {
            let live = self.segments.get(&attempt.segment).and_then(|own| own.live.as_ref());
            let own = live.is_some_and(|live| live.attempt == *attempt && live.worker == worker);
            if let Some(until) = record.until.get_mut(attempt).filter(|_| own) {
                *until = soon.max(*until);
            }
        }
    }

    pub(super) fn connect(&mut self, life: u64, now: Timestamp, connected: &ceteris_scheduler::WorkerConnected) {
        let (worker, session) = (connected.worker, connected.session);
        let (slots, environment) = (connected.slots, connected.environment.clone());
        let here = connected.running.iter().copied().collect();
        let open = Connected { session, slots, environment, here, over: BTreeSet::new(), leaving: false };
        let soon = now.after(self.config.replay);
        let held: Vec<Attempt> = {
            let live = self.segments.values().filter_map(|segment| segment.live.as_ref());
            live.filter(|live| live.worker == worker).map(|live| live.attempt).collect()
        };
        let Some(record) = self.lives.get_mut(&life) else { return };
        record.connections.insert(worker, open);
        for attempt in held.iter().filter(|attempt| !connected.running.contains(attempt)) {
            if let Some(until) = record.until.get_mut(attempt) {
                *until = soon.min(*until);
            }
            if let Some(open) = record.connections.get_mut(&worker) {
                open.over.insert(*attempt);
            }
        }
        connected.running.iter().for_each(|attempt| self.renew(life, now, worker, *attempt));
    }
}
