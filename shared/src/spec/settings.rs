//! The settings of a spec that arms may differ in: `[controls]`, what an `[[arm]]` and its stages override, and the
//! factors of `[grid]`.

use serde::{Deserialize, Serialize};

use super::{Augment, ClassWeights, Optimizer, Schedule, Trainable};

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
    /// Largest L2 norm of the gradient; absent or 0: it is not clipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Share of each target that is spread evenly over all classes.
    pub label_smoothing: f64,
    /// Weights of the classes in the loss.
    pub class_weights: ClassWeights,
    /// Factor on the learning rate for each block below the head.
    pub lr_decay_per_block: f64,
    /// Equal parts that a batch is cut into.
    pub accumulate: u32,
    /// Decay of a moving average of the weights; absent or 0: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
    /// Arithmetic.
    pub precision: Precision,
    /// What is kept from forward for backward.
    pub memory: Memory,
    /// Where runs may be trained; no arm can override it.
    #[serde(skip_serializing_if = "EnvironmentRule::is_default")]
    pub environment: EnvironmentRule,
}

/// Where the runs of an experiment may be trained. Another environment class can give other last bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentRule {
    /// In one class, [`crate::checkpoint::Environment`]: that of the first epochs.
    #[default]
    Same,
    /// Wherever there is room; `compare` refuses what was trained in different classes.
    Any,
}

impl EnvironmentRule {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            batch_size: 32,
            optimizer: Optimizer::default(),
            lr: 1e-3,
            schedule: Schedule::default(),
            augment: Augment::NONE,
            clip_norm: None,
            label_smoothing: 0.0,
            class_weights: ClassWeights::default(),
            lr_decay_per_block: 1.0,
            accumulate: 1,
            average: None,
            precision: Precision::Fp32,
            memory: Memory::Normal,
            environment: EnvironmentRule::Same,
        }
    }
}

/// Arithmetic of forward and backward. Weights, their gradients and the optimizer's state are 32-bit in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    Fp32,
    /// 32-bit floating point, whose products are made of 10-bit mantissas where the device can; elsewhere like fp32.
    Tf32,
    /// bfloat16 where PyTorch's autocast uses it.
    Bf16,
}

impl Precision {
    /// The name in specs, lineage and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

/// What is kept from forward for backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// Everything that backward needs.
    #[default]
    Normal,
    /// The output of each layer; what is inside one is computed again.
    Low,
}

impl Memory {
    /// The name in specs, lineage and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// `[[arm]]`: one treatment. What it sets overrides `[controls]` in all its stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// What people call it.
    pub name: String,
    /// How it spends the budget, in order.
    pub stages: Vec<Stage>,
    /// Overrides `controls.batch_size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    /// Overrides `controls.optimizer`, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
    /// Overrides `controls.lr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Overrides `controls.schedule`, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Overrides `controls.augment`, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    /// Overrides `controls.clip_norm`; 0 does not clip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Overrides `controls.label_smoothing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,
    /// Overrides `controls.class_weights`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Overrides `controls.lr_decay_per_block`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_decay_per_block: Option<f64>,
    /// Overrides `controls.accumulate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulate: Option<u32>,
    /// Overrides `controls.average`; 0 does not average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
    /// Overrides `controls.precision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Overrides `controls.memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
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
    /// Overrides the arm's schedule, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Overrides the arm's augmentation, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
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
    /// Levels of the schedule; a stage that names its own keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Vec<Schedule>>,
    /// Levels of augmentation; a stage that names its own keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Vec<Augment>>,
    /// Levels of the optimizer's weight decay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<Vec<f64>>,
    /// Levels of label smoothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<Vec<f64>>,
    /// Levels of precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Vec<Precision>>,
}

/// What one combination of the grid's levels sets over arms and `[controls]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// See [`Grid::batch_size`].
    pub batch_size: Option<u32>,
    /// See [`Grid::lr`].
    pub lr: Option<f64>,
    /// See [`Grid::schedule`].
    pub schedule: Option<Schedule>,
    /// See [`Grid::augment`].
    pub augment: Option<Augment>,
    /// See [`Grid::weight_decay`].
    pub weight_decay: Option<f64>,
    /// See [`Grid::label_smoothing`].
    pub label_smoothing: Option<f64>,
    /// See [`Grid::precision`].
    pub precision: Option<Precision>,
}
