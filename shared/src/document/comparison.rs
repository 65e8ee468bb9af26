//! `ceteris.compare/1`: arms next to each other, what can be said about them, and what is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Difference;
use crate::{
    ids::{Epoch, ExperimentId, RunId},
    spec::{Correction, EndpointEpoch, Metric, Threshold},
};

/// `ceteris.compare/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.compare/1")]
pub struct Comparison {
    /// Which experiment.
    pub experiment: ExperimentId,
    /// What people call it.
    pub name: String,
    /// On what the arms are judged, as declared before training.
    pub endpoint: EndpointRule,
    /// The epoch that is read.
    pub at: Epoch,
    /// Epochs that every arm spends.
    pub budget: u32,
    /// True where `at` is before the endpoint: a look at unfinished training, val only.
    pub truncated: bool,
    /// True where it was asked to compare what is not comparable: evidence of nothing.
    pub exploratory: bool,
    /// The classes, in the order of confusion matrices.
    pub classes: Vec<String>,
    /// The class whose probability is thresholded; null where there are more than two classes.
    pub positive_class: Option<String>,
    /// The family-wise false-alarm rate.
    pub alpha: f64,
    /// How p-values are corrected over the contrasts.
    pub correct: Correction,
    /// All arms, in the order of the spec. Those that a refusal names have no metrics, unless exploratory.
    pub arms: Vec<ComparisonArm>,
    /// Each arm against its baseline, where nothing is refused about either.
    pub contrasts: Vec<Contrast>,
    /// What is not comparable. `compare` exits with 3 where this is not empty, unless exploratory.
    pub refused: Vec<Refusal>,
}

/// On what arms are judged; fixed before anything is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointRule {
    /// The primary metric, such as `val.auc`.
    pub metric: Metric,
    /// Which epoch is read.
    pub epoch: EndpointEpoch,
    /// How a probability becomes a decision: a number, `youden`, `f1`, or a table with one key: `sensitivity`,
    /// `specificity` or `cost`.
    pub threshold: Threshold,
}

/// One arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonArm {
    /// Its name; with a grid, followed by its levels.
    pub name: String,
    /// The factors and this arm's level of each.
    pub levels: BTreeMap<String, String>,
    /// Its runs, one per seed.
    pub runs: Vec<ComparisonRun>,
    /// Every score over the seeds.
    pub summary: Summary,
}

/// One run, read at the epoch `at`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonRun {
    /// Its identity.
    pub run: RunId,
    /// Its seed.
    pub seed: u64,
    /// Epochs trained along its lineage, up to the epoch that is read.
    pub epochs_trained: u32,
    /// Its scores.
    pub metrics: Metrics,
}

/// Scores by what was scored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// On val.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<Scores>,
    /// On test; only at the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Scores>,
    /// On external data sets, by name; only at the endpoint.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external: BTreeMap<String, Scores>,
}

/// All scores of one set of predictions. What is undefined, such as precision where nothing was called positive, is
/// null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// How many samples.
    pub samples: u64,
    /// Area under the ROC curve; with more than two classes, the mean of one-versus-rest.
    pub auc: Option<f64>,
    /// Part of the samples that were called right.
    pub accuracy: Option<f64>,
    /// Mean cross-entropy, natural logarithm.
    pub loss: Option<f64>,
    /// Positive predictive value; with more than two classes, the mean over classes, as for the next three.
    pub precision: Option<f64>,
    /// Sensitivity.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// True negative rate.
    pub specificity: Option<f64>,
    /// Mean of the classes' recalls.
    pub balanced_accuracy: Option<f64>,
    /// Average precision; with more than two classes, the mean of one-versus-rest.
    pub pr_auc: Option<f64>,
    /// Mean squared error of probabilities; with more than two classes, its sum over classes.
    pub brier: Option<f64>,
    /// Expected calibration error, ten bins of equal width.
    pub ece: Option<f64>,
    /// Slope of the recalibration: below 1 is overconfident. Null with more than two classes.
    pub calibration_slope: Option<f64>,
    /// Intercept of the recalibration, on the scale of logits.
    pub calibration_intercept: Option<f64>,
    /// Counts: a row per true class, a column per called class, in the order of `classes`.
    pub confusion: Vec<Vec<u64>>,
    /// The probability of the positive class from which on a sample is called positive; null with more than two
    /// classes, where the most probable class is called.
    pub threshold: Option<f64>,
}

/// A score over the seeds of an arm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Over how many runs; the others have it undefined.
    pub runs: u64,
    /// Where the true mean over seeds and patients lies with confidence 1 - alpha; null for scores that are not the primary metric,
    /// and where it is undefined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

/// Spreads by what was scored and by score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// On val.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub val: BTreeMap<String, Spread>,
    /// On test.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub test: BTreeMap<String, Spread>,
    /// On external data sets, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external: BTreeMap<String, BTreeMap<String, Spread>>,
}

/// Two arms, paired by seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// The arm that the other is compared with.
    pub baseline: String,
    /// The other arm.
    pub arm: String,
    /// What is compared.
    pub metric: Metric,
    /// The fields in which they differ: the treatment.
    pub treatment: Vec<FieldDifference>,
    /// The settings in which the two arms differ, each once: `lr`, `augment`; `stages` is how the budget is spent.
    pub factors: Vec<String>,
    /// Whether they differ in one setting, so that a difference in results is that setting's.
    pub single_factor: bool,
    /// Whether they are several that are declared to be one treatment, so that a difference is theirs together.
    #[serde(default)]
    pub bundle: bool,
    /// The numbers.
    #[serde(flatten)]
    pub difference: Difference,
    /// What can be said.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub because: String,
}

/// A field in which two arms differ, such as `stages[1].train`. A side that does not have it says null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldDifference {
    /// Its path.
    pub field: String,
    /// Its value in the baseline.
    pub baseline: serde_json::Value,
    /// Its value in the other arm.
    pub arm: serde_json::Value,
}

/// What can be said about two arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The arm is better than the baseline.
    Better,
    /// The arm is worse than the baseline.
    Worse,
    /// Whatever the difference is, it is smaller than the declared margin.
    Equivalent,
    /// Not enough evidence for any of these.
    Inconclusive,
    /// Something else than the treatment differs too.
    NotComparable,
}

impl Verdict {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Equivalent => "equivalent",
            Self::Inconclusive => "inconclusive",
            Self::NotComparable => "not comparable",
        }
    }
}

/// Why arms are not compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which arms.
    pub arms: Vec<String>,
    /// The kind of reason, for programs.
    pub reason: Reason,
    /// The reason, with names, numbers and the way out.
    pub message: String,
    /// What differs, field by field.
    pub fields: Vec<RefusedField>,
}

/// The kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Arms were trained for different numbers of epochs.
    UnequalBudgets,
    /// Runs are not there yet.
    Unfinished,
    /// Runs failed before the epoch that is read.
    Failed,
    /// The loss of runs was no longer finite before the epoch that is read.
    Diverged,
    /// Runs were cancelled before the epoch that is read.
    Cancelled,
    /// An arm lacks seeds that another has, so pairs break.
    SeedsMissing,
    /// The two runs of a pair were computed in different environments.
    Environment,
    /// Weights or BatchNorm statistics that are frozen moved.
    FrozenMoved,
    /// The primary metric is undefined or was not measured.
    MetricUndefined,
    /// Arms differ in several settings at once, or in one that is not the declared treatment.
    Confounded,
    /// Runs are read in the middle of a schedule that depends on how long its stage is.
    Truncated,
}

/// A field that should be equal and is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedField {
    /// Its path, such as `epochs_trained` or `environment.threads`.
    pub field: String,
    /// Its value in each arm; a list where an arm's runs differ.
    pub values: BTreeMap<String, serde_json::Value>,
}
