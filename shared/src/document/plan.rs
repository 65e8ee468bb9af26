//! `ceteris.plan/1`: what a spec would do and cost, before anything is paid.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EndpointRule, FieldDifference, Refusal};
use crate::{
    compare,
    digest::Digest,
    plan,
    spec::{ExperimentSpec, Memory, Optimization, Precision, ResolvedArm, ResolvedStage},
};

/// `ceteris.plan/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.plan/1")]
pub struct Plan {
    /// The spec's name.
    pub experiment: String,
    /// How many runs: arms × seeds.
    pub runs: u64,
    /// Epochs that all runs ask for, shared ones counted for each.
    pub epochs_asked: u64,
    /// Epochs that earlier experiments have trained; null where it is planned without a coordinator.
    pub epochs_in_store: Option<u64>,
    /// Epochs that have to be trained: shared ones once, and those in the store not at all.
    pub epochs_to_train: u64,
    /// The part of the epochs asked that need not be trained: 0 is nothing, 0.5 is half.
    pub saving: f64,
    /// How many stretches are scheduled.
    pub segments: u64,
    /// Epochs that every arm spends.
    pub budget: u32,
    /// The seeds, the same in every arm.
    pub seeds: Vec<u64>,
    /// Name of the data set.
    pub dataset: String,
    /// Name of the initial weights, or `random`.
    pub init: String,
    /// Names of data sets that are scored at the endpoint only.
    pub external: Vec<String>,
    /// What the names stand for.
    pub pins: PinState,
    /// On what the arms will be judged.
    pub endpoint: EndpointRule,
    /// All arms.
    pub arms: Vec<PlanArm>,
    /// Each arm against its baseline.
    pub contrasts: Vec<PlanContrast>,
}

/// What the spec's names stand for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PinState {
    /// Planned without a coordinator: digests are not known yet.
    Unresolved(Unresolved),
    /// Digests.
    Pinned(Pinned),
}

/// The word `unresolved`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unresolved {
    /// The word.
    Unresolved,
}

/// The digests that names stand for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// Of the data set's manifest.
    pub dataset: Digest,
    /// Of the initial weights; null where they are random.
    pub init: Option<Digest>,
    /// Of the external data sets' manifests, by name.
    pub external: BTreeMap<String, Digest>,
}

/// One arm of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanArm {
    /// Its name; with a grid, followed by its levels.
    pub name: String,
    /// The factors and this arm's level of each.
    pub levels: BTreeMap<String, String>,
    /// How it spends the budget.
    pub stages: Vec<ResolvedStage>,
    /// Samples in an optimizer step.
    pub batch_size: u32,
    /// How weights move.
    pub optimization: Optimization,
    /// Arithmetic.
    pub precision: Precision,
    /// What is kept from forward for backward.
    pub memory: Memory,
    /// How many runs: one per seed.
    pub runs: u64,
}

/// What two arms will be able to show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanContrast {
    /// The arm that the other is compared with.
    pub baseline: String,
    /// The other arm.
    pub arm: String,
    /// The fields in which they differ: the treatment.
    pub treatment: Vec<FieldDifference>,
    /// The smallest p-value that this many seeds can give, two-sided, before any correction.
    pub smallest_p: f64,
    /// Whether that can be significant after the correction over all contrasts of the plan.
    pub can_be_significant: bool,
    /// The same in words.
    pub because: String,
    /// The settings in which the two arms differ, each once: `lr`, `augment`; `stages` is how the budget is spent.
    pub factors: Vec<String>,
    /// Whether they differ in one setting, so that a difference in results is that setting's.
    pub single_factor: bool,
    /// Whether they are several that are declared to be one treatment, so that a difference is theirs together.
    #[serde(default)]
    pub bundle: bool,
    /// Why `compare` will refuse it, whatever is trained; null where it will not.
    #[serde(default)]
    pub refused: Option<Refusal>,
}

impl Plan {
    /// What a plan says to people. What names stand for, and how many epochs are in the store, is absent where it was
    /// made without a coordinator.
    pub fn new(spec: &ExperimentSpec, plan: &plan::Plan, known: Option<(&plan::Pins, u64)>) -> Self {
        let (pins, epochs_in_store) = known.unzip();
        let epochs_asked = plan.epochs_asked();
        let epochs_to_train = plan.epochs_to_train() - epochs_in_store.unwrap_or_default();
        let seeds = spec.seeds.list();
        let arm = |arm: &ResolvedArm| PlanArm {
            name: arm.name.clone(),
            levels: arm.levels.clone(),
            stages: arm.stages.clone(),
            batch_size: arm.batch_size,
            optimization: arm.optimization.clone(),
            precision: arm.precision,
            memory: arm.memory,
            runs: seeds.len() as u64,
        };
        Self {
            experiment: spec.name.clone(),
            runs: plan.runs.len() as u64,
            epochs_asked,
            epochs_in_store,
            epochs_to_train,
            saving: if epochs_asked == 0 { 0.0 } else { 1.0 - epochs_to_train as f64 / epochs_asked as f64 },
            segments: plan.segments.len() as u64,
            budget: spec.budget.epochs,
            seeds: seeds.clone(),
            dataset: spec.data.dataset.clone(),
            init: spec.model.init.to_string(),
            external: spec.data.external.clone(),
            pins: PinState::from(pins),
            endpoint: EndpointRule::from(spec.endpoint),
            arms: plan.arms.iter().map(arm).collect(),
            contrasts: compare::planned_contrasts(spec, &plan.arms),
        }
    }
}

impl From<Option<&plan::Pins>> for PinState {
    fn from(pins: Option<&plan::Pins>) -> Self {
        let pinned = |pins: &plan::Pins| {
            Some(Pinned { dataset: pins.dataset?, init: pins.init, external: pins.external.iter().cloned().collect() })
        };
        pins.and_then(pinned).map_or(Self::Unresolved(Unresolved::Unresolved), Self::Pinned)
    }
}
