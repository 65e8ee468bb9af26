//! Scores of samples that count several times, or not at all: what the bootstrap and the jackknife ask for again and again.
//! Scores are sorted once.

use super::{Clusters, Labelled, calibration};
use crate::spec::Score;

/// Predictions of one model, ready to be scored with any weights of their clusters.
#[derive(Clone, Debug)]
pub struct Weighted<'a> {
    labelled: &'a Labelled,
    clusters: &'a Clusters,
    /// For each class that is ranked, its samples from the lowest score up.
    orders: Vec<(usize, Vec<u32>)>,
    /// The class that each sample is called; none without a threshold.
    called: Option<Vec<u32>>,
    logits: Vec<(f64, bool)>,
}

impl<'a> Weighted<'a> {
    /// `threshold` as in [`super::influence`].
    pub fn new(labelled: &'a Labelled, threshold: Option<f64>, clusters: &'a Clusters) -> Self {
        let classes = labelled.classes();
        let ranked: Vec<usize> = labelled.positive().map_or_else(|| (0..classes).collect(), |positive| vec![positive]);
        let order = |class: usize| {
            let mut order: Vec<u32> = (0..).take(labelled.samples()).collect();
            let score = |index: &u32| labelled.probabilities[*index as usize * classes + class];
            order.sort_unstable_by(|a, b| score(a).total_cmp(&score(b)));
            (class, order)
        };
        let most_probable =
            |row: &[f64]| (0..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        let called = match (labelled.positive(), threshold) {
            (Some(positive), Some(at)) => {
                Some(labelled.rows().map(|(_, row)| u32::from(row[positive] >= at)).collect())
            }
            (Some(_), None) => None,
            (None, _) => Some(labelled.rows().map(|(_, row)| most_probable(row) as u32).collect()),
        };
        let logit = |(label, row): (u32, &[f64])| (calibration::logit(row[1], labelled.floor()), label == 1);
        let logits = labelled.positive().map(|_| labelled.rows().map(logit).collect()).unwrap_or_default();
        Self { labelled, clusters, orders: ranked.into_iter().map(order).collect(), called, logits }
    }

    fn weight(&self, sample: usize, weights: &[u32]) -> u64 {
        u64::from(weights[self.clusters.of()[sample] as usize])
    }

    /// The score, each sample counting as often as its cluster; `weights` has one for each cluster. Undefined where the score is.
    pub fn score(&self, score: Score, weights: &[u32]) -> Option<f64> {
        match score {
            Score::Auc => self.mean_over_ranked(|class, order| self.area(class, order, weights)),
            Score::PrAuc => self.mean_over_ranked(|class, order| self.average_precision(class, order, weights)),
            Score::Loss => self.mean(weights, |(label, row)| -row[label as usize].max(self.labelled.floor()).ln()),
            Score::Brier => self.mean(weights, calibration::squared_error),
            Score::Ece => self.calibration_error(weights),
            Score::Accuracy
            | Score::BalancedAccuracy
            | Score::F1
            | Score::Precision
            | Score::Recall
            | Score::Specificity => {
                let confusion = self.confusion(weights)?;
                super::confusion::Confusion::from_counts(confusion).score(score)
            }
        }
    }

    /// Slope of the recalibration, begun from a fit of about the same samples.
    pub fn slope(&self, weights: &[u32], from: super::Recalibration) -> Option<f64> {
        let start = Fit { intercept: from.intercept, slope: from.slope };
        let weight = |index: usize| self.weight(index, weights) as f64;
        start.maximise(&self.logits, weight).map(|fit| fit.slope)
    }

    fn mean(&self, weights: &[u32], value: impl Fn((u32, &[f64])) -> f64) -> Option<f64> {
        let (mut sum, mut all) = (0.0, 0);
        for (index, row) in self.labelled.rows().enumerate() {
            let weight = self.weight(index, weights);
            if weight > 0 {
                sum += weight as f64 * value(row);
                all += weight;
            }
        }
        (all > 0).then(|| sum / all as f64)
    }

    fn mean_over_ranked(&self, of: impl Fn(usize, &[u32]) -> Option<f64>) -> Option<f64> {
        let mut sum = 0.0;
        for (class, order) in &self.orders {
            sum += of(*class, order)?;
        }
        Some(sum / self.orders.len() as f64)
    }

    /// Weights of positives and negatives, tie after tie from the lowest score up.
    fn ties(&self, class: usize, order: &[u32], weights: &[u32]) -> Vec<(u64, u64)> {
        let classes = self.labelled.classes();
        let score = |index: u32| self.labelled.probabilities[index as usize * classes + class];
        let side = |index: u32| self.labelled.labels[index as usize] as usize == class;
        let of = |ties: &[u32]| {
            ties.iter().fold((0, 0), |(positives, negatives), &index| {
                let weight = self.weight(index as usize, weights);
                if side(index) { (positives + weight, negatives) } else { (positives, negatives + weight) }
            })
        };
        order.chunk_by(|&a, &b| score(a) == score(b)).map(of).collect()
    }

    fn area(&self, class: usize, order: &[u32], weights: &[u32]) -> Option<f64> {
        let (mut twice_won, mut positives, mut negatives) = (0u128, 0u64, 0u64);
        for (positives_here, negatives_here) in self.ties(class, order, weights) {
            twice_won += u128::from(positives_here) * u128::from(2 * negatives + negatives_here);
            positives += positives_here;
            negatives += negatives_here;
        }
        let pairs = u128::from(positives) * u128::from(negatives);
        (pairs > 0).then(|| twice_won as f64 / (2 * pairs) as f64)
    }

    fn average_precision(&self, class: usize, order: &[u32], weights: &[u32]) -> Option<f64> {
        let ties = self.ties(class, order, weights);
        let (mut called, mut right, mut sum) = (0u64, 0u64, 0.0);
        for (positives, negatives) in ties.into_iter().rev() {
            called += positives + negatives;
            right += positives;
            if positives > 0 {
                sum += positives as f64 * (right as f64 / called as f64);
            }
        }
        (right > 0).then(|| sum / right as f64)
    }

    fn calibration_error(&self, weights: &[u32]) -> Option<f64> {
        let mut bins = [(0.0, 0u64); calibration::CALIBRATION_BINS];
        let mut all = 0;
        for (index, (label, row)) in self.labelled.rows().enumerate() {
            let (weight, (told, true_)) = (self.weight(index, weights), calibration::confidence(label, row));
            let (told_in_all, true_in_all) = &mut bins[calibration::bin(told)];
            *told_in_all += weight as f64 * told;
            *true_in_all += if true_ { weight } else { 0 };
            all += weight;
        }
        let gap = |(told, true_): &(f64, u64)| (told - *true_ as f64).abs();
        (all > 0).then(|| bins.iter().map(gap).sum::<f64>() / all as f64)
    }

    fn confusion(&self, weights: &[u32]) -> Option<Vec<Vec<u64>>> {
        let classes = self.labelled.classes();
        let mut counts = vec![vec![0; classes]; classes];
        for (index, (&label, &called)) in self.labelled.labels.iter().zip(self.called.as_ref()?).enumerate() {
            counts[label as usize][called as usize] += self.weight(index, weights);
        }
        Some(counts)
    }
}

/// A logistic regression on one variable, at some point of its maximisation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fit {
    pub(super) intercept: f64,
    pub(super) slope: f64,
}

impl Fit {
    /// The maximum of the likelihood, by Newton's method with shorter steps where one does not gain. `None` where there is none.
    pub(super) fn maximise(self, points: &[(f64, bool)], weight: impl Fn(usize) -> f64) -> Option<Self> {
        const STEPS: usize = 100;
        const STEEPEST: f64 = 1e6;
        let mut at = self;
        let mut likelihood = at.likelihood(points, &weight);
        for _ in 0..STEPS {
            let ([da, db], [haa, hab, hbb]) = at.derivatives(points, &weight);
            let determinant = haa * hbb - hab * hab;
            if determinant.is_nan() || determinant <= 1e-14 * haa * hbb {
                return None;
            }
            let step =
                Self { intercept: (hbb * da - hab * db) / determinant, slope: (haa * db - hab * da) / determinant };
            let mut share = 1.0;
            let next = loop {
                let next =
                    Self { intercept: at.intercept + share * step.intercept, slope: at.slope + share * step.slope };
                let reached = next.likelihood(points, &weight);
                if reached >= likelihood - 1e-12 * likelihood.abs() || share < 1e-6 {
                    likelihood = reached;
                    break next;
                }
                share /= 2.0;
            };
            let moved = (next.intercept - at.intercept).abs() + (next.slope - at.slope).abs();
            at = next;
            if at.slope.abs() > STEEPEST || !at.slope.is_finite() {
                return None;
            }
            if moved <= 1e-12 * (1.0 + at.intercept.abs() + at.slope.abs()) {
                return Some(at);
            }
        }
        None
    }

    fn likelihood(self, points: &[(f64, bool)], weight: &impl Fn(usize) -> f64) -> f64 {
        // ln of the probability of what was seen: -ln(1 + e^-m), with m the margin on its side.
        let of = |(index, (x, positive)): (usize, &(f64, bool))| {
            let z = self.intercept + self.slope * x;
            let margin = if *positive { z } else { -z };
            -weight(index) * (if margin > 0.0 { (-margin).exp().ln_1p() } else { margin.exp().ln_1p() - margin })
        };
        points.iter().enumerate().map(of).sum()
    }

    /// The gradient, and minus the second derivatives: both intercept, mixed, both slope.
    fn derivatives(self, points: &[(f64, bool)], weight: &impl Fn(usize) -> f64) -> ([f64; 2], [f64; 3]) {
        let (mut gradient, mut curvature) = ([0.0; 2], [0.0; 3]);
        for (index, (x, positive)) in points.iter().enumerate() {
            let weight = weight(index);
            let p = 1.0 / (1.0 + (-(self.intercept + self.slope * x)).exp());
            let left = weight * (f64::from(u8::from(*positive)) - p);
            let spread = weight * p * (1.0 - p);
            gradient[0] += left;
            gradient[1] += left * x;
            curvature[0] += spread;
            curvature[1] += spread * x;
            curvature[2] += spread * x * x;
        }
        (gradient, curvature)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::{
        Confusion, auc_one_vs_rest, average_precision_one_vs_rest, brier, expected_calibration_error, log_loss,
        recalibration, strategy,
    };

    proptest! {
        /// Counting a sample twice is having it twice; not counting it is not having it.
        #[test]
        fn weights_are_repetitions(labelled in strategy::binary(), weights in proptest::collection::vec(0u32..4, 60)) {
            let clusters = Clusters::singletons(labelled.samples());
            let repeated: Vec<usize> = (0..labelled.samples()).flat_map(|i| std::iter::repeat_n(i, weights[i] as usize)).collect();
            let scores: Vec<f64> = repeated.iter().map(|&index| labelled.probabilities[2 * index + 1]).collect();
            let labels = repeated.iter().map(|&index| labelled.labels[index]).collect();
            let mut written_out = Labelled::of_scores(labels, &scores).expect("well-formed");
            written_out.floor = labelled.floor;
            let confusion = Confusion::at_threshold(&written_out, 0.5).expect("two classes");
            let weighted = Weighted::new(&labelled, Some(0.5), &clusters);
            let expected = |score| match score {
                Score::Auc => auc_one_vs_rest(&written_out),
                Score::PrAuc => average_precision_one_vs_rest(&written_out),
                Score::Loss => log_loss(&written_out),
                Score::Brier => brier(&written_out),
                Score::Ece => expected_calibration_error(&written_out),
                decided => confusion.score(decided),
            };
            for score in Score::ALL {
                match (weighted.score(score, &weights), expected(score)) {
                    (Some(found), Some(expected)) => prop_assert!((found - expected).abs() < 1e-12, "{score:?}: {found} {expected}"),
                    (found, expected) => prop_assert_eq!(found, expected, "{:?}", score),
                }
            }
            if let Some(whole) = recalibration(&written_out) {
                let slope = weighted.slope(&weights, whole).expect("it is defined");
                prop_assert!((slope - whole.slope).abs() < 1e-8 * (1.0 + whole.slope.abs()), "{slope} {whole:?}");
            }
        }
    }
}
