//! What is decided and not committed yet: changes, and what is said to whom once they are.

use std::{
    collections::{BTreeSet, HashSet},
    fmt, mem,
    sync::atomic::Ordering,
};

use ceteris_scheduler::{Change as Decision, Effect, Event, Message, Rejection};
use ceteris_shared::{
    ids::{ExperimentId, SegmentId, SessionId, WorkerId},
    planted,
};
use tokio::sync::oneshot;

use super::{Driver, Outgoing, sessions};
use crate::store::{self, Change};

/// What waits for the next commit.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) changes: Vec<Change>,
    messages: Vec<(WorkerId, SessionId, Message)>,
    touched: BTreeSet<ExperimentId>,
    answers: Vec<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}

/// What the scheduler decided about one event, sorted by what is to be done with it.
#[derive(Debug, Default)]
pub(super) struct Decided {
    pub(super) changes: Vec<Change>,
    messages: Vec<(WorkerId, SessionId, Message)>,
    pub(super) rejections: Vec<Rejection>,
    pub(super) touched: BTreeSet<ExperimentId>,
}

impl Driver {
    /// Decides about an event, and holds what was decided until the next commit.
    pub(super) fn handle(&mut self, event: Event) -> Vec<Rejection> {
        let decided = self.decide(event);
        self.hold(Vec::new(), decided)
    }

    pub(super) fn decide(&mut self, event: Event) -> Decided {
        let mut decided = Decided::default();
        let now = self.clock.now();
        #[cfg(feature = "simulation")]
        let shown = self.observer.is_some().then(|| event.clone());
        let effects = self.scheduler.handle(now, event);
        #[cfg(feature = "simulation")]
        if let (Some(observer), Some(event)) = (&self.observer, &shown) {
            observer.decided(now, event, &effects, &self.scheduler);
        }
        for effect in effects {
            match effect {
                Effect::Persist(change) => {
                    let of_segment = change.segment().and_then(|segment| self.scheduler.experiment_of(segment));
                    decided.touched.extend(of_segment);
                    decided.changes.push(Change::Scheduler(change));
                }
                Effect::Send { worker, session, message } => decided.messages.push((worker, session, message)),
                Effect::Reject(rejection) => decided.rejections.push(rejection),
            }
        }
        decided
    }

    /// Holds `before` and what was decided until the next commit, in which all of it is.
    pub(super) fn hold(&mut self, before: Vec<Change>, decided: Decided) -> Vec<Rejection> {
        let Decided { changes, messages, rejections, touched } = decided;
        self.pending.changes.extend(before);
        self.pending.changes.extend(changes);
        self.pending.messages.extend(messages);
        self.pending.touched.extend(touched);
        for rejection in &rejections {
            self.counters.rejected.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%rejection, "refused");
        }
        rejections
    }

    /// Answers after the next commit. That nobody waits any more is no fault.
    pub(super) fn answer<T: Send + 'static>(&mut self, reply: oneshot::Sender<T>, answer: T) {
        self.pending.answers.push(Box::new(move || drop(reply.send(answer))));
    }

    /// Tells who watches an experiment, after the next commit.
    pub(super) fn touch(&mut self, experiment: ExperimentId) {
        self.pending.touched.insert(experiment);
    }

    /// Commits what is held in one transaction; then, and only then, speaks.
    pub(super) async fn flush(&mut self) -> Result<(), store::Error> {
        let Pending { changes, mut messages, touched, answers } = mem::take(&mut self.pending);
        let mut changes = without_overtaken(changes);
        if planted!(SpeaksBeforeCommit) {
            self.deliver_all(std::mem::take(&mut messages));
        }
        if planted!(SequenceAlone) {
            let (alone, rest): (Vec<Change>, Vec<Change>) =
                changes.into_iter().partition(|change| matches!(change, Change::Sequence { .. }));
            self.store.commit(&alone).await?;
            changes = rest;
        }
        if !changes.is_empty()
            && let Err(error) = self.store.commit(&changes).await
            && !planted!(GoesOnAfterFailedCommit)
        {
            return Err(error);
        }
        if !changes.is_empty() {
            ceteris_crash::here(ceteris_crash::Point::DecisionsCommitted);
        }
        self.deliver_all(messages);
        answers.into_iter().for_each(|answer| answer());
        for experiment in touched {
            // An error means that nobody is listening.
            let _ = self.changes.send(experiment);
        }
        #[cfg(feature = "simulation")]
        if let Some(observer) = &self.observer {
            let connections: Vec<_> =
                self.sessions.iter().map(|(&worker, session)| (worker, session.register.session)).collect();
            observer.carried_out(self.clock.now(), &self.scheduler, &connections);
        }
        Ok(())
    }

    fn deliver_all(&self, messages: Vec<(WorkerId, SessionId, Message)>) {
        for (worker, session, message) in messages {
            self.deliver(worker, session, Outgoing::Message(sessions::wire(message)));
        }
    }
}

/// Leaves out what a later change of the same commit writes over: a segment's state, a worker's sequence number.
fn without_overtaken(changes: Vec<Change>) -> Vec<Change> {
    let mut later = Overtakers::default();
    let mut kept: Vec<Change> = changes.into_iter().rev().filter(|change| later.is_first(change)).collect();
    kept.reverse();
    kept
}

#[derive(Default)]
struct Overtakers {
    segments: HashSet<SegmentId>,
    workers: HashSet<WorkerId>,
}

impl Overtakers {
    /// Going backwards: whether nothing came that writes over this.
    fn is_first(&mut self, change: &Change) -> bool {
        match change {
            Change::Scheduler(Decision::SegmentChanged { segment, .. }) => self.segments.insert(*segment),
            // The store keeps the largest, and a worker's numbers only grow.
            Change::Sequence { worker, .. } => self.workers.insert(*worker),
            Change::Experiment(_) | Change::Scheduler(_) | Change::Worker(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use ceteris_scheduler::{State, Timestamp};
    use ceteris_shared::ids::Epoch;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_what_is_written_over_is_left_out() {
        let id = |id| SegmentId(Uuid::from_u128(id));
        let changed = |of, epoch: u32| {
            let (worker, lease) = (WorkerId(Uuid::nil()), Timestamp(0));
            let state = State::Running { attempt: 1, worker, lease, epoch: Epoch(epoch) };
            Change::Scheduler(Decision::SegmentChanged { segment: id(of), state, failures: 0, losses: 0 })
        };
        let sequence = |worker, sequence| Change::Sequence { worker: WorkerId(Uuid::from_u128(worker)), sequence };
        let other =
            Change::Scheduler(Decision::ExperimentPaused { experiment: ExperimentId(Uuid::nil()), since: None });
        let all = vec![
            sequence(1, 1),
            changed(1, 1),
            changed(2, 1),
            other.clone(),
            sequence(2, 5),
            changed(1, 2),
            sequence(1, 2),
            other.clone(),
        ];
        let kept = vec![changed(2, 1), other.clone(), sequence(2, 5), changed(1, 2), sequence(1, 2), other];
        assert_eq!(without_overtaken(all), kept);
    }
}
