//! A coordinator on a free port, a client, a small data set, and a worker that speaks the real protocol and makes its
//! predictions up.

use std::{collections::BTreeMap, net::SocketAddr};

use ceteris_blob::Blobs;
use ceteris_proto::{
    fleet::{CoordinatorMessage, EpochCommitted, Event, EventKind, Progress, Register, StartAttempt, WorkerMessage},
    v1::{self, coordinator_client::CoordinatorClient, fleet_client::FleetClient},
};
use ceteris_shared::{
    checkpoint::{self, Environment, Part, Role},
    dataset::{self, Manifest, Sample, Shard, Split},
    digest::Digest,
    document::Document,
    ids::{Attempt, SessionId, WorkerId},
    plan::{EpochWork, Work},
    predictions::Predictions,
    spec::{Format, Trainable, parse},
    trainer::{FailureCause, MetricPoint, Scored, Spent},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{Config, Running, start};

pub(super) type Client = CoordinatorClient<Channel>;

/// A coordinator that lives as long as this does.
pub(super) struct Coordinator {
    pub(super) client: Client,
    pub(super) blobs: Blobs,
    address: SocketAddr,
    shutdown: CancellationToken,
    running: Option<Running>,
    _folder: tempfile::TempDir,
}

impl Coordinator {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("store").display().to_string();
        let config = Config {
            listen: "127.0.0.1:0".parse().expect("an address"),
            database: folder.path().join("ceteris.db"),
            store: store.clone(),
            token: None,
            lease: Config::LEASE,
            heartbeat: Config::HEARTBEAT,
        };
        let shutdown = CancellationToken::new();
        let running = start(config, shutdown.clone()).await.expect("a coordinator");
        let address = running.address();
        let channel = channel(address).await;
        let limit = ceteris_proto::MAX_MESSAGE_BYTES;
        let client = Client::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit);
        let blobs = Blobs::open(&store).await.expect("the same store");
        Self { client, blobs, address, shutdown, running: Some(running), _folder: folder }
    }

    pub(super) async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            running.wait().await.expect("an orderly end");
        }
    }

    /// Stores and names the example data set.
    pub(super) async fn import(&mut self, name: &str) -> Digest {
        let (manifest, shard) = dataset();
        let stored = self.blobs.put_bytes(&shard).await.expect("stored");
        assert_eq!(stored, manifest.shards[0].digest);
        let digest = self.blobs.put_bytes(&manifest.to_bytes()).await.expect("stored");
        let request = v1::RegisterDatasetRequest { name: name.to_owned(), manifest: digest.to_string() };
        self.client.register_dataset(request).await.expect("registered");
        digest
    }

    pub(super) async fn worker(&self, behaviour: Behaviour) -> Worker {
        Worker::connect(self, behaviour).await
    }

    pub(super) async fn submit(&mut self, spec: &str) -> ceteris_shared::document::Experiment {
        let request = submission(spec);
        read(self.client.submit(request).await.expect("submitted").into_inner())
    }
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("a URL");
    endpoint.connect().await.expect("it listens")
}

pub(super) fn read<T: Document>(document: v1::Document) -> T {
    T::from_json(&document.json).expect("the schema that was asked for")
}

pub(super) fn submission(spec: &str) -> v1::SubmitRequest {
    let parsed = parse(spec, Format::Toml).expect("a valid spec");
    v1::SubmitRequest {
        experiment: uuid::Uuid::new_v4().to_string(),
        spec: serde_json::to_string(&parsed).expect("plain data"),
        source: spec.to_owned(),
    }
}

/// Two arms, two epochs, the first of them shared; two seeds.
pub(super) fn spec(name: &str) -> String {
    format!(
        r#"
        name = "{name}"
        data.dataset = "chest"
        model.init = "random"
        budget.epochs = 2
        seeds.count = 2
        endpoint = {{ metric = "test.auc", threshold = "youden", accept_small_splits = true }}
        [[arm]]
        name = "frozen"
        stages = [{{ epochs = 2, train = "head" }}]
        [[arm]]
        name = "finetuned"
        stages = [{{ epochs = 1, train = "head" }}, {{ epochs = 1, train = "denseblock4", lr = 1e-4 }}]
        "#
    )
}

/// Eight images of 32 × 32 in each split, half of them of each class; and their shard.
pub(super) fn dataset() -> (Manifest, Vec<u8>) {
    let sample = |index: u32| Sample {
        file: format!("{index:02}.png"),
        split: Split::ALL[(index / 8) as usize],
        class: index % 8 / 4,
        patient: Some(format!("p{}", index / 2)),
        source: Digest([0; 32]),
        pixels: Digest([0; 32]),
    };
    let samples: Vec<Sample> = (0..24).map(sample).collect();
    let shard = vec![7; samples.len() * 32 * 32];
    let manifest = Manifest {
        schema: dataset::SCHEMA.to_owned(),
        transform: dataset::TRANSFORM.to_owned(),
        image_size: 32,
        classes: ["NORMAL", "PNEUMONIA"].map(str::to_owned).to_vec(),
        shards: vec![Shard { digest: Digest::of(&shard), samples: 24 }],
        samples,
    };
    (manifest, shard)
}

/// What the worker makes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Every epoch goes well; frozen arms rank 2 of 4 right, others all.
    Good,
    /// As good, but the loss of whatever trains more than the head is not finite.
    DivergesAboveTheHead,
    /// As good, but no two attempts end their second epoch with the same weights.
    Irreproducible,
    /// As good, but what is frozen is another thing in each checkpoint.
    MovesWhatIsFrozen,
    /// It begins and tells its progress, and commits nothing.
    NeverEnds,
}

/// A worker with two slots.
pub(super) struct Worker {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Session {
    blobs: Blobs,
    behaviour: Behaviour,
    outbox: mpsc::Sender<v1::WorkerMessage>,
    sequence: u64,
    /// What every heartbeat lists.
    running: Vec<Progress>,
}

fn environment() -> Environment {
    let [engine, libtorch, device, instructions, determinism] =
        ["2", "2.9.1", "cpu", "AVX512", "default"].map(str::to_owned);
    Environment { engine, libtorch, device, instructions, threads: 2, determinism }
}

impl Worker {
    async fn connect(coordinator: &Coordinator, behaviour: Behaviour) -> Self {
        let (outbox, receiver) = mpsc::channel(16);
        let register = Register {
            worker: WorkerId(uuid::Uuid::new_v4()),
            name: "gpu-03".to_owned(),
            session: SessionId(uuid::Uuid::new_v4()),
            version: "0.1.0".to_owned(),
            slots: 2,
            environment: environment(),
            store: coordinator.blobs.store_id(),
            running: Vec::new(),
            slot_memory_bytes: None,
        };
        outbox.send(WorkerMessage::Register(register).into()).await.expect("open");
        let mut client = FleetClient::new(channel(coordinator.address).await);
        let mut inbound = client.session(ReceiverStream::new(receiver)).await.expect("accepted").into_inner();
        let mut session =
            Session { blobs: coordinator.blobs.clone(), behaviour, outbox, sequence: 0, running: Vec::new() };
        let task = tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                if let Ok(CoordinatorMessage::Start(start)) = CoordinatorMessage::try_from(message) {
                    session.train(*start).await;
                }
            }
        });
        Self { task }
    }
}

impl Session {
    async fn tell(&mut self, attempt: Attempt, kind: EventKind) {
        self.sequence += 1;
        let event = Event { sequence: self.sequence, attempt, kind };
        // Fails when the coordinator is gone, and then nobody wants to know.
        let _ = self.outbox.send(WorkerMessage::Event(event).into()).await;
    }

    async fn train(&mut self, start: StartAttempt) {
        let StartAttempt { attempt, work, .. } = start;
        self.tell(attempt, EventKind::Started).await;
        self.tell(attempt, EventKind::Log(vec![format!("seed {}", work.seed)])).await;
        let epoch = work.epochs[0].epoch;
        let progress = Progress { attempt, epoch, step: 1, steps: 4, loss: Some(0.7) };
        self.running.push(progress);
        let _ = self.outbox.send(WorkerMessage::Heartbeat(self.running.clone()).into()).await;
        if self.behaviour == Behaviour::NeverEnds {
            return;
        }
        self.running.retain(|progress| progress.attempt != attempt);
        for (index, epoch) in work.epochs.iter().enumerate() {
            let above = epoch.train != Trainable::Head;
            if self.behaviour == Behaviour::DivergesAboveTheHead && above {
                let message = "the loss of step 2 is not finite".to_owned();
                return self.tell(attempt, EventKind::Failed { cause: FailureCause::Diverged, message }).await;
            }
            let point = |split, name: &str, value| MetricPoint {
                epoch: epoch.epoch,
                step: 4,
                split,
                name: name.to_owned(),
                value,
            };
            let points =
                vec![point(Split::Train, "loss", 0.5), point(Split::Val, "auc", if above { 1.0 } else { 0.5 })];
            self.tell(attempt, EventKind::Metrics(points)).await;
            let committed = self.commit(attempt, &work, epoch, index + 1 == work.epochs.len()).await;
            self.tell(attempt, EventKind::EpochCommitted(committed)).await;
        }
        self.tell(attempt, EventKind::Finished).await;
    }

    async fn commit(&self, attempt: Attempt, work: &Work, epoch: &EpochWork, last: bool) -> EpochCommitted {
        let mut parts = Vec::new();
        for role in [Role::Frozen, Role::Trained, Role::Optimizer] {
            let mut bytes = match role {
                // The same in all epochs that train the same part.
                Role::Frozen if self.behaviour != Behaviour::MovesWhatIsFrozen => format!("below {:?}", epoch.train),
                _ => format!("{role:?} of {}", epoch.key),
            }
            .into_bytes();
            if self.behaviour == Behaviour::Irreproducible && role == Role::Trained && epoch.epoch.0 == 2 {
                bytes.extend(attempt.to_string().into_bytes());
            }
            let digest = self.blobs.put_bytes(&bytes).await.expect("stored");
            parts.push(Part { role, digest, bytes: bytes.len() as u64 });
        }
        let manifest = checkpoint::Manifest {
            schema: checkpoint::SCHEMA.to_owned(),
            key: epoch.key,
            epoch: epoch.epoch,
            step: None,
            attempt,
            arch: work.arch,
            classes: dataset().0.classes,
            environment: environment(),
            parts,
        };
        let weights = Some(manifest.weights());
        let manifest = self.blobs.put_bytes(&manifest.to_bytes()).await.expect("stored");
        let splits: &[Split] = if last && work.endpoint { &[Split::Val, Split::Test] } else { &[Split::Val] };
        let mut predictions = Vec::new();
        for &split in splits {
            let bytes = predict(split, epoch.train).to_bytes();
            predictions.push((Scored::Split(split), self.blobs.put_bytes(&bytes).await.expect("stored")));
        }
        let spent = Spent { steps: 4, samples: 8, seconds: 0.5 };
        EpochCommitted { epoch: epoch.epoch, key: epoch.key, manifest, predictions, spent, weights }
    }
}

/// Frozen: two of the four samples of each class on the right side. Else: all.
fn predict(split: Split, train: Trainable) -> Predictions {
    let (manifest, _) = dataset();
    let samples: Vec<u32> = manifest.split(split).collect();
    let right = if train == Trainable::Head { 2 } else { 4 };
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    let positive = |index: &u32| {
        let class = manifest.samples[*index as usize].class;
        let rank = seen.entry(class).or_default();
        *rank += 1;
        if (*rank <= right) == (class == 1) { 0.75 } else { 0.25 }
    };
    let probabilities = samples.iter().map(positive).flat_map(|p: f32| [1.0 - p, p]).collect();
    Predictions { samples, probabilities, classes: 2 }
}
