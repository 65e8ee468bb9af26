//! What workers report of their attempts, and what an attempt's end leads to.

use std::{collections::BTreeSet, time::Duration};

use ceteris_shared::{
    checkpoint::Environment,
    ids::{Attempt, Epoch, SegmentId, SessionId, WorkerId},
    lineage::LineageKey,
    planted,
    trainer::FailureCause,
};

use crate::{
    AttemptEnd, Change, CommittedEpoch, CommittedStep, Outcome, Rejection, Report, SavedEpoch, SavedStep, Scheduler,
    State, StopReason, Timestamp,
    scheduler::{Effects, Segment},
};

impl Scheduler {
    pub(crate) fn report(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        session: SessionId,
        attempt: Attempt,
        report: Report,
        effects: &mut Effects,
    ) {
        if !self.is_current(worker, session) && !planted!(StaleSessionAccepted) {
            return effects.reject(Rejection::StaleSession { worker, session });
        }
        self.renew_over(now, worker);
        if let Err(rejection) = self.live(worker, attempt) {
            return self.revoke(worker, attempt, rejection, effects);
        }
        match report {
            Report::Started => self.started(now, attempt, effects),
            Report::StepCommitted(committed) => self.commit_step(now, worker, attempt, committed, effects),
            Report::EpochCommitted(committed) => self.commit(now, worker, attempt, committed, effects),
            Report::Finished => self.finished(now, worker, attempt, effects),
            Report::Stopped => {
                self.note_leaving(worker, attempt);
                self.end_attempt(now, attempt, AttemptEnd::Stopped, effects);
            }
            Report::HandedBack => self.end_attempt(now, attempt, AttemptEnd::Stopped, effects),
            Report::Failed { cause, message } => {
                if matches!(cause, FailureCause::Infrastructure | FailureCause::Store) {
                    self.note_failure(now, worker, attempt);
                }
                self.end_attempt(now, attempt, AttemptEnd::Failed { cause, message }, effects);
            }
            Report::Damaged { checkpoint, message } => self.damaged(now, attempt, checkpoint, message, effects),
        }
    }

    fn started(&mut self, now: Timestamp, attempt: Attempt, effects: &mut Effects) {
        let Some(segment) = self.segments.get(&attempt.segment) else { return };
        if let State::Assigned { attempt: number, worker, lease } = segment.state {
            let state = State::Running { attempt: number, worker, lease, epoch: segment.next_epoch() };
            effects.persist(Change::AttemptStarted { attempt, at: now });
            self.set_state(attempt.segment, state, now, effects);
        }
    }

    /// A worker whose epochs are not the plan's is no longer doing the segment's work: its attempt ends there.
    fn commit(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        attempt: Attempt,
        committed: CommittedEpoch,
        effects: &mut Effects,
    ) {
        let Some(segment) = self.segments.get(&attempt.segment) else { return };
        if segment.replays > 0 {
            return self.replay(now, worker, attempt, committed, effects);
        }
        let checked = check_epoch(segment, attempt, &committed);
        if !self.counts(now, worker, attempt, checked, effects) {
            return;
        }
        let Some(segment) = self.segments.get_mut(&attempt.segment) else { return };
        segment.committed.push(SavedEpoch {
            manifest: committed.manifest,
            weights: committed.weights,
            replayed: false,
        });
        segment.step = None;
        if !planted!(FailuresNeverReset) {
            (segment.failures, segment.losses) = (0, 0);
        }
        let (next, last, children) = (segment.next_epoch(), segment.all_committed(), segment.children.clone());
        let early = planted!(ReleasedOneEpochEarly) && segment.committed.len() + 1 == segment.training.epochs();
        let mut state = segment.state.clone();
        if let State::Running { epoch, .. } = &mut state {
            *epoch = next;
        }
        let (running, experiment) = (matches!(state, State::Running { .. }), segment.experiment);
        effects.persist(Change::EpochCommitted { attempt, committed, at: now });
        self.set_state(attempt.segment, state, now, effects);
        if running && !last && self.is_paused(experiment) && !planted!(PauseLeavesRunning) {
            self.stop(now, attempt.segment, StopReason::Paused, effects);
        } else if running && !last && self.is_outranked(attempt.segment, worker) {
            self.stop(now, attempt.segment, StopReason::Preempted, effects);
        }
        if (last || early) && !planted!(NeverReleased) {
            for child in children {
                self.release(now, child, effects);
            }
        }
    }

    /// Takes the place of the segment's last checkpoint within an epoch.
    fn commit_step(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        attempt: Attempt,
        committed: CommittedStep,
        effects: &mut Effects,
    ) {
        let Some(segment) = self.segments.get(&attempt.segment) else { return };
        let checked = check_step(segment, attempt, &committed);
        if !self.counts(now, worker, attempt, checked, effects) {
            return;
        }
        let Some(segment) = self.segments.get_mut(&attempt.segment) else { return };
        let Some(environment) = segment.environment.clone() else { return };
        let CommittedStep { epoch, step, manifest, .. } = committed;
        let environment = Environment::clone(&environment);
        segment.step = Some(Box::new(SavedStep { epoch, step, manifest, attempt: attempt.number, environment }));
        (segment.failures, segment.losses) = (0, 0);
        let state = segment.state.clone();
        effects.persist(Change::StepCommitted { attempt, committed, at: now });
        self.set_state(attempt.segment, state, now, effects);
    }

    /// What is to be done about a commit besides it. False where it does not count.
    pub(crate) fn counts(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        attempt: Attempt,
        checked: Result<(), Rejection>,
        effects: &mut Effects,
    ) -> bool {
        match checked {
            Ok(()) => {
                self.note_success(worker);
                self.started(now, attempt, effects);
                return true;
            }
            Err(rejection @ (Rejection::Repeated { .. } | Rejection::StepBehind { .. }))
                if !planted!(RepeatedEpochFails) =>
            {
                effects.reject(rejection);
            }
            Err(rejection) => {
                let end = AttemptEnd::Failed { cause: FailureCause::Infrastructure, message: rejection.to_string() };
                self.note_failure(now, worker, attempt);
                self.end_attempt(now, attempt, end, effects);
                self.revoke(worker, attempt, rejection, effects);
            }
        }
        false
    }

    fn release(&mut self, now: Timestamp, id: SegmentId, effects: &mut Effects) {
        if matches!(self.segments.get(&id).map(|segment| &segment.state), Some(State::Waiting { .. })) {
            self.set_state(id, State::Queued { not_before: now }, now, effects);
        }
    }

    fn finished(&mut self, now: Timestamp, worker: WorkerId, attempt: Attempt, effects: &mut Effects) {
        let Some(segment) = self.segments.get(&attempt.segment) else { return };
        if segment.all_committed() {
            return self.end_attempt(now, attempt, AttemptEnd::Finished, effects);
        }
        let (committed, epochs) = (segment.committed.len(), segment.training.epochs());
        let rejection = Rejection::FinishedEarly { attempt, committed, epochs };
        let end = AttemptEnd::Failed { cause: FailureCause::Infrastructure, message: rejection.to_string() };
        effects.reject(rejection);
        self.note_failure(now, worker, attempt);
        self.end_attempt(now, attempt, end, effects);
    }

    /// Ends the live attempt of a segment and decides what becomes of the segment.
    pub(crate) fn end_attempt(&mut self, now: Timestamp, attempt: Attempt, end: AttemptEnd, effects: &mut Effects) {
        let config = self.config;
        let Some(segment) = self.segments.get_mut(&attempt.segment) else { return };
        effects.persist(Change::AttemptEnded { attempt, end: end.clone(), at: now });
        segment.last_end = Some(Box::new(end.clone()));
        segment.replays = 0;
        let state = if segment.all_committed() {
            State::Done(Outcome::Completed)
        } else if let State::Stopping { reason, .. } = segment.state {
            match reason {
                StopReason::Cancelled => State::Done(Outcome::Cancelled),
                StopReason::Paused | StopReason::Preempted => State::Queued { not_before: now },
            }
        } else {
            match end {
                AttemptEnd::Failed { cause: FailureCause::Infrastructure, message } => {
                    segment.failures += 1;
                    if segment.failures >= config.max_failures && !planted!(FailuresNeverCapped) {
                        State::Done(Outcome::Failed { cause: FailureCause::Infrastructure, message })
                    } else {
                        let wait = if planted!(NoBackoff) { Duration::ZERO } else { config.wait(segment.failures) };
                        State::Queued { not_before: now.after(wait) }
                    }
                }
                // The segment cannot help it, and would fail so anywhere.
                AttemptEnd::Failed { cause: FailureCause::Store, .. } if !planted!(StoreFailureIsFinal) => {
                    segment.losses += 1;
                    State::Queued { not_before: now.after(config.wait(segment.losses)) }
                }
                AttemptEnd::Failed { cause, message } => State::Done(Outcome::Failed { cause, message }),
                AttemptEnd::Finished | AttemptEnd::Stopped | AttemptEnd::Lost => {
                    segment.losses += 1;
                    State::Queued { not_before: now.after(config.wait(segment.losses)) }
                }
            }
        };
        let failed = matches!(state, State::Done(Outcome::Failed { .. }));
        self.set_state(attempt.segment, state, now, effects);
        if failed {
            self.block_descendants(now, attempt.segment, effects);
        }
    }

    fn block_descendants(&mut self, now: Timestamp, by: SegmentId, effects: &mut Effects) {
        for id in self.descendants(by) {
            if matches!(self.segments.get(&id).map(|segment| &segment.state), Some(State::Waiting { .. })) {
                self.set_state(id, State::Done(Outcome::Blocked { by }), now, effects);
            }
        }
    }

    /// Lets wait again what was blocked by a segment that is tried again.
    pub(crate) fn unblock_descendants(&mut self, now: Timestamp, by: SegmentId, effects: &mut Effects) {
        for id in self.descendants(by) {
            let Some(Segment { state, parent: Some(parent), .. }) = self.segments.get(&id) else { continue };
            if *state == State::Done(Outcome::Blocked { by }) {
                self.set_state(id, State::Waiting { parent: *parent }, now, effects);
            }
        }
    }

    /// Everything that continues a segment, or something that does.
    fn descendants(&self, of: SegmentId) -> Vec<SegmentId> {
        let children = |id| self.segments.get(&id).map_or(Vec::new(), |segment| segment.children.clone());
        let (mut found, mut pending) = (Vec::new(), children(of));
        while let Some(id) = pending.pop() {
            found.push(id);
            pending.extend(children(id));
        }
        found
    }
}

/// Whether there is at most one set of predictions of each data.
pub(crate) fn check_predictions(attempt: Attempt, committed: &CommittedEpoch) -> Result<(), Rejection> {
    let scored: BTreeSet<_> = committed.predictions.iter().map(|(scored, _)| scored).collect();
    if scored.len() < committed.predictions.len() {
        return Err(Rejection::AmbiguousPredictions { attempt, epoch: committed.epoch });
    }
    Ok(())
}

/// Whether an epoch is the one that comes next, with one set of predictions of each data.
fn check_epoch(segment: &Segment, attempt: Attempt, committed: &CommittedEpoch) -> Result<(), Rejection> {
    let got = committed.epoch;
    let first: Epoch = segment.training.start().next();
    let index = got.0.checked_sub(first.0).map(|index| index as usize);
    if let Some(index) = index
        && segment.committed.get(index).is_some_and(|there| there.manifest == committed.manifest)
    {
        return Err(Rejection::Repeated { attempt, epoch: got });
    }
    check_predictions(attempt, committed)?;
    check_next(segment, attempt, got, committed.key)
}

/// Whether a checkpoint is of the epoch that comes next, and goes further than the one that is there. An attempt that
/// came later goes before: it may have begun the epoch anew.
fn check_step(segment: &Segment, attempt: Attempt, committed: &CommittedStep) -> Result<(), Rejection> {
    let CommittedStep { epoch, step, key, .. } = *committed;
    let there = segment.step.as_ref().map_or((0, 0), |there| (there.attempt, there.step));
    if epoch < segment.next_epoch() || segment.all_committed() || step == 0 || (attempt.number, step) <= there {
        return Err(Rejection::StepBehind { attempt, epoch, step });
    }
    check_next(segment, attempt, epoch, key)
}

/// Whether an epoch is the one that comes next, with the plan's lineage.
fn check_next(segment: &Segment, attempt: Attempt, got: Epoch, key: LineageKey) -> Result<(), Rejection> {
    let last = segment.training.last_epoch();
    match segment.training.epoch(segment.committed.len()) {
        Some((epoch, expected)) if epoch == got && (expected == key || planted!(LineageNotChecked)) => Ok(()),
        Some(_) if planted!(OrderNotChecked) && segment.training.has(key) => Ok(()),
        Some((epoch, expected)) if epoch == got => {
            Err(Rejection::OtherLineage { attempt, epoch: got, expected, got: key })
        }
        Some((expected, _)) if got <= last => Err(Rejection::EpochOutOfOrder { attempt, expected, got }),
        Some(_) | None => Err(Rejection::BeyondBudget { attempt, last, got }),
    }
}
