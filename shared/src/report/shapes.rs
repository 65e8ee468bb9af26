//! What decisions look like at every threshold: ROC and precision-recall curves, rates over thresholds, calibration. Of each run at
//! fixed points, so that seeds can be averaged; two classes only.

use crate::{
    compare::Predicted,
    document::{Band, Chosen, Reliability, Shapes, ThresholdStudy},
    spec::Threshold,
    stats::{CALIBRATION_BINS, Labelled},
};

/// Points of a curve: every hundredth.
const STEPS: u32 = 100;

/// One run's curves on one part of the data.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RunShapes {
    pub(super) scored: String,
    roc: Option<Vec<f64>>,
    precision_recall: Option<Vec<f64>>,
    thresholds: Vec<Rates>,
    chosen: Option<(f64, Rates)>,
    bins: Vec<Bin>,
}

/// What a threshold does.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    sensitivity: Option<f64>,
    specificity: Option<f64>,
    precision: Option<f64>,
    f1: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bin {
    count: u64,
    told: f64,
    positives: u64,
}

impl RunShapes {
    /// On everything that was predicted.
    pub(super) fn of(predicted: &Predicted, rule: Threshold) -> Vec<Self> {
        let threshold = predicted.threshold(rule);
        let own = [("val", &predicted.val), ("test", &predicted.test)];
        let own = own.into_iter().filter_map(|(name, labelled)| Some((name, labelled.as_ref()?)));
        let external = predicted.external.iter().map(|(name, labelled)| (name.as_str(), labelled));
        own.chain(external).filter_map(|(name, labelled)| Self::one(name, labelled, threshold)).collect()
    }

    fn one(scored: &str, labelled: &Labelled, threshold: Option<f64>) -> Option<Self> {
        let scores = Ranked::of(labelled)?;
        let chosen = threshold.map(|threshold| (threshold, scores.at(threshold)));
        let mut bins = vec![Bin::default(); CALIBRATION_BINS];
        for (probability, positive) in labelled.one_vs_rest(labelled.positive()?) {
            let bin = &mut bins[((probability * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1)];
            bin.count += 1;
            bin.told += probability;
            bin.positives += u64::from(positive);
        }
        Some(Self {
            scored: scored.to_owned(),
            roc: scores.roc(),
            precision_recall: scores.precision_recall(),
            thresholds: points(0).map(|threshold| scores.at(threshold)).collect(),
            chosen,
            bins,
        })
    }
}

/// Hundredths from `first` to 1.
fn points(first: u32) -> impl Iterator<Item = f64> + Clone {
    (first..=STEPS).map(|step| f64::from(step) / f64::from(STEPS))
}

/// Probabilities of positives and of negatives, each from the smallest up.
struct Ranked {
    positives: Vec<f64>,
    negatives: Vec<f64>,
}

impl Ranked {
    fn of(labelled: &Labelled) -> Option<Self> {
        let scores = labelled.one_vs_rest(labelled.positive()?);
        let side = |wanted: bool| {
            let mut side: Vec<f64> =
                scores.iter().filter(|(_, positive)| *positive == wanted).map(|(p, _)| *p).collect();
            side.sort_unstable_by(f64::total_cmp);
            side
        };
        Some(Self { positives: side(true), negatives: side(false) })
    }

    fn at(&self, threshold: f64) -> Rates {
        let reached = |side: &[f64]| side.len() - side.partition_point(|p| *p < threshold);
        let (true_positives, false_positives) = (reached(&self.positives), reached(&self.negatives));
        let ratio = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        Rates {
            sensitivity: ratio(true_positives, self.positives.len()),
            specificity: ratio(self.negatives.len() - false_positives, self.negatives.len()),
            precision: ratio(true_positives, true_positives + false_positives),
            f1: ratio(2 * true_positives, true_positives + false_positives + self.positives.len()),
        }
    }

    /// Every threshold that occurs, the largest first: how many negatives and positives reach it.
    fn reached(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut thresholds: Vec<f64> = self.positives.iter().chain(&self.negatives).copied().collect();
        thresholds.sort_unstable_by(|a, b| b.total_cmp(a));
        thresholds.dedup();
        thresholds.into_iter().map(|threshold| {
            let reached = |side: &[f64]| side.len() - side.partition_point(|p| *p < threshold);
            (reached(&self.negatives), reached(&self.positives))
        })
    }

    /// Sensitivity at each hundredth of the false positive rate, between the curve's corners on a straight line, as the area has it.
    fn roc(&self) -> Option<Vec<f64>> {
        if self.positives.is_empty() || self.negatives.is_empty() {
            return None;
        }
        let (positives, negatives) = (self.positives.len() as f64, self.negatives.len() as f64);
        let corners = self.reached().map(|(fp, tp)| (fp as f64 / negatives, tp as f64 / positives));
        let corners: Vec<(f64, f64)> = std::iter::once((0.0, 0.0)).chain(corners).collect();
        Some(points(0).map(|x| height(&corners, x)).collect())
    }

    /// Precision at each hundredth of sensitivity but 0: of the largest threshold that reaches it, as average precision has it.
    fn precision_recall(&self) -> Option<Vec<f64>> {
        let positives = self.positives.len();
        if positives == 0 {
            return None;
        }
        let reached: Vec<(usize, usize)> = self.reached().collect();
        let precision = |step: u32| {
            let enough = reached.iter().find(|(_, tp)| tp * STEPS as usize >= step as usize * positives);
            enough.map_or(0.0, |(fp, tp)| *tp as f64 / (tp + fp) as f64)
        };
        Some((1..=STEPS).map(precision).collect())
    }
}

/// The largest height of a curve of corners, which never turns back, at `x`.
fn height(corners: &[(f64, f64)], x: f64) -> f64 {
    let after = corners.partition_point(|corner| corner.0 <= x);
    match (after.checked_sub(1).map(|index| corners[index]), corners.get(after)) {
        (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (Some((_, y)), None) => y,
        (None, _) => 0.0,
    }
}

/// The curves of an arm's runs, by what was scored; `runs` are the seeds and what their runs look like.
pub(super) fn over_seeds(runs: &[(u64, &[RunShapes])]) -> Vec<Shapes> {
    let Some((_, first)) = runs.first() else { return Vec::new() };
    let part = |scored: &str| {
        let of: Vec<(u64, &RunShapes)> = runs
            .iter()
            .filter_map(|(seed, shapes)| Some((*seed, shapes.iter().find(|shapes| shapes.scored == scored)?)))
            .collect();
        Shapes {
            scored: scored.to_owned(),
            roc: band(points(0), of.iter().filter_map(|(_, run)| run.roc.as_deref())),
            precision_recall: band(points(1), of.iter().filter_map(|(_, run)| run.precision_recall.as_deref())),
            thresholds: study(&of),
            chosen: of.iter().filter_map(|(seed, run)| chosen(*seed, run)).collect(),
            reliability: reliability(&of),
        }
    };
    first.iter().map(|shapes| part(&shapes.scored)).collect()
}

fn chosen(seed: u64, run: &RunShapes) -> Option<Chosen> {
    let (threshold, rates) = run.chosen?;
    Some(Chosen { seed, threshold, sensitivity: rates.sensitivity, specificity: rates.specificity })
}

fn band<'a>(x: impl Iterator<Item = f64>, curves: impl Iterator<Item = &'a [f64]>) -> Option<Band> {
    let curves: Vec<&[f64]> = curves.collect();
    if curves.is_empty() {
        return None;
    }
    let x: Vec<f64> = x.collect();
    let at = |over: fn(&mut dyn Iterator<Item = f64>, f64) -> f64| {
        let count = curves.len() as f64;
        (0..x.len()).map(|point| over(&mut curves.iter().map(|curve| curve[point]), count)).collect()
    };
    Some(Band {
        mean: at(|values, count| values.sum::<f64>() / count),
        min: at(|values, _| values.fold(f64::INFINITY, f64::min)),
        max: at(|values, _| values.fold(f64::NEG_INFINITY, f64::max)),
        x,
    })
}

fn study(runs: &[(u64, &RunShapes)]) -> ThresholdStudy {
    let threshold: Vec<f64> = points(0).collect();
    let mean = |rate: fn(&Rates) -> Option<f64>| -> Vec<Option<f64>> {
        let at = |point: usize| {
            let values: Vec<f64> = runs.iter().filter_map(|(_, run)| rate(run.thresholds.get(point)?)).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        (0..threshold.len()).map(at).collect()
    };
    ThresholdStudy {
        sensitivity: mean(|rates| rates.sensitivity),
        specificity: mean(|rates| rates.specificity),
        precision: mean(|rates| rates.precision),
        f1: mean(|rates| rates.f1),
        threshold,
    }
}

fn reliability(runs: &[(u64, &RunShapes)]) -> Vec<Reliability> {
    let bin = |index: usize| {
        let all = runs.iter().map(|(_, run)| run.bins[index]).fold(Bin::default(), |sum, bin| Bin {
            count: sum.count + bin.count,
            told: sum.told + bin.told,
            positives: sum.positives + bin.positives,
        });
        let edge = |index: usize| index as f64 / CALIBRATION_BINS as f64;
        let mean = |sum: f64| (all.count > 0).then(|| sum / all.count as f64);
        Reliability {
            low: edge(index),
            high: edge(index + 1),
            count: all.count,
            told: mean(all.told),
            came_true: mean(all.positives as f64),
        }
    };
    (0..CALIBRATION_BINS).map(bin).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::{auc, average_precision, strategy};

    #[test]
    fn corners_are_joined_and_the_highest_counts() {
        let corners = [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (1.0, 1.0)];
        assert_eq!([0.0, 0.25, 0.5, 0.75, 1.0].map(|x| height(&corners, x)), [0.5, 0.5, 0.5, 0.75, 1.0]);
    }

    proptest! {
        /// A hundred points leave out less than two hundredths of the area.
        #[test]
        fn curves_have_the_areas_of_the_scores(labelled in strategy::binary()) {
            let ranked = Ranked::of(&labelled).expect("two classes");
            let scores = labelled.one_vs_rest(1);
            if let (Some(curve), Some(area)) = (ranked.roc(), auc(&scores)) {
                let under = curve.windows(2).map(|pair| (pair[0] + pair[1]) / 200.0).sum::<f64>();
                prop_assert!((under - area).abs() < 0.02, "{} is not {}", under, area);
                prop_assert!(curve.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
            }
            if let (Some(curve), Some(area)) = (ranked.precision_recall(), average_precision(&scores)) {
                let under = curve.iter().sum::<f64>() / 100.0;
                // A step of recall is one positive; between two points of the curve lies at most one part of it.
                let positives = scores.iter().filter(|(_, positive)| *positive).count() as f64;
                prop_assert!((under - area).abs() < 0.01 * positives.min(60.0) / 2.0 + 0.01, "{} is not {}", under, area);
            }
        }

        #[test]
        fn rates_are_those_of_the_confusion_matrix(labelled in strategy::binary(), threshold in 0.0f64..=1.0) {
            let rates = Ranked::of(&labelled).expect("two classes").at(threshold);
            let confusion = crate::stats::Confusion::at_threshold(&labelled, threshold).expect("two classes");
            prop_assert_eq!(rates.sensitivity, confusion.recall());
            prop_assert_eq!(rates.specificity, confusion.specificity());
            prop_assert_eq!(rates.precision, confusion.precision());
            prop_assert_eq!(rates.f1, confusion.f1());
        }
    }
}
