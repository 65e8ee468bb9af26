//! `ceteris.evidence/1`: everything that a comparison rests on, apart from the predictions and labels themselves, which it names by
//! digest. Whoever has this document and those objects can compute every number again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Ledger, PredictionFile, Timestamp};
use crate::{
    checkpoint::Environment,
    compare::Outcome,
    digest::Digest,
    ids::{ExperimentId, RunId},
    lineage::LineageKey,
    plan::Pins,
    spec::ExperimentSpec,
    trainer::Spent,
};

/// `ceteris.evidence/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.evidence/1")]
pub struct Evidence {
    /// Which experiment.
    pub experiment: ExperimentId,
    /// When it was submitted, and with it everything in `spec` fixed.
    pub submitted_at: Timestamp,
    /// What was submitted.
    pub spec: ExperimentSpec,
    /// What its names stood for.
    pub pins: Pins,
    /// What it cost.
    pub ledger: Ledger,
    /// The environment classes that epochs were trained in.
    pub environments: Vec<Environment>,
    /// Experiments that were scored on the same test split before this one was submitted.
    pub earlier_looks: Vec<ExperimentId>,
    /// All runs, in the plan's order.
    pub runs: Vec<EvidenceRun>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceRun {
    /// Which run.
    pub run: RunId,
    /// Its arm.
    pub arm: String,
    /// Its seed.
    pub seed: u64,
    /// How it stands.
    pub outcome: Outcome,
    /// Its committed epochs, from epoch 1 without gaps.
    pub epochs: Vec<EvidenceEpoch>,
}

/// A committed epoch of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceEpoch {
    /// The lineage key of the state after it.
    pub key: LineageKey,
    /// Where it was trained: an index into `environments`.
    pub environment: usize,
    /// Digest of what was frozen in it, as its checkpoint has it; null where that is not known, for instance because the checkpoint
    /// was given up. It is told of the first and the last epoch of each stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Digest>,
    /// What it cost.
    pub spent: Spent,
    /// What the worker measured on val: `loss`, `accuracy` (at 0.5) and `auc`.
    pub measured: BTreeMap<String, f64>,
    /// What was predicted after it.
    pub predictions: Vec<PredictionFile>,
}
