//! A small experiment, and a scheduler whose every answer is checked.
//!
//! The plan has two seeds; of each, three arms share two epochs and then part: segments 0 and 2 are the roots.

use std::{sync::LazyLock, time::Duration};

use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, SessionId, WorkerId},
    lineage::LineageKey,
    plan::{Pins, plan},
    spec::{EnvironmentRule, Format, parse},
    trainer::Spent,
};
use uuid::Uuid;

use crate::{
    CommittedEpoch, CommittedStep, Config, Effect, Event, Message, Rejection, Report, Reused, Scheduler, Sharing,
    StartAttempt, State, Submission, Timestamp, WorkerConnected,
};

pub(super) const LEASE: Duration = Duration::from_secs(30);

const SPEC: &str = r#"
name = "example"
data = { dataset = "d" }
model = { init = "random" }
budget = { epochs = 4 }
seeds = { count = 2 }
[[arm]]
name = "frozen"
stages = [{ epochs = 4, train = "head" }]
[[arm]]
name = "finetuned"
stages = [{ epochs = 2, train = "head" }, { epochs = 2, train = "denseblock4" }]
[[arm]]
name = "deeper"
stages = [{ epochs = 2, train = "head" }, { epochs = 2, train = "denseblock3" }]
"#;

/// The first or the second experiment.
pub(super) fn submission(index: usize) -> Submission {
    static BOTH: LazyLock<[Submission; 2]> = LazyLock::new(|| [planned(0), planned(1)]);
    BOTH[index].clone()
}

fn planned(index: u128) -> Submission {
    let experiment = ExperimentId(Uuid::from_u128(index + 1));
    let spec = parse(SPEC, Format::Toml).expect("the example is valid");
    let dataset = Digest::of(b"data set");
    let plan = plan(experiment, &spec, &Pins { dataset: Some(dataset), ..Pins::default() }).expect("it can be planned");
    assert_eq!(plan.segments.iter().map(|s| s.parent).collect::<Vec<_>>(), PARENTS);
    // Of the second experiment the first seed's root is trained, and half of what an arm does after it; of the other
    // seed's root, half.
    let trained = |segment: usize, epochs: u32| -> Vec<Reused> {
        let source = SegmentId(Uuid::from_u128(900 + segment as u128));
        (1..=epochs)
            .map(|epoch| Reused { source, manifest: Digest::of(format!("{source} {epoch}").as_bytes()), weights: None })
            .collect()
    };
    let reused = if index == 0 { Vec::new() } else { vec![trained(0, 2), trained(1, 1), trained(2, 1)] };
    // The first may be trained anywhere, the second where it began.
    let (rule, environment) = match index {
        0 => (EnvironmentRule::Any, None),
        _ => (EnvironmentRule::Same, Some(environment())),
    };
    Submission {
        experiment,
        plan,
        dataset,
        external: Vec::new(),
        init: None,
        reused,
        rule,
        environment,
        sharing: Sharing::default(),
    }
}

const PARENTS: [Option<usize>; 8] = [None, Some(0), None, Some(2), Some(0), Some(2), Some(0), Some(2)];

pub(super) fn environment() -> Environment {
    Environment {
        engine: "1".to_owned(),
        libtorch: "2".to_owned(),
        device: "cpu".to_owned(),
        instructions: "AVX2".to_owned(),
        threads: 1,
        determinism: "default".to_owned(),
    }
}

/// The checkpoint that an attempt makes.
pub(super) fn manifest(attempt: Attempt, epoch: u32) -> Digest {
    Digest::of(format!("{attempt} {epoch}").as_bytes())
}

/// What honest training ends in.
pub(super) fn weights(key: LineageKey) -> Digest {
    Digest::of(format!("weights {key}").as_bytes())
}

/// The checkpoint that an attempt makes within an epoch.
pub(super) fn step_manifest(attempt: Attempt, epoch: u32, step: u32) -> Digest {
    Digest::of(format!("{attempt} {epoch} {step}").as_bytes())
}

#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) config: Config,
    pub(super) scheduler: Scheduler,
    pub(super) now: Timestamp,
    /// Of the last event.
    pub(super) effects: Vec<Effect>,
    sessions: [u128; 4],
}

impl Fixture {
    pub(super) fn submitted() -> Self {
        Self::of(submission(0))
    }

    pub(super) fn of(submission: Submission) -> Self {
        let config = Config { lease: LEASE, ..Config::default() };
        let scheduler = Scheduler::new(config);
        let mut fixture = Self { config, scheduler, now: Timestamp(1_000_000), effects: vec![], sessions: [0; 4] };
        fixture.handle(Event::ExperimentSubmitted(Box::new(submission)));
        fixture
    }

    pub(super) fn handle(&mut self, event: Event) {
        self.effects = self.scheduler.handle(self.now, event);
        assert_eq!(self.scheduler.check_invariants(), Ok(()));
    }

    pub(super) fn worker(&self, index: usize) -> WorkerId {
        WorkerId(Uuid::from_u128(index as u128 + 100))
    }

    pub(super) fn session(&self, worker: usize) -> SessionId {
        SessionId(Uuid::from_u128(self.sessions[worker] + 1000))
    }

    pub(super) fn segment(&self, index: usize) -> SegmentId {
        submission(0).plan.segments[index].id
    }

    pub(super) fn state(&self, index: usize) -> State {
        self.scheduler.segments[&self.segment(index)].state.clone()
    }

    pub(super) fn connect(&mut self, worker: usize, session: u128, slots: u32, running: &[Attempt]) {
        self.connect_in(environment(), worker, session, slots, running);
    }

    /// With so many bytes of memory in each slot's device.
    pub(super) fn connect_with(&mut self, memory: u64, worker: usize, session: u128, slots: u32, running: &[Attempt]) {
        self.sessions[worker] = session;
        let connected = WorkerConnected {
            worker: self.worker(worker),
            session: self.session(worker),
            slots,
            slot_memory: memory,
            environment: environment(),
            running: running.to_vec(),
        };
        self.handle(Event::WorkerConnected(connected));
    }

    pub(super) fn connect_in(
        &mut self,
        environment: Environment,
        worker: usize,
        session: u128,
        slots: u32,
        running: &[Attempt],
    ) {
        self.sessions[worker] = session;
        let (worker, session) = (self.worker(worker), self.session(worker));
        let running = running.to_vec();
        self.handle(Event::WorkerConnected(WorkerConnected {
            worker,
            session,
            slots,
            slot_memory: 0,
            environment,
            running,
        }));
    }

    pub(super) fn disconnect(&mut self, worker: usize, session: u128) {
        assert_eq!(self.sessions[worker], session);
        self.handle(Event::WorkerDisconnected { worker: self.worker(worker), session: self.session(worker) });
    }

    pub(super) fn heartbeat_all(&mut self, worker: usize) {
        let (worker, session) = (self.worker(worker), self.session(worker));
        let running = self.scheduler.held_by(worker).collect();
        self.handle(Event::Heartbeat { worker, session, running });
    }

    pub(super) fn report(&mut self, worker: usize, attempt: Attempt, report: Report) {
        let (worker, session) = (self.worker(worker), self.session(worker));
        self.handle(Event::AttemptReported { worker, session, attempt, report });
    }

    pub(super) fn epoch(&self, attempt: Attempt, epoch: u32) -> CommittedEpoch {
        let mut segment = &self.scheduler.segments[&attempt.segment];
        while segment.work.start() >= Epoch(epoch) {
            segment = &self.scheduler.segments[&segment.parent.expect("the epoch is on its path")];
        }
        let work = &segment.work;
        let key = work.epochs.iter().find(|work| work.epoch == Epoch(epoch)).expect("it is planned").key;
        let manifest = manifest(attempt, epoch);
        let weights = Some(weights(key));
        CommittedEpoch { epoch: Epoch(epoch), key, manifest, predictions: vec![], spent: Spent::default(), weights }
    }

    pub(super) fn step(&self, attempt: Attempt, epoch: u32, step: u32) -> CommittedStep {
        let CommittedEpoch { epoch, key, .. } = self.epoch(attempt, epoch);
        CommittedStep { epoch, step, key, manifest: step_manifest(attempt, epoch.0, step) }
    }

    pub(super) fn commit_step(&mut self, worker: usize, attempt: Attempt, epoch: u32, step: u32) {
        let step = self.step(attempt, epoch, step);
        self.report(worker, attempt, Report::StepCommitted(step));
    }

    pub(super) fn commit(&mut self, worker: usize, attempt: Attempt, epoch: u32) {
        let epoch = self.epoch(attempt, epoch);
        self.report(worker, attempt, Report::EpochCommitted(epoch));
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now = self.now.after(by);
        self.handle(Event::Tick);
    }

    /// What the last event had said to a worker.
    pub(super) fn sent(&self, worker: usize) -> Vec<Message> {
        let to = self.worker(worker);
        let message = |effect: &Effect| match effect {
            Effect::Send { worker, message, .. } if *worker == to => Some(message.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(message).collect()
    }

    pub(super) fn last_start(&self, worker: usize) -> StartAttempt {
        let start = |message| if let Message::Start(start) = message { Some(*start) } else { None };
        self.sent(worker).into_iter().filter_map(start).next_back().expect("something is started")
    }

    /// What a worker with one slot has.
    pub(super) fn started(&self, worker: usize) -> Attempt {
        self.scheduler.held_by(self.worker(worker)).next().expect("it has something")
    }

    pub(super) fn rejections(&self) -> Vec<Rejection> {
        let rejection = |effect: &Effect| if let Effect::Reject(why) = effect { Some(why.clone()) } else { None };
        self.effects.iter().filter_map(rejection).collect()
    }
}
