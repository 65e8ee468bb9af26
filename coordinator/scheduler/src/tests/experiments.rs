//! Random experiments, trained to the end by workers that fail, vanish and lose checkpoints: every run's path covers its
//! budget exactly once, no epoch is trained twice but on record, and what attempts spent adds up.

use std::collections::{BTreeMap, BTreeSet};

use ceteris_shared::{
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, SessionId, WorkerId},
    lineage::LineageKey,
    plan::{Pins, Plan, plan},
    spec::{EnvironmentRule, Format, parse},
    trainer::{FailureCause, Spent},
};
use proptest::prelude::*;
use uuid::Uuid;

use super::fixture::{environment, manifest, weights};
use crate::{
    Change, CommittedEpoch, Config, Effect, Event, Message, Report, Reused, Scheduler, Sharing, Start, StartAttempt,
    Submission, Timestamp, WorkerConnected,
};

const WORKERS: usize = 2;
/// Samples of every epoch.
const SAMPLES: u64 = 100;

#[derive(Clone, Debug)]
struct Drawn {
    budget: u32,
    seeds: u32,
    /// For each arm: where its stages part, and what they train.
    arms: Vec<Vec<(u32, &'static str)>>,
    share: bool,
    augments: bool,
    /// Share of the epochs that an earlier experiment trained, in 256ths; only those count that nothing is missing before.
    before: u32,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let part = prop::sample::select(vec!["head", "denseblock4", "denseblock3"]);
    let arm = prop::collection::vec((1u32..4, part), 1..4);
    let arms = prop::collection::vec(arm, 1..5);
    (1u32..7, 1u32..4, arms, prop::bool::weighted(0.8), any::<bool>(), 0u32..300).prop_map(
        |(budget, seeds, arms, share, augments, before)| Drawn { budget, seeds, arms, share, augments, before },
    )
}

impl Drawn {
    fn plan(&self, experiment: ExperimentId) -> Plan {
        let mut text = format!(
            "name = \"e\"\ndata = {{ dataset = \"d\" }}\nmodel = {{ init = \"random\" }}\nbudget = {{ epochs = {} }}\n\
             seeds = {{ count = {} }}\nexecution = {{ share = {} }}\n",
            self.budget, self.seeds, self.share
        );
        if self.augments {
            text += "grid = { augment = [\"none\", \"light\"] }\n";
        }
        let mut written = BTreeSet::new();
        for (index, stages) in self.arms.iter().enumerate() {
            let mut left = self.budget;
            let mut parts = Vec::new();
            for (position, &(epochs, train)) in stages.iter().enumerate() {
                let epochs = if position + 1 == stages.len() { left } else { epochs.min(left) };
                if epochs > 0 {
                    parts.push(format!("{{ epochs = {epochs}, train = \"{train}\" }}"));
                }
                left -= epochs;
            }
            let stages = parts.join(", ");
            // Two arms that are the same are refused.
            if written.insert(stages.clone()) {
                text += &format!("[[arm]]\nname = \"arm{index}\"\nstages = [{stages}]\n");
            }
        }
        let spec = parse(&text, Format::Toml).unwrap_or_else(|error| panic!("{error}\n{text}"));
        plan(experiment, &spec, &Pins { dataset: Some(Digest::of(b"d")), ..Pins::default() })
            .expect("it can be planned")
    }

    fn reused(&self, plan: &Plan) -> Vec<Vec<Reused>> {
        if !self.share {
            return Vec::new();
        }
        plan.reusable(|key, _| {
            let LineageKey(Digest(bytes)) = key;
            (u32::from(bytes[0]) < self.before).then(|| Reused {
                source: SegmentId(Uuid::from_u128(900)),
                manifest: Digest::of(format!("before {key}").as_bytes()),
                weights: Some(weights(key)),
            })
        })
    }
}

/// What can go wrong between two reports of a worker.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Fail,
    Vanish,
    Lose,
}

struct World {
    scheduler: Scheduler,
    now: Timestamp,
    experiment: ExperimentId,
    sessions: u128,
    connected: [Option<SessionId>; WORKERS],
    tasks: [BTreeMap<Attempt, StartAttempt>; WORKERS],
    /// Epochs that each attempt was asked to train and reported, in order, by whether they counted as new.
    spent: BTreeMap<Attempt, Vec<(LineageKey, bool)>>,
    /// What counts: by segment and epoch, the key and who committed it.
    committed: BTreeMap<(SegmentId, Epoch), (LineageKey, Option<Attempt>)>,
    replayed: Vec<(SegmentId, Epoch, Attempt)>,
}

impl World {
    fn handle(&mut self, event: Event) {
        for effect in self.scheduler.handle(self.now, event) {
            match effect {
                Effect::Persist(Change::EpochCommitted { attempt, committed, .. }) => {
                    let key = (attempt.segment, committed.epoch);
                    let before = self.committed.insert(key, (committed.key, Some(attempt)));
                    assert_eq!(before, None, "an epoch counts once");
                    self.spent.entry(attempt).or_default().push((committed.key, true));
                }
                Effect::Persist(Change::EpochReplayed { attempt, segment, committed, .. }) => {
                    assert!(self.committed.contains_key(&(segment, committed.epoch)), "only what counts is replayed");
                    self.replayed.push((segment, committed.epoch, attempt));
                    self.spent.entry(attempt).or_default().push((committed.key, false));
                }
                Effect::Send { worker, message, .. } => {
                    let index = (0..WORKERS).find(|&index| id(index) == worker).expect("it is one of ours");
                    match message {
                        Message::Start(start) => drop(self.tasks[index].insert(start.attempt, *start)),
                        Message::Revoke { attempt, .. } | Message::Stop(attempt) => {
                            self.tasks[index].remove(&attempt);
                        }
                        Message::Drain { .. } => {}
                    }
                }
                Effect::Persist(_) | Effect::Reject(_) => {}
            }
        }
        self.scheduler.check_invariants().expect("invariants hold");
    }

    fn connect(&mut self, index: usize) {
        self.sessions += 1;
        let session = SessionId(Uuid::from_u128(self.sessions));
        self.connected[index] = Some(session);
        self.tasks[index].clear();
        let (worker, slots, running) = (id(index), 2, Vec::new());
        self.handle(Event::WorkerConnected(WorkerConnected {
            slot_memory: 0,
            worker,
            session,
            slots,
            environment: environment(),
            running,
        }));
    }

    fn report(&mut self, index: usize, attempt: Attempt, report: Report) {
        let Some(session) = self.connected[index] else { return };
        self.handle(Event::AttemptReported { worker: id(index), session, attempt, report });
    }

    fn turn(&mut self, index: usize, trouble: Option<Trouble>) {
        if self.connected[index].is_none() {
            return self.connect(index);
        }
        let Some((&attempt, start)) = self.tasks[index].iter_mut().next() else { return };
        let done = self.spent.get(&attempt).map_or(0, Vec::len);
        match trouble {
            Some(Trouble::Vanish) => {
                if let Some(session) = self.connected[index].take() {
                    self.tasks[index].clear();
                    self.handle(Event::WorkerDisconnected { worker: id(index), session });
                }
            }
            Some(Trouble::Fail) => {
                self.tasks[index].remove(&attempt);
                let message = "random".to_owned();
                self.report(index, attempt, Report::Failed { cause: FailureCause::Infrastructure, message });
            }
            Some(Trouble::Lose) if done == 0 => {
                let Start::Checkpoint(checkpoint) = start.start else { return };
                self.tasks[index].remove(&attempt);
                self.report(index, attempt, Report::Damaged { checkpoint, message: "it is gone".to_owned() });
            }
            Some(Trouble::Lose) | None => match start.work.epochs.get(done) {
                None => {
                    self.tasks[index].remove(&attempt);
                    self.report(index, attempt, Report::Finished);
                }
                Some(work) => {
                    let committed = CommittedEpoch {
                        epoch: work.epoch,
                        key: work.key,
                        manifest: manifest(attempt, work.epoch.0),
                        predictions: Vec::new(),
                        spent: Spent { steps: 1, samples: SAMPLES, seconds: 1.0 },
                        weights: Some(weights(work.key)),
                    };
                    self.report(index, attempt, Report::EpochCommitted(committed));
                }
            },
        }
    }

    /// Until everything has ended; what failed too often is tried again.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            (0..WORKERS).for_each(|index| self.turn(index, None));
            if self.tasks.iter().all(BTreeMap::is_empty) {
                match self.scheduler.next_deadline() {
                    Some(deadline) => {
                        self.now = self.now.max(deadline);
                        self.handle(Event::Tick);
                    }
                    None => {
                        let before = self.spent.len();
                        self.handle(Event::RetryExperiment(self.experiment));
                        if self.spent.len() == before && self.tasks.iter().all(BTreeMap::is_empty) {
                            return;
                        }
                    }
                }
            }
        }
        panic!("it goes on for ever");
    }
}

fn id(index: usize) -> WorkerId {
    WorkerId(Uuid::from_u128(index as u128 + 100))
}

fn trouble() -> impl Strategy<Value = (usize, Option<Trouble>)> {
    let kind = prop::option::weighted(
        0.3,
        prop_oneof![Just(Trouble::Fail), Just(Trouble::Vanish), Just(Trouble::Lose), Just(Trouble::Lose)],
    );
    (0..WORKERS, kind)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn every_run_has_its_budget_exactly_once_and_everything_is_on_record(
        drawn in drawn(), turns in prop::collection::vec(trouble(), 0..60)
    ) {
        let experiment = ExperimentId(Uuid::from_u128(1));
        let plan = drawn.plan(experiment);
        let reused = drawn.reused(&plan);
        let mut world = World {
            scheduler: Scheduler::new(Config::default()),
            now: Timestamp(1_000_000),
            experiment,
            sessions: 0,
            connected: [None; WORKERS],
            tasks: [BTreeMap::new(), BTreeMap::new()],
            spent: BTreeMap::new(),
            committed: BTreeMap::new(),
            replayed: Vec::new(),
        };
        let mut count = 0;
        for (segment, reused) in plan.segments.iter().zip(&reused) {
            for work in &segment.work.epochs[..reused.len()] {
                world.committed.insert((segment.id, work.epoch), (work.key, None));
                count += 1;
            }
        }
        let (dataset, rule) = (Digest::of(b"d"), EnvironmentRule::Same);
        let environment = (count > 0).then(environment);
        world.handle(Event::ExperimentSubmitted(Box::new(Submission {
            experiment, plan: plan.clone(), dataset, external: Vec::new(), init: None, reused, rule, environment,
            sharing: Sharing::default(),
        })));
        for (index, trouble) in turns {
            world.turn(index, trouble);
        }
        world.settle();

        // Every run's path covers its budget exactly once, with the keys of its plan.
        for run in &plan.runs {
            let path: Vec<(Epoch, LineageKey)> = plan.keys(run).collect();
            prop_assert_eq!(path.iter().map(|(epoch, _)| epoch.0).collect::<Vec<_>>(), (1..=drawn.budget).collect::<Vec<_>>());
            let segments = run.path.iter().map(|&index| &plan.segments[index]);
            let counted: Vec<_> = segments
                .flat_map(|segment| segment.work.epochs.iter().map(|work| (segment.id, work.epoch)))
                .filter_map(|place| world.committed.get(&place).map(|(key, _)| (place.1, *key)))
                .collect();
            prop_assert_eq!(counted, path);
        }
        // Nothing else counts, and where runs share, no lineage is trained twice as new.
        prop_assert_eq!(world.committed.len() as u64, plan.epochs_to_train());
        let new: Vec<LineageKey> =
            world.spent.values().flatten().filter(|(_, new)| *new).map(|(key, _)| *key).collect();
        if drawn.share {
            prop_assert_eq!(new.iter().collect::<BTreeSet<_>>().len(), new.len());
        }
        // What attempts spent is what counts as trained, and what is on record as trained again.
        let samples: u64 = world.spent.values().map(|epochs| epochs.len() as u64 * SAMPLES).sum();
        let trained = world.committed.values().filter(|(_, by)| by.is_some()).count();
        prop_assert_eq!(trained + count, world.committed.len());
        prop_assert_eq!(samples, (trained + world.replayed.len()) as u64 * SAMPLES);
    }
}
