//! From predictions to scores, and from scores to their spread over seeds.

use std::collections::BTreeMap;

use super::Error;
use crate::{
    dataset::{self, Split},
    document::{ComparisonRun, Metrics, Scores, Spread, Summary},
    predictions::Predictions,
    spec::{Metric, Score, Threshold},
    stats::{
        self, Clusters, Confusion, Influence, Labelled, auc_one_vs_rest, average_precision_one_vs_rest, brier, choose,
        expected_calibration_error, log_loss, recalibration,
    },
    trainer::Scored,
};

/// The labelled predictions of one run at one epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predicted {
    /// On val.
    pub val: Option<Labelled>,
    /// On test.
    pub test: Option<Labelled>,
    /// On external data sets, by name.
    pub external: BTreeMap<String, Labelled>,
}

/// Puts the labels of the data set next to predictions on it.
///
/// # Errors
/// When the predictions are not exactly of the samples that were to be scored, or their classes are not the data set's.
pub fn label(predictions: Predictions, manifest: &dataset::Manifest, scored: &Scored) -> Result<Labelled, Error> {
    let place = match scored {
        Scored::Split(split) => split.to_string(),
        Scored::External(name) => format!("external data set {name:?}"),
    };
    let expected: Vec<u32> = match scored {
        Scored::Split(split) => manifest.split(*split).collect(),
        Scored::External(_) => (0..).zip(&manifest.samples).map(|(index, _)| index).collect(),
    };
    if predictions.samples.len() != expected.len() {
        return Err(Error::IncompletePredictions { place, found: predictions.samples.len(), expected: expected.len() });
    }
    if predictions.samples != expected {
        return Err(Error::ForeignPredictions { what: "this part", place });
    }
    if predictions.classes != manifest.classes.len() {
        return Err(Error::ForeignPredictions { what: "the list of classes", place });
    }
    let labels = expected.iter().map(|&index| manifest.samples[index as usize].class).collect();
    Labelled::new(predictions.classes, labels, predictions.probabilities)
        .map_err(|cause| Error::Predictions { place, cause })
}

/// Whose images the samples are: what is drawn together.
#[derive(Clone, Debug, PartialEq)]
pub struct Patients {
    /// Of the val split.
    pub val: Clusters,
    /// Of the test split.
    pub test: Clusters,
    /// Of external data sets, by name.
    pub external: BTreeMap<String, Clusters>,
}

impl Patients {
    /// Of a data set's splits, and of external data sets.
    pub fn of(manifest: &dataset::Manifest, external: &BTreeMap<String, dataset::Manifest>) -> Self {
        let split = |split: Split| {
            let samples = manifest.split(split).map(|index| manifest.samples[index as usize].patient.as_deref());
            Clusters::named(samples)
        };
        let whole = |(name, manifest): (&String, &dataset::Manifest)| {
            (name.clone(), Clusters::named(manifest.samples.iter().map(|sample| sample.patient.as_deref())))
        };
        Self { val: split(Split::Val), test: split(Split::Test), external: external.iter().map(whole).collect() }
    }
}

impl Predicted {
    /// The threshold that `rule` chooses on val.
    pub fn threshold(&self, rule: Threshold) -> Option<f64> {
        self.val.as_ref().and_then(|val| choose(rule, val))
    }

    /// What each patient contributes to a metric of one run. Undefined where the metric is, and where patients are too few.
    pub fn influence(&self, patients: &Patients, rule: Threshold, metric: Metric) -> Option<Influence> {
        let (labelled, clusters) = match metric.split {
            Split::Train => return None,
            Split::Val => (self.val.as_ref()?, &patients.val),
            Split::Test => (self.test.as_ref()?, &patients.test),
        };
        stats::influence(metric.score, labelled, self.threshold(rule), clusters).map(|(_, influence)| influence)
    }

    /// What each patient contributes to a score on each external data set, where that is defined.
    pub fn external_influences(
        &self,
        patients: &Patients,
        rule: Threshold,
        score: Score,
    ) -> BTreeMap<String, Influence> {
        let threshold = self.threshold(rule);
        let of = |(name, labelled): (&String, &Labelled)| {
            let (_, influence) = stats::influence(score, labelled, threshold, patients.external.get(name)?)?;
            Some((name.clone(), influence))
        };
        self.external.iter().filter_map(of).collect()
    }
}

/// All scores of one run. The threshold is chosen on val by `rule` and applied to everything.
pub fn score(predicted: &Predicted, rule: Threshold) -> Metrics {
    let threshold = predicted.threshold(rule);
    let scores = |labelled: &Labelled| scores(labelled, threshold);
    Metrics {
        val: predicted.val.as_ref().map(scores),
        test: predicted.test.as_ref().map(scores),
        external: predicted.external.iter().map(|(name, labelled)| (name.clone(), scores(labelled))).collect(),
    }
}

/// The scores of one set of predictions. With two classes and no threshold nothing is called, so what follows from
/// decisions is undefined.
pub(super) fn scores(labelled: &Labelled, threshold: Option<f64>) -> Scores {
    let confusion = match labelled.positive() {
        Some(_) => threshold.and_then(|threshold| Confusion::at_threshold(labelled, threshold)),
        None => Some(Confusion::most_probable(labelled)),
    };
    let decided = |score: fn(&Confusion) -> Option<f64>| confusion.as_ref().and_then(score);
    let recalibration = recalibration(labelled);
    Scores {
        samples: labelled.samples() as u64,
        auc: auc_one_vs_rest(labelled),
        accuracy: decided(Confusion::accuracy),
        loss: log_loss(labelled),
        precision: decided(Confusion::precision),
        recall: decided(Confusion::recall),
        f1: decided(Confusion::f1),
        specificity: decided(Confusion::specificity),
        balanced_accuracy: decided(Confusion::balanced_accuracy),
        pr_auc: average_precision_one_vs_rest(labelled),
        brier: brier(labelled),
        ece: expected_calibration_error(labelled),
        calibration_slope: recalibration.map(|fit| fit.slope),
        calibration_intercept: recalibration.map(|fit| fit.intercept),
        confusion: confusion.as_ref().map(|confusion| confusion.counts().to_vec()).unwrap_or_default(),
        threshold,
    }
}

impl Scores {
    /// One score.
    pub fn get(&self, score: Score) -> Option<f64> {
        match score {
            Score::Accuracy => self.accuracy,
            Score::Auc => self.auc,
            Score::BalancedAccuracy => self.balanced_accuracy,
            Score::Brier => self.brier,
            Score::Ece => self.ece,
            Score::F1 => self.f1,
            Score::Loss => self.loss,
            Score::PrAuc => self.pr_auc,
            Score::Precision => self.precision,
            Score::Recall => self.recall,
            Score::Specificity => self.specificity,
        }
    }

    /// All scores by name.
    fn named(&self) -> impl Iterator<Item = (&'static str, Option<f64>)> {
        let calibration =
            [("calibration_slope", self.calibration_slope), ("calibration_intercept", self.calibration_intercept)];
        Score::ALL.map(|score| (score.name(), self.get(score))).into_iter().chain(calibration)
    }
}

impl Metrics {
    /// The scores on a split; there are none on train.
    pub fn on(&self, split: Split) -> Option<&Scores> {
        match split {
            Split::Train => None,
            Split::Val => self.val.as_ref(),
            Split::Test => self.test.as_ref(),
        }
    }
}

/// Mean, smallest and largest of every score over the runs that have it.
pub fn summarize(runs: &[ComparisonRun]) -> Summary {
    let external: std::collections::BTreeSet<&String> =
        runs.iter().flat_map(|run| run.metrics.external.keys()).collect();
    Summary {
        val: spreads(runs.iter().filter_map(|run| run.metrics.val.as_ref())),
        test: spreads(runs.iter().filter_map(|run| run.metrics.test.as_ref())),
        external: external
            .into_iter()
            .map(|name| (name.clone(), spreads(runs.iter().filter_map(|run| run.metrics.external.get(name)))))
            .collect(),
    }
}

fn spreads<'a>(scores: impl Iterator<Item = &'a Scores>) -> BTreeMap<String, Spread> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, value) in scores.flat_map(Scores::named) {
        values.entry(name.to_owned()).or_default().extend(value);
    }
    values.into_iter().filter_map(|(name, values)| Some((name, spread(&values)?))).collect()
}

fn spread(values: &[f64]) -> Option<Spread> {
    let (&first, rest) = values.split_first()?;
    Some(Spread {
        mean: values.iter().sum::<f64>() / values.len() as f64,
        min: rest.iter().copied().fold(first, f64::min),
        max: rest.iter().copied().fold(first, f64::max),
        runs: values.len() as u64,
        interval: None,
    })
}
