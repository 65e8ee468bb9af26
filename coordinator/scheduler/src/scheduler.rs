//! The scheduler's data, its indexes, and the one function that everything goes through.
//!
//! A segment's state is changed in [`Scheduler::set_state`] alone, which keeps the indexes and the store in step with it.
//! Maps are ordered, so that the same events give the same effects in the same order.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, RunId, SegmentId, SessionId, WorkerId},
    planted,
    spec::EnvironmentRule,
};

use crate::{
    AttemptEnd, Change, Drain, Effect, Event, Live, Message, Rejection, SavedEpoch, SavedStep, Sharing, State,
    StopReason, Submission, Timestamp,
    queue::{Need, Queue, Turn},
    room::{Kind, Rooms},
    segments::Segments,
    standing::Standing,
    training::Training,
};

/// How long to wait, and how often to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long an attempt is believed alive without a heartbeat.
    pub lease: Duration,
    /// How long a worker that connects without listing an attempt of its own has to replay what it still knows of it
    /// (a checkpoint committed just before its agent died), before the attempt counts as lost.
    pub replay: Duration,
    /// The wait after the second failure in a row; each further one doubles it. The first waits for nothing.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
    /// After so many infrastructure failures in a row, without a checkpoint committed between them, a segment has failed.
    pub max_failures: u32,
    /// After so many attempts in a row that failed or were lost on one worker, without a checkpoint committed between
    /// them, it is given nothing for a while.
    pub max_worker_failures: u32,
    /// For how long at first; each further one in a row doubles it.
    pub set_aside: Duration,
    /// The longest such while.
    pub max_set_aside: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            replay: Duration::from_secs(5),
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(300),
            max_failures: 5,
            max_worker_failures: 3,
            set_aside: Duration::from_secs(60),
            max_set_aside: Duration::from_secs(3600),
        }
    }
}

impl Config {
    /// The wait after `count` failures or losses in a row, at least one. One alone is no sign of trouble.
    pub(crate) fn wait(&self, count: u32) -> Duration {
        if count <= 1 { Duration::ZERO } else { doubled(self.backoff, count - 2, self.max_backoff) }
    }
}

/// `first`, doubled so many times, and no more than `longest`.
pub(crate) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(30)).min(longest)
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Experiment {
    /// The order of submission.
    pub(crate) submission: u64,
    pub(crate) cancelled: bool,
    /// Nothing of it is started, whatever its segments' states say.
    pub(crate) paused: bool,
    pub(crate) sharing: Sharing,
    /// In the plan's order.
    pub(crate) segments: Vec<SegmentId>,
    /// Positions of the segments that are queued and no longer back off.
    pub(crate) ready: BTreeSet<usize>,
    /// How many have a live attempt.
    pub(crate) live: usize,
    /// How many have not ended.
    pub(crate) open: usize,
    /// Where it is listed among those that have something to start.
    pub(crate) place: Option<(Need, Turn)>,
    pub(crate) dataset: Digest,
    pub(crate) external: Vec<(String, Digest)>,
    pub(crate) init: Option<Digest>,
    pub(crate) rule: EnvironmentRule,
    /// With [`EnvironmentRule::Same`], where it is trained; none before its first attempt.
    pub(crate) environment: Option<Arc<Environment>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Segment {
    pub(crate) experiment: ExperimentId,
    /// In the plan.
    pub(crate) position: usize,
    pub(crate) parent: Option<SegmentId>,
    pub(crate) children: Vec<SegmentId>,
    pub(crate) training: Training,
    pub(crate) state: State,
    /// The number of the last execution; 0 before the first.
    pub(crate) attempts: u32,
    /// Infrastructure failures in a row.
    pub(crate) failures: u32,
    /// Losses, and failures of the object store, in a row.
    pub(crate) losses: u32,
    /// The committed epochs, from the first on.
    pub(crate) committed: Vec<SavedEpoch>,
    /// How many committed epochs the live attempt still has to train again before it comes to the next one.
    pub(crate) replays: u32,
    /// The last checkpoint within the epoch that comes next.
    pub(crate) step: Option<Box<SavedStep>>,
    /// What the last execution's results depend on: of the worker that it was given to.
    pub(crate) environment: Option<Arc<Environment>>,
    /// Who had the last execution that this scheduler gave away; only a preference, so it is not stored.
    pub(crate) last_worker: Option<WorkerId>,
    pub(crate) last_end: Option<Box<AttemptEnd>>,
}

impl Segment {
    pub(crate) fn all_committed(&self) -> bool {
        self.committed.len() == self.training.epochs()
    }

    /// The epoch that comes next; the last one when all are committed.
    pub(crate) fn next_epoch(&self) -> Epoch {
        self.training.epoch(self.committed.len()).map_or(self.training.last_epoch(), |(epoch, _)| epoch)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Connection {
    pub(crate) session: SessionId,
    pub(crate) slots: usize,
    pub(crate) environment: Arc<Environment>,
    /// Bytes of memory of each slot's device; 0 where it is not known.
    pub(crate) slot_memory: u64,
    /// It has stopped an attempt unasked: it is shutting down.
    pub(crate) leaving: bool,
    /// Attempts that it had and did not list: whatever it still says of them happened before.
    pub(crate) over: BTreeSet<Attempt>,
}

/// A worker that is connected, or that an attempt is still believed alive on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Worker {
    pub(crate) connection: Option<Connection>,
    /// Segments whose live attempt it has.
    pub(crate) held: BTreeSet<SegmentId>,
    /// What of it is not to be used.
    pub(crate) drain: Option<Drain>,
    /// It failed too often in a row.
    pub(crate) set_aside: bool,
    /// Where it is listed among those with free slots.
    pub(crate) room: Option<(Kind, usize)>,
}

impl Worker {
    /// How many of its slots may be used.
    pub(crate) fn usable(&self, slots: usize) -> usize {
        self.drain.as_ref().map_or(slots, |drain| slots - drain.slots(slots).len())
    }
}

/// The state of everything that is to be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduler {
    pub(crate) config: Config,
    pub(crate) submissions: u64,
    pub(crate) experiments: BTreeMap<ExperimentId, Experiment>,
    /// The last segment of each run; the others are those that it continues.
    pub(crate) runs: HashMap<RunId, SegmentId>,
    pub(crate) segments: Segments,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) queue: Queue,
    pub(crate) rooms: Rooms,
    /// Queued, and backing off.
    pub(crate) delayed: BTreeSet<(Timestamp, SegmentId)>,
    /// How many are being stopped for what has a higher priority.
    pub(crate) preempting: usize,
    /// What is not to be used, whether or not the worker is connected.
    pub(crate) drains: BTreeMap<WorkerId, Drain>,
    /// Workers on which the last attempt failed or was lost.
    pub(crate) standings: BTreeMap<WorkerId, Standing>,
    /// Those that are given nothing until then.
    pub(crate) set_aside: BTreeSet<(Timestamp, WorkerId)>,
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
            runs: HashMap::new(),
            segments: Segments::default(),
            workers: BTreeMap::new(),
            queue: Queue::default(),
            rooms: Rooms::default(),
            delayed: BTreeSet::new(),
            preempting: 0,
            drains: BTreeMap::new(),
            standings: BTreeMap::new(),
            set_aside: BTreeSet::new(),
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
            Event::ResumeExperiment(experiment) => self.resume(experiment, &mut effects),
            Event::RetryExperiment(experiment) => self.retry(now, experiment, &mut effects),
            Event::ShareExperiment { experiment, sharing } => self.share(experiment, sharing, &mut effects),
            Event::CollectCheckpoints(manifests) => self.collect(now, manifests, &mut effects),
            Event::DrainWorker { worker, drain } => self.drain(worker, drain, &mut effects),
            Event::WorkerConnected(connected) => self.connect(now, connected, &mut effects),
            Event::WorkerDisconnected { worker, session } => self.disconnect(worker, session),
            Event::Heartbeat { worker, session, running } => {
                self.heartbeat(now, worker, session, running, &mut effects);
            }
            Event::AttemptReported { worker, session, attempt, report } => {
                self.report(now, worker, session, attempt, report, &mut effects);
            }
            Event::HeldUp => self.renew_all(now),
            Event::Tick => self.expire(now, &mut effects),
        }
        self.assign(now, &mut effects);
        effects.0
    }

    /// What it was told to begin with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// When to send [`Event::Tick`] if nothing happens before.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let first = |set: &BTreeSet<(Timestamp, SegmentId)>| set.first().map(|&(at, _)| at);
        let set_aside = self.set_aside.first().map(|&(until, _)| until);
        let leases = first(&self.leases).filter(|_| !planted!(DeadlineIgnoresLeases));
        let delayed = first(&self.delayed).filter(|_| !planted!(DeadlineIgnoresBackoff));
        [leases, delayed, set_aside].into_iter().flatten().min()
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
        Some(self.experiments.get(&experiment)?.open == 0)
    }

    /// Whether an experiment is paused; false when it is not known.
    pub fn is_paused(&self, experiment: ExperimentId) -> bool {
        self.experiments.get(&experiment).is_some_and(|experiment| experiment.paused)
    }

    /// How an experiment shares the fleet; `None` when it is not known.
    pub fn sharing(&self, experiment: ExperimentId) -> Option<Sharing> {
        self.experiments.get(&experiment).map(|experiment| experiment.sharing)
    }

    /// What of workers is not to be used, whether or not they are connected.
    pub fn drains(&self) -> &BTreeMap<WorkerId, Drain> {
        &self.drains
    }

    /// Until when a worker is given nothing, because attempts failed on it again and again.
    pub fn set_aside_until(&self, worker: WorkerId) -> Option<Timestamp> {
        self.standings.get(&worker)?.until
    }

    /// Whether an experiment was cancelled; `None` when it is not known.
    pub fn is_cancelled(&self, experiment: ExperimentId) -> Option<bool> {
        self.experiments.get(&experiment).map(|experiment| experiment.cancelled)
    }

    /// The only place where a state changes.
    pub(crate) fn set_state(&mut self, id: SegmentId, state: State, now: Timestamp, effects: &mut Effects) {
        let Some(before) = self.segments.get(&id).map(|segment| &segment.state) else { return };
        // What goes on under the same lease is where it was in every index: most changes are of this kind.
        let stays = before.live().is_some_and(|live| state.live() == Some(live))
            && is_preempted(before) == is_preempted(&state);
        if !stays {
            self.unindex(id);
        }
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.state = state.clone();
        let (failures, losses) = (segment.failures, segment.losses);
        if !stays {
            self.index(id, now);
        }
        effects.persist(Change::SegmentChanged { segment: id, state, failures, losses });
    }

    /// Moves a lease without storing it: after a restart all leases begin anew.
    pub(crate) fn set_lease(&mut self, id: SegmentId, to: Timestamp) {
        let Some(segment) = self.segments.get_mut(&id) else { return };
        match &mut segment.state {
            State::Assigned { lease: until, .. }
            | State::Running { lease: until, .. }
            | State::Stopping { deadline: until, .. } => {
                self.leases.remove(&(*until, id));
                *until = to;
                self.leases.insert((to, id));
            }
            State::Waiting { .. } | State::Queued { .. } | State::Done(_) => {}
        }
    }

    /// Takes a segment out of where its state put it.
    fn unindex(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get(&id) else { return };
        let Some(experiment) = self.experiments.get_mut(&segment.experiment) else { return };
        experiment.open -= usize::from(!segment.state.is_done());
        if let State::Queued { not_before } = segment.state {
            experiment.ready.remove(&segment.position);
            self.delayed.remove(&(not_before, id));
        }
        let Some(Live { worker, until, .. }) = segment.state.live() else { return };
        experiment.live -= 1;
        self.preempting -= usize::from(is_preempted(&segment.state));
        self.leases.remove(&(until, id));
        if let Some(holder) = self.workers.get_mut(&worker) {
            holder.held.remove(&id);
        }
        self.list_room(worker);
        self.forget_if_idle(worker);
    }

    /// Enters a segment where its state says it belongs.
    pub(crate) fn index(&mut self, id: SegmentId, now: Timestamp) {
        let Some(segment) = self.segments.get(&id) else { return };
        let Some(experiment) = self.experiments.get_mut(&segment.experiment) else { return };
        let of = segment.experiment;
        experiment.open += usize::from(!segment.state.is_done());
        match segment.state {
            State::Queued { not_before } if not_before > now => drop(self.delayed.insert((not_before, id))),
            State::Queued { .. } => drop(experiment.ready.insert(segment.position)),
            _ => {}
        }
        if let Some(Live { worker, until, .. }) = segment.state.live() {
            experiment.live += 1;
            self.preempting += usize::from(is_preempted(&segment.state));
            self.leases.insert((until, id));
            self.worker(worker).held.insert(id);
            self.list_room(worker);
        }
        self.enqueue(of);
    }

    /// The record of a worker, made if it is not there.
    pub(crate) fn worker(&mut self, id: WorkerId) -> &mut Worker {
        let (drain, set_aside) = (self.drains.get(&id), self.set_aside_until(id).is_some());
        let new = Worker { drain: drain.cloned(), set_aside, ..Worker::default() };
        self.workers.entry(id).or_insert(new)
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

fn is_preempted(state: &State) -> bool {
    matches!(state, State::Stopping { reason: StopReason::Preempted, .. })
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
    for run in &submission.plan.runs {
        let mut parent = None;
        for &index in &run.path {
            let segment = segments.get(index).ok_or("a run's path names a segment that is not there")?;
            if segment.parent != parent {
                return Err("a run's path is not one of segments that continue each other");
            }
            parent = Some(index);
        }
        if parent.is_none() {
            return Err("a run has no path");
        }
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
