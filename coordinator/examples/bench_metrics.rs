//! Stores metric points again and again, for `cargo xtask bench metrics` (the protocol is described in `xtask/src/bench`).
//!
//! Sixteen workers send events of a thousand points to a SQLite database on disk, the way that sessions hand them over:
//! with sequence numbers, each worker's one batch at a time, while others wait for the same commit. A reader reads
//! meanwhile. At the end everything is sent once more and all is read back, counted, and compared.

use std::{
    fs::{self, File},
    io::{self, BufRead, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ceteris_coordinator::store::{
    Change, ExperimentRecord, Observation, Observed, SeriesQuery, Sqlite, Store, WorkerRecord,
};
use ceteris_scheduler::{Change as Decision, Sharing, State, Timestamp};
use ceteris_shared::{
    checkpoint::Environment,
    dataset::Split,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, WorkerId},
    plan::{Pins, plan},
    spec::{Format, parse},
    trainer::MetricPoint,
};
use serde_json::json;
use uuid::Uuid;

const WORKERS: u32 = 16;
/// Points of an event: the training losses of an epoch's steps, of which a worker sends a thousand, and its scores.
const LOSSES: u32 = 990;
const SCORES: [&str; 10] =
    ["auc", "accuracy", "sensitivity", "specificity", "precision", "f1", "loss", "brier", "ece", "average_precision"];
const POINTS: u64 = LOSSES as u64 + SCORES.len() as u64;
/// Events that a worker's session hands over at once, where so many have come.
const BATCH: u32 = 8;
/// Writes of a block, each synchronised, that the rate of the disk is taken from.
const SYNCHRONISATIONS: u32 = 200;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let result = match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(flag), Some(folder), None) if flag == "--scratch" => run(&PathBuf::from(folder)).await,
        _ => Err("usage: bench_metrics --scratch DIR".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(scratch: &Path) -> Outcome<()> {
    let place = scratch.join("metrics.db");
    for ending in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{ending}", place.display()));
    }
    let store = Arc::new(Sqlite::open(&place).await?);
    let attempts = assign(&store).await?;
    let mut sent = 0;
    send(&store, prepare(&attempts, 0..1)).await?;
    sent += 1;
    say(&json!({ "ready": true, "program": format!("ceteris {}", env!("CARGO_PKG_VERSION")), "workers": WORKERS,
        "points_per_event": POINTS }))?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let epochs: u32 = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["go", epochs] => epochs.parse()?,
            _ => return Err(format!("expected `go N`, not {line:?}").into()),
        };
        let fdatasync = synchronisations(scratch)?;
        let watched = Watched::start(&store, &attempts, &place);
        let events = prepare(&attempts, sent..sent + epochs);
        let start = Instant::now();
        send(&store, events).await?;
        let seconds = start.elapsed().as_secs_f64();
        let (reads, log_bytes) = watched.stop().await?;
        let all = sent + epochs;
        // Everything of this round once more, as after a stream that broke: nothing may change.
        send(&store, prepare(&attempts, sent..all)).await?;
        let right = is_as_sent(&store, &attempts, all).await?;
        sent = all;
        say(&json!({
            "seconds": seconds,
            "images": u64::from(WORKERS) * u64::from(epochs) * POINTS,
            "right": right,
            "reads": reads,
            "log_bytes": log_bytes,
            "fdatasync_per_second": fdatasync,
        }))?;
    }
    store.close().await;
    Ok(())
}

/// An experiment of sixteen runs, each given to a worker of its own.
async fn assign(store: &Sqlite) -> Outcome<Vec<(WorkerId, Attempt)>> {
    let source = format!(
        "name = \"bench\"\ndata = {{ dataset = \"d\" }}\nmodel = {{ init = \"random\" }}\nbudget = {{ epochs = 1 }}\n\
         seeds = {{ count = {WORKERS} }}\n[[arm]]\nname = \"a\"\nstages = [{{ epochs = 1, train = \"all\" }}]\n"
    );
    let spec = parse(&source, Format::Toml).map_err(|error| format!("{error:?}"))?;
    let pins = Pins { dataset: Some(Digest::of(b"data set")), ..Pins::default() };
    let id = ExperimentId(Uuid::from_u128(1));
    let plan = plan(id, &spec, &pins)?;
    let segments: Vec<_> = plan.segments.iter().map(|segment| segment.id).collect();
    let (submitted_at, cancelled_at, paused_at) = (Timestamp(1), None, None);
    let record = ExperimentRecord {
        id,
        spec,
        source,
        pins,
        plan,
        submitted_at,
        cancelled_at,
        paused_at,
        environment: None,
        sharing: Sharing::default(),
    };
    let mut changes = vec![Change::Experiment(Box::new(record))];
    let mut attempts = Vec::new();
    for (position, segment) in segments.into_iter().enumerate() {
        let worker = WorkerId(Uuid::from_u128(100 + position as u128));
        let attempt = Attempt { segment, number: 1 };
        changes.push(Change::Worker(WorkerRecord {
            id: worker,
            name: format!("worker-{position}"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots: 1,
            environment: environment(),
            first_seen: Timestamp(1),
            last_seen: Timestamp(1),
        }));
        let state = State::Queued { not_before: Timestamp(0) };
        let added = Decision::SegmentAdded { segment, experiment: id, position, state };
        let at = Timestamp(2);
        let assigned = Decision::AttemptAssigned { attempt, worker, environment: environment(), replays: 0, at };
        changes.extend([added, assigned].map(Change::Scheduler));
        attempts.push((worker, attempt));
    }
    store.commit(&changes).await?;
    Ok(attempts)
}

fn environment() -> Environment {
    let [engine, libtorch, device, instructions, determinism] = ["1", "2", "cpu", "AVX2", "default"].map(str::to_owned);
    Environment { engine, libtorch, device, instructions, threads: 1, determinism }
}

/// What a worker measured in an epoch. Another value for each point, with all of its digits.
fn points(worker: usize, epoch: u32) -> Vec<MetricPoint> {
    let point = |split, name: &str, step: u32| MetricPoint {
        epoch: Epoch(epoch + 1),
        step,
        split,
        name: name.to_owned(),
        value: value(worker, epoch, split, name, step),
    };
    let losses = (1..=LOSSES).map(|step| point(Split::Train, "step_loss", step));
    losses.chain(SCORES.iter().map(|name| point(Split::Val, name, LOSSES))).collect()
}

fn value(worker: usize, epoch: u32, split: Split, name: &str, step: u32) -> f64 {
    let place = worker as f64 + 0.1 * f64::from(epoch) + 0.001 * f64::from(step) + name.len() as f64 / 7.0;
    (place + if split == Split::Val { 0.3 } else { 0.0 }).sin()
}

/// What a worker hands over, one batch after the other.
type Batches = (WorkerId, Vec<Vec<Observed>>);

/// Events of these epochs, one each, of every worker.
fn prepare(attempts: &[(WorkerId, Attempt)], epochs: std::ops::Range<u32>) -> Vec<Batches> {
    let of_worker = |(index, &(worker, attempt)): (usize, &(WorkerId, Attempt))| {
        let event = |&epoch: &u32| {
            let what = Observation::Metrics(points(index, epoch));
            Observed { sequence: u64::from(epoch) + 1, attempt, what }
        };
        let all: Vec<u32> = epochs.clone().collect();
        (worker, all.chunks(BATCH as usize).map(|epochs| epochs.iter().map(event).collect()).collect())
    };
    attempts.iter().enumerate().map(of_worker).collect()
}

/// Has every worker send its events, and returns when all are acknowledged.
async fn send(store: &Arc<Sqlite>, events: Vec<Batches>) -> Outcome<()> {
    let mut workers = tokio::task::JoinSet::new();
    for (worker, batches) in events {
        let store = Arc::clone(store);
        workers.spawn(async move {
            for batch in batches {
                let known = store.append(worker, batch).await?;
                if known.iter().any(|known| !known) {
                    return Err(format!("an event of worker {worker} was refused").into());
                }
            }
            Outcome::Ok(())
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Whether what is read is what was sent: every point once, with its value to the bit.
async fn is_as_sent(store: &Sqlite, attempts: &[(WorkerId, Attempt)], epochs: u32) -> Outcome<bool> {
    for (index, (worker, attempt)) in attempts.iter().enumerate() {
        let query = SeriesQuery { segments: vec![attempt.segment], names: vec![], uncommitted: true };
        let found = store.series(&query).await?;
        let as_sent = |point: &MetricPoint| {
            value(index, point.epoch.0 - 1, point.split, &point.name, point.step).to_bits() == point.value.to_bits()
        };
        let mut places: Vec<_> =
            found.iter().map(|at| (at.point.split, &at.point.name, at.point.epoch, at.point.step)).collect();
        places.sort();
        places.dedup();
        let expected = u64::from(epochs) * POINTS;
        let complete = found.len() as u64 == expected && places.len() as u64 == expected;
        let last = store.last_sequence(*worker).await?;
        if !complete || last != u64::from(epochs) || !found.iter().all(|at| as_sent(&at.point)) {
            eprintln!("worker {index}: {} points of {expected}, sequence {last} of {epochs}", found.len());
            return Ok(false);
        }
    }
    Ok(true)
}

/// What goes on beside the writing: a reader that reads one worker's scores after the other, and the log's length.
struct Watched {
    stop: Arc<AtomicBool>,
    reader: tokio::task::JoinHandle<Outcome<u64>>,
    log: tokio::task::JoinHandle<u64>,
}

impl Watched {
    fn start(store: &Arc<Sqlite>, attempts: &[(WorkerId, Attempt)], place: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, store, attempts) = (Arc::clone(&stop), Arc::clone(store), attempts.to_vec());
        let reader = tokio::spawn(async move {
            let mut reads = 0;
            for (_, attempt) in attempts.iter().cycle() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let names = vec!["auc".to_owned(), "loss".to_owned()];
                store.series(&SeriesQuery { segments: vec![attempt.segment], names, uncommitted: true }).await?;
                reads += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(reads)
        });
        let (stopped, log) = (Arc::clone(&stop), PathBuf::from(format!("{}-wal", place.display())));
        let log = tokio::spawn(async move {
            let mut longest = 0;
            while !stopped.load(Ordering::Relaxed) {
                longest = longest.max(fs::metadata(&log).map_or(0, |log| log.len()));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            longest
        });
        Self { stop, reader, log }
    }

    async fn stop(self) -> Outcome<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        Ok((self.reader.await??, self.log.await?))
    }
}

/// How often a second a block is written to a file that is long enough, and is on disk.
fn synchronisations(scratch: &Path) -> Outcome<f64> {
    let file = File::create(scratch.join("synchronised"))?;
    file.write_all_at(&[0; 4096], 0)?;
    file.sync_all()?;
    let start = Instant::now();
    for round in 0..SYNCHRONISATIONS {
        file.write_all_at(&[round as u8; 4096], 0)?;
        file.sync_data()?;
    }
    Ok(f64::from(SYNCHRONISATIONS) / start.elapsed().as_secs_f64())
}

fn say(message: &serde_json::Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{message}")?;
    stdout.flush()
}
