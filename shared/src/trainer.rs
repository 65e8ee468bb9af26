//! What an agent and its trainer process say to each other: one JSON object a line, over a Unix socket that the agent
//! listens on. The trainer's stdout and stderr are the attempt's log and never carry messages.
//!
//! The trainer says [`Report::Ready`] once. Then, for each [`Request::Train`], it says `Started`, any number of
//! `Progress`, one `Epoch` per epoch in order, and exactly one of `Finished`, `Stopped` and `Failed`. It reads and
//! writes only the paths it is given, knows no credentials, and exits when the socket closes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::Environment,
    dataset::Split,
    ids::{Attempt, Epoch},
    lineage::LineageKey,
    plan::Work,
};

/// Longest line that either side reads.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// From the agent to the trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Train. Only sent while nothing is being trained.
    Train(Box<Train>),
    /// Stop after the epoch in flight, or at once.
    Stop {
        /// Which execution; a request for another one is ignored.
        attempt: Attempt,
        /// Do not finish the epoch.
        now: bool,
    },
    /// Exit when idle.
    Exit,
}

/// One execution of a segment, or of what remains of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Which execution.
    pub attempt: Attempt,
    /// What to train; its epochs are those that remain.
    pub work: Work,
    /// What is learned from.
    pub dataset: DatasetFiles,
    /// Scored entirely after the last epoch if the work is an endpoint, by name.
    pub external: Vec<(String, DatasetFiles)>,
    /// Where the weights come from.
    pub start: Start,
    /// Where the trainer writes: one folder `epoch-N` per epoch. Exists and is empty.
    pub directory: PathBuf,
}

/// A data set on local disk, every file verified against its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetFiles {
    /// The manifest ([`crate::dataset::Manifest`]).
    pub manifest: PathBuf,
    /// The shards, in the manifest's order.
    pub shards: Vec<PathBuf>,
}

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case", deny_unknown_fields)]
pub enum Start {
    /// torchvision's initialisation, drawn from the seed.
    Random,
    /// A safetensors file with torchvision's names; the head is new and drawn from the seed.
    Weights {
        /// The file.
        file: PathBuf,
    },
    /// The state after an epoch.
    Checkpoint {
        /// [`crate::checkpoint::Role::Frozen`]
        frozen: PathBuf,
        /// [`crate::checkpoint::Role::Trained`]
        trained: PathBuf,
        /// [`crate::checkpoint::Role::Optimizer`]
        optimizer: PathBuf,
    },
}

/// From the trainer to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// libtorch is loaded and the device answers.
    Ready {
        /// What results computed here depend on.
        environment: Environment,
    },
    /// Inputs are read and training begins.
    Started {
        /// Which execution.
        attempt: Attempt,
    },
    /// Some steps were made.
    Progress {
        /// Which execution.
        attempt: Attempt,
        /// The epoch in flight.
        epoch: Epoch,
        /// Optimizer steps done in this epoch.
        step: u32,
        /// Optimizer steps of this epoch.
        steps: u32,
        /// Mean training loss over this epoch's steps so far.
        loss: f64,
    },
    /// An epoch is trained and evaluated, and its files are complete on disk.
    Epoch(Box<EpochReport>),
    /// All epochs are trained.
    Finished {
        /// Which execution.
        attempt: Attempt,
    },
    /// A [`Request::Stop`] was obeyed.
    Stopped {
        /// Which execution.
        attempt: Attempt,
    },
    /// Training cannot go on.
    Failed {
        /// Which execution.
        attempt: Attempt,
        /// Who must act.
        cause: FailureCause,
        /// What happened, where, and the way out.
        message: String,
    },
}

/// An epoch's results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochReport {
    /// Which execution.
    pub attempt: Attempt,
    /// Which epoch.
    pub epoch: Epoch,
    /// The lineage key of the state after it.
    pub key: LineageKey,
    /// What was measured.
    pub metrics: Vec<MetricPoint>,
    /// The classes, in the order of the head's outputs.
    pub classes: Vec<String>,
    /// [`crate::checkpoint::Role::Frozen`]
    pub frozen: PathBuf,
    /// [`crate::checkpoint::Role::Trained`]
    pub trained: PathBuf,
    /// [`crate::checkpoint::Role::Optimizer`]
    pub optimizer: PathBuf,
    /// Predictions ([`crate::predictions::Predictions`]): of val after every epoch, of test and external data after the
    /// last epoch of an endpoint.
    pub predictions: Vec<(Scored, PathBuf)>,
    /// What the epoch cost.
    pub spent: Spent,
}

/// What predictions are of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scored {
    /// A split of the experiment's own data set.
    Split(Split),
    /// All of an external data set, by name.
    External(String),
}

/// One measured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricPoint {
    /// The epoch it belongs to.
    pub epoch: Epoch,
    /// Optimizer steps of this epoch behind it; for `step_loss`, the step it was measured in.
    /// The value of a whole epoch stands at the epoch's last step.
    pub step: u32,
    /// What it was measured on.
    pub split: Split,
    /// `loss`, `accuracy` or `auc`, or for a training step `step_loss`.
    pub name: String,
    /// The value; finite.
    pub value: f64,
}

/// What an epoch cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Optimizer steps.
    pub steps: u64,
    /// Training samples seen.
    pub samples: u64,
    /// Seconds of wall time on one device, evaluation included.
    pub seconds: f64,
}

/// Why an execution failed, by who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// The experiment cannot be trained as it is: never retried.
    User,
    /// This machine, device, disk or store: retried, with back-off, a limited number of times.
    Infrastructure,
    /// The loss is no longer finite: the run's outcome, not retried.
    Diverged,
}
