//! Why a segment is where it is: the answer to "why is my run not running".

use std::fmt;

use ceteris_shared::{
    checkpoint::Environment,
    ids::{RunId, SegmentId, WorkerId},
    trainer::FailureCause,
};

use crate::{
    AttemptEnd, Outcome, Scheduler, State, StopReason, Timestamp,
    room::Kind,
    scheduler::{Connection, Experiment, Segment, Worker},
};

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
    /// No slot of the connected workers has as much memory as the experiment asks for, in bytes.
    TooLittleMemory { needed: u64, most: u64 },
    /// Every worker that it could run on is drained, or set aside because attempts failed on it again and again.
    NotUsed { drained: usize, set_aside: usize, wait: std::time::Duration },
    /// Its experiment trains as many segments at once as it may.
    AtMostConcurrent { max: u32, ahead: usize },
    /// Every slot that it could run on is taken.
    NoFreeSlot { workers: usize, slots: usize, turn: Ahead },
    /// A worker has it. One that is not connected keeps it until its lease ends, in `left`.
    OnWorker { worker: WorkerId, connected: bool, left: std::time::Duration },
    /// It was cancelled or paused while a worker had it, which has `left` to obey.
    Stopping { worker: WorkerId, left: std::time::Duration, reason: StopReason },
    /// How it ended.
    Ended(Outcome),
}

/// What comes before a segment that is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Experiments of a higher priority that wait for slots.
    pub higher: usize,
    /// Experiments of its own experiment's priority that have fewer slots for their weight, or as few and came before.
    pub fairer: usize,
    /// Segments of its own experiment that wait and come before it in the plan.
    pub own: usize,
    /// Slots that its experiment has.
    pub live: usize,
}

impl Scheduler {
    /// Why a segment is where it is; `None` when it is not known.
    pub fn explain(&self, now: Timestamp, segment: SegmentId) -> Option<Explanation> {
        let found = self.segments.get(&segment)?;
        Some(Explanation {
            segment,
            state: found.state.clone(),
            committed: found.committed.len(),
            epochs: found.training.epochs(),
            attempts: found.attempts,
            last_end: found.last_end.as_deref().cloned(),
            why: self.why(now, found),
        })
    }

    /// The same for each segment of a run, from its first epoch to its last; `None` when the run is not known.
    pub fn explain_run(&self, now: Timestamp, run: RunId) -> Option<Vec<Explanation>> {
        let mut path = Vec::new();
        let mut at = Some(*self.runs.get(&run)?);
        while let Some(id) = at {
            path.extend(self.explain(now, id));
            at = self.segments.get(&id).and_then(|segment| segment.parent);
        }
        path.reverse();
        Some(path)
    }

    fn why(&self, now: Timestamp, segment: &Segment) -> Why {
        match &segment.state {
            State::Waiting { parent } => {
                let (committed, epochs) =
                    self.segments.get(parent).map_or((0, 0), |p| (p.committed.len(), p.training.epochs()));
                Why::ParentNotTrained { parent: *parent, committed, epochs }
            }
            State::Queued { .. } if self.is_paused(segment.experiment) => Why::Paused,
            State::Queued { not_before } if *not_before > now => {
                Why::BackingOff { wait: not_before.since(now), failures: segment.failures, losses: segment.losses }
            }
            State::Queued { .. } => self.why_queued(now, segment),
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

    /// Why something that could be started is not.
    fn why_queued(&self, now: Timestamp, segment: &Segment) -> Why {
        let Some(experiment) = self.experiments.get(&segment.experiment) else { return Why::NoWorker };
        let connected = |worker: &Worker| worker.connection.as_ref().is_some_and(|connection| !connection.leaving);
        let staying: Vec<(&Worker, &Connection)> = self
            .workers
            .values()
            .filter(|worker| connected(worker))
            .filter_map(|w| Some((w, w.connection.as_ref()?)))
            .collect();
        if staying.is_empty() {
            return Why::NoWorker;
        }
        let need = experiment.need();
        let of_class =
            |connection: &Connection| need.class.as_ref().is_none_or(|class| *class == connection.environment);
        if let Some(needed) = need.class.as_deref()
            && !staying.iter().any(|(_, connection)| of_class(connection))
        {
            let differs = staying.iter().map(|(_, connection)| needed.differences(&connection.environment));
            let differs = differs.min_by_key(Vec::len).unwrap_or_default();
            return Why::OtherEnvironment { needed: Box::new(needed.clone()), differs, workers: staying.len() };
        }
        let fits = |connection: &Connection| Kind::of(connection).meets(&need);
        let fitting: Vec<_> = staying.iter().filter(|(_, connection)| fits(connection)).collect();
        if fitting.is_empty() {
            let memory = staying.iter().filter(|(_, connection)| of_class(connection)).map(|(_, c)| c.slot_memory);
            return Why::TooLittleMemory { needed: need.memory, most: memory.max().unwrap_or(0) };
        }
        let slots: usize =
            fitting.iter().map(|(worker, c)| if worker.set_aside { 0 } else { worker.usable(c.slots) }).sum();
        if slots == 0 {
            return self.why_not_used(now, fitting.iter().map(|(worker, _)| *worker));
        }
        let turn = self.ahead(segment, experiment, |need| fitting.iter().any(|(_, c)| Kind::of(c).meets(need)));
        match experiment.sharing.max_concurrent {
            Some(max) if experiment.live >= max as usize => Why::AtMostConcurrent { max, ahead: turn.own },
            _ => Why::NoFreeSlot { workers: fitting.len(), slots, turn },
        }
    }

    fn why_not_used<'a>(&self, now: Timestamp, workers: impl Iterator<Item = &'a Worker>) -> Why {
        let (set_aside, drained): (Vec<_>, Vec<_>) = workers.partition(|worker| worker.set_aside);
        let until = self.set_aside.first().map_or(now, |&(until, _)| until);
        Why::NotUsed { drained: drained.len(), set_aside: set_aside.len(), wait: until.since(now) }
    }

    /// What comes before a segment, of what could run where it could.
    fn ahead(&self, segment: &Segment, experiment: &Experiment, met: impl Fn(&crate::queue::Need) -> bool) -> Ahead {
        let mine = experiment.turn(segment.experiment);
        let (mut higher, mut fairer) = (0, 0);
        for (need, turn) in self.queue.all() {
            if *turn < mine && met(need) {
                *(if turn.priority < mine.priority { &mut higher } else { &mut fairer }) += 1;
            }
        }
        Ahead { higher, fairer, own: experiment.ready.range(..segment.position).count(), live: experiment.live }
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
                "waits {:.0} s before the next attempt, after {failures} infrastructure failures and {losses} attempts \
                 in a row that were lost or could not use the store",
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
            Self::TooLittleMemory { needed, most } => write!(
                f,
                "ready, but `execution.device_memory_bytes` asks for {} GB, and the largest device of a connected worker of its environment class \
                 has {}: start a worker with a larger one, or ask for less with `ceteris share`",
                gigabytes(*needed),
                if *most == 0 { "told no size".to_owned() } else { format!("{} GB", gigabytes(*most)) }
            ),
            Self::NotUsed { drained, set_aside: 0, .. } => write!(
                f,
                "ready, but all workers that it could run on are drained ({drained}): `ceteris drain --undo` uses them again"
            ),
            Self::NotUsed { drained, set_aside, wait } => write!(
                f,
                "ready, but of the workers that it could run on {set_aside} are set aside, since one attempt after the other failed on them, \
                 and {drained} drained; the first is tried again in {:.0} s. `ceteris logs` of a run that failed says what is wrong there",
                wait.as_secs_f64()
            ),
            Self::AtMostConcurrent { max, ahead } => write!(
                f,
                "ready, but its experiment trains {max} segments at once and may no more (`execution.max_concurrent`); {} of its own come \
                 before it",
                segments(*ahead)
            ),
            Self::NoFreeSlot { workers, slots, turn } => write!(
                f,
                "ready, but no slot is free (workers that it could run on: {workers}, their slots: {slots}, of which its experiment has {}). {turn}",
                turn.live
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
                match reason {
                    StopReason::Paused => "paused",
                    StopReason::Cancelled => "cancelled",
                    StopReason::Preempted => "makes room for an experiment of a higher priority",
                },
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

impl fmt::Display for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { higher, fairer, own, live: _ } = *self;
        let experiments =
            |count: usize| if count == 1 { "1 experiment".to_owned() } else { format!("{count} experiments") };
        let mut before = Vec::new();
        if higher > 0 {
            before.push(format!("{} of a higher priority", experiments(higher)));
        }
        if fairer > 0 {
            before.push(format!("{} with fewer slots for their weight", experiments(fairer)));
        }
        if own > 0 {
            before.push(format!("{} of its own experiment", segments(own)));
        }
        match before.split_last() {
            None => f.write_str("It is the next to be started"),
            Some((last, [])) => write!(f, "Before it: {last}"),
            Some((last, others)) => write!(f, "Before it: {} and {last}", others.join(", ")),
        }
    }
}

fn segments(count: usize) -> String {
    if count == 1 { "1 segment".to_owned() } else { format!("{count} segments") }
}

/// 10⁹ bytes, with one decimal.
fn gigabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e9)
}
