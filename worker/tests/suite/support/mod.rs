//! A fake coordinator over real gRPC, a fake trainer in a real process, and a store in a folder.

pub mod coordinator;
pub mod trainer;

use std::{path::PathBuf, time::Duration};

use ceteris_blob::Blobs;
use ceteris_proto::fleet::{Event, EventKind, Start, StartAttempt};
use ceteris_shared::{
    dataset::{Manifest, Sample, Shard, Split},
    digest::Digest,
    ids::{Attempt, Epoch, SegmentId},
    lineage::LineageKey,
    plan::{EpochSettings, EpochWork, Work},
    spec::{Arch, Augment, Memory, Optimization, Precision, Rates, Trainable},
};
use ceteris_worker::config::{Config, Limits, LogFormat, OnTerminate, SlotConfig};
use tokio::{sync::watch, task::JoinHandle};
use uuid::Uuid;

use coordinator::Coordinator;
use trainer::FakeTrainer;

/// Everything that one test needs.
pub struct World {
    pub folder: tempfile::TempDir,
    pub blobs: Blobs,
    pub coordinator: Coordinator,
    pub trainer: FakeTrainer,
    pub dataset: Digest,
    pub shard: Digest,
}

/// An agent in this process.
pub struct Agent {
    pub ask: watch::Sender<u32>,
    pub task: JoinHandle<Result<(), ceteris_worker::Error>>,
}

impl Agent {
    /// Ends it in good order.
    pub async fn stop(self) -> Result<(), ceteris_worker::Error> {
        self.ask.send_modify(|times| *times += 1);
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("it ends soon").expect("no panic")
    }
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let blobs = Blobs::open(&folder.path().join("store").to_string_lossy()).await.expect("the store opens");
        let pixels: Vec<u8> = (0..16).collect();
        let shard = blobs.put_bytes(&pixels).await.expect("it is stored");
        let sample = |index: u32, split| Sample {
            file: format!("{index}.png"),
            split,
            class: index % 2,
            patient: None,
            source: Digest::of(&[index as u8]),
            pixels: Digest::of(&pixels[index as usize * 4..][..4]),
        };
        let manifest = Manifest {
            schema: ceteris_shared::dataset::SCHEMA.to_owned(),
            transform: ceteris_shared::dataset::TRANSFORM.to_owned(),
            image_size: 2,
            classes: vec!["NORMAL".to_owned(), "PNEUMONIA".to_owned()],
            samples: vec![
                sample(0, Split::Train),
                sample(1, Split::Train),
                sample(2, Split::Val),
                sample(3, Split::Val),
            ],
            shards: vec![Shard { digest: shard, samples: 4 }],
        };
        let dataset = blobs.put_bytes(&manifest.to_bytes()).await.expect("it is stored");
        let trainer = FakeTrainer::new(folder.path());
        Self { blobs, coordinator: Coordinator::start().await, trainer, dataset, shard, folder }
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn config(&self) -> Config {
        Config {
            coordinator: self.coordinator.url(),
            store: self.blobs.place().to_owned(),
            state: self.state(),
            name: "test".to_owned(),
            slots: vec![SlotConfig { device: "cpu".to_owned(), threads: 1 }],
            trainer: self.trainer.program(),
            features_bytes: 1 << 20,
            cache_bytes: 1 << 30,
            idle_timeout: None,
            time_limit: None,
            on_terminate: OnTerminate::Checkpoint,
            terminate_grace: Duration::from_secs(60),
            token: None,
            log_format: LogFormat::Text,
            limits: Limits {
                stop_grace: Duration::from_millis(500),
                upload_grace: Duration::from_secs(3),
                store_patience: Duration::from_millis(300),
                reconnect: Duration::from_millis(300),
                restart: Duration::from_millis(50),
                room_patience: Duration::from_millis(700),
                free_bytes: 0,
                ..Limits::default()
            },
        }
    }

    pub fn agent(&self) -> Agent {
        self.agent_with(self.config())
    }

    pub fn agent_with(&self, config: Config) -> Agent {
        let (ask, asked) = watch::channel(0);
        let task = tokio::spawn(ceteris_worker::run(config, asked));
        Agent { ask, task }
    }

    pub fn start(&self, number: u32, epochs: std::ops::RangeInclusive<u32>) -> StartAttempt {
        let epoch = |epoch| {
            EpochWork::new(
                key(epoch),
                EpochSettings {
                    epoch: Epoch(epoch),
                    train: Trainable::Head,
                    optimizer_starts: epoch == 1,
                    lr: 1e-3,
                    rates: Rates::Constant,
                    augment: Augment::NONE,
                },
            )
        };
        let work = Work {
            arch: Arch::Densenet121,
            seed: 0,
            batch_size: 2,
            optimization: Optimization::default(),
            precision: Precision::Fp32,
            memory: Memory::Normal,
            checkpoint_every_steps: None,
            epochs: epochs.map(epoch).collect(),
            endpoint: false,
        };
        StartAttempt {
            attempt: attempt(number),
            work,
            dataset: self.dataset,
            external: Vec::new(),
            start: Start::Random,
        }
    }

    /// Waits until an attempt trains that epoch.
    pub async fn holds(&self, number: u32, epoch: u32) {
        let there = |progress: &ceteris_proto::fleet::Progress| {
            progress.attempt == attempt(number) && progress.epoch == Epoch(epoch)
        };
        self.coordinator.heartbeat(|running| running.iter().any(there)).await;
    }

    /// Empties the agent's cache.
    pub fn forget(&self) {
        for file in std::fs::read_dir(self.state().join("cache")).expect("it lists") {
            std::fs::remove_file(file.expect("it is listed").path()).expect("it is removed");
        }
    }

    /// Where an object lies in the store's folder.
    pub fn object(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.path().join("store/blobs/sha256").join(&name[..2]).join(&name)
    }
}

pub fn attempt(number: u32) -> Attempt {
    Attempt { segment: SegmentId(Uuid::from_u128(7)), number }
}

pub fn key(epoch: u32) -> LineageKey {
    LineageKey(Digest::of(format!("epoch {epoch}").as_bytes()))
}

/// What an event is, in a word; log lines come when they come and are left out.
pub fn story(events: &[Event]) -> Vec<String> {
    let word = |event: &Event| match &event.kind {
        EventKind::Started => Some("started".to_owned()),
        EventKind::Metrics(points) => Some(format!("{} points of {}", points.len(), points[0].epoch)),
        EventKind::StepCommitted(committed) => Some(format!("step {} of {}", committed.step, committed.epoch)),
        EventKind::EpochCommitted(committed) => Some(format!("committed {}", committed.epoch)),
        EventKind::Finished => Some("finished".to_owned()),
        EventKind::HandedBack => Some("handed back".to_owned()),
        EventKind::Stopped => Some("stopped".to_owned()),
        EventKind::Failed { cause, .. } => Some(format!("failed {cause:?}")),
        EventKind::Damaged { checkpoint, .. } => Some(format!("damaged {}", checkpoint.short())),
        EventKind::Log(_) => None,
    };
    events.iter().filter_map(word).collect()
}

/// The message of the failure that ended an attempt.
pub fn failure(events: &[Event]) -> String {
    let message = |event: &Event| match &event.kind {
        EventKind::Failed { message, .. } | EventKind::Damaged { message, .. } => Some(message.clone()),
        _ => None,
    };
    events.iter().find_map(message).expect("it failed")
}
