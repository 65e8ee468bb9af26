//! The scheduler's data, its indexes, and the one function that everything goes through.
//!
//! A segment's state is changed in [`Scheduler::set_state`] alone, which keeps the indexes and the store in step with it.
//! Maps are ordered, so that the same events give the same effects in the same order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, RunId, SegmentId, SessionId, WorkerId},
    plan::Work,
    planted,
    spec::EnvironmentRule,
};

use crate::{
    AttemptEnd, Change, Effect, Event, Live, Message, Rejection, SavedEpoch, SavedStep, State, Submission, Timestamp,
};

/// How long to wait, and how often to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long an attempt is believed alive without a heartbeat.
    pub lease: Duration,
    /// How long a worker that connects without listing an attempt of its own has to replay what it still knows of it
    /// (a checkpoint committed just before its agent died), before the attempt counts as lost.
    pub replay: Duration,
    /// The wait after the first failure; each further one in a row doubles it.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
    /// After so many infrastructure failures in a row, without a checkpoint committed between them, a segment has failed.
    pub max_failures: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            replay: Duration::from_secs(5),
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(300),
            max_failures: 5,
        }
    }
}

impl Config {
    /// The wait after `count` failures in a row, at least one.
    pub(crate) fn wait(&self, count: u32) -> Duration {
        let doublings = count.saturating_sub(1).min(30);
        self.backoff.saturating_mul(1 << doublings).min(self.max_backoff)
    }
}

/// First in, first out: by submission, then by the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    pub(crate) submission: u64,
    pub(crate) position: usize,
}

impl Order {
    /// Before everything.
    pub(crate) const FIRST: Self = Self { submission: 0, position: 0 };

    /// Before everything of the experiment that was submitted after this one's.
    pub(crate) fn next_submission(self) -> Self {
        Self { submission: self.submission + 1, position: 0 }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Experiment {
    pub(crate) cancelled: bool,
    /// Nothing of it is in the queue, whatever its segments' states say.
    pub(crate) paused: bool,
    /// In the plan's order.
    pub(crate) segments: Vec<SegmentId>,
    pub(crate) dataset: Digest,
    pub(crate) external: Vec<(String, Digest)>,
    pub(crate) init: Option<Digest>,
    pub(crate) rule: EnvironmentRule,
    /// With [`EnvironmentRule::Same`], where it is trained; none before its first attempt.
    pub(crate) environment: Option<Environment>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Segment {
    pub(crate) experiment: ExperimentId,
    pub(crate) order: Order,
    pub(crate) parent: Option<SegmentId>,
    pub(crate) children: Vec<SegmentId>,
    pub(crate) work: Work,
    pub(crate) state: State,
    /// The number of the last execution; 0 before the first.
    pub(crate) attempts: u32,
    /// Infrastructure failures in a row.
    pub(crate) failures: u32,
    /// Losses in a row.
    pub(crate) losses: u32,
    /// The committed epochs, from the first on.
    pub(crate) committed: Vec<SavedEpoch>,
    /// How many committed epochs the live attempt still has to train again before it comes to the next one.
    pub(crate) replays: u32,
    /// The last checkpoint within the epoch that comes next.
    pub(crate) step: Option<SavedStep>,
    /// What the last execution's results depend on: of the worker that it was given to.
    pub(crate) environment: Option<Environment>,
    /// Who had the last execution that this scheduler gave away; only a preference, so it is not stored.
    pub(crate) last_worker: Option<WorkerId>,
    pub(crate) last_end: Option<AttemptEnd>,
}

impl Segment {
    pub(crate) fn all_committed(&self) -> bool {
        self.committed.len() == self.work.epochs.len()
    }

    /// The epoch that comes next; the last one when all are committed.
    pub(crate) fn next_epoch(&self) -> Epoch {
        self.work.epochs.get(self.committed.len()).map_or(self.work.last_epoch(), |work| work.epoch)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Connection {
    pub(crate) session: SessionId,
    pub(crate) slots: usize,
    pub(crate) environment: Environment,
    /// It has stopped an attempt unasked: it is shutting down.
    pub(crate) leaving: bool,
}

/// A worker that is connected, or that an attempt is still believed alive on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Worker {
    pub(crate) connection: Option<Connection>,
    /// Segments whose live attempt it has.
    pub(crate) held: BTreeSet<SegmentId>,
}

/// The state of everything that is to be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduler {
    pub(crate) config: Config,
    pub(crate) submissions: u64,
    pub(crate) experiments: BTreeMap<ExperimentId, Experiment>,
    pub(crate) runs: BTreeMap<RunId, Vec<SegmentId>>,
    pub(crate) segments: BTreeMap<SegmentId, Segment>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    /// Queued, not paused, and no longer backing off.
    pub(crate) ready: BTreeSet<(Order, SegmentId)>,
    /// Queued, not paused, and backing off.
    pub(crate) delayed: BTreeSet<(Timestamp, SegmentId)>,
    /// Manifests of checkpoints that nothing goes on from: damaged, gone or given up.
    pub(crate) damaged: BTreeSet<Digest>,
    /// Those of them that were given up.
    pub(crate) collected: BTreeSet<Digest>,
    /// Leases and deadlines of live attempts.
    pub(crate) leases: BTreeSet<(Timestamp, SegmentId)>,
}

impl Scheduler {
    /// One that knows nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            submissions: 0,
            experiments: BTreeMap::new(),
            runs: BTreeMap::new(),
            segments: BTreeMap::new(),
            workers: BTreeMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            damaged: BTreeSet::new(),
            collected: BTreeSet::new(),
            leases: BTreeSet::new(),
        }
    }

    /// Decides what to do about something that happened. Never fails: what means nothing is answered with
    /// [`Effect::Reject`].
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Effects(Vec::new());
        match event {
            Event::ExperimentSubmitted(submission) => self.submit(now, *submission, &mut effects),
            Event::CancelExperiment(experiment) => self.cancel(now, experiment, &mut effects),
            Event::PauseExperiment(experiment) => self.pause(now, experiment, &mut effects),
            Event::ResumeExperiment(experiment) => self.resume(now, experiment, &mut effects),
            Event::RetryExperiment(experiment) => self.retry(now, experiment, &mut effects),
            Event::CollectCheckpoints(manifests) => self.collect(now, manifests, &mut effects),
            Event::WorkerConnected(connected) => self.connect(now, connected, &mut effects),
            Event::WorkerDisconnected { worker, session } => self.disconnect(worker, session),
            Event::Heartbeat { worker, session, running } => {
                self.heartbeat(now, worker, session, running, &mut effects);
            }
            Event::AttemptReported { worker, session, attempt, report } => {
                self.report(now, worker, session, attempt, report, &mut effects);
            }
            Event::Tick => self.expire(now, &mut effects),
        }
        self.assign(now, &mut effects);
        effects.0
    }

    /// When to send [`Event::Tick`] if nothing happens before.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let first = |set: &BTreeSet<(Timestamp, SegmentId)>| set.first().map(|&(at, _)| at);
        let leases = first(&self.leases).filter(|_| !planted!(DeadlineIgnoresLeases));
        let delayed = first(&self.delayed).filter(|_| !planted!(DeadlineIgnoresBackoff));
        leases.into_iter().chain(delayed).min()
    }

    /// The experiment that a segment belongs to.
    pub fn experiment_of(&self, segment: SegmentId) -> Option<ExperimentId> {
        self.segments.get(&segment).map(|segment| segment.experiment)
    }

    /// The live attempts that `worker` has.
    pub fn held_by(&self, worker: WorkerId) -> impl Iterator<Item = Attempt> + '_ {
        let held = self.workers.get(&worker).into_iter().flat_map(|worker| &worker.held);
        held.filter_map(|&segment| {
            let live = self.segments.get(&segment)?.state.live()?;
            Some(Attempt { segment, number: live.attempt })
        })
    }

    /// Whether everything of an experiment has ended; `None` when it is not known.
    pub fn has_ended(&self, experiment: ExperimentId) -> Option<bool> {
        let known = self.experiments.get(&experiment)?;
        Some(known.segments.iter().all(|id| self.segments.get(id).is_none_or(|segment| segment.state.is_done())))
    }

    /// Whether an experiment is paused; false when it is not known.
    pub fn is_paused(&self, experiment: ExperimentId) -> bool {
        self.experiments.get(&experiment).is_some_and(|experiment| experiment.paused)
    }

    /// Whether an experiment was cancelled; `None` when it is not known.
    pub fn is_cancelled(&self, experiment: ExperimentId) -> Option<bool> {
        self.experiments.get(&experiment).map(|experiment| experiment.cancelled)
    }

    /// The only place where a state changes.
    pub(crate) fn set_state(&mut self, id: SegmentId, state: State, now: Timestamp, effects: &mut Effects) {
        self.unindex(id);
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.state = state.clone();
        let (failures, losses) = (segment.failures, segment.losses);
        self.index(id, now);
        effects.persist(Change::SegmentChanged { segment: id, state, failures, losses });
    }

    /// Moves a lease without storing it: after a restart all leases begin anew.
    pub(crate) fn set_lease(&mut self, id: SegmentId, until: Timestamp, now: Timestamp) {
        self.unindex(id);
        if let Some(segment) = self.segments.get_mut(&id) {
            match &mut segment.state {
                State::Assigned { lease, .. } | State::Running { lease, .. } => *lease = until,
                State::Stopping { deadline, .. } => *deadline = until,
                State::Waiting { .. } | State::Queued { .. } | State::Done(_) => {}
            }
        }
        self.index(id, now);
    }

    pub(crate) fn unindex(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get(&id) else { return };
        match &segment.state {
            State::Queued { not_before } => {
                self.ready.remove(&(segment.order, id));
                self.delayed.remove(&(*not_before, id));
            }
            state => {
                if let Some(Live { worker, until, .. }) = state.live() {
                    self.leases.remove(&(until, id));
                    if let Some(holder) = self.workers.get_mut(&worker) {
                        holder.held.remove(&id);
                    }
                    self.forget_if_idle(worker);
                }
            }
        }
    }

    /// Enters a segment where its state says it belongs.
    pub(crate) fn index(&mut self, id: SegmentId, now: Timestamp) {
        let Some(segment) = self.segments.get(&id) else { return };
        match &segment.state {
            State::Queued { .. } if self.is_paused(segment.experiment) && !planted!(PausedIsAssigned) => {}
            State::Queued { not_before } if *not_before > now => {
                self.delayed.insert((*not_before, id));
            }
            State::Queued { .. } => {
                self.ready.insert((segment.order, id));
            }
            state => {
                if let Some(Live { worker, until, .. }) = state.live() {
                    self.leases.insert((until, id));
                    self.workers.entry(worker).or_default().held.insert(id);
                }
            }
        }
    }

    pub(crate) fn forget_if_idle(&mut self, worker: WorkerId) {
        if self.workers.get(&worker).is_some_and(|worker| worker.connection.is_none() && worker.held.is_empty()) {
            self.workers.remove(&worker);
        }
    }

    /// Says something to a worker that is connected.
    pub(crate) fn send(&self, worker: WorkerId, message: Message, effects: &mut Effects) {
        if let Some(connection) = self.workers.get(&worker).and_then(|worker| worker.connection.as_ref()) {
            effects.0.push(Effect::Send { worker, session: connection.session, message });
        }
    }
}

/// What one event leads to, in order.
#[derive(Debug)]
pub(crate) struct Effects(pub(crate) Vec<Effect>);

impl Effects {
    pub(crate) fn persist(&mut self, change: Change) {
        self.0.push(Effect::Persist(change));
    }

    pub(crate) fn reject(&mut self, rejection: Rejection) {
        self.0.push(Effect::Reject(rejection));
    }
}

/// The plan's segments and runs, if it is one that can be scheduled.
pub(crate) fn check_plan(submission: &Submission) -> Result<(), &'static str> {
    let segments = &submission.plan.segments;
    let mut seen = BTreeSet::new();
    for (index, segment) in segments.iter().enumerate() {
        let start = match segment.parent {
            None => Epoch(0),
            Some(parent) if parent < index => segments[parent].work.last_epoch(),
            Some(_) => return Err("a segment comes before its parent"),
        };
        if !seen.insert(segment.id) {
            return Err("a segment is listed twice");
        }
        let epochs = segment.work.epochs.iter().map(|work| work.epoch.0);
        if segment.work.epochs.is_empty() || !epochs.eq((start.0..).skip(1).take(segment.work.epochs.len())) {
            return Err("a segment's epochs do not follow its parent's");
        }
    }
    if submission.plan.runs.iter().flat_map(|run| &run.path).any(|&index| index >= segments.len()) {
        return Err("a run's path names a segment that is not there");
    }
    if segments.is_empty() {
        return Err("there is nothing to train");
    }
    check_reused(submission)
}

/// What is trained already is the beginning of a segment, and of one that continues nothing that is still to be trained.
fn check_reused(submission: &Submission) -> Result<(), &'static str> {
    let segments = &submission.plan.segments;
    let reused = |index: usize| submission.reused.get(index).map_or(0, Vec::len);
    if submission.reused.len() > segments.len() {
        return Err("more is trained already than there are segments");
    }
    for (index, segment) in segments.iter().enumerate() {
        let continues = |parent: usize| reused(parent) == segments[parent].work.epochs.len();
        if reused(index) > segment.work.epochs.len() {
            return Err("more of a segment is trained already than it has epochs");
        }
        if reused(index) > 0 && !segment.parent.is_none_or(continues) {
            return Err("a segment is trained already, and not what it continues");
        }
    }
    Ok(())
}
