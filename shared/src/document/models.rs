//! `ceteris.models/1`: models that were trained elsewhere, compared by their predictions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Difference, Scores, Verdict};
use crate::spec::{Correction, Score};

/// `ceteris.models/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.models/1")]
pub struct Models {
    /// Always false: how long each model was trained, and with what, is not known.
    pub budget_verified: bool,
    /// What the verdicts are about.
    pub scope: Scope,
    /// The score that verdicts are given on.
    pub metric: Score,
    /// The probability of the positive class from which on a sample is called positive.
    pub threshold: f64,
    /// The label that is predicted.
    pub positive_class: String,
    /// The family-wise false-alarm rate.
    pub alpha: f64,
    /// How p-values are corrected over the contrasts.
    pub correct: Correction,
    /// How many samples each model has predictions of.
    pub samples: u64,
    /// Of how many patients they are; samples, where patients are not given.
    pub patients: u64,
    /// Draws of the bootstrap.
    pub draws: u32,
    /// All models, the baseline first.
    pub models: Vec<Model>,
    /// Each other one against the baseline.
    pub contrasts: Vec<ModelContrast>,
}

/// What verdicts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// These very models, on other patients: there is one seed of each.
    Models,
    /// Models that are trained in these ways with other seeds, on other patients.
    Treatments,
}

/// One file of predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its scores with each seed.
    pub seeds: Vec<ModelSeed>,
    /// Its scores over seeds, by name; those that are undefined for a seed are left out.
    pub summary: BTreeMap<String, ModelSummary>,
}

/// A model with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSeed {
    /// Which seed; 0 where the file has none.
    pub seed: u64,
    /// Its scores.
    pub scores: Scores,
    /// Variance of the area under the ROC curve over patients (DeLong; of clusters as Obuchowski has it).
    pub auc_variance: Option<f64>,
}

/// A score over the seeds of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// Arithmetic mean.
    pub mean: f64,
    /// Mean of the middle half.
    pub interquartile_mean: f64,
    /// Where the true mean over seeds and patients lies with confidence 1 - alpha; null where it has no such interval.
    pub interval: Option<[f64; 2]>,
    /// The same by the hierarchical bootstrap, which with few seeds is too narrow.
    pub bootstrap: Option<BootstrapInterval>,
}

/// What the hierarchical bootstrap says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootstrapInterval {
    /// Percentiles with confidence 1 - alpha between them.
    pub interval: [f64; 2],
    /// Standard deviation over draws of seeds and patients.
    pub deviation: f64,
    /// Over draws of seeds alone; null with one seed.
    pub seed_deviation: Option<f64>,
    /// Over draws of patients alone.
    pub patient_deviation: f64,
    /// Draws that were left out because the score is undefined in them.
    pub undefined: u32,
}

/// A model against the baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelContrast {
    /// The model that the other is compared with.
    pub baseline: String,
    /// The other model.
    pub model: String,
    /// What can be said about `metric`.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub because: String,
    /// The difference in every score, by name, model minus baseline; those that are undefined for a seed are left out. p-values are
    /// corrected over the contrasts, each score on its own.
    pub differences: BTreeMap<String, ModelDifference>,
    /// Tests of the two models of each seed.
    pub tests: Vec<SeedTests>,
    /// The difference in `metric` within each subgroup; p-values are corrected over the subgroups.
    pub subgroups: Vec<Subgroup>,
}

/// A difference in one score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDifference {
    /// Its numbers.
    #[serde(flatten)]
    pub difference: Difference,
    /// Of its mean, by the hierarchical bootstrap.
    pub bootstrap: Option<BootstrapInterval>,
}

/// Tests of two models of one seed; they take the seed as given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedTests {
    /// Which seed.
    pub seed: u64,
    /// DeLong's paired test of the areas under the ROC curves, over patients.
    pub delong: Option<DelongTest>,
    /// McNemar's exact test of the decisions, over samples.
    pub mcnemar: McnemarTest,
}

/// DeLong's test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelongTest {
    /// The model's area minus the baseline's.
    pub difference: f64,
    /// Of the difference.
    pub variance: f64,
    /// The difference in standard errors; null where nothing varies.
    pub z: Option<f64>,
    /// Two-sided.
    pub p: Option<f64>,
}

/// McNemar's test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct McnemarTest {
    /// Samples that only the baseline calls right.
    pub baseline_only: u64,
    /// Samples that only the model calls right.
    pub model_only: u64,
    /// Exact, two-sided.
    pub p: f64,
}

/// Samples with one value of the column `subgroup`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subgroup {
    /// The value.
    pub name: String,
    /// How many samples have it.
    pub samples: u64,
    /// How many of them are positive.
    pub positives: u64,
    /// The difference among them; null where the metric is undefined.
    pub difference: Option<Difference>,
}
