//! Workers connect, are heard of, and are lost.

use std::{collections::BTreeSet, sync::Arc};

use ceteris_shared::{
    ids::{Attempt, SegmentId, SessionId, WorkerId},
    planted,
};

use crate::{
    AttemptEnd, Live, Message, Rejection, Scheduler, State, Timestamp, WorkerConnected,
    scheduler::{Connection, Effects},
};

/// More than any machine has devices: a larger number is a mistake and is cut.
const MAX_SLOTS: u32 = 1024;

impl Scheduler {
    /// A newer connection replaces the worker's older one. What the worker still executes is adopted if it is still
    /// its own, and revoked if not; what it no longer executes has a short time left to be reported about.
    pub(crate) fn connect(&mut self, now: Timestamp, connected: WorkerConnected, effects: &mut Effects) {
        let WorkerConnected { worker, session, slots, slot_memory, environment, running } = connected;
        let slots = slots.min(MAX_SLOTS) as usize;
        let environment = Arc::new(environment);
        let entry = self.worker(worker);
        entry.connection =
            Some(Connection { session, slots, environment, slot_memory, leaving: false, over: BTreeSet::new() });
        let held: Vec<SegmentId> = entry.held.iter().copied().collect();
        self.list_room(worker);
        if self.drains.contains_key(&worker) {
            self.tell_drain(worker, effects);
        }

        let running: BTreeSet<Attempt> = running.into_iter().collect();
        for &attempt in &running {
            match self.live(worker, attempt) {
                Ok(_) => self.adopt(now, worker, attempt, effects),
                Err(rejection) => self.revoke(worker, attempt, rejection, effects),
            }
        }
        let mut over = BTreeSet::new();
        for id in held {
            let Some(Live { attempt: number, until, .. }) = self.segments.get(&id).and_then(|s| s.state.live()) else {
                continue;
            };
            if !running.contains(&Attempt { segment: id, number }) {
                over.insert(Attempt { segment: id, number });
                let soon = if planted!(LostBeforeItsTime) { now } else { now.after(self.config.replay) };
                self.set_lease(id, until.min(soon));
            }
        }
        if let Some(connection) = self.worker(worker).connection.as_mut() {
            connection.over = over;
        }
    }

    fn adopt(&mut self, now: Timestamp, worker: WorkerId, attempt: Attempt, effects: &mut Effects) {
        match self.segments.get(&attempt.segment).map(|segment| &segment.state) {
            Some(State::Stopping { .. }) if planted!(StopNotRepeated) => {}
            Some(State::Stopping { .. }) => self.send(worker, Message::Stop(attempt), effects),
            _ if planted!(AdoptedNotRenewed) => {}
            _ => self.set_lease(attempt.segment, now.after(self.config.lease)),
        }
    }

    /// Its attempts keep their leases: it may come back.
    pub(crate) fn disconnect(&mut self, worker: WorkerId, session: SessionId) {
        if let Some(entry) = self.workers.get_mut(&worker)
            && entry.connection.as_ref().is_some_and(|connection| connection.session == session)
        {
            entry.connection = None;
            self.list_room(worker);
            self.forget_if_idle(worker);
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        session: SessionId,
        running: Vec<Attempt>,
        effects: &mut Effects,
    ) {
        if !self.is_current(worker, session) && !planted!(StaleSessionAccepted) {
            return effects.reject(Rejection::StaleSession { worker, session });
        }
        for attempt in running.into_iter().collect::<BTreeSet<_>>() {
            match self.live(worker, attempt) {
                Ok(State::Stopping { .. }) => {}
                Ok(_) if planted!(HeartbeatRenewsNothing) => {}
                Err(Rejection::OtherWorker { .. }) if planted!(HeartbeatRenewsAnyone) => {
                    self.set_lease(attempt.segment, now.after(self.config.lease));
                }
                Ok(_) => self.set_lease(attempt.segment, now.after(self.config.lease)),
                Err(rejection) => self.revoke(worker, attempt, rejection, effects),
            }
        }
    }

    /// A worker that stops an attempt unasked is shutting down: it gets no other until it connects again. Where it does so
    /// of an attempt that it did not have any more when it connected, it was shutting down before that.
    pub(crate) fn note_leaving(&mut self, worker: WorkerId, attempt: Attempt) {
        let asked = self.segments.get(&attempt.segment).is_some_and(|s| matches!(s.state, State::Stopping { .. }));
        if let Some(connection) = self.workers.get_mut(&worker).and_then(|worker| worker.connection.as_mut()) {
            let before = connection.over.contains(&attempt) && !planted!(SpooledStopMeansLeaving);
            connection.leaving |= !asked && !before;
        }
        self.list_room(worker);
    }

    /// Gives every attempt as much time as if it had been heard of just now.
    pub(crate) fn renew_all(&mut self, now: Timestamp) {
        let live: Vec<SegmentId> = self.leases.iter().map(|&(_, id)| id).collect();
        live.into_iter().for_each(|id| self.set_lease(id, now.after(self.config.lease)));
    }

    /// A worker is still telling what became of attempts that it did not have any more when it connected: those that it has
    /// not come to yet have time as long as it goes on.
    pub(crate) fn renew_over(&mut self, now: Timestamp, worker: WorkerId) {
        let connection = self.workers.get(&worker).and_then(|worker| worker.connection.as_ref());
        let Some(over) = connection.map(|connection| &connection.over).filter(|over| !over.is_empty()) else { return };
        let soon = now.after(self.config.replay);
        for attempt in over.clone() {
            match self.live(worker, attempt).map(State::live) {
                Ok(Some(live)) if live.until < soon => self.set_lease(attempt.segment, soon),
                _ => {}
            }
        }
    }

    /// Ends what nothing was heard of for too long.
    pub(crate) fn expire(&mut self, now: Timestamp, effects: &mut Effects) {
        while let Some(&(until, id)) = self.leases.first()
            && until <= now
        {
            let Some(Live { attempt, worker, .. }) = self.segments.get(&id).and_then(|s| s.state.live()) else {
                return;
            };
            let attempt = Attempt { segment: id, number: attempt };
            // One that was told to stop may have needed longer for that than is waited.
            if !matches!(self.segments.get(&id).map(|segment| &segment.state), Some(State::Stopping { .. })) {
                self.note_failure(now, worker, attempt);
            }
            self.end_attempt(now, attempt, AttemptEnd::Lost, effects);
            self.send(worker, Message::Revoke { attempt, reason: Rejection::NotLive { attempt } }, effects);
        }
    }

    pub(crate) fn is_current(&self, worker: WorkerId, session: SessionId) -> bool {
        let connection = self.workers.get(&worker).and_then(|worker| worker.connection.as_ref());
        connection.is_some_and(|connection| connection.session == session)
    }

    /// The state of the segment that `attempt` executes, if it is believed alive and `worker`'s.
    pub(crate) fn live(&self, worker: WorkerId, attempt: Attempt) -> Result<&State, Rejection> {
        let Some(segment) = self.segments.get(&attempt.segment) else {
            return Err(Rejection::UnknownSegment { attempt });
        };
        match segment.state.live() {
            None => Err(Rejection::NotLive { attempt }),
            Some(live) if live.attempt != attempt.number && !planted!(StaleAttemptAccepted) => {
                Err(Rejection::StaleAttempt { attempt, current: live.attempt })
            }
            Some(live) if live.worker != worker && !planted!(OtherWorkerAccepted) => {
                Err(Rejection::OtherWorker { attempt, owner: live.worker })
            }
            Some(_) => Ok(&segment.state),
        }
    }

    /// Refuses what a worker says of an attempt, and tells it that the attempt is over.
    pub(crate) fn revoke(&self, worker: WorkerId, attempt: Attempt, reason: Rejection, effects: &mut Effects) {
        effects.reject(reason.clone());
        if !planted!(RevokeForgotten) {
            self.send(worker, Message::Revoke { attempt, reason }, effects);
        }
    }
}
