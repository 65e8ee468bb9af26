//! What is trained again: committed epochs of which no checkpoint is left to go on from.
//!
//! An attempt starts from the deepest checkpoint on its path that is not known to be damaged. The committed epochs after
//! that one are the first of its work. They stay committed, and what was measured and scored of them stands; only their
//! checkpoints are replaced. That they come out as they were is checked, so every such attempt is an audit too.

use std::collections::BTreeSet;

use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch, SegmentId, WorkerId},
    plan::EpochWork,
    planted,
    spec::EnvironmentRule,
    trainer::FailureCause,
};

use crate::{
    AttemptEnd, Change, CommittedEpoch, Rejection, SavedEpoch, SavedStep, Scheduler, State, StopReason, Timestamp,
    attempts::check_predictions, scheduler::Effects,
};

impl Scheduler {
    /// Where an execution of `id` in this environment goes on from, and the committed epochs that come before its next
    /// one. `None` is the initial weights.
    pub(crate) fn origin(&self, id: SegmentId, environment: &Environment) -> (Option<Digest>, Vec<EpochWork>) {
        let mut again = Vec::new();
        let mut at = self.segments.get(&id);
        // Within an epoch the last bits would be neither environment's, so another one goes on from the epoch's beginning.
        let here = |step: &&SavedStep| step.environment == *environment || planted!(StepOfOtherClassUsed);
        let step = at.and_then(|segment| segment.step.as_deref()).filter(here);
        if let Some(step) = step.filter(|step| !self.damaged.contains(&step.manifest)) {
            return (Some(step.manifest), again);
        }
        while let Some(segment) = at {
            for (index, committed) in segment.committed.iter().enumerate().rev() {
                if !self.damaged.contains(&committed.manifest) || planted!(DamagedResumedFrom) {
                    again.reverse();
                    return (Some(committed.manifest), again);
                }
                again.extend(segment.training.epoch_work(index));
            }
            at = segment.parent.and_then(|parent| self.segments.get(&parent));
        }
        again.reverse();
        (None, again)
    }

    /// The segment on the way to `id`, itself included, that `epoch` is one of, and its index there.
    fn place(&self, id: SegmentId, epoch: Epoch) -> Option<(SegmentId, usize)> {
        let mut at = id;
        loop {
            let segment = self.segments.get(&at)?;
            let start = segment.training.start();
            if epoch > start {
                let index = usize::try_from(epoch.0 - start.0 - 1).ok()?;
                return (index < segment.training.epochs()).then_some((at, index));
            }
            at = segment.parent?;
        }
    }

    /// Takes a committed epoch that an attempt trained again.
    pub(crate) fn replay(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        attempt: Attempt,
        committed: CommittedEpoch,
        effects: &mut Effects,
    ) {
        let place = self.check_replay(attempt, &committed);
        if !self.counts(now, worker, attempt, place.clone().map(drop), effects) {
            return;
        }
        let Ok((owner, index)) = place else { return };
        let bound = self.segments.get(&owner).and_then(|segment| self.experiments.get(&segment.experiment));
        let bound = bound.is_some_and(|experiment| experiment.rule == EnvironmentRule::Same);
        let Some(known) = self.segments.get_mut(&owner).and_then(|segment| segment.committed.get_mut(index)) else {
            return;
        };
        if let (true, Some(expected), Some(got)) = (bound, known.weights, committed.weights)
            && expected != got
        {
            let rejection = Rejection::OtherWeights { attempt, epoch: committed.epoch, owner, expected, got };
            let end = AttemptEnd::Failed { cause: FailureCause::Irreproducible, message: rejection.to_string() };
            self.end_attempt(now, attempt, end, effects);
            return self.revoke(worker, attempt, rejection, effects);
        }
        let weights = committed.weights.or(known.weights);
        *known = SavedEpoch { manifest: committed.manifest, weights, replayed: true };
        effects.persist(Change::EpochReplayed { attempt, segment: owner, committed, at: now });
        let Some(segment) = self.segments.get_mut(&attempt.segment) else { return };
        segment.replays = segment.replays.saturating_sub(if planted!(ReplayCountedTwice) { 2 } else { 1 });
        let (state, experiment) = (segment.state.clone(), segment.experiment);
        if std::mem::take(&mut segment.losses) > 0 {
            self.set_state(attempt.segment, state.clone(), now, effects);
        }
        if matches!(state, State::Running { .. }) && self.is_paused(experiment) {
            self.stop(now, attempt.segment, StopReason::Paused, effects);
        }
    }

    /// Whether an epoch is the one that is to be trained again next. Where it is.
    fn check_replay(&self, attempt: Attempt, committed: &CommittedEpoch) -> Result<(SegmentId, usize), Rejection> {
        let unknown = Rejection::UnknownSegment { attempt };
        let segment = self.segments.get(&attempt.segment).ok_or(unknown.clone())?;
        let expected = Epoch(segment.next_epoch().0 - segment.replays);
        let got = committed.epoch;
        if got != expected && !planted!(ReplayNotChecked) {
            return Err(Rejection::EpochOutOfOrder { attempt, expected, got });
        }
        check_predictions(attempt, committed)?;
        let (owner, index) = self.place(attempt.segment, got).ok_or(unknown.clone())?;
        let key = self.segments.get(&owner).and_then(|segment| segment.training.epoch(index)).ok_or(unknown)?.1;
        if key != committed.key {
            return Err(Rejection::OtherLineage { attempt, epoch: got, expected: key, got: committed.key });
        }
        Ok((owner, index))
    }

    /// Ends an attempt whose checkpoint is not what was stored. The next one starts from the one before it: the first
    /// time at once, since this is no sign of trouble with the segment; what was made anew and is damaged again is.
    pub(crate) fn damaged(
        &mut self,
        now: Timestamp,
        attempt: Attempt,
        checkpoint: Digest,
        message: String,
        effects: &mut Effects,
    ) {
        let found = self.on_path(attempt.segment, checkpoint);
        if found.is_some() && self.damaged.insert(checkpoint) {
            effects.persist(Change::CheckpointDamaged { attempt, manifest: checkpoint, at: now });
        }
        if let (Some(false), Some(segment)) = (found, self.segments.get_mut(&attempt.segment)) {
            segment.failures = 0;
        }
        let end = AttemptEnd::Failed { cause: FailureCause::Infrastructure, message };
        self.end_attempt(now, attempt, end, effects);
    }

    /// Gives up checkpoints, but for those that what is not done yet goes on from.
    pub(crate) fn collect(&mut self, now: Timestamp, manifests: Vec<Digest>, effects: &mut Effects) {
        let open = self.segments.iter().filter(|(_, segment)| !segment.state.is_done());
        let needed: BTreeSet<Digest> = open.filter_map(|(id, _)| self.deepest(id)).collect();
        for manifest in manifests {
            if (!needed.contains(&manifest) || planted!(NeededCollected)) && self.collected.insert(manifest) {
                self.damaged.insert(manifest);
                effects.persist(Change::CheckpointCollected { manifest, at: now });
            }
        }
    }

    /// The deepest checkpoint at an epoch's end on the way to a segment's next epoch.
    fn deepest(&self, id: SegmentId) -> Option<Digest> {
        let mut at = self.segments.get(&id);
        while let Some(segment) = at {
            let mut committed = segment.committed.iter().rev();
            if let Some(epoch) = committed.find(|epoch| !self.damaged.contains(&epoch.manifest)) {
                return Some(epoch.manifest);
            }
            at = segment.parent.and_then(|parent| self.segments.get(&parent));
        }
        None
    }

    /// Whether a checkpoint on the way to a segment, or within it, was made anew; `None` where it is none of these, or known
    /// to be damaged.
    fn on_path(&self, id: SegmentId, manifest: Digest) -> Option<bool> {
        if self.damaged.contains(&manifest) {
            return None;
        }
        let mut at = self.segments.get(&id);
        if at?.step.as_ref().is_some_and(|step| step.manifest == manifest) {
            return Some(false);
        }
        while let Some(segment) = at {
            if let Some(epoch) = segment.committed.iter().find(|epoch| epoch.manifest == manifest) {
                return Some(epoch.replayed);
            }
            at = segment.parent.and_then(|parent| self.segments.get(&parent));
        }
        None
    }
}
