//! `ceteris.report/1`: everything that is told of an experiment once it is over. Every number in it is a function of
//! [`super::Evidence`] and of the predictions and labels that it names, so that anybody can compute it again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Comparison, Ledger, Metrics, RunSpent, Timestamp, Uncertainty};
use crate::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Epoch, ExperimentId},
    spec::{Metric, ResolvedStage},
};

/// `ceteris.report/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "ceteris.report/1")]
pub struct Report {
    /// Which experiment.
    pub experiment: ExperimentId,
    /// What people call it.
    pub name: String,
    /// When it was submitted, and with it the endpoint fixed.
    pub submitted_at: Timestamp,
    /// The version of ceteris that made the report.
    pub version: String,
    /// Digest of the evidence document that the numbers were computed from.
    pub evidence: Digest,
    /// Whether what is read is what was declared, and when that was.
    pub declared: Declared,
    /// The answer, a sentence each.
    pub answer: Vec<String>,
    /// What has to be known before anything is believed, a sentence each.
    pub caveats: Vec<String>,
    /// Arms and contrasts at the endpoint.
    pub comparison: Comparison,
    /// The data sets: the experiment's own, then the external ones.
    pub data: Vec<DataSummary>,
    /// What there is to tell of each arm besides, in the comparison's order.
    pub arms: Vec<ReportArm>,
    /// The contrasts on val after each epoch that is told.
    pub sweeps: Vec<Sweep>,
    /// The contrasts on val where something else than epochs is made equal.
    pub matched: Vec<Matched>,
    /// Digest of the attributes that subgroups were made of; null without.
    #[serde(default)]
    pub attributes: Option<Digest>,
    /// The contrasts within groups of samples.
    #[serde(default)]
    pub subgroups: Vec<SubgroupDifference>,
    /// Ensembles of the runs; none where their predictions are too many to be kept.
    pub ensembles: Vec<Ensemble>,
    /// Every setting, and what it is in this experiment: treatment, controlled or incidental.
    pub fields: Vec<Field>,
    /// What it cost.
    pub ledger: Ledger,
    /// The environment classes that epochs were trained in.
    pub environments: Vec<Environment>,
    /// How the arms' training branches, for one seed; all seeds have the same shape.
    pub tree: Vec<TreeSegment>,
    /// Items of reporting guidelines that the experiment itself answers.
    pub checklist: Vec<ChecklistItem>,
}

/// When what is read was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Declared {
    /// The endpoint is read, which was fixed before anything was trained.
    BeforeTraining,
    /// The endpoint is read; when it was fixed some of its epochs had been trained by earlier experiments.
    AfterSomeTraining,
    /// Something else is read than the endpoint.
    PostHoc,
    /// What is not comparable is shown.
    Exploratory,
}

/// A data set, as far as a reader has to know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Its name in the spec.
    pub name: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// How pixels were made.
    pub transform: String,
    /// Height and width, in pixels.
    pub image_size: u32,
    /// Whether it is scored at the endpoint only, as a whole.
    pub external: bool,
    /// Its classes.
    pub classes: Vec<String>,
    /// Its parts.
    pub splits: Vec<SplitSummary>,
    /// Patients that are in more than one of its parts.
    pub patients_in_two_parts: u64,
    /// Samples of val, test or external data whose pixels are those of a sample in another part or in the experiment's own data.
    pub pixels_in_two_parts: u64,
}

/// A part of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// `train`, `val`, `test`, or `all` of an external data set.
    pub split: String,
    /// Samples of each class.
    pub samples: Vec<u64>,
    /// Patients; null where they are not known of all samples.
    pub patients: Option<u64>,
}

/// An arm, besides what the comparison says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportArm {
    /// Its name.
    pub name: String,
    /// How it spends its budget.
    pub stages: Vec<ResolvedStage>,
    /// What its runs spent along their lineages, each on its own: mean over runs.
    pub spent: RunSpent,
    /// Scores on val after each epoch that is told.
    pub curves: Vec<Curve>,
    /// Whether it was still improving when its budget ended; null where its last stage has fewer than three epochs that are told.
    pub plateau: Option<Plateau>,
    /// Curves of decisions, for each part that was scored at the endpoint; none with more than two classes.
    pub shapes: Vec<Shapes>,
    /// What it loses on data from elsewhere.
    pub external: Vec<ExternalDrop>,
}

/// A score on val after each epoch that is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// `auc`, `loss`, ….
    pub score: String,
    /// In the order of epochs.
    pub points: Vec<CurvePoint>,
}

/// A score of the runs of an arm after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Which epoch.
    pub epoch: Epoch,
    /// Mean over runs.
    pub mean: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Over how many runs.
    pub runs: u64,
}

/// How an arm's val score moved at the end of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// What is looked at.
    pub metric: Metric,
    /// The window's first epoch.
    pub first: Epoch,
    /// The window's last epoch.
    pub last: Epoch,
    /// The least-squares slope over the window, mean over runs, per epoch.
    pub slope: f64,
    /// Where the slope lies with confidence 1 - alpha, over seeds and patients; null where nothing varies.
    pub interval: Option<[f64; 2]>,
    /// What that says.
    pub state: PlateauState,
}

/// What a slope says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlateauState {
    /// The interval is on the side of better: more epochs may change the ranking.
    StillImproving,
    /// The interval is on the side of worse.
    Worsening,
    /// The interval includes 0.
    NoChangeSeen,
}

/// What an arm's decisions look like on one part of the data, over its seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shapes {
    /// `val`, `test` or the name of an external data set.
    pub scored: String,
    /// Sensitivity over the false positive rate.
    pub roc: Option<Band>,
    /// Precision over sensitivity.
    pub precision_recall: Option<Band>,
    /// Rates at every threshold.
    pub thresholds: ThresholdStudy,
    /// The threshold that was chosen on val for each seed, and what it does here.
    pub chosen: Vec<Chosen>,
    /// Told probabilities against what came true; bins of equal width, all seeds together.
    pub reliability: Vec<Reliability>,
}

/// A curve of each seed, as mean and range over seeds at the same points.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// The points.
    pub x: Vec<f64>,
    /// Mean over seeds.
    pub mean: Vec<f64>,
    /// Smallest.
    pub min: Vec<f64>,
    /// Largest.
    pub max: Vec<f64>,
}

/// Rates over thresholds, mean over seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThresholdStudy {
    /// The thresholds.
    pub threshold: Vec<f64>,
    /// Of positives that are called so; null where there are none.
    pub sensitivity: Vec<Option<f64>>,
    /// Of negatives that are called so.
    pub specificity: Vec<Option<f64>>,
    /// Of those that are called positive; over the seeds that call any.
    pub precision: Vec<Option<f64>>,
    /// Harmonic mean of precision and sensitivity.
    pub f1: Vec<Option<f64>>,
}

/// A threshold that was chosen on val.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// For which seed.
    pub seed: u64,
    /// The threshold.
    pub threshold: f64,
    /// What it does to positives here.
    pub sensitivity: Option<f64>,
    /// What it does to negatives here.
    pub specificity: Option<f64>,
}

/// A bin of told probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// From here, included.
    pub low: f64,
    /// To here, excluded but for 1.
    pub high: f64,
    /// Predictions in it, all seeds together.
    pub count: u64,
    /// Their mean probability; null where there are none.
    pub told: Option<f64>,
    /// The share of them that are positive.
    pub came_true: Option<f64>,
}

/// A contrast within a group of samples: a look after the fact, without a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubgroupDifference {
    /// `val`, `test` or the name of an external data set.
    pub scored: String,
    /// Such as `sex`.
    pub attribute: String,
    /// Such as `F`.
    pub value: String,
    /// Whether only one class has this value, so that its samples are held against all of the other classes.
    pub widened: bool,
    /// How many samples.
    pub samples: u64,
    /// Of how many patients; samples, where patients are not known.
    pub patients: u64,
    /// The arm that the other is compared with.
    pub baseline: String,
    /// The other arm.
    pub arm: String,
    /// `auc`, ….
    pub score: String,
    /// Mean over seeds of the baseline's.
    pub of_baseline: f64,
    /// Mean over seeds of the arm's.
    pub of_arm: f64,
    /// `arm - baseline`, mean over seeds.
    pub difference: f64,
    /// How sure it is, over seeds and the group's patients; null where nothing varies.
    pub uncertainty: Option<Uncertainty>,
}

/// Predictions of several runs, put together and judged like a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ensemble {
    /// Which runs: all seeds of an arm, all arms of a seed, or all.
    pub name: String,
    /// How they are put together.
    pub combination: Combination,
    /// How many runs.
    pub members: u64,
    /// What it is charged: the sum of its members' epochs.
    pub epochs: u64,
    /// The primary metric.
    pub metric: Metric,
    /// Where it lies with confidence 1 - alpha, over patients: it is about this very ensemble. Null where nothing varies.
    pub interval: Option<[f64; 2]>,
    /// Its scores; the threshold is chosen on its predictions on val.
    pub metrics: Metrics,
}

/// How predictions are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combination {
    /// Mean of probabilities.
    Mean,
    /// Mean of logits.
    LogitMean,
}

/// A score on external data against the same on test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExternalDrop {
    /// The external data set.
    pub name: String,
    /// `auc`, ….
    pub score: String,
    /// Mean over seeds on test.
    pub internal: f64,
    /// Mean over seeds on the external data.
    pub external: f64,
    /// Where the score on the external data lies, over seeds and its patients; null where nothing varies.
    pub external_interval: Option<[f64; 2]>,
    /// `external - internal`.
    pub difference: f64,
    /// How sure the difference is, over seeds and both sets of patients; null where nothing varies.
    pub uncertainty: Option<Uncertainty>,
}

/// A contrast on val, epoch by epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The arm that the other is compared with.
    pub baseline: String,
    /// The other arm.
    pub arm: String,
    /// What is compared: on val.
    pub metric: Metric,
    /// Whether a run that is read early is not a shorter run: a schedule of either arm depends on the horizon, or an arm has several
    /// stages, which a smaller budget would have been divided into otherwise.
    pub truncated: bool,
    /// In the order of epochs.
    pub points: Vec<SweepPoint>,
    /// From which epoch on the arm is on the side on which it ends; null where it never leaves it, or where nothing differs.
    pub crossing: Option<Crossing>,
}

/// The difference after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// Which epoch.
    pub epoch: Epoch,
    /// Whether both arms have the same lineage up to here, so that they are the same.
    pub same: bool,
    /// `arm - baseline`, mean over seeds; null where it is undefined.
    pub difference: Option<f64>,
    /// Where it lies with confidence 1 - alpha, each epoch on its own; null where nothing varies.
    pub interval: Option<[f64; 2]>,
    /// Where all epochs' differences lie together with confidence 1 - alpha (Bonferroni's correction over the epochs that differ).
    pub simultaneous: Option<[f64; 2]>,
}

/// When an arm took the side on which it ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crossing {
    /// The first epoch from which on the difference keeps its last sign.
    pub epoch: Epoch,
    /// Where that lies with confidence 1 - alpha: bootstrap over seeds and patients, of the draws that end on this side.
    pub interval: [Epoch; 2],
    /// The share of draws that end on this side.
    pub share: f64,
}

/// A contrast where another quantity than epochs is made equal: for each seed, both runs are read at the last epoch by which neither
/// has spent more of it than the one that spent less in all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matched {
    /// `steps`, `samples`, `flops` (operations, counted as if nothing had been kept from before) or `seconds`.
    pub axis: String,
    /// The arm that the other is compared with.
    pub baseline: String,
    /// The other arm.
    pub arm: String,
    /// What is compared: on val.
    pub metric: Metric,
    /// How much both may have spent, mean over seeds.
    pub amount: f64,
    /// The epochs at which the baseline's runs are read: smallest and largest.
    pub baseline_epochs: [Epoch; 2],
    /// The epochs at which the arm's runs are read.
    pub arm_epochs: [Epoch; 2],
    /// `arm - baseline`, mean over seeds; null where a run has spent the amount before its first epoch is over.
    pub difference: Option<f64>,
    /// How sure it is; null where nothing varies.
    pub uncertainty: Option<Uncertainty>,
    /// What its interval says beside the one at equal epochs on val.
    pub says: MatchedSays,
}

/// What a contrast at another equality says beside the one at equal epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchedSays {
    /// Both intervals are above 0, both below, or both include it.
    Same,
    /// One is above 0 and the other below.
    Opposite,
    /// It includes 0, and the one at equal epochs does not.
    NotShown,
    /// It leaves 0 out, and the one at equal epochs does not.
    ShownHere,
    /// Where the arm is read it is still the same as the baseline: it had not come to what it does differently.
    NotTreated,
    /// One of them has no interval.
    Unknown,
}

/// A setting and what it is in this experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// Its path, such as `batch_size`.
    pub field: String,
    /// What it is.
    pub class: FieldClass,
    /// Its value; of a treatment an object with the value of each arm.
    pub value: Value,
}

/// What a setting is in an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldClass {
    /// It differs between arms on purpose.
    Treatment,
    /// It can change results and is equal in all arms.
    Controlled,
    /// It changes no result.
    Incidental,
}

impl FieldClass {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Treatment => "treatment",
            Self::Controlled => "controlled",
            Self::Incidental => "incidental",
        }
    }
}

/// Consecutive epochs that some arms share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeSegment {
    /// Index of the segment that it continues.
    pub parent: Option<usize>,
    /// Its first epoch.
    pub first: Epoch,
    /// Its last epoch.
    pub last: Epoch,
    /// What is trained in it, in order: `head`, `denseblock4`.
    pub train: Vec<String>,
    /// The arms whose runs go through it.
    pub arms: Vec<String>,
}

/// An item of a reporting guideline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChecklistItem {
    /// The guidelines that ask for it: `CLAIM`, `TRIPOD+AI`.
    pub guidelines: Vec<String>,
    /// What is asked.
    pub asks: String,
    /// What the experiment answers; null where only its authors can.
    pub answer: Option<String>,
}
