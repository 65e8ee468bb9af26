//! Gives segments to a thousand workers over real gRPC and takes their results, for `cargo xtask bench scheduler` (the
//! protocol is described in `xtask/src/bench`).
//!
//! The coordinator is a real one with its database on disk, in this process. The workers train nothing: each says at once what a
//! worker says of a segment of one epoch, and a segment is done when that is acknowledged, which is when it is durable.

use std::{
    error::Error,
    fmt::Write as _,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use ceteris_blob::Blobs;
use ceteris_coordinator::{Config, start};
use ceteris_proto::{
    fleet::{CoordinatorMessage, EpochCommitted, Event, EventKind, Register, StartAttempt, WorkerMessage},
    v1::{self, coordinator_client::CoordinatorClient, fleet_client::FleetClient},
};
use ceteris_shared::{
    checkpoint::Environment,
    dataset::{self, Manifest, Sample, Shard, Split},
    digest::Digest,
    document::{Document as _, Experiments},
    ids::{ExperimentId, SessionId, WorkerId},
    lineage,
    spec::{Format, parse},
    trainer::{Scored, Spent},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use uuid::Uuid;

type Failure = Box<dyn Error + Send + Sync>;

/// Seeds of each arm; a run is one segment.
const SEEDS: usize = 100;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, workers] = &arguments[..] else { return Err("expected FOLDER and WORKERS".into()) };
    let (folder, workers): (PathBuf, u128) = (folder.into(), workers.parse()?);
    let config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        database: folder.join("coordinator.db").into(),
        store: folder.join("store").display().to_string(),
        token: None,
        lease: Config::LEASE,
        heartbeat: Config::HEARTBEAT,
    };
    let shutdown = CancellationToken::new();
    let coordinator = start(config, shutdown.clone()).await?;
    let address = coordinator.address();
    let mut client = CoordinatorClient::connect(format!("http://{address}")).await?;
    import(&mut client).await?;
    let mut finished = fleet(address, workers, &folder.join("store"), &shutdown).await?;
    say(r#"{"ready": true, "program": "ceteris"}"#)?;
    while let Some(line) = tokio::task::spawn_blocking(|| io::stdin().lines().next().transpose()).await?? {
        let Some(Ok(count)) = line.strip_prefix("go ").map(str::parse::<usize>) else {
            return Err(format!("expected `go N`, not {line:?}").into());
        };
        let began = Instant::now();
        let experiment = submit(&mut client, count).await?;
        let submitted = began.elapsed().as_secs_f64();
        for _ in 0..count {
            finished.recv().await.ok_or("the workers ended")?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let trained = trained(&mut client, experiment).await?;
        say(&format!(
            r#"{{"seconds": {seconds}, "images": {count}, "submit_seconds": {submitted}, "trained": {trained}}}"#
        ))?;
    }
    shutdown.cancel();
    Ok(coordinator.wait().await?)
}

/// Connects workers; each done segment of theirs comes out.
async fn fleet(
    address: SocketAddr,
    workers: u128,
    store: &Path,
    shutdown: &CancellationToken,
) -> Result<mpsc::UnboundedReceiver<()>, Failure> {
    let store = Blobs::open(&store.display().to_string()).await?.store_id();
    let (done, finished) = mpsc::unbounded_channel();
    for id in 1..=workers {
        let (done, worker) = (done.clone(), Worker::connect(address, id, &store).await?);
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            if let Err(error) = worker.work(done).await
                && !shutdown.is_cancelled()
            {
                eprintln!("a worker ended: {error}");
            }
        });
    }
    Ok(finished)
}

/// Epochs of an experiment that are in the database.
async fn trained(client: &mut CoordinatorClient<Channel>, experiment: ExperimentId) -> Result<u64, Failure> {
    let listed = client.list_experiments(v1::ListExperimentsRequest {}).await?.into_inner();
    let listed = Experiments::from_json(&listed.json)?;
    let row = listed.experiments.iter().find(|row| row.id == experiment).ok_or("the experiment is not listed")?;
    Ok(row.epochs_done)
}

async fn submit(client: &mut CoordinatorClient<Channel>, segments: usize) -> Result<ExperimentId, Failure> {
    let experiment = ExperimentId(Uuid::new_v4());
    let mut text = format!(
        "name = \"dispatch\"\ndata = {{ dataset = \"dots\" }}\nmodel = {{ init = \"random\" }}\nbudget = {{ epochs = 1 }}\n\
         seeds = {{ count = {} }}\nendpoint = {{ accept_small_splits = true }}\nexecution = {{ share = false }}\n",
        segments.min(SEEDS)
    );
    for arm in 0..segments.div_ceil(SEEDS) {
        let lr = 1e-6 * (arm + 1) as f64;
        write!(text, "[[arm]]\nname = \"arm{arm}\"\nstages = [{{ epochs = 1, train = \"head\", lr = {lr:e} }}]\n")?;
    }
    let spec = serde_json::to_string(&parse(&text, Format::Toml)?)?;
    client.submit(v1::SubmitRequest { experiment: experiment.to_string(), spec, source: text }).await?;
    Ok(experiment)
}

/// Six images of one pixel each.
async fn import(client: &mut CoordinatorClient<Channel>) -> Result<(), Failure> {
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
        client.put_blob(tokio_stream::once(chunk)).await?;
    }
    let manifest = manifest.digest().to_string();
    client.register_dataset(v1::RegisterDatasetRequest { name: "dots".to_owned(), manifest }).await?;
    Ok(())
}

/// A worker on a connection of its own.
struct Worker {
    to: mpsc::Sender<v1::WorkerMessage>,
    inbound: tonic::Streaming<v1::CoordinatorMessage>,
    sequence: u64,
}

impl Worker {
    async fn connect(address: SocketAddr, id: u128, store: &str) -> Result<Self, Failure> {
        let mut client = FleetClient::connect(format!("http://{address}")).await?;
        let (to, outgoing) = mpsc::channel(16);
        let register = Register {
            worker: WorkerId(Uuid::from_u128(id)),
            name: format!("worker-{id}"),
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
            running: Vec::new(),
            slot_memory_bytes: None,
        };
        to.send(WorkerMessage::Register(register).into()).await?;
        let inbound = client.session(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { to, inbound, sequence: 0 })
    }

    /// Says of each segment all there is to say, and that it is done once that is acknowledged.
    async fn work(mut self, done: mpsc::UnboundedSender<()>) -> Result<(), Failure> {
        let mut ends_with = None;
        while let Some(message) = self.inbound.message().await? {
            match message.try_into()? {
                // The next one may come before the last one's end is acknowledged.
                CoordinatorMessage::Start(start) => {
                    let before = ends_with.replace(self.train(*start).await?);
                    if before.is_some() {
                        done.send(())?;
                    }
                }
                CoordinatorMessage::Ack(sequence) if ends_with.is_some_and(|last| sequence >= last) => {
                    ends_with = None;
                    done.send(())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn train(&mut self, start: StartAttempt) -> Result<u64, Failure> {
        let mut said = vec![EventKind::Started];
        for work in &start.work.epochs {
            let manifest = Digest::of(&work.key.0.0);
            said.push(EventKind::EpochCommitted(EpochCommitted {
                epoch: work.epoch,
                key: work.key,
                manifest,
                predictions: vec![(Scored::Split(Split::Val), manifest)],
                spent: Spent { steps: 3, samples: 96, seconds: 0.1 },
                weights: Some(manifest),
            }));
        }
        said.push(EventKind::Finished);
        for kind in said {
            self.sequence += 1;
            let event = Event { sequence: self.sequence, attempt: start.attempt, kind };
            self.to.send(WorkerMessage::Event(event).into()).await?;
        }
        Ok(self.sequence)
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
