//! Why a segment is where it is: the answer to "why is my run not running".

use std::fmt;

use ceteris_shared::{
    checkpoint::Environment,
    ids::{RunId, SegmentId, WorkerId},
    trainer::FailureCause,
};

use crate::{AttemptEnd, Outcome, Scheduler, State, StopReason, Timestamp, scheduler::Segment};

/// A segment's place and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Which segment.
    pub segment: SegmentId,
    /// Where it is.
    pub state: State,
    /// Epochs committed.
    pub committed: usize,
    /// Epochs it has.
    pub epochs: usize,
    /// Executions so far.
    pub attempts: u32,
    /// How the last execution that is over ended.
    pub last_end: Option<AttemptEnd>,
    /// Why it is there; its text is a sentence for people.
    pub why: Why,
}

/// Why a segment is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Why {
    /// The segment that it continues is not trained yet.
    ParentNotTrained { parent: SegmentId, committed: usize, epochs: usize },
    /// The experiment is paused.
    Paused,
    /// It waits after failures.
    BackingOff { wait: std::time::Duration, failures: u32, losses: u32 },
    /// No worker is connected.
    NoWorker,
    /// Workers are connected, but none of the environment class that the experiment is bound to.
    OtherEnvironment { needed: Box<Environment>, differs: Vec<&'static str>, workers: usize },
    /// Every slot of every connected worker is taken; `ahead` segments come before it.
    NoFreeSlot { workers: usize, slots: usize, ahead: usize },
    /// A worker has it. One that is not connected keeps it until its lease ends, in `left`.
    OnWorker { worker: WorkerId, connected: bool, left: std::time::Duration },
    /// It was cancelled or paused while a worker had it, which has `left` to obey.
    Stopping { worker: WorkerId, left: std::time::Duration, reason: StopReason },
    /// How it ended.
    Ended(Outcome),
}

impl Scheduler {
    /// Why a segment is where it is; `None` when it is not known.
    pub fn explain(&self, now: Timestamp, segment: SegmentId) -> Option<Explanation> {
        let found = self.segments.get(&segment)?;
        Some(Explanation {
            segment,
            state: found.state.clone(),
            committed: found.committed.len(),
            epochs: found.work.epochs.len(),
            attempts: found.attempts,
            last_end: found.last_end.clone(),
            why: self.why(now, found),
        })
    }

    /// The same for each segment of a run, from its first epoch to its last; `None` when the run is not known.
    pub fn explain_run(&self, now: Timestamp, run: RunId) -> Option<Vec<Explanation>> {
        Some(self.runs.get(&run)?.iter().filter_map(|&segment| self.explain(now, segment)).collect())
    }

    fn why(&self, now: Timestamp, segment: &Segment) -> Why {
        match &segment.state {
            State::Waiting { parent } => {
                let (committed, epochs) =
                    self.segments.get(parent).map_or((0, 0), |p| (p.committed.len(), p.work.epochs.len()));
                Why::ParentNotTrained { parent: *parent, committed, epochs }
            }
            State::Queued { .. } if self.is_paused(segment.experiment) => Why::Paused,
            State::Queued { not_before } if *not_before > now => {
                Why::BackingOff { wait: not_before.since(now), failures: segment.failures, losses: segment.losses }
            }
            State::Queued { .. } => {
                let connections = self.workers.values().filter_map(|worker| worker.connection.as_ref());
                let staying: Vec<_> = connections.filter(|connection| !connection.leaving).collect();
                if staying.is_empty() {
                    return Why::NoWorker;
                }
                let needed = self.class(segment);
                let fits = |environment| needed.is_none_or(|needed| needed == environment);
                let fitting = staying.iter().filter(|connection| fits(&connection.environment));
                let (workers, slots) = fitting.fold((0, 0), |(n, slots), c| (n + 1, slots + c.slots));
                if let (0, Some(needed)) = (workers, needed) {
                    let differs = staying.iter().map(|c| needed.differences(&c.environment));
                    let differs = differs.min_by_key(Vec::len).unwrap_or_default();
                    return Why::OtherEnvironment { needed: Box::new(needed.clone()), differs, workers: staying.len() };
                }
                let ahead = self.ready.iter().take_while(|(order, _)| *order < segment.order).count();
                Why::NoFreeSlot { workers, slots, ahead }
            }
            State::Assigned { worker, lease, .. } | State::Running { worker, lease, .. } => {
                let connected = self.workers.get(worker).is_some_and(|worker| worker.connection.is_some());
                Why::OnWorker { worker: *worker, connected, left: lease.since(now) }
            }
            State::Stopping { worker, deadline, reason, .. } => {
                Why::Stopping { worker: *worker, left: deadline.since(now), reason: *reason }
            }
            State::Done(outcome) => Why::Ended(outcome.clone()),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ParentNotTrained { parent, committed, epochs } => write!(
                f,
                "waits for segment {}, which it continues: {committed} of its {epochs} epochs are committed",
                parent.short()
            ),
            Self::BackingOff { wait, failures, losses } => write!(
                f,
                "waits {:.0} s before the next attempt, after {failures} infrastructure failures and {losses} lost \
                 attempts in a row",
                wait.as_secs_f64()
            ),
            Self::Paused => f.write_str("the experiment is paused: `ceteris resume` lets it go on"),
            Self::NoWorker => f.write_str("ready, but no worker is connected: start `ceteris-worker`"),
            Self::OtherEnvironment { needed, differs, workers } => write!(
                f,
                "ready, but the experiment is trained in one environment class ({needed}), and no connected worker is of it (connected \
                 workers: {workers}; the nearest one differs in {}): start such a worker, or submit with `controls.environment = \"any\"`",
                differs.join(", ")
            ),
            Self::NoFreeSlot { workers, slots, ahead } => write!(
                f,
                "ready, but no slot is free (workers that it could run on: {workers}, their slots: {slots}); segments before it: {ahead}"
            ),
            Self::OnWorker { worker, connected: true, .. } => write!(f, "on worker {}", worker.short()),
            Self::OnWorker { worker, connected: false, left } => write!(
                f,
                "on worker {}, which is not connected; another attempt starts in {:.0} s unless it comes back",
                worker.short(),
                left.as_secs_f64()
            ),
            Self::Stopping { worker, left, reason } => write!(
                f,
                "{}; worker {} has {:.0} s left to stop",
                if *reason == StopReason::Paused { "paused" } else { "cancelled" },
                worker.short(),
                left.as_secs_f64()
            ),
            Self::Ended(Outcome::Completed) => f.write_str("every epoch is committed"),
            Self::Ended(Outcome::Cancelled) => f.write_str("the experiment was cancelled"),
            Self::Ended(Outcome::Failed { cause: FailureCause::Diverged, message }) => {
                write!(f, "training diverged: {message}")
            }
            Self::Ended(Outcome::Failed { message, .. }) => write!(f, "failed: {message}"),
            Self::Ended(Outcome::Blocked { by }) => {
                write!(f, "segment {}, which it continues, ended without completing", by.short())
            }
        }
    }
}
