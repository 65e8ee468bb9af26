//! `ceteris.experiments/1` and `ceteris.experiment/1`: what was submitted and how far it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EndpointRule, Timestamp};
use crate::{
    checkpoint::Environment,
    dataset::Split,
    digest::Digest,
    ids::{Epoch, ExperimentId, RunId, SegmentId},
    spec::ResolvedStage,
    trainer::{FailureCause, Spent},
};

/// `ceteris.experiments/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.experiments/1")]
pub struct Experiments {
    /// All experiments, the newest first.
    pub experiments: Vec<ExperimentRow>,
}

/// One line of `ceteris ls`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExperimentRow {
    /// Its identity.
    pub id: ExperimentId,
    /// What people call it; not unique.
    pub name: String,
    /// How far it is.
    pub state: State,
    /// Whether nothing of it is started until it is resumed.
    pub paused: bool,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// How many runs.
    pub runs: u64,
    /// Epochs trained so far, shared ones counted once.
    pub epochs_done: u64,
    /// Epochs to train in all, shared ones counted once.
    pub epochs_to_train: u64,
}

/// How far an experiment or a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing of it is being trained.
    Queued,
    /// Some of it is on a worker, or has been.
    Running,
    /// All of it is trained and evaluated.
    Done,
    /// It ended and some of it could not be trained.
    Failed,
    /// It was cancelled before it was done.
    Cancelled,
}

/// A state in words; what is paused says so until it ends.
pub fn standing(state: State, paused: bool) -> String {
    let told = if paused && !state.is_terminal() { ", paused" } else { "" };
    format!("{}{told}", state.name())
}

impl State {
    /// The name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will change any more.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Done | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// `ceteris.experiment/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.experiment/1")]
pub struct Experiment {
    /// Its identity.
    pub id: ExperimentId,
    /// What people call it.
    pub name: String,
    /// How far it is.
    pub state: State,
    /// Whether nothing of it is started until it is resumed.
    pub paused: bool,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// Epochs that every arm spends.
    pub budget: u32,
    /// The data set.
    pub dataset: NamedDigest,
    /// The initial weights; `random` has no digest.
    pub init: NamedDigest,
    /// Data sets that are scored at the endpoint only.
    pub external: Vec<NamedDigest>,
    /// On what the arms are judged.
    pub endpoint: EndpointRule,
    /// Epochs that all runs ask for, shared ones counted for each.
    pub epochs_asked: u64,
    /// Epochs to train in all, shared ones counted once.
    pub epochs_to_train: u64,
    /// Of those, trained so far, by this experiment or by earlier ones.
    pub epochs_done: u64,
    /// Of those, taken from earlier experiments.
    pub epochs_reused: u64,
    /// The experiment whose budget this one goes on from; null where it is no extension.
    pub extends: Option<ExperimentId>,
    /// The environment class that it is trained in alone; null before its first attempt, and where any will do.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// How it shares the fleet with others, where anything was said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<Sharing>,
    /// What all of it cost.
    pub ledger: Ledger,
    /// All arms, in the order of the spec.
    pub arms: Vec<ExperimentArm>,
    /// All segments, parents before children.
    pub segments: Vec<SegmentRow>,
}

/// How an experiment shares the fleet. No result depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharing {
    /// What has a higher one goes first.
    pub priority: i32,
    /// Its part of the slots, beside that of others of its priority.
    pub weight: u32,
    /// Most of its segments that are trained at once; null: as many as there are slots.
    pub max_concurrent: Option<u32>,
    /// Bytes of memory that a device must have; 0: any will do.
    pub device_memory_bytes: u64,
}

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedDigest {
    /// The name at submission.
    pub name: String,
    /// What it stood for then; null where there is nothing to pin.
    pub digest: Option<Digest>,
}

/// One arm of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExperimentArm {
    /// Its name; with a grid, followed by its levels.
    pub name: String,
    /// The factors and this arm's level of each.
    pub levels: BTreeMap<String, String>,
    /// How it spends the budget.
    pub stages: Vec<ResolvedStage>,
    /// Its runs, one per seed.
    pub runs: Vec<Run>,
}

/// One arm with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its identity.
    pub run: RunId,
    /// Its arm's name.
    pub arm: String,
    /// Its seed.
    pub seed: u64,
    /// How far it is.
    pub state: State,
    /// Epochs committed along its lineage.
    pub epoch: Epoch,
    /// Epochs it has in all.
    pub epochs: u32,
    /// The epoch in flight; null while none is.
    pub live: Option<Live>,
    /// The latest values on val: `loss`, `accuracy`, `auc`.
    pub val: BTreeMap<String, f64>,
    /// The values of every committed epoch, by epoch, split and name.
    pub series: Vec<SeriesPoint>,
    /// What its lineage cost, each epoch once.
    pub spent: RunSpent,
    /// Why it failed; null where it did not.
    pub failure: Option<Failure>,
}

/// The epoch in flight, as the worker last told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Which; 0 while inputs are fetched.
    pub epoch: Epoch,
    /// Optimizer steps done in it.
    pub step: u32,
    /// Optimizer steps it has.
    pub steps: u32,
    /// Mean training loss over the epoch so far; null before the first step.
    pub loss: Option<f64>,
}

/// A value of a committed epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesPoint {
    /// Which epoch.
    pub epoch: Epoch,
    /// On what.
    pub split: Split,
    /// `loss`, `accuracy` or `auc`.
    pub name: String,
    /// The value.
    pub value: f64,
}

/// What an experiment cost, in columns that are never mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// What runs are charged: each its whole lineage, so shared epochs once for every run that shares them.
    pub charged: RunSpent,
    /// Epochs that this experiment trained, each once.
    pub trained: RunSpent,
    /// Epochs that it took from earlier experiments, each once.
    pub reused: RunSpent,
    /// Epochs that its attempts trained again because no checkpoint of them was left.
    #[serde(default)]
    pub replayed: RunSpent,
    /// Executions that are over.
    pub attempts: u64,
    /// Seconds for which those had a slot of a worker: with what was repeated and what was abandoned.
    pub attempt_seconds: f64,
}

/// What a lineage cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunSpent {
    /// Epochs trained.
    pub epochs: u32,
    /// Optimizer steps.
    pub steps: u64,
    /// Training samples seen.
    pub samples: u64,
    /// Seconds of wall time on one device, evaluation included.
    pub seconds: f64,
}

impl RunSpent {
    /// With one more epoch.
    pub fn add(&mut self, epoch: &Spent) {
        self.epochs += 1;
        self.steps += epoch.steps;
        self.samples += epoch.samples;
        self.seconds += epoch.seconds;
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Who must act: `user`, `infrastructure`; `diverged` where the loss is no longer finite, `irreproducible` where an
    /// epoch that was trained again gave other weights.
    pub cause: FailureCause,
    /// What happened, where, and the way out.
    pub message: String,
}

/// One scheduled stretch of epochs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRow {
    /// Its identity.
    pub id: SegmentId,
    /// How far it is.
    pub state: SegmentState,
    /// How many times it was given to a worker.
    pub attempts: u32,
    /// Name of the worker that has it; null where none has.
    pub worker: Option<String>,
    /// Its first epoch.
    pub first: Epoch,
    /// Its last epoch.
    pub last: Epoch,
    /// The runs that share it.
    pub runs: Vec<RunId>,
}

/// How far a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// The segment it continues is not done.
    Waiting,
    /// Ready for a worker.
    Queued,
    /// Given to a worker, which has not begun.
    Assigned,
    /// Being trained.
    Running,
    /// Asked to stop.
    Stopping,
    /// Trained.
    Done,
    /// Given up.
    Failed,
    /// Cancelled.
    Cancelled,
}

impl SegmentState {
    /// The name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Assigned => "assigned",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}
