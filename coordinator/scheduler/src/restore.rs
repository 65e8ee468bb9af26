//! From what is stored back to a scheduler.

use std::sync::Arc;

use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Epoch, SegmentId, WorkerId},
    planted,
};

use crate::{
    AttemptEnd, Config, Drain, Reused, Scheduler, State, Submission, Timestamp, Violation,
    scheduler::{Segment, check_plan},
};

/// Everything that the scheduler has to know to go on where it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// In the order of submission.
    pub experiments: Vec<SavedExperiment>,
    /// Manifests of checkpoints that were found damaged or gone.
    pub damaged: Vec<Digest>,
    /// Manifests of checkpoints that were given up.
    pub collected: Vec<Digest>,
    /// Workers that are not to be used, or not all of them.
    pub drained: Vec<(WorkerId, Drain)>,
}

/// One experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedExperiment {
    /// As it was submitted.
    pub submission: Submission,
    /// True when nothing more of it is wanted.
    pub cancelled: bool,
    /// True when nothing of it is started until it is resumed.
    pub paused: bool,
    /// The environment class that it is bound to, once it is.
    pub environment: Option<Environment>,
    /// As many as its plan has, in the plan's order.
    pub segments: Vec<SavedSegment>,
}

/// One segment.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedSegment {
    /// Its state; leases and deadlines begin anew.
    pub state: State,
    /// Executions so far.
    pub attempts: u32,
    /// Infrastructure failures in a row.
    pub failures: u32,
    /// Losses, and failures of the object store, in a row.
    pub losses: u32,
    /// The committed epochs, from the segment's first on.
    pub committed: Vec<SavedEpoch>,
    /// How many committed epochs the last execution still had to train again; of no meaning once it is over.
    pub replays: u32,
    /// The last checkpoint within an epoch; one that no longer counts may be left out.
    pub step: Option<SavedStep>,
    /// What the last execution's results depend on; none before the first.
    pub environment: Option<Environment>,
    /// How the last execution that is over ended.
    pub last_end: Option<AttemptEnd>,
}

/// A committed epoch and where to go on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedEpoch {
    /// Digest of the checkpoint's manifest: the last one, where the epoch was trained again.
    pub manifest: Digest,
    /// Digest of its weights and optimizer, where it is known.
    pub weights: Option<Digest>,
    /// True where the checkpoint is of an execution that trained the epoch again.
    pub replayed: bool,
}

impl From<Reused> for SavedEpoch {
    fn from(Reused { source: _, manifest, weights }: Reused) -> Self {
        Self { manifest, weights, replayed: false }
    }
}

/// A checkpoint within an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedStep {
    /// The epoch.
    pub epoch: Epoch,
    /// Optimizer steps of it that are done.
    pub step: u32,
    /// Digest of the checkpoint's manifest.
    pub manifest: Digest,
    /// The number of the execution that made it.
    pub attempt: u32,
    /// Where it was made.
    pub environment: Environment,
}

/// What is stored contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RestoreError {
    #[error("the plan of experiment {0} contradicts itself: {1}")]
    Plan(ceteris_shared::ids::ExperimentId, &'static str),
    #[error("experiment {0} has {1} segments, but its plan has {2}")]
    Segments(ceteris_shared::ids::ExperimentId, usize, usize),
    #[error("segment {0} has more committed epochs than its plan")]
    Epochs(SegmentId),
    #[error(transparent)]
    Violation(#[from] Violation),
}

impl Scheduler {
    /// A scheduler that goes on from what is stored. Live attempts get a whole lease in which their worker can come
    /// back and be given them again.
    ///
    /// # Errors
    /// When what is stored contradicts itself.
    pub fn restore(config: Config, now: Timestamp, snapshot: Snapshot) -> Result<Self, RestoreError> {
        let mut scheduler = Self::new(config);
        scheduler.damaged.extend(snapshot.damaged);
        scheduler.damaged.extend(&snapshot.collected);
        scheduler.collected.extend(snapshot.collected);
        scheduler.drains.extend(snapshot.drained);
        for saved in snapshot.experiments {
            let experiment = saved.submission.experiment;
            check_plan(&saved.submission).map_err(|problem| RestoreError::Plan(experiment, problem))?;
            let planned = saved.submission.plan.segments.len();
            if saved.segments.len() != planned {
                return Err(RestoreError::Segments(experiment, saved.segments.len(), planned));
            }
            let ids = scheduler.add(saved.submission);
            if let Some(known) = scheduler.experiments.get_mut(&experiment) {
                (known.cancelled, known.paused) = (saved.cancelled, saved.paused);
                known.environment = saved.environment.map(Arc::new);
            }
            for (id, saved) in ids.into_iter().zip(saved.segments) {
                if let Some(segment) = scheduler.segments.get_mut(&id) {
                    fill(id, segment, saved, now, &config)?;
                }
                scheduler.index(id, now);
            }
        }
        scheduler.check_invariants()?;
        Ok(scheduler)
    }
}

fn fill(
    id: SegmentId,
    segment: &mut Segment,
    saved: SavedSegment,
    now: Timestamp,
    config: &Config,
) -> Result<(), RestoreError> {
    let until = now.after(config.lease);
    if saved.committed.len() > segment.training.epochs() {
        return Err(RestoreError::Epochs(id));
    }
    segment.state = saved.state;
    segment.attempts = saved.attempts;
    segment.failures = saved.failures;
    segment.losses = saved.losses;
    segment.committed = saved.committed;
    segment.environment = saved.environment.map(Arc::new);
    segment.last_end = saved.last_end.map(Box::new);
    segment.replays = if segment.state.live().is_some() { saved.replays } else { 0 };
    let next = segment.next_epoch();
    segment.step = saved.step.filter(|step| step.epoch == next && !segment.all_committed()).map(Box::new);
    match &mut segment.state {
        State::Assigned { .. } if planted!(RestoredLeaseInPast) => {}
        State::Running { epoch, .. } if planted!(RestoredLeaseInPast) => *epoch = next,
        State::Assigned { lease, .. } => *lease = until,
        State::Running { lease, epoch, .. } => (*lease, *epoch) = (until, next),
        State::Stopping { deadline, .. } => *deadline = until,
        // The clock of whoever wrote it may have been ahead.
        State::Queued { not_before } => {
            *not_before = (*not_before).min(now.after(config.wait(segment.failures.max(segment.losses))));
        }
        State::Waiting { .. } | State::Done(_) => {}
    }
    Ok(())
}
