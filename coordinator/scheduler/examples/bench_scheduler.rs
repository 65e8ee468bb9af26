//! Decides about a long queue, for `cargo xtask bench scheduler` (the protocol is described in `xtask/src/bench`).
//!
//! Everything that a coordinator's core does for a segment is in its time: the worker's four reports, a heartbeat, and the choice of
//! the next segment and its worker. Before the first line all experiments are submitted and all workers connected.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    error::Error,
    fmt::Write as _,
    io::{self, BufRead, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use ceteris_scheduler::{
    CommittedEpoch, Config, Effect, Event, Message, Report, Scheduler, Sharing, StartAttempt, Submission, Timestamp,
    WorkerConnected,
};
use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{ExperimentId, SegmentId, SessionId, WorkerId},
    plan::{Pins, plan},
    spec::{EnvironmentRule, ExperimentSpec, Format, parse},
    trainer::Spent,
};
use uuid::Uuid;

/// Experiments that share the slots, all of as many runs of one segment each.
const EXPERIMENTS: usize = 20;
/// Time that passes for each segment.
const PACE: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [segments, workers, epochs] = &arguments[..] else {
        return Err("expected SEGMENTS, WORKERS and EPOCHS".into());
    };
    let (segments, workers, epochs): (usize, usize, u32) = (segments.parse()?, workers.parse()?, epochs.parse()?);
    let mut world = World::new();
    for _ in 0..EXPERIMENTS {
        world.submit(&spec(segments / EXPERIMENTS, epochs)?)?;
    }
    let start = Instant::now();
    (0..workers).for_each(|index| world.connect(index));
    let connecting = start.elapsed().as_secs_f64();
    say(&format!(r#"{{"ready": true, "program": "ceteris", "connecting_seconds": {connecting}}}"#))?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let Some(Ok(count)) = line.strip_prefix("go ").map(str::parse::<usize>) else {
            return Err(format!("expected `go N`, not {line:?}").into());
        };
        let start = Instant::now();
        let done = world.train(count);
        let seconds = start.elapsed().as_secs_f64();
        world.scheduler.check_invariants()?;
        let (fewest, most) = world.spread();
        let once = world.once();
        say(&format!(
            r#"{{"seconds": {seconds}, "images": {done}, "once": {once}, "fewest": {fewest}, "most": {most}}}"#
        ))?;
    }
    Ok(())
}

struct World {
    scheduler: Scheduler,
    now: Timestamp,
    experiments: u128,
    running: VecDeque<(WorkerId, SessionId, StartAttempt)>,
    started: Vec<SegmentId>,
}

impl World {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::new(Config::default()),
            now: Timestamp(1_000_000),
            experiments: 0,
            running: VecDeque::new(),
            started: Vec::new(),
        }
    }

    fn submit(&mut self, spec: &ExperimentSpec) -> Result<(), Box<dyn Error>> {
        self.experiments += 1;
        let experiment = ExperimentId(Uuid::from_u128(self.experiments));
        let dataset = Digest::of(b"data set");
        let plan = plan(experiment, spec, &Pins { dataset: Some(dataset), ..Pins::default() })?;
        let submission = Submission {
            experiment,
            plan,
            dataset,
            external: Vec::new(),
            init: None,
            reused: Vec::new(),
            rule: EnvironmentRule::Same,
            environment: None,
            sharing: Sharing::default(),
        };
        self.handle(Event::ExperimentSubmitted(Box::new(submission)));
        Ok(())
    }

    fn connect(&mut self, index: usize) {
        let id = Uuid::from_u128(1_000_000 + index as u128);
        let environment = Environment {
            engine: "2".to_owned(),
            libtorch: "2.9.1".to_owned(),
            device: "NVIDIA H100 80GB HBM3".to_owned(),
            instructions: "AVX512".to_owned(),
            threads: 8,
            determinism: "deterministic".to_owned(),
        };
        let (worker, session) = (WorkerId(id), SessionId(id));
        let connected =
            WorkerConnected { worker, session, slots: 1, slot_memory: 80 << 30, environment, running: Vec::new() };
        self.handle(Event::WorkerConnected(connected));
    }

    fn handle(&mut self, event: Event) {
        for effect in self.scheduler.handle(self.now, event) {
            if let Effect::Send { worker, session, message: Message::Start(start) } = effect {
                self.started.push(start.attempt.segment);
                self.running.push_back((worker, session, *start));
            }
        }
    }

    /// Trains `count` segments to their end; how many it were.
    fn train(&mut self, count: usize) -> usize {
        for done in 0..count {
            let Some((worker, session, start)) = self.running.pop_front() else { return done };
            self.now = self.now.after(PACE);
            let attempt = start.attempt;
            let mut report = |report| self.handle(Event::AttemptReported { worker, session, attempt, report });
            report(Report::Started);
            for work in &start.work.epochs {
                let manifest = Digest::of(&work.key.0.0);
                let spent = Spent { steps: 100, samples: 3200, seconds: 1.0 };
                let (epoch, key, weights) = (work.epoch, work.key, Some(manifest));
                report(Report::EpochCommitted(CommittedEpoch {
                    epoch,
                    key,
                    manifest,
                    predictions: vec![],
                    spent,
                    weights,
                }));
            }
            report(Report::Finished);
            // As many heartbeats as segments: an attempt takes about as long as its worker waits between two.
            if let Some((worker, session, start)) = self.running.front() {
                let (worker, session, running) = (*worker, *session, vec![start.attempt]);
                self.handle(Event::Heartbeat { worker, session, running });
            }
        }
        count
    }

    /// Whether nothing was started twice.
    fn once(&self) -> bool {
        self.started.iter().collect::<BTreeSet<_>>().len() == self.started.len()
    }

    /// How many slots an experiment has: the one with the fewest and the one with the most.
    fn spread(&self) -> (usize, usize) {
        let mut counts: BTreeMap<ExperimentId, usize> = BTreeMap::new();
        for (_, _, start) in &self.running {
            if let Some(experiment) = self.scheduler.experiment_of(start.attempt.segment) {
                *counts.entry(experiment).or_default() += 1;
            }
        }
        (counts.values().copied().min().unwrap_or(0), counts.values().copied().max().unwrap_or(0))
    }
}

/// Arms that share nothing, with a hundred seeds each.
fn spec(runs: usize, epochs: u32) -> Result<ExperimentSpec, Box<dyn Error>> {
    let seeds = runs.min(100);
    let mut text = format!(
        "name = \"queue\"\ndata = {{ dataset = \"d\" }}\nmodel = {{ init = \"random\" }}\nbudget = {{ epochs = {epochs} }}\n\
         seeds = {{ count = {seeds} }}\n"
    );
    for arm in 0..runs / seeds {
        let lr = 1e-6 * (arm + 1) as f64;
        write!(
            text,
            "[[arm]]\nname = \"arm{arm}\"\nstages = [{{ epochs = {epochs}, train = \"head\", lr = {lr:e} }}]\n"
        )?;
    }
    Ok(parse(&text, Format::Toml)?)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
