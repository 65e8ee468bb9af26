//! Every statistic held against other people's programs: scikit-learn, statsmodels, SciPy and MLstatkit, and papers' formulas written
//! out where none of them has it. `golden/generate.py` makes `golden/cases.json`; what was `None` there must be `None` here.
//!
//! Two cases are written out here, the same predictions scored by scikit-learn 1.9: `roc_auc_score`, `log_loss`,
//! `confusion_matrix`, `accuracy_score`, `precision_score`, `recall_score`, `f1_score` (macro averages for three classes),
//! `roc_curve`.

mod areas;
mod calibration;
mod decisions;
mod means;
mod planning;
mod scores;

use std::{collections::BTreeMap, fmt::Debug};

use serde::Deserialize;

use super::*;
use crate::spec::{Score, Threshold};

/// What two programs may differ by, relative to the expected value: rounding alone.
const RELATIVE: f64 = 1e-9;
/// The same, absolute, for sums of numbers up to 1 that come to 0 or nearly: a difference of equal parts, or the epsilon by which
/// scikit-learn's `log_loss` clips a probability of 1.
const ROUNDING: f64 = 4.0 * f64::EPSILON;

/// What generate.py has written.
#[derive(Deserialize)]
struct Cases {
    binary: Vec<Binary>,
    rows: Vec<Rows>,
    crossed: Vec<means::Crossed>,
    t: Vec<means::TTest>,
    sign_flip: Vec<means::SignFlip>,
    many_sign_flips: Vec<means::SignFlip>,
    over_seeds: Vec<means::OverSeeds>,
    bootstrap: Vec<means::Resampled>,
    holm: Vec<planning::Family>,
    power: Vec<planning::Study>,
    student: Vec<planning::Tail>,
    mcnemar: Vec<(u64, u64, f64)>,
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("golden/cases.json")).expect("generate.py writes what is read here")
}

/// A value for each score; `None` where it is undefined.
type ByScore = BTreeMap<Score, Option<f64>>;

/// Two models on the same samples of two classes.
#[derive(Deserialize)]
struct Binary {
    labels: Vec<u32>,
    scores: Vec<f64>,
    second: Vec<f64>,
    clusters: Vec<u32>,
    threshold: f64,
    /// How often each cluster counts in `weighted` and `weighted_slope`.
    weights: Vec<u32>,
    expected: ByScore,
    weighted: ByScore,
    variances: ByScore,
    confusion: Vec<Vec<u64>>,
    youden: Option<f64>,
    f1: Option<f64>,
    delong: Option<areas::Expected>,
    clustered: Option<areas::Expected>,
    mcnemar: (u64, u64, f64),
    recalibration: Option<[f64; 2]>,
    weighted_slope: Option<f64>,
}

impl Binary {
    fn labelled(&self) -> Labelled {
        Labelled::of_scores(self.labels.clone(), &self.scores).expect("well-formed")
    }

    fn clusters(&self) -> Clusters {
        of(&self.clusters)
    }
}

/// Two to four classes, kept as f32.
#[derive(Deserialize)]
struct Rows {
    classes: usize,
    labels: Vec<u32>,
    probabilities: Vec<f32>,
    clusters: Vec<u32>,
    expected: ByScore,
    variances: ByScore,
    confusion: Vec<Vec<u64>>,
    recalibration: Option<[f64; 2]>,
}

impl Rows {
    fn labelled(&self) -> Labelled {
        Labelled::new(self.classes, self.labels.clone(), self.probabilities.clone()).expect("well-formed")
    }
}

/// Clusters that are numbered as they come.
fn of(clusters: &[u32]) -> Clusters {
    let named = Clusters::named(clusters.iter().copied().map(Some));
    assert_eq!(named.of(), clusters);
    named
}

/// Comparisons of one test: all are made before any is reported.
#[derive(Default)]
struct Checks {
    made: usize,
    wrong: Vec<String>,
}

impl Checks {
    fn same<T: PartialEq + Debug>(&mut self, what: &str, case: usize, found: T, expected: T) {
        self.made += 1;
        if found != expected {
            self.wrong.push(format!("{what} of case {case}: {found:?} is not {expected:?}"));
        }
    }

    /// Within [`RELATIVE`] of what is expected, or `absolute`.
    fn near(&mut self, what: &str, case: usize, found: Option<f64>, expected: Option<f64>, absolute: f64) {
        self.made += 1;
        let close = match (found, expected) {
            (Some(found), Some(expected)) => (found - expected).abs() <= (RELATIVE * expected.abs()).max(absolute),
            (found, expected) => found == expected,
        };
        if !close {
            self.wrong.push(format!("{what} of case {case}: {found:?} is not {expected:?}"));
        }
    }

    /// Nothing was wrong, and no fewer comparisons were made than there should be.
    fn finish(self, at_least: usize) {
        assert!(self.wrong.is_empty(), "{} of {}:\n{}", self.wrong.len(), self.made, self.wrong.join("\n"));
        assert!(self.made >= at_least, "only {} comparisons", self.made);
    }
}

fn near(found: Option<f64>, expected: f64) {
    assert!(found.is_some_and(|found| (found - expected).abs() < 1e-7), "{found:?} is not {expected}");
}

#[test]
fn two_classes_as_scikit_learn_has_them() {
    let labels = vec![0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0];
    let sixteenths = [3, 10, 1, 8, 15, 6, 13, 4, 11, 2, 9, 0, 7, 14, 5, 12, 3, 10, 1, 8, 15, 6, 13, 4u8];
    let probabilities = sixteenths.iter().map(|p| f32::from(*p) / 16.0).flat_map(|p| [1.0 - p, p]).collect();
    let labelled = Labelled::new(2, labels, probabilities).expect("well-formed");
    near(auc_one_vs_rest(&labelled), 0.8642857142857142);
    near(log_loss(&labelled), 0.48406562209129333);
    near(choose(Threshold::Youden, &labelled), 0.375);
    let confusion = Confusion::at_threshold(&labelled, 0.5).expect("two classes");
    assert_eq!(confusion.counts(), [[10, 4], [2, 8]]);
    near(confusion.accuracy(), 0.75);
    near(confusion.precision(), 0.6666666666666666);
    near(confusion.recall(), 0.8);
    near(confusion.f1(), 0.7272727272727273);
}

#[test]
fn three_classes_as_scikit_learn_has_them() {
    let labels = vec![0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 1, 1];
    let raw: [[u8; 3]; 12] = [
        [1, 6, 11],
        [4, 9, 3],
        [7, 1, 6],
        [10, 4, 9],
        [2, 7, 1],
        [5, 10, 4],
        [8, 2, 7],
        [11, 5, 10],
        [3, 8, 2],
        [6, 11, 5],
        [9, 3, 8],
        [1, 6, 11],
    ];
    let normalised =
        |row: &[u8; 3]| row.map(|value| (f64::from(value) / row.iter().map(|v| f64::from(*v)).sum::<f64>()) as f32);
    let probabilities = raw.iter().flat_map(normalised).collect();
    let labelled = Labelled::new(3, labels, probabilities).expect("well-formed");
    near(auc_one_vs_rest(&labelled), 0.2986166225749559);
    near(log_loss(&labelled), 1.6019649654138777);
    let confusion = Confusion::most_probable(&labelled);
    assert_eq!(confusion.counts(), [[1, 2, 1], [3, 1, 1], [1, 2, 0]]);
    near(confusion.accuracy(), 0.16666666666666666);
    near(confusion.precision(), 0.13333333333333333);
    near(confusion.recall(), 0.15);
    near(confusion.f1(), 0.14074074074074075);
}
