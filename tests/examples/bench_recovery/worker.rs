//! A worker that trains nothing but says everything that a worker says. It connects as `ceteris-worker` does: addresses in
//! turn, the same patience, and what is not acknowledged is sent again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use ceteris_proto::{
    fleet::{CoordinatorMessage, EpochCommitted, Event, EventKind, Progress, Register, StartAttempt, WorkerMessage},
    v1::{self, fleet_client::FleetClient},
};
use ceteris_shared::{
    checkpoint::Environment,
    dataset::Split,
    digest::Digest,
    ids::{Attempt, Epoch, SegmentId, SessionId, WorkerId},
    lineage,
    trainer::{MetricPoint, Scored, Spent},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use uuid::Uuid;

/// Those of an agent that is told several addresses (`worker/src/session/addresses.rs`).
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(1);
const WELCOME: Duration = Duration::from_secs(15);
/// The agent's first wait after all addresses were tried, which doubles.
const RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// Events an agent's disk would keep; more are not made while nothing is acknowledged.
const SPOOL: usize = 2000;
/// One event of every attempt each time.
const PACE: Duration = Duration::from_millis(100);

/// What it knows to be stored.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Epochs, with the manifest that was committed.
    pub epochs: BTreeMap<(SegmentId, Epoch), Digest>,
    /// Values, each of them sent once and no two alike.
    pub metrics: BTreeMap<(SegmentId, Epoch, u32), f64>,
}

#[derive(Debug, Default)]
struct Spool {
    last: u64,
    unacknowledged: BTreeMap<u64, (Instant, Event)>,
    acknowledged: Acknowledged,
    /// Nothing more is made.
    closed: bool,
}

/// A running one.
#[derive(Debug)]
pub struct Worker {
    spool: Arc<Mutex<Spool>>,
    /// When the newest event that is acknowledged was made.
    newest: watch::Receiver<Option<Instant>>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Works until it is stopped.
    pub fn start(urls: Vec<String>, store: String) -> Self {
        let spool = Arc::<Mutex<Spool>>::default();
        let (sender, newest) = watch::channel(None);
        let register = register(store);
        let agent = Agent { urls, register, spool: spool.clone(), newest: sender, tasks: BTreeMap::new() };
        Self { spool, newest, task: tokio::spawn(agent.run()) }
    }

    /// Waits until an event that was made after `since` is acknowledged.
    pub async fn acknowledged_after(&mut self, since: Instant, patience: Duration) -> Result<Instant> {
        let newest = self.newest.wait_for(|newest| newest.is_some_and(|made| made > since));
        timeout(patience, newest).await.context("nothing new was acknowledged")?.context("the worker ended")?;
        Ok(Instant::now())
    }

    /// Ends it, once all that it made is acknowledged, or a minute is over; returns what it knows to be stored.
    pub async fn stop(self) -> Acknowledged {
        let spool = || self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        spool().closed = true;
        let deadline = Instant::now() + Duration::from_secs(60);
        while !spool().unacknowledged.is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(1)).await;
        }
        self.task.abort();
        std::mem::take(&mut spool().acknowledged)
    }
}

/// What a worker with one slot says first.
pub fn register(store: String) -> Register {
    Register {
        worker: WorkerId(Uuid::new_v4()),
        name: "made-up".to_owned(),
        session: SessionId(Uuid::new_v4()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        slots: 1,
        environment: Environment {
            engine: lineage::ENGINE.to_owned(),
            libtorch: "none".to_owned(),
            device: "cpu".to_owned(),
            instructions: "none".to_owned(),
            threads: 1,
            determinism: "default".to_owned(),
        },
        store,
        running: vec![],
        slot_memory_bytes: None,
    }
}

/// A stream of a worker that is welcome.
pub type Stream = (mpsc::Sender<v1::WorkerMessage>, Streaming<v1::CoordinatorMessage>);

/// Registers.
pub async fn open(url: &str, register: &Register) -> Result<Stream> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(KEEP_ALIVE)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let (to, outgoing) = mpsc::channel(SPOOL);
    to.send(WorkerMessage::Register(register.clone()).into()).await?;
    let opening = async {
        let channel = endpoint.connect().await?;
        let mut health = HealthClient::new(channel.clone());
        timeout(ANSWER, health.check(HealthCheckRequest::default())).await.context("no sign of life")??;
        let mut client = FleetClient::new(channel);
        let mut inbound = client.session(ReceiverStream::new(outgoing)).await?.into_inner();
        match next(&mut inbound).await? {
            CoordinatorMessage::Welcome { .. } => Ok((to, inbound)),
            other => bail!("instead of a welcome: {other:?}"),
        }
    };
    timeout(WELCOME, opening).await.context("no answer")?
}

/// What the coordinator says next.
pub async fn next(inbound: &mut Streaming<v1::CoordinatorMessage>) -> Result<CoordinatorMessage> {
    Ok(inbound.message().await?.context("the coordinator closed the stream")?.try_into()?)
}

/// An epoch's commit, which names no object that there is.
pub fn committed(attempt: Attempt, epoch: Epoch, key: lineage::LineageKey) -> EpochCommitted {
    let manifest = Digest::of(format!("{attempt} {epoch}").as_bytes());
    EpochCommitted {
        epoch,
        key,
        manifest,
        predictions: vec![(Scored::Split(Split::Val), manifest)],
        spent: Spent { steps: 3, samples: 2, seconds: 0.1 },
        weights: None,
    }
}

/// An attempt that it executes.
struct Task {
    start: StartAttempt,
    started: bool,
    measured: bool,
    done: usize,
}

struct Agent {
    urls: Vec<String>,
    register: Register,
    spool: Arc<Mutex<Spool>>,
    newest: watch::Sender<Option<Instant>>,
    tasks: BTreeMap<Attempt, Task>,
}

impl Agent {
    async fn run(mut self) {
        let mut wait = RETRY;
        loop {
            for url in self.urls.clone() {
                self.register.session = SessionId(Uuid::new_v4());
                self.register.running = self.tasks.keys().copied().collect();
                if let Ok(stream) = open(&url, &self.register).await {
                    wait = RETRY;
                    // Whatever ended it, the next one tells.
                    let _ = self.session(stream).await;
                }
            }
            sleep(wait).await;
            wait = (2 * wait).min(LONGEST_RETRY);
        }
    }

    async fn session(&mut self, (to, mut inbound): Stream) -> Result<()> {
        let again: Vec<Event> = self.spool().unacknowledged.values().map(|(_, event)| event.clone()).collect();
        for event in again {
            to.send(WorkerMessage::Event(event).into()).await?;
        }
        let (mut heartbeat, mut pace) = (interval(Duration::from_millis(200)), interval(PACE));
        loop {
            tokio::select! {
                message = next(&mut inbound) => self.take(message?),
                _ = heartbeat.tick() => {
                    let progress = |(&attempt, task): (_, &Task)| {
                        let epoch = task.start.work.epochs.get(task.done).map_or_else(Default::default, |work| work.epoch);
                        Progress { attempt, epoch, step: 1, steps: 3, loss: Some(0.5) }
                    };
                    to.send(WorkerMessage::Heartbeat(self.tasks.iter().map(progress).collect()).into()).await?;
                }
                _ = pace.tick() => for event in self.work() {
                    // Full where the peer takes nothing: then pings end the stream.
                    if to.try_send(WorkerMessage::Event(event).into()).is_err() {
                        bail!("the coordinator takes nothing");
                    }
                },
            }
        }
    }

    fn spool(&self) -> std::sync::MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&mut self, message: CoordinatorMessage) {
        match message {
            CoordinatorMessage::Start(start) => {
                let task = Task { start: *start, started: false, measured: false, done: 0 };
                self.tasks.insert(task.start.attempt, task);
            }
            CoordinatorMessage::Stop { attempt, .. } | CoordinatorMessage::Revoke { attempt, .. } => {
                self.tasks.remove(&attempt);
            }
            CoordinatorMessage::Ack(sequence) => self.acknowledge(sequence),
            CoordinatorMessage::Welcome { .. } | CoordinatorMessage::Drain { .. } => {}
        }
    }

    fn acknowledge(&self, sequence: u64) {
        let mut spool = self.spool();
        let later = spool.unacknowledged.split_off(&(sequence + 1));
        let covered = std::mem::replace(&mut spool.unacknowledged, later);
        for (made, event) in covered.into_values() {
            let segment = event.attempt.segment;
            match event.kind {
                EventKind::EpochCommitted(epoch) => {
                    spool.acknowledged.epochs.insert((segment, epoch.epoch), epoch.manifest);
                }
                EventKind::Metrics(points) => spool
                    .acknowledged
                    .metrics
                    .extend(points.iter().map(|point| ((segment, point.epoch, point.step), point.value))),
                _ => {}
            }
            self.newest.send_replace(Some(made));
        }
    }

    /// The next step of each attempt: begin, measure, commit, …, finish.
    fn work(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let attempts: Vec<Attempt> = self.tasks.keys().copied().collect();
        for attempt in attempts {
            let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(task) = self.tasks.get_mut(&attempt) else { continue };
            if spool.closed || spool.unacknowledged.len() >= SPOOL {
                break;
            }
            spool.last += 1;
            let sequence = spool.last;
            let kind = task.step(sequence);
            let event = Event { sequence, attempt, kind };
            spool.unacknowledged.insert(sequence, (Instant::now(), event.clone()));
            drop(spool);
            if matches!(event.kind, EventKind::Finished) {
                self.tasks.remove(&attempt);
            }
            events.push(event);
        }
        events
    }
}

impl Task {
    fn step(&mut self, sequence: u64) -> EventKind {
        if !std::mem::replace(&mut self.started, true) {
            return EventKind::Started;
        }
        let Some(work) = self.start.work.epochs.get(self.done) else { return EventKind::Finished };
        if !std::mem::replace(&mut self.measured, true) {
            let point = |step| MetricPoint {
                epoch: work.epoch,
                step,
                split: Split::Val,
                name: "loss".to_owned(),
                // No other event has it: what is stored twice or of another attempt would show.
                value: sequence as f64 + f64::from(step) / 16.0,
            };
            return EventKind::Metrics(vec![point(1), point(2), point(3)]);
        }
        (self.measured, self.done) = (false, self.done + 1);
        EventKind::EpochCommitted(committed(self.start.attempt, work.epoch, work.key))
    }
}
