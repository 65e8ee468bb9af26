//! `ceteris.workers/1`, `ceteris.datasets/1`, `ceteris.weights/1`, `ceteris.checkpoints/1` and `ceteris.explain/1`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{State, Timestamp};
use crate::{
    checkpoint::{Environment, Part},
    dataset::Split,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, RunId, WorkerId},
    lineage::LineageKey,
    spec::Arch,
};

/// `ceteris.workers/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.workers/1")]
pub struct Workers {
    /// All workers that ever registered, the connected ones first.
    pub workers: Vec<Worker>,
}

/// One agent process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its identity, kept across restarts.
    pub id: WorkerId,
    /// For people: the host's name unless told.
    pub name: String,
    /// Whether it can be reached.
    pub state: WorkerState,
    /// Attempts it can run at once.
    pub slots: u32,
    /// What it runs now.
    pub attempts: Vec<WorkerAttempt>,
    /// Version of the agent.
    pub version: String,
    /// What its results depend on.
    pub environment: Environment,
    /// When it was last heard of.
    pub last_seen: Timestamp,
    /// Slots that are not to be used, from 0; all of them where the whole worker is drained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drained_slots: Vec<u32>,
    /// Until when it is given nothing, because one attempt after the other failed on it; absent where that is not so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside_until: Option<Timestamp>,
}

/// Whether a worker can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It has a live stream.
    Connected,
    /// It has none; what it trains is believed alive until its lease ends.
    Disconnected,
}

impl WorkerState {
    /// The name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
        }
    }
}

/// An attempt on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerAttempt {
    /// Which execution of which segment.
    pub attempt: Attempt,
    /// The epoch in flight; null where it was not told yet.
    pub epoch: Option<Epoch>,
}

/// `ceteris.datasets/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.datasets/1")]
pub struct Datasets {
    /// By name.
    pub datasets: Vec<Dataset>,
}

/// One named data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// What people call it.
    pub name: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Height and width in pixels.
    pub image_size: u32,
    /// Class names, sorted; the last one is the positive class where there are two.
    pub classes: Vec<String>,
    /// How many samples.
    pub samples: u64,
    /// How many different patients; null where patients are not known.
    pub patients: Option<u64>,
    /// Samples of each class in each split.
    pub counts: BTreeMap<Split, BTreeMap<String, u64>>,
    /// Bytes of pixels.
    pub bytes: u64,
    /// When it was named.
    pub registered_at: Timestamp,
}

/// `ceteris.weights/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.weights/1")]
pub struct Weights {
    /// By name.
    pub weights: Vec<WeightsEntry>,
}

/// One named file of initial weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightsEntry {
    /// What people call it.
    pub name: String,
    /// Digest of the safetensors file.
    pub digest: Digest,
    /// The network it belongs to.
    pub arch: Arch,
    /// When it was named.
    pub registered_at: Timestamp,
}

/// `ceteris.checkpoints/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.checkpoints/1")]
pub struct Checkpoints {
    /// Whose.
    pub run: RunId,
    /// Its experiment.
    pub experiment: ExperimentId,
    /// Its arm's name.
    pub arm: String,
    /// Its seed.
    pub seed: u64,
    /// The committed epochs, ascending.
    pub epochs: Vec<Checkpoint>,
}

/// The state after one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Which epoch.
    pub epoch: Epoch,
    /// The lineage that leads to it.
    pub key: LineageKey,
    /// Digest of the checkpoint's manifest.
    pub manifest: Digest,
    /// Digest of weights and optimizer: equal where they are, whoever trained them.
    pub weights: Digest,
    /// The execution that made it.
    pub attempt: Attempt,
    /// Bytes of its parts; parts that training did not touch are stored once for all epochs.
    pub bytes: u64,
    /// Its files.
    pub parts: Vec<Part>,
    /// Where it was computed.
    pub environment: Environment,
}

/// `ceteris.verification/1`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.verification/1")]
pub struct Verification {
    /// The run that is trained again.
    pub run: RunId,
    /// Its experiment.
    pub experiment: ExperimentId,
    /// The experiment that trains it again.
    pub by: ExperimentId,
    /// How that one stands.
    pub state: State,
    /// The environment class of both.
    pub environment: Option<Environment>,
    /// Whether everything came out the same; null while nothing differs and epochs are left.
    pub equal: Option<bool>,
    /// The epochs that were trained again so far, ascending.
    pub epochs: Vec<VerifiedEpoch>,
    /// What differs first, in words.
    pub first_difference: Option<String>,
}

/// An epoch that was trained again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedEpoch {
    /// Which.
    pub epoch: Epoch,
    /// Digest of weights and optimizer, as they are on record.
    pub recorded: Option<Digest>,
    /// The same, as they came out again.
    pub trained: Option<Digest>,
    /// Whether the two are known and equal.
    pub equal: bool,
}

/// Objects in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Objects {
    /// Counts one more.
    pub fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// `ceteris.gc/1`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.gc/1")]
pub struct Garbage {
    /// True where this is only what would be done.
    pub dry_run: bool,
    /// What nothing names was left where it was stored less than so many seconds ago.
    pub older_than_seconds: u64,
    /// Checkpoints that were given up because no experiment keeps them.
    pub checkpoints_given_up: u64,
    /// Checkpoints that are kept.
    pub checkpoints_kept: u64,
    /// What was deleted.
    pub deleted: Objects,
    /// What something names.
    pub kept: Objects,
    /// What nothing names yet, and may be on its way to being committed.
    pub young: Objects,
}

/// `ceteris.storage/1`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.storage/1")]
pub struct Storage {
    /// True where every object that something names was read to its end; else only their presence and length are known.
    pub read: bool,
    /// What something names.
    pub named: Objects,
    /// What nothing names: garbage, or on its way to being committed.
    pub unnamed: Objects,
    /// What was damaged and was set aside.
    pub set_aside: Objects,
    /// How many objects that something names are missing or damaged.
    pub unusable_in_all: u64,
    /// Those, as far as there is room for them.
    pub unusable: Vec<Unusable>,
}

/// An object that something names, and that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusable {
    /// Its name.
    pub digest: Digest,
    /// What it is, by one of those that name it.
    pub what: String,
    /// What is wrong with it.
    pub problem: String,
}

/// `ceteris.explain/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.explain/1")]
pub struct Explanation {
    /// Whose.
    pub run: RunId,
    /// Its experiment.
    pub experiment: ExperimentId,
    /// Its arm's name.
    pub arm: String,
    /// Its seed.
    pub seed: u64,
    /// How far it is.
    pub state: State,
    /// One paragraph: what it waits for, or why it is where it is.
    pub text: String,
}
