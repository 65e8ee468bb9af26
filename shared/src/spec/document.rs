//! The spec as it is written. One struct per table; unknown keys are errors. The endpoint and the
//! settings that arms may differ in have files of their own.

use serde::{Deserialize, Serialize};

use super::{Arm, Controls, Endpoint, Factor, Grid, Init};
use crate::{
    architecture::Arch,
    ids::{ExperimentId, RunId},
};

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
    /// How the work is done; does not influence any result.
    #[serde(default)]
    pub execution: Execution,
    /// Which arms are contrasted, and how.
    #[serde(default)]
    pub compare: Compare,
    /// Which checkpoints are kept once the experiment has ended; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
}

/// `[keep]`: which checkpoints `ceteris gc` leaves once the experiment has ended. What it takes can be trained again; nothing
/// that was measured or predicted is lost. Of each run:
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// The epochs that were best on val, by the endpoint's metric: so many.
    pub best: u32,
    /// The last epochs: so many.
    pub last: u32,
    /// The epochs after which runs part.
    pub branch_points: BranchPoints,
}

impl Default for Keep {
    fn default() -> Self {
        Self { best: 1, last: 1, branch_points: BranchPoints::All }
    }
}

/// Whether the ends of shared stretches are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BranchPoints {
    /// Each of them.
    #[default]
    All,
    /// Only those that are among the best or the last.
    None,
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

/// `[budget]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Epochs that every arm spends, exactly.
    pub epochs: u32,
    /// The experiment whose budget this one goes on from, where it is an extension; changes nothing of what is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<ExperimentId>,
}

/// `[execution]`: how work is done. Nothing here influences a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// Optimizer steps between two checkpoints within an epoch; absent: there is one after each epoch, and one where a
    /// trainer is told to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_every_steps: Option<u32>,
    /// Whether runs train a common beginning once, and take what earlier experiments trained. If not, each run trains
    /// every epoch of its own.
    #[serde(default = "yes", skip_serializing_if = "bool::clone")]
    pub share: bool,
    /// What has a higher one goes first, and takes slots from what has a lower one when that has committed its epoch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Among experiments of one priority, slots are shared in proportion to these.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
    /// Most segments of the experiment that are trained at once; absent: as many as there are slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// Bytes of memory that a device must have; 0: any will do.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub device_memory_bytes: u64,
    /// The run that is trained again to see that it comes out the same; `ceteris verify` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifies: Option<RunId>,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn is_one(value: &u32) -> bool {
    *value == 1
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for Execution {
    fn default() -> Self {
        Self {
            checkpoint_every_steps: None,
            share: true,
            priority: 0,
            weight: 1,
            max_concurrent: None,
            device_memory_bytes: 0,
            verifies: None,
        }
    }
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

/// `[compare]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compare {
    /// The arm that the others are contrasted with; absent: the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// What arms may differ in, together; absent: in any one setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub treatment: Option<Vec<Factor>>,
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
        Self { baseline: None, treatment: None, correct: Correction::Holm, alpha: 0.05, margin: None }
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
