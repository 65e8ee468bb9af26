//! Comparing arms: what may be compared, and what can be said.
//!
//! Two arms are compared only if everything but the treatment is equal: epochs trained, seeds, and the environment of
//! each pair, on runs that reached the epoch that is read; and only if the treatment is one setting, or what was declared
//! to be one. What is not comparable is refused with its reason and takes its contrasts with it; other arms are compared
//! nevertheless. An exploratory comparison computes everything that can
//! be computed, says so, and gives no verdict where there is a refusal.
//!
//! Scores are made one run at a time by [`score`], so that of predictions no more than one run's are in memory; what each
//! patient contributes to the metric is kept of every run.

mod check;
pub mod claims;
mod confounded;
mod contrast;
mod difference;
mod factors;
mod frozen;
mod models;
mod reading;
mod score;
#[cfg(test)]
mod tests;
mod treatment;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::Environment,
    dataset::Split,
    digest::Digest,
    document::{
        Comparison, ComparisonArm, ComparisonRun, Contrast, EndpointRule, Evidence, EvidenceEpoch, EvidenceRun,
        Metrics, Refusal, Summary,
    },
    ids::{Epoch, ExperimentId, RunId},
    plan::{Plan, PlannedRun},
    spec::{EndpointEpoch, ExperimentSpec, Metric},
    stats::{Influence, crossed},
    trainer::FailureCause,
};

pub(crate) use contrast::{arm_pairs, number};
pub use contrast::{pairs_for_significance, planned_contrasts};
pub use models::{ModelsError, PredictedModel, Prediction, Rules, compare_models};
pub use reading::{DataSets, Reading, files_to_read};
pub use score::{Patients, Predicted, label, score, summarize};
pub(crate) use treatment::fields;
pub use treatment::treatment;

/// What a comparison is made from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Which experiment.
    pub experiment: ExperimentId,
    /// What was submitted.
    pub spec: &'a ExperimentSpec,
    /// What was planned.
    pub plan: &'a Plan,
    /// The data set's classes.
    pub classes: &'a [String],
    /// What is known about each run; one that is missing has trained nothing.
    pub runs: &'a BTreeMap<RunId, RunFacts>,
    /// The epoch to read: 1 to the budget; none is the endpoint.
    pub at: Option<Epoch>,
    /// Compare what is not comparable, too.
    pub exploratory: bool,
}

/// What is known about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFacts {
    /// How it stands.
    pub outcome: Outcome,
    /// The environment of each committed epoch along its lineage, from epoch 1 without gaps.
    pub environments: Vec<Environment>,
    /// Digest of what was frozen in each committed epoch, where it is known.
    pub frozen: Vec<Option<Digest>>,
    /// Its scores at the epoch that is read or, where it did not get there, at its last one.
    pub metrics: Metrics,
    /// What each patient contributes to the metric that is read; none where it is undefined.
    pub influence: Option<Influence>,
}

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is queued or running.
    Unfinished,
    /// It trained all its epochs.
    Done,
    /// It failed after its last committed epoch.
    Failed {
        /// Who must act.
        cause: FailureCause,
        /// What happened.
        message: String,
    },
    /// It was cancelled after its last committed epoch.
    Cancelled,
}

impl RunFacts {
    /// What the evidence says of a run, with what was read of it.
    pub fn of(evidence: &Evidence, run: &EvidenceRun, reading: Reading) -> Self {
        let environment = |epoch: &EvidenceEpoch| evidence.environments.get(epoch.environment).cloned();
        Self {
            outcome: run.outcome.clone(),
            environments: run.epochs.iter().map_while(environment).collect(),
            frozen: run.epochs.iter().map(|epoch| epoch.frozen).collect(),
            metrics: reading.metrics,
            influence: reading.influence,
        }
    }
}

/// Why nothing can be compared at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(
        "epoch {at} cannot be read: the experiment trains {budget} epochs, so give --at a number from 1 to {budget}, or \
         leave it out to read the endpoint"
    )]
    NoSuchEpoch { at: Epoch, budget: u32 },
    #[error("{what} of the data set has no sample of {place}: the predictions belong to another data set")]
    ForeignPredictions { what: &'static str, place: String },
    #[error("the predictions on {place} are of {found} samples and the data set has {expected}")]
    IncompletePredictions { place: String, found: usize, expected: usize },
    #[error("the predictions on {place} are not usable: {cause}")]
    Predictions { place: String, cause: crate::stats::Error },
    #[error("epoch {epoch} of run {run} was committed without its predictions on {what}")]
    Unpredicted { run: RunId, epoch: Epoch, what: String },
    #[error("there are predictions on {0:?}, which the experiment does not name")]
    UnknownExternal(String),
    #[error(transparent)]
    Unreadable(#[from] crate::predictions::Error),
}

/// One arm against another, by their indices in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArmPair {
    pub(crate) baseline: usize,
    pub(crate) arm: usize,
}

/// The epoch that is read: `at`, or the endpoint's.
///
/// # Errors
/// When the experiment does not have such an epoch.
pub fn epoch_to_read(spec: &ExperimentSpec, at: Option<Epoch>) -> Result<Epoch, Error> {
    let EndpointEpoch::Last = spec.endpoint.epoch;
    let budget = spec.budget.epochs;
    let at = at.unwrap_or(Epoch(budget));
    if (1..=budget).contains(&at.0) { Ok(at) } else { Err(Error::NoSuchEpoch { at, budget }) }
}

/// The metric that arms are judged on where epoch `at` is read: before the endpoint test data are not looked at.
pub fn metric_to_read(spec: &ExperimentSpec, at: Epoch) -> Metric {
    let metric = spec.endpoint.metric;
    if at.0 < spec.budget.epochs { Metric { split: Split::Val, ..metric } } else { metric }
}

/// One value where all are the same, else a list.
fn one_or_list(mut values: Vec<serde_json::Value>) -> serde_json::Value {
    match values.first() {
        Some(first) if values.iter().all(|value| value == first) => values.swap_remove(0),
        _ => serde_json::Value::from(values),
    }
}

impl Input<'_> {
    fn epochs_trained(&self, run: RunId, at: Epoch) -> u32 {
        let committed = self.runs.get(&run).map_or(0, |facts| facts.environments.len());
        u32::try_from(committed).unwrap_or(u32::MAX).min(at.0)
    }

    fn arm_name(&self, arm: usize) -> &str {
        &self.plan.arms[arm].name
    }
}

/// Compares the arms of an experiment.
///
/// # Errors
/// When the epoch to read does not exist. What is not comparable is not an error but an entry of
/// [`Comparison::refused`].
pub fn compare(input: &Input<'_>) -> Result<Comparison, Error> {
    let at = epoch_to_read(input.spec, input.at)?;
    let spec = input.spec;
    let budget = spec.budget.epochs;
    let truncated = at.0 < budget;
    let pairs = contrast::arm_pairs(spec, &input.plan.arms);
    let arms: Vec<ComparisonArm> = (0..input.plan.arms.len()).map(|arm| read_arm(input, arm, at)).collect();
    let refused = check::refusals(input, &pairs, at);
    let contrasts = contrast::contrasts(input, &pairs, &arms, &refused, at);
    let refused = refused.into_iter().chain(contrasts.undefined).collect::<Vec<_>>();
    let arms = if input.exploratory { arms } else { withhold(arms, &contrasts.made, &refused) };
    Ok(Comparison {
        experiment: input.experiment,
        name: spec.name.clone(),
        endpoint: EndpointRule::from(spec.endpoint),
        at,
        budget,
        truncated,
        exploratory: input.exploratory,
        classes: input.classes.to_vec(),
        positive_class: if input.classes.len() == 2 { input.classes.last().cloned() } else { None },
        alpha: spec.compare.alpha,
        correct: spec.compare.correct,
        arms,
        contrasts: contrasts.made,
        refused,
    })
}

/// The runs of an arm. A plan lists runs arm by arm, so they are one stretch.
pub(crate) fn runs_of(plan: &Plan, arm: usize) -> &[PlannedRun] {
    let first = plan.runs.partition_point(|run| run.arm < arm);
    let end = plan.runs.partition_point(|run| run.arm <= arm);
    &plan.runs[first..end]
}

fn read_arm(input: &Input<'_>, arm: usize, at: Epoch) -> ComparisonArm {
    let run = |run: &PlannedRun| ComparisonRun {
        run: run.id,
        seed: run.seed,
        epochs_trained: input.epochs_trained(run.id, at),
        metrics: input.runs.get(&run.id).map(|facts| facts.metrics.clone()).unwrap_or_default(),
    };
    let runs: Vec<_> = runs_of(input.plan, arm).iter().map(run).collect();
    let resolved = &input.plan.arms[arm];
    let mut summary = summarize(&runs);
    add_interval(input, metric_to_read(input.spec, at), &runs, &mut summary);
    ComparisonArm { name: resolved.name.clone(), levels: resolved.levels.clone(), runs, summary }
}

/// How sure the arm's mean of the primary metric is, where all its runs have it.
fn add_interval(input: &Input<'_>, metric: Metric, runs: &[ComparisonRun], summary: &mut Summary) {
    let of_split = if metric.split == Split::Test { &mut summary.test } else { &mut summary.val };
    let Some(spread) = of_split.get_mut(metric.score.name()) else { return };
    let value = |run: &ComparisonRun| run.metrics.on(metric.split)?.get(metric.score);
    let values: Option<Vec<f64>> = runs.iter().map(value).collect();
    let influences: Option<Vec<Influence>> =
        runs.iter().map(|run| input.runs.get(&run.run)?.influence.clone()).collect();
    let estimate = values.zip(influences).and_then(|(values, influences)| crossed(&values, &influences));
    spread.interval = estimate
        .filter(|estimate| estimate.standard_error > 0.0)
        .map(|estimate| estimate.interval(1.0 - input.spec.compare.alpha));
}

/// Takes the scores from arms that a refusal names and that no contrast is left for: printed next to each other they
/// would be the comparison that was refused.
fn withhold(mut arms: Vec<ComparisonArm>, contrasts: &[Contrast], refused: &[Refusal]) -> Vec<ComparisonArm> {
    let named: BTreeSet<&String> = refused.iter().flat_map(|refusal| &refusal.arms).collect();
    let compared: BTreeSet<&String> =
        contrasts.iter().flat_map(|contrast| [&contrast.baseline, &contrast.arm]).collect();
    for arm in arms.iter_mut().filter(|arm| named.contains(&arm.name) && !compared.contains(&arm.name)) {
        arm.runs.iter_mut().for_each(|run| run.metrics = Metrics::default());
        arm.summary = Default::default();
    }
    arms
}

impl From<crate::spec::Endpoint> for EndpointRule {
    fn from(endpoint: crate::spec::Endpoint) -> Self {
        Self { metric: endpoint.metric, epoch: endpoint.epoch, threshold: endpoint.threshold }
    }
}
