//! What is decided to be changed, and whether it reaches the store as a whole.

use std::{collections::BTreeSet, sync::Arc};

use ceteris_coordinator::store::Change;
use ceteris_scheduler::{AttemptEnd, Change as Decision, Outcome, State, Submission, Timestamp};
use ceteris_shared::{
    ids::{Attempt, SegmentId, WorkerId},
    spec::EnvironmentRule,
    trainer::{FailureCause, MetricPoint},
};

use super::{Books, Known, Live, Oracle, Planned, Record};

impl Oracle {
    /// A transaction was made.
    pub fn committed(&self, life: u64, changes: &[Change]) {
        let mut books = self.lock();
        books.check_whole(life, changes);
        for change in changes {
            if let Change::Sequence { worker, sequence } = change {
                let heard = books.heard.contains(worker);
                books.ahead.require(heard, "what comes on an old connection is not taken", || {
                    format!("event {sequence} of worker {worker} is recorded, and was refused")
                });
                books.take(*worker, *sequence, false);
            }
        }
        books.heard.clear();
        // The driver decides nothing while it commits.
        let books = &mut *books;
        books.stored = books.ahead.clone();
    }

    /// A batch of measured values was added.
    pub fn measured(&self, worker: WorkerId, sequence: u64, attempt: Attempt, points: &[MetricPoint]) {
        let mut books = self.lock();
        books.take(worker, sequence, true);
        if books.stored.owners.get(&attempt) == Some(&worker) {
            let values = books.metrics.entry(attempt).or_default();
            for MetricPoint { epoch, step, split, name, value } in points {
                values.entry((split.name(), name.clone(), *epoch, *step)).or_insert(value.to_bits());
            }
        }
    }

    /// Log lines were added.
    pub fn logged(&self, worker: WorkerId, sequence: u64, attempt: Attempt) {
        let mut books = self.lock();
        books.take(worker, sequence, true);
        if books.stored.owners.get(&attempt) == Some(&worker) {
            books.logs.entry(attempt).or_default().insert(sequence);
        }
    }
}

impl Books {
    /// Events are stored in order and none is left out; one that changes nothing when it comes twice may come twice.
    fn take(&mut self, worker: WorkerId, sequence: u64, twice: bool) {
        let taken = self.taken.entry(worker).or_insert(0);
        let last = *taken;
        *taken = last.max(sequence);
        self.ahead.require(sequence <= last + 1, "no event is left out", || {
            format!("event {sequence} of worker {worker} was stored after {last}")
        });
        self.ahead.require(twice || sequence > last, "no event is taken twice", || {
            format!("event {sequence} of worker {worker} was taken again")
        });
    }

    /// What an event leads to is part of one transaction, with the event's number; only what is written over in the same
    /// one is left out.
    fn check_whole(&mut self, life: u64, changes: &[Change]) {
        let leader = self.ahead.leader;
        self.ahead
            .require(life == leader, "only the leader writes", || format!("life {life} wrote while {leader} led"));
        let mut later = BTreeSet::new();
        let mut decided: Vec<Decision> = std::mem::take(&mut self.pending);
        decided.reverse();
        decided.retain(|change| match change {
            Decision::SegmentChanged { segment, .. } => later.insert(*segment),
            _ => true,
        });
        decided.reverse();
        let made = changes.iter().filter_map(|change| match change {
            Change::Scheduler(decision) => Some(decision),
            _ => None,
        });
        let whole = made.eq(&decided);
        self.ahead.require(whole, "one event is one transaction", || {
            format!("{} changes were decided, and others were made: {changes:?}", decided.len())
        });
    }
}

impl Record {
    /// What an event leads to.
    pub(super) fn apply(&mut self, life: u64, all: &[Decision]) {
        for decision in all {
            self.apply_decision(life, decision, all);
        }
    }

    /// An experiment is known from now on.
    pub(super) fn submit(&mut self, submission: &Submission) {
        let known = Known {
            plan: Arc::new(submission.plan.clone()),
            rule: submission.rule,
            bound: submission.environment.clone(),
            most: submission.sharing.max_concurrent,
            cancelled: false,
            paused: false,
        };
        self.experiments.entry(submission.experiment).or_insert(known);
    }

    fn apply_decision(&mut self, life: u64, decision: &Decision, all: &[Decision]) {
        match decision {
            Decision::SegmentAdded { segment, experiment, position, state } => {
                let Some(plan) = self.experiments.get(experiment).map(|known| &known.plan) else {
                    return self.broken("segments are planned", format!("{segment} is of no experiment"));
                };
                let Some(planned) = plan.segments.get(*position).filter(|planned| planned.id == *segment) else {
                    return self.broken("segments are planned", format!("{segment} is not segment {position}"));
                };
                let added = Planned {
                    experiment: *experiment,
                    parent: planned.parent.and_then(|index| Some(plan.segments.get(index)?.id)),
                    epochs: planned.work.epochs.iter().map(|work| (work.epoch, work.key)).collect(),
                    committed: 0,
                    attempts: 0,
                    live: None,
                    state: Some(state.clone()),
                    failures: 0,
                    losses: 0,
                    step: None,
                    waits: None,
                };
                self.segments.insert(*segment, added);
            }
            Decision::EpochReused { segment, epoch, reused } => {
                let source = self.segments.get(&reused.source).and_then(|source| {
                    let index = source.epochs.iter().position(|(known, _)| known == epoch)?;
                    (index < source.committed).then_some(source.epochs[index].1)
                });
                let own = self.segments.get(segment).and_then(|own| own.epochs.get(own.committed).copied());
                let same = own.is_some_and(|own| own.0 == *epoch && Some(own.1) == source);
                self.require(same, "what is taken is the same epoch", || format!("{segment} takes epoch {epoch}"));
                self.reused.insert((*segment, *epoch), reused.source);
                self.manifests.insert((*segment, *epoch), reused.manifest);
                if let Some(own) = self.segments.get_mut(segment) {
                    own.committed += 1;
                }
            }
            Decision::SegmentChanged { segment, state, failures, losses } => {
                self.change_state(*segment, state);
                self.check_counts(*segment, state, (*failures, *losses));
            }
            Decision::AttemptAssigned { attempt, worker, environment, replays, at } => {
                self.assign(life, *attempt, *worker, environment, *replays, *at);
            }
            Decision::AttemptStarted { attempt, .. } => self.require_live(*attempt, "started"),
            Decision::AttemptEnded { attempt, end, at } => self.end(*attempt, end, *at, all),
            Decision::StepCommitted { attempt, committed, .. } => {
                self.require_live(*attempt, "committed a step");
                let Some(own) = self.segments.get_mut(&attempt.segment) else { return };
                own.step = Some((*attempt, *committed));
                let next = own.epochs.get(own.committed).copied();
                self.require(next == Some((committed.epoch, committed.key)), "keys are the plan's", || {
                    format!("{attempt} committed a step of epoch {}, and {next:?} is next", committed.epoch)
                });
                self.reset_counts(attempt.segment);
            }
            Decision::EpochCommitted { attempt, committed, .. } => {
                self.require_live(*attempt, "committed an epoch");
                let Some(own) = self.segments.get_mut(&attempt.segment) else { return };
                let next = own.epochs.get(own.committed).copied();
                let replays = own.live.as_ref().map_or(0, |live| live.replays);
                own.committed += 1;
                self.require(replays == 0, "what is to be trained again comes first", || {
                    format!("{attempt} committed epoch {} with {replays} to train again", committed.epoch)
                });
                self.require(next == Some((committed.epoch, committed.key)), "keys are the plan's", || {
                    format!("{attempt} committed epoch {}, and {next:?} is next", committed.epoch)
                });
                self.manifests.insert((attempt.segment, committed.epoch), committed.manifest);
                let before = self.trained.insert((attempt.segment, committed.epoch), *attempt);
                self.require(before.is_none(), "an epoch counts once", || {
                    format!("epoch {} of {} counts twice", committed.epoch, attempt.segment)
                });
                self.reset_counts(attempt.segment);
                self.check_pause(attempt.segment, all);
            }
            Decision::EpochReplayed { attempt, committed, .. } => {
                self.require_live(*attempt, "trained an epoch again");
                self.replayed.insert(committed.key);
                let path = self.path(attempt.segment);
                let Some(own) = self.segments.get_mut(&attempt.segment) else { return };
                own.losses = 0;
                let Some(live) = own.live.as_mut() else { return };
                let index = own.epochs.get(own.committed).map_or(path.len(), |next| next.0.0 as usize - 1);
                let expected = index.checked_sub(live.replays as usize).and_then(|index| path.get(index).copied());
                let found = (committed.epoch, committed.key);
                live.replays = live.replays.saturating_sub(1);
                self.require(expected == Some(found), "what is trained again is the plan's", || {
                    format!("{attempt} trained {found:?} again, where {expected:?} is next")
                });
            }
            Decision::CheckpointDamaged { manifest, .. } => drop(self.damaged.insert(*manifest)),
            Decision::CheckpointCollected { manifest, .. } => drop(self.collected.insert(*manifest)),
            Decision::ExperimentBound { experiment, environment } => {
                if let Some(known) = self.experiments.get_mut(experiment) {
                    let free = known.bound.replace(environment.clone()).is_none_or(|before| before == *environment);
                    self.require(free, "an experiment stays in its class", || {
                        format!("{experiment} changes its class")
                    });
                }
            }
            Decision::ExperimentPaused { experiment, since } => {
                if let Some(known) = self.experiments.get_mut(experiment) {
                    known.paused = since.is_some();
                }
            }
            Decision::ExperimentShared { experiment, sharing } => {
                if let Some(known) = self.experiments.get_mut(experiment) {
                    known.most = sharing.max_concurrent;
                }
            }
            Decision::WorkerDrained { worker, drain } => self.drain(*worker, drain.as_ref()),
            Decision::ExperimentCancelled { experiment, .. } => {
                if let Some(known) = self.experiments.get_mut(experiment) {
                    known.cancelled = true;
                }
            }
        }
    }

    fn require_live(&mut self, attempt: Attempt, what: &str) {
        let live = self.segments.get(&attempt.segment).and_then(|own| own.live.as_ref()).map(|live| live.attempt);
        self.require(live == Some(attempt), "only the live attempt counts", || {
            format!("{attempt} {what}, but {live:?} is live")
        });
    }

    fn reset_counts(&mut self, id: SegmentId) {
        if let Some(own) = self.segments.get_mut(&id) {
            (own.failures, own.losses) = (0, 0);
        }
    }

    fn change_state(&mut self, id: SegmentId, state: &State) {
        let Some(own) = self.segments.get_mut(&id) else { return };
        let failed = super::ending::is_mendable(own.state.as_ref());
        if failed && matches!(state, State::Queued { .. }) {
            (own.failures, own.losses) = (0, 0);
        }
        if let Some(live) = own.live.as_mut() {
            live.stopping = matches!(state, State::Stopping { .. });
        }
        own.state = Some(state.clone());
        if let (Some(waits), State::Queued { not_before }) = (own.waits.take(), state) {
            self.require(*not_before >= waits, "back-off is kept", || {
                format!("{id} failed, and is tried again at {not_before}, not {waits}")
            });
        }
    }

    fn assign(
        &mut self,
        life: u64,
        attempt: Attempt,
        worker: WorkerId,
        environment: &ceteris_shared::checkpoint::Environment,
        replays: u32,
        at: Timestamp,
    ) {
        let held = self.held_by(worker);
        let connection = self.lives.get(&life).and_then(|life| life.connections.get(&worker)).cloned();
        let Some(own) = self.segments.get_mut(&attempt.segment) else {
            return self.broken("segments are planned", format!("{attempt} is of no segment"));
        };
        let (live, number, state, experiment) = (own.live.clone(), own.attempts, own.state.clone(), own.experiment);
        let (parent, done) = (own.parent, own.committed == own.epochs.len());
        own.attempts = attempt.number;
        let drained = self.drains.contains_key(&worker);
        own.live = Some(Live { attempt, worker, replays, stopping: false, drained });
        self.owners.insert(attempt, worker);
        self.require(live.is_none(), "one attempt at a time", || format!("{attempt} begins while {live:?} is live"));
        self.require(attempt.number == number + 1, "attempts are counted", || {
            format!("{attempt} comes after {number}")
        });
        self.require(!done, "the budget is spent once", || format!("{attempt} begins, and everything is committed"));
        let ready = parent.is_none_or(|parent| self.all_committed(parent));
        self.require(ready, "parents come first", || format!("{attempt} begins before what it continues is trained"));
        let not_before = match state {
            Some(State::Queued { not_before }) => Some(not_before),
            _ => None,
        };
        let until = not_before.map(|not_before| self.waits_until(life, attempt.segment, not_before));
        self.require(until.is_some_and(|until| until <= at), "back-off is kept", || {
            format!("{attempt} begins at {at}, and its segment was {state:?}")
        });
        let Some(known) = self.experiments.get(&experiment) else { return };
        let (cancelled, paused) = (known.cancelled, known.paused);
        let elsewhere =
            known.rule == EnvironmentRule::Same && known.bound.as_ref().is_some_and(|bound| bound != environment);
        self.require(!cancelled, "cancelled is cancelled", || format!("{attempt} begins of a cancelled experiment"));
        self.require(!paused, "paused is paused", || format!("{attempt} begins of a paused experiment"));
        self.require(!elsewhere, "an experiment stays in its class", || format!("{attempt} begins in another class"));
        let Some(connection) = connection else {
            return self.broken("workers are connected", format!("{attempt} is given to {worker}, who is not"));
        };
        self.require(held < connection.slots as usize, "slots are not exceeded", || {
            format!("{attempt} is given to {worker}, whose {} slots have {held} attempts", connection.slots)
        });
        self.require(connection.environment == *environment, "classes are the workers'", || {
            format!("{attempt} is stored in another class than {worker}'s")
        });
        if let Some(open) = self.lives.get_mut(&life).and_then(|life| life.connections.get_mut(&worker)) {
            open.here.insert(attempt);
        }
    }

    fn end(&mut self, attempt: Attempt, end: &AttemptEnd, at: Timestamp, all: &[Decision]) {
        let first = self.config.backoff;
        self.require_live(attempt, "ended");
        let found = all
            .iter()
            .any(|change| matches!(change, Decision::CheckpointDamaged { attempt: by, .. } if *by == attempt));
        let Some(own) = self.segments.get_mut(&attempt.segment) else { return };
        let stopping = own.live.take().is_some_and(|live| live.stopping);
        let connections = self.lives.values_mut().flat_map(|life| life.connections.values_mut());
        for open in connections {
            open.here.remove(&attempt);
        }
        // What is damaged for the first time is no sign of trouble: the counter begins anew.
        if found {
            own.failures = u32::MAX;
        }
        if own.committed == own.epochs.len() || stopping {
            return;
        }
        match end {
            AttemptEnd::Failed { cause: FailureCause::Infrastructure, .. } if found => {}
            AttemptEnd::Failed { cause: FailureCause::Infrastructure, .. } => {
                own.failures = own.failures.saturating_add(1);
                // One failure alone is no sign of trouble.
                own.waits = Some(at.after(first * (own.failures - 1)));
            }
            AttemptEnd::Failed { cause: FailureCause::Store, .. } => own.losses += 1,
            AttemptEnd::Failed { .. } => {}
            AttemptEnd::Finished | AttemptEnd::Stopped | AttemptEnd::Lost => own.losses += 1,
        }
    }

    /// Failures and losses are counted, and lead to what they should.
    fn check_counts(&mut self, id: SegmentId, state: &State, stored: (u32, u32)) {
        let most = self.config.max_failures;
        let Some(own) = self.segments.get_mut(&id) else { return };
        if own.failures == u32::MAX {
            own.failures = stored.0;
        }
        let counted = (own.failures, own.losses);
        self.require(counted == stored, "failures are counted", || {
            format!("{id} is stored with {stored:?} failures and losses, where there were {counted:?}")
        });
        let capped = match state {
            State::Queued { .. } => stored.0 < most,
            State::Done(Outcome::Failed { cause: FailureCause::Infrastructure, .. }) => stored.0 >= most,
            _ => true,
        };
        self.require(capped, "failures are capped", || format!("{id} is {state:?} after {} failures", stored.0));
    }

    /// What is paused and not at its end is stopped with the epoch that it commits.
    fn check_pause(&mut self, id: SegmentId, all: &[Decision]) {
        let Some(own) = self.segments.get(&id) else { return };
        let paused = self.experiments.get(&own.experiment).is_some_and(|known| known.paused);
        if !paused || own.committed == own.epochs.len() {
            return;
        }
        let states = all.iter().rev().find_map(|change| match change {
            Decision::SegmentChanged { segment, state, .. } if *segment == id => Some(state),
            _ => None,
        });
        let runs = matches!(states, Some(State::Running { .. }));
        self.require(!runs, "paused is paused", || format!("{id} goes on after an epoch, and is paused"));
    }
}
