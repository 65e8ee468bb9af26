//! `ceteris.predictions/1`: where the predictions of an experiment's runs lie.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{Epoch, ExperimentId, RunId},
    trainer::Scored,
};

/// `ceteris.predictions/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.predictions/1")]
pub struct PredictionFiles {
    /// Which experiment.
    pub experiment: ExperimentId,
    /// What people call it.
    pub name: String,
    /// After which epoch.
    pub at: Epoch,
    /// Epochs that every arm spends.
    pub budget: u32,
    /// Digest of the data set's manifest, which has the samples' names and labels.
    pub dataset: Digest,
    /// Digests of the external data sets' manifests, by name.
    pub external: BTreeMap<String, Digest>,
    /// Runs that have trained the epoch.
    pub runs: Vec<PredictedRun>,
    /// Runs that have not.
    pub missing: Vec<RunId>,
}

/// A run's predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictedRun {
    /// Which run.
    pub run: RunId,
    /// Its arm.
    pub arm: String,
    /// Its seed.
    pub seed: u64,
    /// On val, and at the endpoint on test and external data.
    pub files: Vec<PredictionFile>,
}

/// One file of predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionFile {
    /// What was scored: `val`, `test`, or the name of an external data set.
    pub scored: Scored,
    /// Of its bytes.
    pub digest: Digest,
}
