//! What an agent and its trainer process say to each other: one JSON object a line, over a Unix socket that the agent
//! listens on. The trainer's stdout and stderr are the attempt's log and never carry messages.
//!
//! The trainer says [`Report::Ready`] once. Then, for each [`Request::Train`], it says `Started`, any number of
//! `Progress` and `Step`, one `Epoch` per epoch in order, and exactly one of `Finished`, `Stopped` and `Failed`. It reads
//! and writes only the paths it is given, knows no credentials, and exits when the socket closes.
//!
//! A trainer that is told to stop now says one last `Step` before `Stopped` where the epoch in flight has steps behind
//! it that no `Step` has told yet, so that the next attempt goes on in the middle of the epoch with the same bits.
//!
//! Before it uses a set of features ([`crate::features`]) it says `FeaturesWanted`, whether the set lies in its folder
//! or not, and waits for the answer; where there is none, it computes the set in the folder and says `FeaturesMade`. A
//! set that it finds damaged when it opens it is one to remove, manifest first, and to ask for again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::Environment,
    dataset::Split,
    features::FeatureKey,
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
        /// Do not finish the epoch: checkpoint the step and stop.
        now: bool,
    },
    /// The answer to [`Report::FeaturesWanted`].
    Features {
        /// Which execution; an answer to another one is ignored.
        attempt: Attempt,
        /// Which set.
        key: FeatureKey,
        /// It lies in the folder, complete. What was fetched for this is verified; what was there before is not.
        found: bool,
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
    /// Where the trainer writes: one folder `epoch-N` per epoch, and `epoch-N-step-S` per checkpoint within one. Exists
    /// and is empty.
    pub directory: PathBuf,
    /// Where features of frozen parts are kept; none where they are not to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureFolder>,
}

/// A folder of feature sets, one subfolder for each ([`FeatureKey::folder`]), shared by all trainers of an agent.
///
/// A trainer that makes a set writes each file aside and renames it, the manifest last: what is there is whole, and two
/// that make the same set at once do no harm. It removes nothing but what it found damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureFolder {
    /// The folder. Exists.
    pub directory: PathBuf,
    /// Bytes of all sets together; a larger set is not worth making.
    pub limit_bytes: u64,
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
    /// The state after an epoch, or in the middle of one.
    Checkpoint {
        /// [`crate::checkpoint::Role::Frozen`]
        frozen: PathBuf,
        /// [`crate::checkpoint::Role::Trained`]
        trained: PathBuf,
        /// [`crate::checkpoint::Role::Optimizer`]
        optimizer: PathBuf,
        /// How far the first epoch of the work is; none at its beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
    },
}

/// Where in an epoch a checkpoint was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Optimizer steps of the epoch that are done; at least 1.
    pub step: u32,
    /// [`crate::checkpoint::Role::Progress`]
    pub progress: PathBuf,
}

/// From the trainer to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// libtorch is loaded and the device answers.
    Ready {
        /// What results computed here depend on.
        environment: Environment,
        /// Bytes of the device's own memory; none where it shares the machine's, or does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory_bytes: Option<u64>,
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
    /// A checkpoint within an epoch is complete on disk.
    Step(Box<StepReport>),
    /// An epoch is trained and evaluated, and its files are complete on disk.
    Epoch(Box<EpochReport>),
    /// A set of features is to be used: answered by [`Request::Features`].
    FeaturesWanted {
        /// Which execution.
        attempt: Attempt,
        /// Which set.
        key: FeatureKey,
    },
    /// A set of features was computed and is complete in the folder.
    FeaturesMade {
        /// Which execution.
        attempt: Attempt,
        /// Which set.
        key: FeatureKey,
    },
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

/// A checkpoint within an epoch: its files lie in the folder `epoch-E-step-S`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepReport {
    /// Which execution.
    pub attempt: Attempt,
    /// The epoch in flight.
    pub epoch: Epoch,
    /// Optimizer steps of it that are done; at least 1. Steps of an epoch are reported in ascending order.
    pub step: u32,
    /// The lineage key of the epoch in flight.
    pub key: LineageKey,
    /// The classes, in the order of the head's outputs.
    pub classes: Vec<String>,
    /// [`crate::checkpoint::Role::Frozen`]
    pub frozen: PathBuf,
    /// [`crate::checkpoint::Role::Trained`]
    pub trained: PathBuf,
    /// [`crate::checkpoint::Role::Optimizer`]
    pub optimizer: PathBuf,
    /// [`crate::checkpoint::Role::Progress`]
    pub progress: PathBuf,
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
    /// This machine, device or disk: retried, with back-off, a limited number of times.
    Infrastructure,
    /// The object store did not answer, or could not take anything: retried, with back-off, for as long as that lasts.
    Store,
    /// The loss is no longer finite: the run's outcome, not retried.
    Diverged,
    /// An epoch that was trained again gave other weights in the same environment class: nothing that rests on it can be
    /// trusted until someone knows why. Found by the coordinator.
    Irreproducible,
}
