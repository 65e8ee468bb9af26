//! A coordinator in this process, and a worker that trains nothing but says everything a worker says.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use ceteris_blob::Blobs;
use ceteris_coordinator::{Config, Token, serve::Error, start};
use ceteris_proto::{
    fleet::{
        CoordinatorMessage, EpochCommitted, Event, EventKind, Progress, Register, Start, StartAttempt, WorkerMessage,
    },
    v1::{self, coordinator_client::CoordinatorClient, fleet_client::FleetClient},
};
use ceteris_shared::{
    checkpoint::Environment,
    dataset::{self, Manifest, Sample, Shard, Split},
    digest::Digest,
    ids::{Attempt, ExperimentId, SessionId, WorkerId},
    lineage,
    spec::{Format, parse},
    trainer::{MetricPoint, Scored, Spent},
};
use tokio::{sync::mpsc, task::JoinHandle, time::interval};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, transport::Channel};
use uuid::Uuid;

pub const LEASE: Duration = Duration::from_secs(2);
pub const HEARTBEAT: Duration = Duration::from_millis(200);

const SPEC: &str = r#"
name = "example"
data = { dataset = "dots" }
model = { init = "random" }
budget = { epochs = 4 }
seeds = { count = 1 }
endpoint = { accept_small_splits = true }
[[arm]]
name = "frozen"
stages = [{ epochs = 4, train = "head" }]
[[arm]]
name = "finetuned"
stages = [{ epochs = 2, train = "head" }, { epochs = 2, train = "denseblock4" }]
"#;

pub fn config(folder: &Path, listen: SocketAddr) -> Config {
    Config {
        listen,
        database: folder.join("coordinator.db"),
        store: folder.join("store").display().to_string(),
        token: None,
        lease: LEASE,
        heartbeat: HEARTBEAT,
    }
}

pub fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub struct Coordinator {
    pub address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Coordinator {
    pub async fn start(config: Config) -> Self {
        let shutdown = CancellationToken::new();
        let running = start(config, shutdown.clone()).await.expect("it starts");
        Self { address: running.address(), shutdown, task: tokio::spawn(running.wait()) }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("it does not panic").expect("it ends well");
    }

    pub async fn client(&self) -> CoordinatorClient<Channel> {
        CoordinatorClient::connect(format!("http://{}", self.address)).await.expect("it answers")
    }
}

pub fn token() -> Token {
    Token::new("correct-horse".to_owned()).expect("it is long enough")
}

/// Imports six images of one pixel each.
pub async fn import(client: &mut CoordinatorClient<Channel>) {
    let pixels = [0, 50, 100, 150, 200, 250];
    let sample = |index: usize, &pixel: &u8| Sample {
        file: format!("{index}.png"),
        split: Split::ALL[index / 2],
        class: (index % 2) as u32,
        patient: None,
        source: Digest::of(&[pixel, 0]),
        pixels: Digest::of(&[pixel]),
    };
    let manifest = Manifest {
        schema: dataset::SCHEMA.to_owned(),
        transform: dataset::TRANSFORM.to_owned(),
        image_size: 1,
        classes: vec!["NORMAL".to_owned(), "PNEUMONIA".to_owned()],
        samples: pixels.iter().enumerate().map(|(index, pixel)| sample(index, pixel)).collect(),
        shards: vec![Shard { digest: Digest::of(&pixels), samples: 6 }],
    };
    for bytes in [pixels.to_vec(), manifest.to_bytes()] {
        let digest = Digest::of(&bytes).to_string();
        let chunk = v1::BlobChunk { digest, bytes: bytes.len() as u64, data: bytes };
        client.put_blob(tokio_stream::once(chunk)).await.expect("it is stored");
    }
    let manifest = manifest.digest().to_string();
    let request = v1::RegisterDatasetRequest { name: "dots".to_owned(), manifest };
    client.register_dataset(request).await.expect("it is named");
}

pub async fn submit(client: &mut CoordinatorClient<Channel>) -> ExperimentId {
    let experiment = ExperimentId(Uuid::new_v4());
    let spec = parse(SPEC, Format::Toml).expect("the example is valid");
    let request = v1::SubmitRequest {
        experiment: experiment.to_string(),
        spec: serde_json::to_string(&spec).expect("it is plain data"),
        source: SPEC.to_owned(),
    };
    for _ in 0..2 {
        client.submit(request.clone()).await.expect("submitting twice is submitting once");
    }
    experiment
}

/// What an agent keeps on disk: it survives [`Worker::kill`].
#[derive(Clone, Debug, Default)]
struct Spool {
    last: u64,
    unacknowledged: BTreeMap<u64, Event>,
}

/// What an agent keeps in memory.
#[derive(Clone, Debug)]
struct Task {
    start: StartAttempt,
    started: bool,
    measured: bool,
    done: usize,
    stop: bool,
}

pub struct Worker {
    pub id: WorkerId,
    spool: Arc<Mutex<Spool>>,
    /// Everything that it was asked to start.
    pub started: Arc<Mutex<Vec<StartAttempt>>>,
    pub pace: Duration,
    task: Option<JoinHandle<()>>,
}

impl Worker {
    pub fn new(id: u128, pace: Duration) -> Self {
        let id = WorkerId(Uuid::from_u128(id));
        Self { id, spool: Arc::default(), started: Arc::default(), pace, task: None }
    }

    /// Works until it is killed, and connects again whenever the stream breaks.
    pub async fn run(&mut self, address: SocketAddr, store: &Path) {
        let store = Blobs::open(&store.display().to_string()).await.expect("it opens").store_id();
        let (id, pace, spool, started) = (self.id, self.pace, self.spool.clone(), self.started.clone());
        self.task = Some(tokio::spawn(async move {
            let mut agent =
                Agent { register: register(id, &store), pace, spool, started, tasks: BTreeMap::new(), drained: false };
            loop {
                // Whatever ended the stream, the next one tells.
                let _ = agent.session(address).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }));
    }

    pub async fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

pub fn register(worker: WorkerId, store: &str) -> Register {
    Register {
        worker,
        name: format!("worker-{}", worker.short()),
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
        store: store.to_owned(),
        running: vec![],
        slot_memory_bytes: None,
    }
}

pub type Stream = (mpsc::Sender<v1::WorkerMessage>, Streaming<v1::CoordinatorMessage>);

/// Opens a stream with these first messages.
pub async fn open(address: SocketAddr, first: Vec<v1::WorkerMessage>) -> Result<Stream, Status> {
    let mut client = FleetClient::connect(format!("http://{address}"))
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let (to, outgoing) = mpsc::channel(1000);
    for message in first {
        to.try_send(message).expect("there is room");
    }
    let inbound = client.session(ReceiverStream::new(outgoing)).await?.into_inner();
    Ok((to, inbound))
}

struct Agent {
    register: Register,
    pace: Duration,
    spool: Arc<Mutex<Spool>>,
    started: Arc<Mutex<Vec<StartAttempt>>>,
    tasks: BTreeMap<Attempt, Task>,
    drained: bool,
}

impl Agent {
    async fn session(&mut self, address: SocketAddr) -> Result<(), Status> {
        self.register.session = SessionId(Uuid::new_v4());
        self.register.running = self.tasks.keys().copied().collect();
        let (to, mut inbound) = open(address, vec![WorkerMessage::Register(self.register.clone()).into()]).await?;
        let again: Vec<Event> = self.spool.lock().expect("no panic").unacknowledged.values().cloned().collect();
        for event in again {
            send(&to, WorkerMessage::Event(event)).await?;
        }
        let (mut heartbeat, mut pace) = (interval(HEARTBEAT), interval(self.pace));
        loop {
            tokio::select! {
                message = inbound.message() => match message? {
                    Some(message) => self.take(message.try_into().expect("the coordinator makes sense")),
                    None => return Ok(()),
                },
                _ = heartbeat.tick() => {
                    let progress = |(&attempt, task): (_, &Task)| {
                        let epoch = task.start.work.epochs.get(task.done).map_or_else(Default::default, |work| work.epoch);
                        Progress { attempt, epoch, step: 1, steps: 3, loss: Some(0.5) }
                    };
                    send(&to, WorkerMessage::Heartbeat(self.tasks.iter().map(progress).collect())).await?;
                }
                _ = pace.tick() => for event in self.work() {
                    // A network that repeats itself.
                    send(&to, WorkerMessage::Event(event.clone())).await?;
                    send(&to, WorkerMessage::Event(event)).await?;
                },
            }
        }
    }

    fn take(&mut self, message: CoordinatorMessage) {
        match message {
            CoordinatorMessage::Welcome { lease, heartbeat } => assert_eq!((lease, heartbeat), (LEASE, HEARTBEAT)),
            CoordinatorMessage::Start(start) => {
                self.started.lock().expect("no panic").push((*start).clone());
                let task = Task { start: *start, started: false, measured: false, done: 0, stop: false };
                self.tasks.insert(task.start.attempt, task);
            }
            CoordinatorMessage::Stop { attempt, .. } => {
                self.tasks.entry(attempt).and_modify(|task| task.stop = true);
            }
            CoordinatorMessage::Revoke { attempt, .. } => {
                self.tasks.remove(&attempt);
            }
            CoordinatorMessage::Drain { slots } => self.drained = !slots.is_empty(),
            CoordinatorMessage::Ack(sequence) => {
                self.spool
                    .lock()
                    .expect("no panic")
                    .unacknowledged
                    .retain(|&unacknowledged, _| unacknowledged > sequence);
            }
        }
    }

    /// The next step of each attempt: begin, measure, commit, …, finish.
    fn work(&mut self) -> Vec<Event> {
        let mut said = Vec::new();
        for (&attempt, task) in &mut self.tasks {
            let next = task.start.work.epochs.get(task.done).cloned();
            said.push((
                attempt,
                match next {
                    _ if task.stop => EventKind::Stopped,
                    Some(_) if self.drained && task.started && !task.measured => EventKind::HandedBack,
                    _ if !task.started => {
                        task.started = true;
                        EventKind::Started
                    }
                    None => EventKind::Finished,
                    Some(work) if !task.measured => {
                        task.measured = true;
                        let split = Split::Val;
                        let point = |name: &str, value| MetricPoint {
                            epoch: work.epoch,
                            step: 3,
                            split,
                            name: name.to_owned(),
                            value,
                        };
                        EventKind::Metrics(vec![point("auc", 0.9), point("loss", f64::from(attempt.number))])
                    }
                    Some(work) => {
                        (task.measured, task.done) = (false, task.done + 1);
                        let manifest = Digest::of(format!("{attempt} {}", work.epoch).as_bytes());
                        let predictions = vec![(Scored::Split(Split::Val), manifest)];
                        let spent = Spent { steps: 3, samples: 2, seconds: 0.1 };
                        EventKind::EpochCommitted(EpochCommitted {
                            epoch: work.epoch,
                            key: work.key,
                            manifest,
                            predictions,
                            spent,
                            weights: None,
                        })
                    }
                },
            ));
        }
        let mut spool = self.spool.lock().expect("no panic");
        let mut events = Vec::new();
        for (attempt, kind) in said {
            if matches!(kind, EventKind::Finished | EventKind::Stopped | EventKind::HandedBack) {
                self.tasks.remove(&attempt);
            }
            spool.last += 1;
            let event = Event { sequence: spool.last, attempt, kind };
            spool.unacknowledged.insert(event.sequence, event.clone());
            events.push(event);
        }
        events
    }
}

async fn send(to: &mpsc::Sender<v1::WorkerMessage>, message: WorkerMessage) -> Result<(), Status> {
    to.send(message.into()).await.map_err(|_| Status::unavailable("the stream is gone"))
}

/// Where an attempt begins.
pub fn is_resumed(start: &StartAttempt) -> bool {
    matches!(start.start, Start::Checkpoint(_))
}

/// Asks until the answer is yes.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "after a minute, still not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
