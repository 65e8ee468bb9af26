//! Experiments come, pause, are cancelled and are tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ceteris_shared::{
    ids::{Attempt, Epoch, ExperimentId, SegmentId},
    planted,
    trainer::FailureCause,
};

use crate::{
    Change, Live, Message, Outcome, Rejection, SavedEpoch, Scheduler, Sharing, State, StopReason, Submission,
    Timestamp,
    scheduler::{Effects, Experiment, Segment, check_plan},
    training::Patterns,
};

impl Scheduler {
    /// Submitting what is known already changes nothing.
    pub(crate) fn submit(&mut self, now: Timestamp, submission: Submission, effects: &mut Effects) {
        let experiment = submission.experiment;
        if self.experiments.contains_key(&experiment) {
            return;
        }
        let known = submission.plan.segments.iter().any(|segment| self.segments.contains_key(&segment.id));
        let problem = if known { Err("a segment is another experiment's") } else { check_plan(&submission) };
        if let Err(problem) = problem {
            return effects.reject(Rejection::MalformedPlan { experiment, problem });
        }
        let (reused, environment) = (submission.reused.clone(), submission.environment.clone());
        let sharing = submission.sharing;
        let segments = self.add(submission);
        for (position, id) in segments.iter().copied().enumerate() {
            let state = self.first_state(id, now);
            let Some(segment) = self.segments.get_mut(&id) else { continue };
            segment.state = state.clone();
            let first = segment.training.start().0 + 1;
            self.index(id, now);
            effects.persist(Change::SegmentAdded { segment: id, experiment, position, state });
            for (epoch, reused) in (first..).zip(reused.get(position).into_iter().flatten()) {
                effects.persist(Change::EpochReused { segment: id, epoch: Epoch(epoch), reused: *reused });
            }
        }
        if let Some(environment) = environment {
            effects.persist(Change::ExperimentBound { experiment, environment });
        }
        if sharing != Sharing::default() {
            effects.persist(Change::ExperimentShared { experiment, sharing });
        }
    }

    /// Where a segment begins, given what is trained already of it and of what it continues.
    fn first_state(&self, id: SegmentId, now: Timestamp) -> State {
        let trained = |id: &SegmentId| self.segments.get(id).is_some_and(Segment::all_committed);
        match self.segments.get(&id).and_then(|segment| segment.parent) {
            _ if trained(&id) => State::Done(Outcome::Completed),
            Some(parent) if !trained(&parent) => State::Waiting { parent },
            _ => State::Queued { not_before: now },
        }
    }

    /// Enters a checked plan; its segments have no state and are not indexed yet.
    pub(crate) fn add(&mut self, submission: Submission) -> Vec<SegmentId> {
        let Submission { experiment, plan, dataset, external, init, reused, rule, environment, sharing } = submission;
        let mut reused = reused.into_iter();
        let ids: Vec<SegmentId> = plan.segments.iter().map(|segment| segment.id).collect();
        let last = |run: &ceteris_shared::plan::PlannedRun| Some((run.id, *ids.get(*run.path.last()?)?));
        self.runs.extend(plan.runs.iter().filter_map(last));
        self.segments.reserve(plan.segments.len());
        let mut children: BTreeMap<SegmentId, Vec<SegmentId>> = BTreeMap::new();
        for segment in &plan.segments {
            if let Some(parent) = segment.parent {
                children.entry(ids[parent]).or_default().push(segment.id);
            }
        }
        let mut patterns = Patterns::default();
        for (position, segment) in plan.segments.into_iter().enumerate() {
            let parent = segment.parent.map(|index| ids[index]);
            let record = Segment {
                experiment,
                position,
                parent,
                children: children.remove(&segment.id).unwrap_or_default(),
                training: patterns.training(segment.work),
                state: State::Done(Outcome::Cancelled),
                attempts: 0,
                failures: 0,
                losses: 0,
                committed: reused.next().unwrap_or_default().into_iter().map(SavedEpoch::from).collect(),
                replays: 0,
                step: None,
                environment: None,
                last_worker: None,
                last_end: None,
            };
            self.segments.insert(segment.id, record);
        }
        let record = Experiment {
            submission: self.submissions,
            cancelled: false,
            paused: false,
            sharing,
            segments: ids.clone(),
            ready: BTreeSet::new(),
            live: 0,
            open: 0,
            place: None,
            dataset,
            external,
            init,
            rule,
            environment: environment.map(Arc::new),
        };
        self.submissions += 1;
        self.experiments.insert(experiment, record);
        ids
    }

    pub(crate) fn cancel(&mut self, now: Timestamp, experiment: ExperimentId, effects: &mut Effects) {
        let ended = self.has_ended(experiment);
        let Some(known) = self.experiments.get_mut(&experiment) else {
            return effects.reject(Rejection::UnknownExperiment { experiment });
        };
        if known.cancelled {
            return;
        }
        if ended == Some(true) {
            return effects.reject(Rejection::ExperimentEnded { experiment });
        }
        known.cancelled = true;
        let segments = known.segments.clone();
        effects.persist(Change::ExperimentCancelled { experiment, at: now });
        for id in segments {
            self.cancel_segment(now, id, effects);
        }
    }

    pub(crate) fn retry(&mut self, now: Timestamp, experiment: ExperimentId, effects: &mut Effects) {
        let Some(known) = self.experiments.get(&experiment) else {
            return effects.reject(Rejection::UnknownExperiment { experiment });
        };
        let mendable = |id: &SegmentId| {
            let state = self.segments.get(id).map(|segment| &segment.state);
            matches!(state, Some(State::Done(Outcome::Failed { cause, .. })) if *cause != FailureCause::Diverged)
        };
        let failed: Vec<SegmentId> = known.segments.iter().copied().filter(mendable).collect();
        if known.cancelled || failed.is_empty() {
            return effects.reject(Rejection::NothingFailed { experiment });
        }
        for id in failed {
            if let Some(segment) = self.segments.get_mut(&id) {
                (segment.failures, segment.losses) = (0, 0);
            }
            self.set_state(id, State::Queued { not_before: now }, now, effects);
            if !planted!(RetryLeavesBlocked) {
                self.unblock_descendants(now, id, effects);
            }
        }
    }

    fn cancel_segment(&mut self, now: Timestamp, id: SegmentId, effects: &mut Effects) {
        let Some(segment) = self.segments.get(&id) else { return };
        match segment.state {
            State::Queued { .. } if planted!(CancelLeavesQueued) => {}
            State::Waiting { .. } | State::Queued { .. } => {
                self.set_state(id, State::Done(Outcome::Cancelled), now, effects);
            }
            // Everything is trained: let it say so.
            State::Running { .. } if segment.all_committed() => {}
            State::Assigned { .. } | State::Running { .. } => self.stop(now, id, StopReason::Cancelled, effects),
            State::Stopping { attempt, worker, deadline, .. } => {
                let state = State::Stopping { attempt, worker, deadline, reason: StopReason::Cancelled };
                self.set_state(id, state, now, effects);
            }
            State::Done(_) => {}
        }
    }

    /// Tells the worker that has a segment's live attempt to stop it.
    pub(crate) fn stop(&mut self, now: Timestamp, id: SegmentId, reason: StopReason, effects: &mut Effects) {
        let live = self.segments.get(&id).and_then(|segment| segment.state.live());
        let Some(Live { attempt, worker, .. }) = live else { return };
        let state = State::Stopping { attempt, worker, deadline: now.after(self.config.lease), reason };
        self.set_state(id, state, now, effects);
        self.send(worker, Message::Stop(Attempt { segment: id, number: attempt }), effects);
    }

    /// What has not begun does not begin; what is running is stopped when its epoch is committed.
    pub(crate) fn pause(&mut self, now: Timestamp, experiment: ExperimentId, effects: &mut Effects) {
        let ended = self.has_ended(experiment);
        let Some(known) = self.experiments.get_mut(&experiment) else {
            return effects.reject(Rejection::UnknownExperiment { experiment });
        };
        if known.cancelled || ended == Some(true) {
            return effects.reject(Rejection::ExperimentEnded { experiment });
        }
        if std::mem::replace(&mut known.paused, true) {
            return;
        }
        let segments = known.segments.clone();
        effects.persist(Change::ExperimentPaused { experiment, since: Some(now) });
        self.enqueue(experiment);
        for id in segments {
            if matches!(self.segments.get(&id).map(|segment| &segment.state), Some(State::Assigned { .. })) {
                self.stop(now, id, StopReason::Paused, effects);
            }
        }
    }

    pub(crate) fn resume(&mut self, experiment: ExperimentId, effects: &mut Effects) {
        let Some(known) = self.experiments.get_mut(&experiment) else {
            return effects.reject(Rejection::UnknownExperiment { experiment });
        };
        if !std::mem::replace(&mut known.paused, false) {
            return;
        }
        effects.persist(Change::ExperimentPaused { experiment, since: None });
        self.enqueue(experiment);
    }

    pub(crate) fn share(&mut self, experiment: ExperimentId, sharing: Sharing, effects: &mut Effects) {
        let Some(known) = self.experiments.get_mut(&experiment) else {
            return effects.reject(Rejection::UnknownExperiment { experiment });
        };
        if known.cancelled || known.open == 0 {
            return effects.reject(Rejection::ExperimentEnded { experiment });
        }
        if std::mem::replace(&mut known.sharing, sharing) != sharing {
            effects.persist(Change::ExperimentShared { experiment, sharing });
            self.enqueue(experiment);
        }
    }
}
