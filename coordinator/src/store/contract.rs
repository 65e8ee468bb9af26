//! What every store must do, as functions over the trait. Each gets a store of its own, empty.

mod observed;
pub(crate) mod story;

use std::collections::{BTreeMap, BTreeSet};

use ceteris_scheduler::{
    AttemptEnd, Change as Decision, CommittedEpoch, CommittedStep, Config, Drain, Effect, Event, Message, Outcome,
    Report, Reused, SavedEpoch, SavedStep, Scheduler, Sharing, State, Submission, Timestamp, WorkerConnected,
};
use ceteris_shared::{
    checkpoint::Environment,
    dataset::Split,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SessionId, WorkerId},
    lineage,
    plan::{Pins, plan},
    spec::{Arch, Format, parse},
    trainer::{FailureCause, MetricPoint, Scored, Spent},
};
use uuid::Uuid;

use super::{Change, DatasetRecord, Error, ExperimentRecord, SeriesQuery, Store, WeightsRecord, What, WorkerRecord};

pub(super) use observed::what_is_observed_is_stored_once_in_any_order;

/// Hands the name of every function of the suite to a macro, which makes a test of each.
macro_rules! all {
    ($make:ident) => {
        $make! {
            what_is_committed_is_restored,
            the_last_step_is_restored_until_its_epoch_is_committed,
            what_is_trained_again_takes_the_place_of_what_is_damaged,
            every_state_is_stored,
            a_commit_is_all_or_nothing,
            a_pause_is_stored_until_its_end,
            sharing_and_drains_are_restored,
            an_epoch_is_read_once,
            what_is_observed_is_stored_once_in_any_order,
            what_is_trained_counts_for_another_experiment,
            sequences_only_grow,
            logs_are_read_in_order_from_a_cursor,
            experiments_and_runs_are_found,
            a_name_means_one_thing_for_ever,
            every_character_is_taken,
        }
    };
}
pub(super) use all;

const SPEC: &str = r#"
name = "example"
data = { dataset = "d" }
model = { init = "random" }
budget = { epochs = 2 }
seeds = { count = 1 }
[[arm]]
name = "frozen"
stages = [{ epochs = 2, train = "head", lr = 0.1000000000000000055 }]
[[arm]]
name = "finetuned"
stages = [{ epochs = 1, train = "head", lr = 0.1000000000000000055 }, { epochs = 1, train = "denseblock4" }]
"#;

const WORKER: WorkerId = WorkerId(Uuid::from_u128(50));

pub(crate) fn experiment(id: u128, name: &str) -> ExperimentRecord {
    let id = ExperimentId(Uuid::from_u128(id));
    let mut spec = parse(SPEC, Format::Toml).expect("the example is valid");
    spec.name = name.to_owned();
    let pins = Pins { dataset: Some(Digest::of(b"data set")), ..Pins::default() };
    let plan = plan(id, &spec, &pins).expect("it can be planned");
    let source = SPEC.to_owned();
    let submitted_at = Timestamp(7);
    let (cancelled_at, paused_at, environment) = (None, None, None);
    ExperimentRecord {
        id,
        spec,
        source,
        pins,
        plan,
        submitted_at,
        cancelled_at,
        paused_at,
        environment,
        sharing: Sharing::default(),
    }
}

pub(crate) fn environment() -> Environment {
    Environment {
        engine: lineage::ENGINE.to_owned(),
        libtorch: "2".to_owned(),
        device: "cpu".to_owned(),
        instructions: "AVX2".to_owned(),
        threads: 1,
        determinism: "default".to_owned(),
    }
}

pub(crate) fn worker() -> WorkerRecord {
    WorkerRecord {
        id: WORKER,
        name: "w".to_owned(),
        version: "1".to_owned(),
        slots: 1,
        environment: environment(),
        first_seen: Timestamp(1),
        last_seen: Timestamp(1),
    }
}

fn submission(record: &ExperimentRecord) -> Submission {
    Submission {
        experiment: record.id,
        plan: record.plan.clone(),
        dataset: record.pins.dataset.expect("it is pinned"),
        external: Vec::new(),
        init: None,
        reused: Vec::new(),
        rule: record.spec.controls.environment,
        environment: None,
        sharing: record.sharing,
    }
}

/// A scheduler whose decisions are stored, with one worker of one slot.
struct Run<'a, S> {
    store: &'a S,
    scheduler: Scheduler,
    session: SessionId,
    started: Vec<Attempt>,
    now: u64,
}

impl<'a, S: Store> Run<'a, S> {
    async fn of(store: &'a S, record: &ExperimentRecord) -> Self {
        Self::submitting(store, record, submission(record)).await
    }

    async fn submitting(store: &'a S, record: &ExperimentRecord, submission: Submission) -> Self {
        let session = SessionId(Uuid::from_u128(60));
        let scheduler = Scheduler::new(Config::default());
        let mut run = Self { store, scheduler, session, started: vec![], now: 1000 };
        let before = vec![Change::Worker(worker()), Change::Experiment(Box::new(record.clone()))];
        run.handle(before, Event::ExperimentSubmitted(Box::new(submission))).await;
        let connected = WorkerConnected {
            worker: WORKER,
            session,
            slots: 1,
            slot_memory: 0,
            environment: environment(),
            running: vec![],
        };
        run.handle(vec![], Event::WorkerConnected(connected)).await;
        run
    }

    async fn handle(&mut self, mut changes: Vec<Change>, event: Event) {
        self.now += 1;
        for effect in self.scheduler.handle(Timestamp(self.now), event) {
            match effect {
                Effect::Persist(change) => changes.push(Change::Scheduler(change)),
                Effect::Send { message: Message::Start(start), .. } => self.started.push(start.attempt),
                Effect::Send { .. } | Effect::Reject(_) => {}
            }
        }
        self.store.commit(&changes).await.expect("it is stored");
    }

    fn attempt(&self) -> Attempt {
        *self.started.last().expect("something was started")
    }

    async fn report(&mut self, report: Report) {
        let (session, attempt) = (self.session, self.attempt());
        self.handle(vec![], Event::AttemptReported { worker: WORKER, session, attempt, report }).await;
    }

    async fn epoch(&mut self, record: &ExperimentRecord, epoch: u32) {
        let attempt = self.attempt();
        let segment = record.plan.segments.iter().find(|segment| segment.id == attempt.segment).expect("it is planned");
        let work = segment.work.epochs.iter().find(|work| work.epoch.0 == epoch).expect("it is planned");
        self.report(Report::EpochCommitted(committed(work.epoch, work.key))).await;
    }
}

fn committed(epoch: Epoch, key: lineage::LineageKey) -> CommittedEpoch {
    let predictions = vec![
        (Scored::Split(Split::Val), Digest::of(b"val")),
        (Scored::External("o:ther".to_owned()), Digest::of(b"other")),
    ];
    let spent = Spent { steps: 3, samples: 96, seconds: 0.1 };
    let (manifest, weights) = (Digest::of(&epoch.0.to_le_bytes()), Some(Digest::of(b"weights")));
    CommittedEpoch { epoch, key, manifest, predictions, spent, weights }
}

fn point(epoch: u32, step: u32, name: &str, value: f64) -> MetricPoint {
    MetricPoint { epoch: Epoch(epoch), step, split: Split::Val, name: name.to_owned(), value }
}

/// States, counters and leases aside.
fn states(scheduler: &Scheduler, record: &ExperimentRecord) -> Vec<(State, u32, usize, Option<AttemptEnd>)> {
    let explain = |segment: &ceteris_shared::plan::Segment| {
        let found = scheduler.explain(Timestamp(0), segment.id).expect("it is known");
        (found.state, found.attempts, found.committed, found.last_end)
    };
    record.plan.segments.iter().map(explain).collect()
}

pub(super) async fn what_is_committed_is_restored(store: &impl Store) {
    let record = experiment(1, "example");
    let mut run = Run::of(store, &record).await;
    run.report(Report::Started).await;
    let cause = FailureCause::Infrastructure;
    run.report(Report::Failed { cause, message: "disk".to_owned() }).await;
    run.now += 10_000;
    run.handle(vec![], Event::Tick).await;
    run.report(Report::Started).await;
    run.epoch(&record, 1).await;
    run.report(Report::Finished).await;
    run.report(Report::Started).await;
    let snapshot = store.snapshot().await.expect("it is read");
    assert_eq!(snapshot.experiments[0].submission, submission(&record), "learning rates too, to the bit");
    let restored = Scheduler::restore(Config::default(), Timestamp(run.now - 1), snapshot).expect("it is consistent");
    assert_eq!(states(&restored, &record), states(&run.scheduler, &record));

    let found = store.find_experiment(&record.id.to_string()).await.expect("it is there");
    assert_eq!(found, ExperimentRecord { environment: Some(environment()), ..record.clone() }, "its first attempt's");
    let segments = store.segments(record.id).await.expect("they are read");
    let root = &segments[0];
    assert_eq!(root.state, State::Done(Outcome::Completed));
    assert_eq!(root.attempts.iter().map(|a| a.attempt.number).collect::<Vec<_>>(), [1, 2]);
    let ends: Vec<_> = root.attempts.iter().map(|a| a.ended.clone().map(|(_, end)| end)).collect();
    assert_eq!(ends, [Some(AttemptEnd::Failed { cause, message: "disk".to_owned() }), Some(AttemptEnd::Finished)]);
    let planned = committed(Epoch(1), record.plan.segments[0].work.epochs[0].key);
    let epoch = &root.committed[0];
    assert_eq!((epoch.epoch, epoch.attempt, epoch.key, epoch.manifest), (Epoch(1), 2, planned.key, planned.manifest));
    let mut predictions = planned.predictions.clone();
    predictions.sort();
    assert_eq!((epoch.spent, &epoch.predictions), (planned.spent, &predictions));
    let (scored, digest) = &planned.predictions[1];
    assert_eq!(store.predictions(root.id, Epoch(1), scored).await.expect("it is read"), Some(*digest));
    assert_eq!(store.predictions(root.id, Epoch(2), scored).await.expect("it is read"), None);
}

pub(super) async fn the_last_step_is_restored_until_its_epoch_is_committed(store: &impl Store) {
    let record = experiment(1, "example");
    let mut run = Run::of(store, &record).await;
    let work = &record.plan.segments[0].work.epochs[0];
    let saved = async || store.snapshot().await.expect("it is read").experiments[0].segments[0].clone();
    assert_eq!((saved().await.step, saved().await.environment), (None, Some(environment())));
    for step in [3, 6] {
        let manifest = Digest::of(&[step as u8]);
        run.report(Report::StepCommitted(CommittedStep { epoch: work.epoch, step, key: work.key, manifest })).await;
        let attempt = run.attempt().number;
        let expected = SavedStep { epoch: work.epoch, step, manifest, attempt, environment: environment() };
        assert_eq!(saved().await.step, Some(expected), "the next one takes its place");
    }
    run.epoch(&record, 1).await;
    run.report(Report::Finished).await;
    let snapshot = store.snapshot().await.expect("it is read");
    let restored = Scheduler::restore(Config::default(), Timestamp(run.now), snapshot).expect("it is consistent");
    assert_eq!(states(&restored, &record), states(&run.scheduler, &record), "the epoch goes before its steps");
}

pub(super) async fn what_is_trained_again_takes_the_place_of_what_is_damaged(store: &impl Store) {
    let record = experiment(1, "example");
    let mut run = Run::of(store, &record).await;
    run.report(Report::Started).await;
    run.epoch(&record, 1).await;
    run.report(Report::Finished).await;
    let first = committed(Epoch(1), record.plan.segments[0].work.epochs[0].key);
    run.report(Report::Damaged { checkpoint: first.manifest, message: "it is gone".to_owned() }).await;
    for _ in 0..2 {
        // The other child has the slot meanwhile, and finds the same.
        run.now += 10_000;
        run.handle(vec![], Event::Tick).await;
    }
    let attempt = run.attempt();
    let index = record.plan.segments.iter().position(|segment| segment.id == attempt.segment).expect("it is planned");
    let snapshot = store.snapshot().await.expect("it is read");
    assert_eq!(snapshot.damaged, [first.manifest]);
    assert_eq!(snapshot.experiments[0].segments[index].replays, 1);
    assert_eq!(snapshot.experiments[0].environment, Some(environment()));

    let again = CommittedEpoch { manifest: Digest::of(b"anew"), ..first.clone() };
    run.report(Report::EpochCommitted(again.clone())).await;
    let snapshot = store.snapshot().await.expect("it is read");
    assert_eq!(snapshot.experiments[0].segments[index].replays, 0);
    let saved = SavedEpoch { manifest: again.manifest, weights: again.weights, replayed: true };
    assert_eq!(snapshot.experiments[0].segments[0].committed, [saved]);
    let restored = Scheduler::restore(Config::default(), Timestamp(run.now), snapshot).expect("it is consistent");
    restored.check_invariants().expect("they hold");
    let counted = &store.segments(record.id).await.expect("they are read")[0].committed;
    assert_eq!((counted.len(), counted[0].manifest, counted[0].attempt), (1, again.manifest, 1));
    assert_eq!(counted[0].predictions.len(), first.predictions.len(), "what was scored stands");
    let trained = store.trained(&[first.key]).await.expect("it is read");
    assert_eq!(trained[&first.key].iter().map(|epoch| epoch.manifest).collect::<Vec<_>>(), [again.manifest]);

    // What came out otherwise, or elsewhere, is on record and takes nobody's place.
    let elsewhere = Environment { threads: 9, ..environment() };
    let others = [(Some(Digest::of(b"others")), environment()), (first.weights, elsewhere)];
    for (number, (weights, environment)) in (attempt.number + 1..).zip(others) {
        let (attempt, at) = (Attempt { number, ..attempt }, Timestamp(run.now));
        let assigned = Decision::AttemptAssigned { attempt, worker: WORKER, environment, replays: 1, at };
        let committed = CommittedEpoch { manifest: Digest::of(&[number as u8]), weights, ..first.clone() };
        let segment = record.plan.segments[0].id;
        let replayed = Decision::EpochReplayed { attempt, segment, committed, at };
        store.commit(&[assigned, replayed].map(Change::Scheduler)).await.expect("it is stored");
    }
    let counted = &store.segments(record.id).await.expect("they are read")[0].committed;
    assert_eq!((counted[0].manifest, counted[0].weights), (again.manifest, first.weights));
    let references = store.references().await.expect("they are read");
    assert_eq!(references.checkpoints.len(), 3, "but whoever made it may still go on from it: {references:?}");
}

pub(super) async fn every_state_is_stored(store: &impl Store) {
    let record = experiment(1, "example");
    let run = Run::of(store, &record).await;
    let segment = record.plan.segments[1].id;
    let other = record.plan.segments[0].id;
    let (attempt, worker) = (run.attempt().number, WORKER);
    let until = Timestamp(9);
    let failed = |cause| State::Done(Outcome::Failed { cause, message: "why".to_owned() });
    let states = [
        State::Waiting { parent: other },
        State::Queued { not_before: until },
        State::Assigned { attempt, worker, lease: until },
        State::Running { attempt, worker, lease: until, epoch: Epoch(2) },
        State::Stopping { attempt, worker, deadline: until, reason: ceteris_scheduler::StopReason::Cancelled },
        State::Stopping { attempt, worker, deadline: until, reason: ceteris_scheduler::StopReason::Paused },
        State::Stopping { attempt, worker, deadline: until, reason: ceteris_scheduler::StopReason::Preempted },
        State::Done(Outcome::Completed),
        State::Done(Outcome::Cancelled),
        State::Done(Outcome::Blocked { by: other }),
        failed(FailureCause::User),
        failed(FailureCause::Infrastructure),
        failed(FailureCause::Diverged),
        failed(FailureCause::Irreproducible),
    ];
    for state in states {
        let change = Decision::SegmentChanged { segment, state: state.clone(), failures: 2, losses: 3 };
        store.commit(&[Change::Scheduler(change)]).await.expect("it is stored");
        let found = &store.segments(record.id).await.expect("they are read")[1];
        assert_eq!((&found.state, found.failures, found.losses), (&state, 2, 3));
        let summary = &store.experiments().await.expect("they are read")[0];
        assert!(summary.segments.contains_key(state.name()), "{summary:?}");
    }
}

pub(super) async fn a_commit_is_all_or_nothing(store: &impl Store) {
    let record = experiment(1, "example");
    Run::of(store, &record).await;
    let cancelled = Decision::ExperimentCancelled { experiment: record.id, at: Timestamp(5) };
    let again = Change::Experiment(Box::new(record.clone()));
    store.commit(&[Change::Scheduler(cancelled), again]).await.expect_err("an id is used twice");
    assert_eq!(store.find_experiment("example").await.expect("it is there").cancelled_at, None);
}

pub(super) async fn a_pause_is_stored_until_its_end(store: &impl Store) {
    let record = experiment(1, "example");
    let mut run = Run::of(store, &record).await;
    for (event, paused) in [(Event::PauseExperiment(record.id), true), (Event::ResumeExperiment(record.id), false)] {
        run.handle(vec![], event).await;
        assert_eq!(store.snapshot().await.expect("it is read").experiments[0].paused, paused);
        assert_eq!(store.find_experiment("example").await.expect("it is there").paused_at.is_some(), paused);
        assert_eq!(store.experiments().await.expect("they are read")[0].paused_at.is_some(), paused);
    }
}

pub(super) async fn sharing_and_drains_are_restored(store: &impl Store) {
    let sharing = Sharing { priority: -3, weight: 7, max_concurrent: Some(2), device_memory: 24_000_000_000 };
    let record = experiment(1, "example");
    let mut run = Run::submitting(store, &record, Submission { sharing, ..submission(&record) }).await;
    let stored = async || store.snapshot().await.expect("it is read");
    assert_eq!(stored().await.experiments[0].submission.sharing, sharing);
    let changed = Sharing { max_concurrent: None, ..Sharing::default() };
    run.handle(vec![], Event::ShareExperiment { experiment: record.id, sharing: changed }).await;
    assert_eq!(stored().await.experiments[0].submission.sharing, changed);
    assert_eq!(store.find_experiment("example").await.expect("it is there").sharing, changed);
    for drain in [Some(Drain::Slots(BTreeSet::from([0, 3]))), Some(Drain::Worker), None] {
        run.handle(vec![], Event::DrainWorker { worker: WORKER, drain: drain.clone() }).await;
        assert_eq!(stored().await.drained, drain.map(|drain| (WORKER, drain)).into_iter().collect::<Vec<_>>());
    }
}

pub(super) async fn an_epoch_is_read_once(store: &impl Store) {
    let record = experiment(1, "example");
    let mut run = Run::of(store, &record).await;
    let first = run.attempt();
    let value = 0.1 + 0.2;
    let append = async |sequence, attempt, points: &[MetricPoint]| {
        assert!(store.append_metrics(WORKER, sequence, attempt, points).await.expect("it is stored"));
    };
    append(1, first, &[point(1, 3, "auc", 0.5), point(1, 1, "step_loss", 9.0)]).await;
    run.report(Report::Failed { cause: FailureCause::Infrastructure, message: String::new() }).await;
    run.now += 10_000;
    run.handle(vec![], Event::Tick).await;
    let second = run.attempt();
    assert_eq!(second.number, 2);
    append(2, second, &[point(1, 3, "auc", value)]).await;
    append(2, second, &[point(1, 3, "auc", 0.0)]).await;

    let query = |names: &[&str], uncommitted| SeriesQuery {
        segments: vec![first.segment],
        names: names.iter().map(|&name| name.to_owned()).collect(),
        uncommitted,
    };
    let read = async |query: SeriesQuery| -> Vec<(u32, String, f64)> {
        let points = store.series(&query).await.expect("it is read");
        points.into_iter().map(|found| (found.attempt.number, found.point.name, found.point.value)).collect()
    };
    assert_eq!(read(query(&[], false)).await, [], "nothing is committed");
    let expected = [(2, "auc".to_owned(), value)];
    assert_eq!(read(query(&[], true)).await, expected, "of the latest attempt, and as first received");
    run.epoch(&record, 1).await;
    assert_eq!(read(query(&[], false)).await, expected);
    assert_eq!(read(query(&["loss"], false)).await, []);
    assert_eq!(read(query(&["loss", "auc"], false)).await, expected);
    let unheard = Attempt { number: 9, ..first };
    assert!(!store.append_metrics(WORKER, 3, unheard, &[point(1, 1, "auc", 0.5)]).await.expect("it is answered"));
    assert_eq!(store.last_sequence(WORKER).await.expect("it is read"), 3, "what is refused is acknowledged too");
}

pub(super) async fn what_is_trained_counts_for_another_experiment(store: &impl Store) {
    let first = experiment(1, "first");
    let mut run = Run::of(store, &first).await;
    let attempt = run.attempt();
    let value = point(1, 3, "auc", 0.75);
    assert!(store.append_metrics(WORKER, 1, attempt, std::slice::from_ref(&value)).await.expect("it is stored"));
    run.report(Report::Started).await;
    run.epoch(&first, 1).await;
    let second = experiment(2, "second");
    let key = |segment: usize| second.plan.segments[segment].work.epochs[0].key;
    let trained = store.trained(&[key(0), key(1)]).await.expect("it is read");
    let expected = committed(Epoch(1), key(0));
    let [epoch] = &trained[&key(0)][..] else { panic!("it is trained once") };
    assert!(epoch.bound, "its experiment is trained in one class alone");
    assert_eq!((&epoch.environment, epoch.weights), (&environment(), expected.weights));
    assert_eq!((trained.len(), epoch.segment, epoch.manifest), (1, attempt.segment, expected.manifest));
    let scored: BTreeSet<&Scored> = epoch.scored.iter().collect();
    assert_eq!(scored, expected.predictions.iter().map(|(scored, _)| scored).collect());

    let reused = vec![vec![Reused { source: epoch.segment, manifest: epoch.manifest, weights: epoch.weights }]];
    let again = Run::submitting(store, &second, Submission { reused, ..submission(&second) }).await;
    let segments = store.segments(second.id).await.expect("they are read");
    let own = &segments[0];
    assert_eq!((&own.state, own.attempts.len()), (&State::Done(Outcome::Completed), 0));
    let counted = &own.committed[0];
    assert_eq!((counted.source, counted.attempt, counted.key), (attempt.segment, 1, key(0)));
    assert_eq!((counted.spent, &counted.environment), (expected.spent, &environment()));
    assert_eq!(counted.predictions.len(), expected.predictions.len());
    let (scored, digest) = &expected.predictions[0];
    assert_eq!(store.predictions(own.id, Epoch(1), scored).await.expect("it is read"), Some(*digest));
    for uncommitted in [false, true] {
        let query = SeriesQuery { segments: vec![own.id], names: vec![], uncommitted };
        let points = store.series(&query).await.expect("it is read");
        let found: Vec<_> = points.iter().map(|found| (found.attempt.segment, &found.point)).collect();
        assert_eq!(found, [(own.id, &value)]);
    }
    let summary = &store.experiments().await.expect("they are read")[0];
    assert_eq!((summary.name.as_str(), summary.committed), ("second", 1));
    let mut snapshot = store.snapshot().await.expect("it is read");
    snapshot.experiments.remove(0);
    let restored = Scheduler::restore(Config::default(), Timestamp(again.now), snapshot).expect("it is consistent");
    assert_eq!(states(&restored, &second), states(&again.scheduler, &second));
}

pub(super) async fn sequences_only_grow(store: &impl Store) {
    assert_eq!(store.last_sequence(WORKER).await.expect("it is read"), 0);
    store.commit(&[Change::Worker(worker())]).await.expect("it is stored");
    for (sequence, expected) in [(4, 4), (2, 4), (9, 9)] {
        store.commit(&[Change::Sequence { worker: WORKER, sequence }]).await.expect("it is stored");
        assert_eq!(store.last_sequence(WORKER).await.expect("it is read"), expected);
    }
    let renamed = WorkerRecord { name: "x".to_owned(), first_seen: Timestamp(8), last_seen: Timestamp(8), ..worker() };
    store.commit(&[Change::Worker(renamed.clone())]).await.expect("it is stored");
    assert_eq!(store.last_sequence(WORKER).await.expect("it is read"), 9);
    let expected = WorkerRecord { first_seen: Timestamp(1), ..renamed };
    assert_eq!(store.workers().await.expect("they are read"), [expected]);
}

pub(super) async fn logs_are_read_in_order_from_a_cursor(store: &impl Store) {
    let record = experiment(1, "example");
    let run = Run::of(store, &record).await;
    let attempt = run.attempt();
    for (sequence, text) in [(1, "a"), (2, "b"), (2, "b"), (3, "c")] {
        let lines = [text.to_owned(), "é\0".to_owned()];
        assert!(store.append_log(WORKER, sequence, attempt, &lines).await.expect("it is stored"));
    }
    let all = store.logs(&[attempt.segment], 0, 100).await.expect("they are read");
    let first: Vec<_> = all.iter().map(|batch| batch.lines[0].as_str()).collect();
    assert_eq!((first, all[0].lines[1].as_str(), all[0].attempt), (vec!["a", "b", "c"], "é\0", attempt));
    let rest = store.logs(&[attempt.segment], all[0].cursor, 1).await.expect("they are read");
    assert_eq!(rest, all[1..2]);
    assert_eq!(store.logs(&[], 0, 100).await.expect("they are read"), []);
}

pub(super) async fn experiments_and_runs_are_found(store: &impl Store) {
    let low = experiment(0xaaaa_0000 << 96, "same");
    let high = experiment(0xaaaa_1111 << 96, "same");
    for record in [&low, &high] {
        store.commit(&[Change::Experiment(Box::new(record.clone()))]).await.expect("it is stored");
    }
    let find = async |text: &str| store.find_experiment(text).await.map(|record| record.id);
    assert_eq!(find("same").await.expect("the newest"), high.id);
    assert_eq!(find("aaaa0").await.expect("one begins so"), low.id);
    assert_eq!(find(&low.id.0.simple().to_string()[..20]).await.expect("one begins so"), low.id);
    assert_eq!(find(&low.id.to_string()).await.expect("its id"), low.id);
    let Err(Error::Ambiguous { what: What::Experiment, matches, more: false, .. }) = find("AAAA").await else {
        panic!("two begin so")
    };
    assert_eq!(matches, [low.id.to_string(), high.id.to_string()]);
    for none in ["", "bbbb", "%", "sam", "aaaa-zz"] {
        assert!(matches!(find(none).await, Err(Error::NotFound { what: What::Experiment, .. })), "{none}");
    }
    let run = high.plan.runs[1].id;
    let found = store.find_run(&run.to_string()).await.expect("it is there");
    assert_eq!((found.run, found.experiment, found.position), (run, high.id, 1));
    assert_eq!(store.find_run(&run.short()).await.expect("eight digits are enough here"), found);
    assert!(matches!(store.find_run("same").await, Err(Error::NotFound { what: What::Run, .. })));
    let listed: Vec<_> = store.experiments().await.expect("they are read").iter().map(|s| (s.id, s.runs)).collect();
    assert_eq!(listed, [(high.id, 2), (low.id, 2)]);
}

pub(super) async fn a_name_means_one_thing_for_ever(store: &impl Store) {
    let dataset = DatasetRecord {
        name: "d".to_owned(),
        manifest: Digest::of(b"1"),
        image_size: 224,
        classes: vec!["a".to_owned(), "b".to_owned()],
        counts: BTreeMap::from([(Split::Train, vec![3, 4]), (Split::Test, vec![1, 0])]),
        patients: Some(5),
        registered_at: Timestamp(1),
    };
    assert_eq!(store.register_dataset(&dataset).await.expect("it is new"), dataset);
    let again = DatasetRecord { registered_at: Timestamp(2), ..dataset.clone() };
    assert_eq!(store.register_dataset(&again).await.expect("it is the same"), dataset);
    let other = DatasetRecord { manifest: Digest::of(b"2"), ..dataset.clone() };
    let refused = store.register_dataset(&other).await;
    assert!(matches!(refused, Err(Error::NameTaken { what: What::Dataset, .. })), "{refused:?}");
    assert_eq!(store.find_dataset("d").await.expect("by name"), dataset);
    assert_eq!(store.find_dataset(&dataset.manifest.to_string()).await.expect("by digest"), dataset);
    assert!(matches!(store.find_dataset("e").await, Err(Error::NotFound { what: What::Dataset, .. })));
    assert_eq!(store.datasets().await.expect("they are read"), [dataset]);

    let weights = WeightsRecord {
        name: "imagenet".to_owned(),
        digest: Digest::of(b"3"),
        arch: Arch::Densenet121,
        registered_at: Timestamp(1),
    };
    assert_eq!(store.register_weights(&weights).await.expect("they are new"), weights);
    let other = WeightsRecord { digest: Digest::of(b"4"), ..weights.clone() };
    assert!(matches!(store.register_weights(&other).await, Err(Error::NameTaken { what: What::Weights, .. })));
    assert_eq!(store.find_weights("imagenet").await.expect("by name"), weights);
    assert_eq!(store.weights().await.expect("they are read"), [weights]);
}

pub(super) async fn every_character_is_taken(store: &impl Store) {
    let record = ExperimentRecord { source: "# \0".to_owned(), ..experiment(1, "example") };
    let mut run = Run::of(store, &record).await;
    let attempt = run.attempt();
    let named = WorkerRecord { name: "w\0".to_owned(), ..worker() };
    store.commit(&[Change::Worker(named)]).await.expect("it is stored");
    assert!(store.workers().await.expect("they are read")[0].name.starts_with('w'));
    assert!(store.append_metrics(WORKER, 1, attempt, &[point(1, 1, "a\0", 0.5)]).await.expect("it is stored"));
    let message = "\0 at \u{1f600}\r\n".to_owned();
    run.report(Report::Failed { cause: FailureCause::User, message: message.clone() }).await;
    let Some((_, AttemptEnd::Failed { message: found, .. })) =
        store.segments(record.id).await.expect("they are read")[0].attempts[0].ended.clone()
    else {
        panic!("it failed")
    };
    assert_eq!(found.chars().skip(1).collect::<String>(), message[1..]);
    assert!(store.find_experiment("example").await.expect("it is there").source.starts_with("# "));
    assert!(matches!(store.find_experiment("\0").await, Err(Error::NotFound { what: What::Experiment, .. })));
    assert!(matches!(store.find_dataset("\0").await, Err(Error::NotFound { what: What::Dataset, .. })));
}
