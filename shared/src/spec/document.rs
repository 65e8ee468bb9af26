//! The spec as it is written. One struct per table; unknown keys are errors. The endpoint has a file of its own.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Endpoint;
use crate::architecture::Arch;

/// One experiment: arms that are to be compared, and everything that is equal between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentSpec {
    /// What people call it; does not influence any result.
    pub name: String,
    /// What is learned from.
    pub data: Data,
    /// What is trained, and from where it starts.
    pub model: Model,
    /// What every arm spends.
    pub budget: Budget,
    /// Equal in all arms unless an arm, a stage or the grid varies it.
    #[serde(default)]
    pub controls: Controls,
    /// The replicates.
    pub seeds: Seeds,
    /// The treatments.
    pub arm: Vec<Arm>,
    /// Factors crossed with every arm.
    #[serde(default)]
    pub grid: Grid,
    /// On what the arms are judged.
    #[serde(default)]
    pub endpoint: Endpoint,
    /// Which arms are contrasted, and how.
    #[serde(default)]
    pub compare: Compare,
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The name of an imported data set; pinned to its digest at submission.
    pub dataset: String,
    /// Data sets scored at the endpoint only.
    #[serde(default)]
    pub external: Vec<String>,
    /// Height and width in pixels; must be the imported data set's. Absent: whatever the data set has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u32>,
}

/// `[model]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The architecture.
    #[serde(default)]
    pub arch: Arch,
    /// The initial weights.
    pub init: Init,
}

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// torchvision's initialisation, drawn from the run's seed.
    Random,
    /// Imported weights; the classifier is always new and drawn from the run's seed.
    Weights(String),
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Weights(name) => f.write_str(name),
        }
    }
}

impl Serialize for Init {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Init {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(if text == "random" { Self::Random } else { Self::Weights(text) })
    }
}

/// `[budget]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Epochs that every arm spends, exactly.
    pub epochs: u32,
}

/// `[controls]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Controls {
    /// Samples in an optimizer step.
    pub batch_size: u32,
    /// The update rule.
    pub optimizer: Optimizer,
    /// Learning rate.
    pub lr: f64,
    /// How the learning rate moves within a stage.
    pub schedule: Schedule,
    /// Augmentation policy.
    pub augment: Augment,
    /// Arithmetic.
    pub precision: Precision,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            batch_size: 32,
            optimizer: Optimizer::default(),
            lr: 1e-3,
            schedule: Schedule::Constant,
            augment: Augment::None,
            precision: Precision::Fp32,
        }
    }
}

/// The update rule and its settings; names and defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// The rule.
    pub name: OptimizerName,
    /// Decay rates of the first and second moment.
    #[serde(default = "default_betas")]
    pub betas: [f64; 2],
    /// Added to the denominator.
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_epsilon() -> f64 {
    1e-8
}

impl Default for Optimizer {
    fn default() -> Self {
        Self { name: OptimizerName::Adam, betas: default_betas(), epsilon: default_epsilon() }
    }
}

/// A known update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    Adam,
}

/// How the learning rate moves within a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It does not. Horizon-free: reading a run early is the same as a shorter run.
    Constant,
}

/// A named augmentation policy. A policy that changes gets a new version, which is part of the lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Augment {
    /// The images as they are.
    None,
    /// Flip, small rotation, translation and zoom, brightness.
    Light,
}

/// Arithmetic of forward and backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    Fp32,
}

/// `[seeds]`: `count = n` is the seeds 0 to n - 1; `values` lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeds {
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<u64>>,
}

/// `[[arm]]`: one treatment. What it sets overrides `[controls]` in all its stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// What people call it.
    pub name: String,
    /// How it spends the budget, in order.
    pub stages: Vec<Stage>,
    /// Overrides `controls.batch_size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    /// Overrides `controls.optimizer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
    /// Overrides `controls.lr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Overrides `controls.augment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
}

/// A stretch of epochs with the same settings. The optimizer starts anew at the beginning of each stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// How many.
    pub epochs: u32,
    /// What is trainable; the rest is frozen, BatchNorm statistics included.
    pub train: Trainable,
    /// Overrides the arm's learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Overrides the arm's augmentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
}

/// The named part of the network and all after it; what comes before it is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trainable {
    /// The classifier alone.
    Head,
    /// The last dense block, the final normalisation and the classifier.
    Denseblock4,
    /// From the third dense block on; the transition after a block belongs to it.
    Denseblock3,
    /// From the second dense block on.
    Denseblock2,
    /// From the first dense block on: all but the stem.
    Denseblock1,
    /// Everything.
    All,
}

impl Trainable {
    /// The name in specs, lineage and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Denseblock4 => "denseblock4",
            Self::Denseblock3 => "denseblock3",
            Self::Denseblock2 => "denseblock2",
            Self::Denseblock1 => "denseblock1",
            Self::All => "all",
        }
    }
}

/// `[grid]`: each list is a factor, crossed with every arm and with each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Levels of the batch size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<Vec<u32>>,
    /// Levels of the learning rate; a stage that names its own keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<Vec<f64>>,
    /// Levels of augmentation; a stage that names its own keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Vec<Augment>>,
}

/// What one arm-and-levels combination sets over `[controls]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// See [`Grid::batch_size`].
    pub batch_size: Option<u32>,
    /// See [`Grid::lr`].
    pub lr: Option<f64>,
    /// See [`Grid::augment`].
    pub augment: Option<Augment>,
}

/// `[compare]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compare {
    /// The arm that the others are contrasted with; absent: the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// How p-values of the family of contrasts are corrected.
    pub correct: Correction,
    /// The family-wise false-alarm rate.
    pub alpha: f64,
    /// The largest difference in the primary metric that does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

impl Default for Compare {
    fn default() -> Self {
        Self { baseline: None, correct: Correction::Holm, alpha: 0.05, margin: None }
    }
}

/// Correction for several contrasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Correction {
    /// Holm, "A simple sequentially rejective multiple test procedure", 1979.
    Holm,
    /// None: each contrast on its own.
    None,
}
