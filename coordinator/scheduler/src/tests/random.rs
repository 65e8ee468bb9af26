//! Random schedules of everything that can happen and of much that cannot.
//!
//! Workers here are honest, lying, forgetful and dead by turns; the coordinator is restarted from what was persisted.
//! After each event the invariants hold, a copy of the scheduler has decided the same, and what was persisted restores to
//! the same. At the end one honest worker is left alone with it, and everything ends.

mod step;

use std::collections::{BTreeMap, BTreeSet};

use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, SessionId, WorkerId},
    plan::Work,
    trainer::{FailureCause, Spent},
};
use proptest::prelude::*;
use uuid::Uuid;

use super::fixture::{environment, manifest, step_manifest, submission, weights};
use crate::{
    Change, CommittedEpoch, CommittedStep, Config, Effect, Event, Message, Report, SavedEpoch, SavedExperiment,
    SavedSegment, SavedStep, Scheduler, Sharing, Snapshot, Start, State, Timestamp, WorkerConnected,
};

use step::{Pick, Step, step};

const WORKERS: usize = 3;

/// What an honest worker has been given.
#[derive(Clone, Debug)]
struct Task {
    work: Work,
    started: bool,
    done: usize,
    /// Steps of the epoch in flight.
    steps: u32,
    /// The checkpoint that it starts from.
    start: Option<Digest>,
}

#[derive(Debug, Default)]
struct Peer {
    session: Option<SessionId>,
    tasks: BTreeMap<Attempt, Task>,
}

#[derive(Debug)]
struct World {
    scheduler: Scheduler,
    stored: Snapshot,
    peers: Vec<Peer>,
    sessions: u128,
    now: Timestamp,
    started: BTreeSet<Attempt>,
    owners: BTreeMap<Attempt, WorkerId>,
    /// Where an attempt was given to.
    environments: BTreeMap<Attempt, Environment>,
    /// Every checkpoint within an epoch that counted: whose, of which epoch, at which step.
    steps: BTreeMap<Digest, (Attempt, Epoch, u32)>,
    /// Every epoch that was committed.
    trained: BTreeSet<(SegmentId, Epoch)>,
}

fn worker(index: usize) -> WorkerId {
    WorkerId(Uuid::from_u128(index as u128 + 100))
}

fn is_unusable(stored: &Snapshot, manifest: &Digest) -> bool {
    stored.damaged.contains(manifest) || stored.collected.contains(manifest)
}

fn config() -> Config {
    Config::default()
}

impl World {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::new(config()),
            stored: Snapshot::default(),
            peers: (0..WORKERS).map(|_| Peer::default()).collect(),
            sessions: 0,
            now: Timestamp(1_000_000),
            started: BTreeSet::new(),
            owners: BTreeMap::new(),
            environments: BTreeMap::new(),
            steps: BTreeMap::new(),
            trained: BTreeSet::new(),
        }
    }

    fn attempt(&self, pick: Pick) -> Attempt {
        let all: Vec<SegmentId> = (0..2).flat_map(|i| submission(i).plan.segments).map(|s| s.id).collect();
        let segment = all.get(pick.segment).copied().unwrap_or(SegmentId(Uuid::from_u128(7)));
        Attempt { segment, number: pick.number }
    }

    fn handle(&mut self, event: Event) {
        if let Event::ExperimentSubmitted(submission) = &event
            && !self.stored.experiments.iter().any(|known| known.submission.experiment == submission.experiment)
        {
            let submission = (**submission).clone();
            self.stored.experiments.push(SavedExperiment {
                submission,
                cancelled: false,
                paused: false,
                environment: None,
                segments: vec![],
            });
        }
        let speaker = if let Event::AttemptReported { worker, .. } = event { Some(worker) } else { None };
        let mut twin = self.scheduler.clone();
        let effects = self.scheduler.handle(self.now, event.clone());
        assert_eq!(twin.handle(self.now, event), effects, "the same event has the same effects");
        assert_eq!(twin, self.scheduler);
        self.scheduler.check_invariants().expect("invariants hold");
        for effect in effects {
            match effect {
                Effect::Persist(change) => {
                    self.check_fence(speaker, &change);
                    self.persist(change);
                }
                Effect::Send { worker, session, message } => self.deliver(worker, session, message),
                Effect::Reject(_) => {}
            }
        }
        let restored = Scheduler::restore(config(), self.now, self.stored.clone()).expect("what is stored restores");
        assert_eq!(without_leases(&restored), without_leases(&self.scheduler));
    }

    /// What is stored of an attempt is said by its own worker, and of the last attempt alone.
    fn check_fence(&mut self, speaker: Option<WorkerId>, change: &Change) {
        let attempt = match change {
            Change::AttemptStarted { attempt, .. }
            | Change::StepCommitted { attempt, .. }
            | Change::EpochReplayed { attempt, .. }
            | Change::CheckpointDamaged { attempt, .. }
            | Change::EpochCommitted { attempt, .. } => {
                assert_eq!(speaker, Some(self.owners[attempt]), "{change:?}");
                *attempt
            }
            Change::AttemptEnded { attempt, .. } => {
                assert!(speaker.is_none_or(|speaker| speaker == self.owners[attempt]), "{change:?}");
                *attempt
            }
            Change::AttemptAssigned { attempt, worker, environment, .. } => {
                self.owners.insert(*attempt, *worker);
                self.environments.insert(*attempt, environment.clone());
                return;
            }
            Change::SegmentAdded { .. }
            | Change::EpochReused { .. }
            | Change::SegmentChanged { .. }
            | Change::CheckpointCollected { .. }
            | Change::ExperimentBound { .. }
            | Change::ExperimentPaused { .. }
            | Change::ExperimentShared { .. }
            | Change::WorkerDrained { .. }
            | Change::ExperimentCancelled { .. } => return,
        };
        assert_eq!(attempt.number, self.saved(attempt.segment).attempts, "{change:?}");
    }

    fn saved(&mut self, id: SegmentId) -> &mut SavedSegment {
        let find = |experiment: &mut SavedExperiment| {
            experiment.submission.plan.segments.iter().position(|segment| segment.id == id)
        };
        let experiments = self.stored.experiments.iter_mut();
        let (experiment, index) = experiments.filter_map(|e| find(e).map(|i| (e, i))).next().expect("it is stored");
        &mut experiment.segments[index]
    }

    fn persist(&mut self, change: Change) {
        match change {
            Change::SegmentAdded { experiment, position, state, .. } => {
                let known = self.stored.experiments.iter_mut().find(|e| e.submission.experiment == experiment);
                let segments = &mut known.expect("it is stored").segments;
                assert_eq!(segments.len(), position);
                segments.push(SavedSegment {
                    state,
                    attempts: 0,
                    failures: 0,
                    losses: 0,
                    committed: Vec::new(),
                    replays: 0,
                    step: None,
                    environment: None,
                    last_end: None,
                });
            }
            Change::EpochReused { segment, reused, .. } => self.saved(segment).committed.push(reused.into()),
            Change::SegmentChanged { segment, state, failures, losses } => {
                let saved = self.saved(segment);
                (saved.state, saved.failures, saved.losses) = (state, failures, losses);
            }
            Change::AttemptAssigned { attempt, environment, replays, .. } => {
                let saved = self.saved(attempt.segment);
                saved.attempts += 1;
                saved.replays = replays;
                saved.environment = Some(environment);
                assert_eq!(attempt.number, saved.attempts, "attempts are counted without gaps");
            }
            Change::AttemptStarted { .. } => {}
            Change::AttemptEnded { attempt, end, .. } => self.saved(attempt.segment).last_end = Some(end),
            Change::StepCommitted { attempt, committed, .. } => {
                let CommittedStep { epoch, step, manifest, .. } = committed;
                self.steps.insert(manifest, (attempt, epoch, step));
                let environment = self.environments[&attempt].clone();
                self.saved(attempt.segment).step =
                    Some(SavedStep { epoch, step, manifest, attempt: attempt.number, environment });
            }
            // The step stays stored; restoring leaves it out.
            Change::EpochCommitted { attempt, committed, .. } => {
                let CommittedEpoch { manifest, weights, .. } = committed;
                assert!(self.trained.insert((attempt.segment, committed.epoch)), "an epoch is committed once");
                self.saved(attempt.segment).committed.push(SavedEpoch { manifest, weights, replayed: false });
            }
            Change::EpochReplayed { attempt, segment, committed, .. } => {
                let first = self.start_of(segment).next();
                let place = &mut self.saved(segment).committed[(committed.epoch.0 - first.0) as usize];
                let CommittedEpoch { manifest, weights, .. } = committed;
                let lost = std::mem::replace(
                    place,
                    SavedEpoch { manifest, weights: weights.or(place.weights), replayed: true },
                );
                let again = lost.replayed || is_unusable(&self.stored, &lost.manifest);
                assert!(again, "only what is lost is trained again, by one attempt of each segment that needs it");
                self.saved(attempt.segment).replays -= 1;
            }
            Change::CheckpointDamaged { manifest, .. } => self.stored.damaged.push(manifest),
            Change::CheckpointCollected { manifest, .. } => self.stored.collected.push(manifest),
            Change::ExperimentBound { experiment, environment } => {
                let known = self.stored.experiments.iter_mut().find(|e| e.submission.experiment == experiment);
                known.expect("it is stored").environment = Some(environment);
            }
            Change::ExperimentPaused { experiment, since } => {
                let known = self.stored.experiments.iter_mut().find(|e| e.submission.experiment == experiment);
                known.expect("it is stored").paused = since.is_some();
            }
            Change::ExperimentShared { experiment, sharing } => {
                let known = self.stored.experiments.iter_mut().find(|e| e.submission.experiment == experiment);
                known.expect("it is stored").submission.sharing = sharing;
            }
            Change::WorkerDrained { worker, drain } => {
                self.stored.drained.retain(|(known, _)| *known != worker);
                self.stored.drained.extend(drain.map(|drain| (worker, drain)));
            }
            Change::ExperimentCancelled { experiment, .. } => {
                let known = self.stored.experiments.iter_mut().find(|e| e.submission.experiment == experiment);
                known.expect("it is stored").cancelled = true;
            }
        }
    }

    fn deliver(&mut self, to: WorkerId, session: SessionId, message: Message) {
        let index = (0..WORKERS).find(|&index| worker(index) == to).expect("it is one of ours");
        let peer = &mut self.peers[index];
        assert_eq!(peer.session, Some(session), "messages go to the current connection");
        match message {
            Message::Start(start) => {
                assert!(self.started.insert(start.attempt), "an attempt is started once");
                let mut steps = 0;
                if let Start::Checkpoint(manifest) = start.start
                    && let Some(&(made_by, epoch, step)) = self.steps.get(&manifest)
                {
                    assert_eq!(made_by.segment, start.attempt.segment);
                    assert_eq!(self.environments[&made_by], self.environments[&start.attempt]);
                    assert_eq!(start.work.epochs[0].epoch, epoch, "it is of the epoch that comes next");
                    steps = step;
                }
                assert!(!start.work.epochs.is_empty());
                let from = if let Start::Checkpoint(manifest) = start.start { Some(manifest) } else { None };
                assert!(from.is_none_or(|from| !is_unusable(&self.stored, &from)), "nothing goes on from damage");
                assert_eq!(from.is_none(), start.work.start() == Epoch(0) && steps == 0, "{start:?}");
                let work = start.work;
                peer.tasks.insert(start.attempt, Task { work, started: false, done: 0, steps, start: from });
            }
            Message::Stop(_) | Message::Drain { .. } => {}
            Message::Revoke { attempt, .. } => {
                peer.tasks.remove(&attempt);
            }
        }
    }

    fn connect(&mut self, index: usize, slots: u32, threads: u32, forget: bool, claim: &[Pick]) {
        let slot_memory = u64::from(threads) * 8;
        if forget {
            self.peers[index].tasks.clear();
        }
        self.sessions += 1;
        let session = SessionId(Uuid::from_u128(self.sessions));
        self.peers[index].session = Some(session);
        let claimed = claim.iter().map(|&pick| self.attempt(pick));
        let running = self.peers[index].tasks.keys().copied().chain(claimed).collect();
        let (worker, environment) = (worker(index), Environment { threads, ..environment() });
        let connected = WorkerConnected { worker, session, slots, slot_memory, environment, running };
        self.handle(Event::WorkerConnected(connected));
    }

    fn report(&mut self, index: usize, attempt: Attempt, report: Report) {
        let session = self.peers[index].session.unwrap_or(SessionId(Uuid::nil()));
        self.handle(Event::AttemptReported { worker: worker(index), session, attempt, report });
    }

    /// The next thing that an honest worker says.
    fn work(&mut self, index: usize, fail: Option<FailureCause>) {
        if self.peers[index].session.is_none() {
            return;
        }
        let Some((&attempt, task)) = self.peers[index].tasks.iter_mut().next() else { return };
        let report = match (fail, task.started, task.work.epochs.get(task.done)) {
            (Some(cause), ..) => Report::Failed { cause, message: "random".to_owned() },
            (None, false, _) => {
                task.started = true;
                Report::Started
            }
            (None, true, Some(next)) => {
                (task.done, task.steps) = (task.done + 1, 0);
                let (epoch, key, manifest) = (next.epoch, next.key, manifest(attempt, next.epoch.0));
                let (spent, weights) = (Spent::default(), Some(weights(key)));
                Report::EpochCommitted(CommittedEpoch { epoch, key, manifest, predictions: vec![], spent, weights })
            }
            (None, true, None) => Report::Finished,
        };
        if matches!(report, Report::Failed { .. } | Report::Finished) {
            self.peers[index].tasks.remove(&attempt);
        }
        self.report(index, attempt, report);
    }

    /// An honest worker finds that what it was to go on from is damaged.
    fn damage(&mut self, index: usize) {
        if self.peers[index].session.is_none() {
            return;
        }
        let mut tasks = self.peers[index].tasks.iter().filter(|(_, task)| !task.started);
        let Some((attempt, checkpoint)) = tasks.find_map(|(attempt, task)| Some((*attempt, task.start?))) else {
            return;
        };
        self.peers[index].tasks.remove(&attempt);
        self.report(index, attempt, Report::Damaged { checkpoint, message: "it is gone".to_owned() });
    }

    fn start_of(&self, id: SegmentId) -> Epoch {
        let mut segments = (0..2).flat_map(|index| submission(index).plan.segments);
        segments.find(|segment| segment.id == id).expect("it is planned").work.start()
    }

    /// A checkpoint within the epoch in flight of an honest worker.
    fn checkpoint(&mut self, index: usize) {
        if self.peers[index].session.is_none() {
            return;
        }
        let Some((&attempt, task)) = self.peers[index].tasks.iter_mut().find(|(_, task)| task.started) else { return };
        let Some(next) = task.work.epochs.get(task.done) else { return };
        task.steps += 1;
        let (epoch, step, key) = (next.epoch, task.steps, next.key);
        let manifest = step_manifest(attempt, epoch.0, step);
        self.report(index, attempt, Report::StepCommitted(CommittedStep { epoch, step, key, manifest }));
    }

    fn lie(&mut self, index: usize, about: Pick, kind: u8, epoch: u32, right_key: bool) {
        let attempt = self.attempt(about);
        let planned = (0..2).flat_map(|i| submission(i).plan.segments).find(|s| s.id == attempt.segment);
        let keys = planned.into_iter().flat_map(|s| s.work.epochs).filter(|w| right_key && w.epoch.0 == epoch);
        let key = keys.map(|work| work.key).next().unwrap_or(ceteris_shared::lineage::LineageKey(Digest::of(b"no")));
        let report = match kind {
            0 => Report::Started,
            1 => Report::Finished,
            2 => Report::Stopped,
            3 => Report::Failed { cause: FailureCause::Infrastructure, message: String::new() },
            5 => Report::Damaged { checkpoint: manifest(attempt, epoch), message: String::new() },
            4 => {
                let (epoch, step) = (Epoch(epoch), epoch);
                let manifest = step_manifest(attempt, epoch.0, step);
                Report::StepCommitted(CommittedStep { epoch, step, key, manifest })
            }
            _ => {
                let manifest = manifest(attempt, epoch);
                let (epoch, predictions, spent) = (Epoch(epoch), vec![], Spent::default());
                let weights = kind.is_multiple_of(2).then(|| Digest::of(b"other weights"));
                Report::EpochCommitted(CommittedEpoch { epoch, key, manifest, predictions, spent, weights })
            }
        };
        self.report(index, attempt, report);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit(index) => self.handle(Event::ExperimentSubmitted(Box::new(submission(index.into())))),
            Step::Cancel(index) => self.handle(Event::CancelExperiment(ExperimentId(Uuid::from_u128(index.into())))),
            Step::Pause(index) => self.handle(Event::PauseExperiment(ExperimentId(Uuid::from_u128(index.into())))),
            Step::Resume(index) => self.handle(Event::ResumeExperiment(ExperimentId(Uuid::from_u128(index.into())))),
            Step::Retry(index) => self.handle(Event::RetryExperiment(ExperimentId(Uuid::from_u128(index.into())))),
            Step::Share { index, sharing } => {
                let experiment = ExperimentId(Uuid::from_u128(index.into()));
                self.handle(Event::ShareExperiment { experiment, sharing });
            }
            Step::Drain { worker: index, drain } => {
                self.handle(Event::DrainWorker { worker: worker(index), drain });
            }
            Step::HandBack { worker: index } => {
                if let Some((&attempt, _)) = self.peers[index].tasks.first_key_value() {
                    self.peers[index].tasks.remove(&attempt);
                    self.report(index, attempt, Report::HandedBack);
                }
            }
            Step::Connect { worker, slots, threads, forget, claim } => {
                self.connect(worker, slots, threads, forget, &claim);
            }
            Step::Disconnect { worker: index, current } => {
                let session = if current { self.peers[index].session.take() } else { None };
                let session = session.unwrap_or(SessionId(Uuid::nil()));
                self.handle(Event::WorkerDisconnected { worker: worker(index), session });
            }
            Step::Heartbeat { worker: index, claim } => {
                let session = self.peers[index].session.unwrap_or(SessionId(Uuid::nil()));
                let claimed = claim.iter().map(|&pick| self.attempt(pick));
                let running = self.peers[index].tasks.keys().copied().chain(claimed).collect();
                self.handle(Event::Heartbeat { worker: worker(index), session, running });
            }
            Step::Work { worker, fail } => self.work(worker, fail),
            Step::Checkpoint { worker } => self.checkpoint(worker),
            Step::Damage { worker } => self.damage(worker),
            Step::Collect(part) => {
                let segments = self.scheduler.segments.iter().map(|(_, segment)| segment);
                let all = segments.flat_map(|segment| segment.committed.iter().map(|epoch| epoch.manifest));
                let manifests = all.filter(|manifest| manifest.0[0] % 4 == part).collect();
                self.handle(Event::CollectCheckpoints(manifests));
            }
            Step::Lie { worker, about, kind, epoch, right_key } => self.lie(worker, about, kind, epoch, right_key),
            Step::Wait(milliseconds) => {
                self.now = Timestamp(self.now.0 + milliseconds);
                self.handle(Event::Tick);
            }
            Step::Restart => {
                self.scheduler = Scheduler::restore(config(), self.now, self.stored.clone()).expect("it restores");
                self.peers.iter_mut().for_each(|peer| peer.session = None);
            }
        }
    }

    /// An honest worker of each environment class, and nothing that goes wrong any more.
    fn settle(&mut self) {
        for index in 0..WORKERS {
            self.step(Step::Disconnect { worker: index, current: true });
            self.handle(Event::DrainWorker { worker: worker(index), drain: None });
        }
        for index in 0..2 {
            let (experiment, sharing) = (submission(index).experiment, Sharing::default());
            self.handle(Event::ShareExperiment { experiment, sharing });
        }
        self.connect(0, 2, 1, true, &[]);
        self.connect(1, 2, 2, true, &[]);
        for index in 0..2 {
            self.handle(Event::ResumeExperiment(submission(index).experiment));
        }
        for _ in 0..400 {
            while let Some(index) = (0..2).find(|&index| !self.peers[index].tasks.is_empty()) {
                self.work(index, None);
            }
            let Some(deadline) = self.scheduler.next_deadline() else { return };
            self.now = self.now.max(deadline);
            self.handle(Event::Tick);
        }
        panic!("it goes on for ever");
    }
}

#[derive(Debug, PartialEq)]
struct Place {
    state: State,
    counts: [u32; 4],
    committed: Vec<SavedEpoch>,
    step: Option<SavedStep>,
    environment: Option<Environment>,
}

/// Where every segment is; leases are not stored, so they do not count.
fn without_leases(scheduler: &Scheduler) -> Vec<(SegmentId, Place)> {
    let flat = |state: &State| {
        let mut state = state.clone();
        match &mut state {
            State::Assigned { lease, .. } | State::Running { lease, .. } => *lease = Timestamp(0),
            State::Stopping { deadline, .. } => *deadline = Timestamp(0),
            State::Waiting { .. } | State::Queued { .. } | State::Done(_) => {}
        }
        state
    };
    let all = scheduler.segments.iter();
    let place = |s: &crate::scheduler::Segment| Place {
        state: flat(&s.state),
        counts: [s.attempts, s.failures, s.losses, s.replays],
        committed: s.committed.clone(),
        step: s.step.as_deref().cloned(),
        environment: s.environment.as_deref().cloned(),
    };
    all.map(|(id, segment)| (id, place(segment))).collect()
}

proptest! {
    #[test]
    fn nothing_breaks_and_everything_ends(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        for experiment in &world.stored.experiments {
            prop_assert_eq!(world.scheduler.has_ended(experiment.submission.experiment), Some(true));
        }
    }
}
