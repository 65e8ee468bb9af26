//! The confusion matrix and the scores that follow from it.
//!
//! With two classes, precision, recall, F1 and specificity are those of the positive class (the last in sorted order);
//! with more, the unweighted mean over classes of each against the rest, undefined where a class has it undefined.

use super::Labelled;
use crate::spec::Score;

/// Counts of decisions: a row per true class, a column per called class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    counts: Vec<Vec<u64>>,
}

/// The four counts of one class against the rest.
#[derive(Clone, Copy)]
struct Counts {
    true_positive: u64,
    false_positive: u64,
    false_negative: u64,
    true_negative: u64,
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Counts {
    fn precision(self) -> Option<f64> {
        ratio(self.true_positive, self.true_positive + self.false_positive)
    }

    fn recall(self) -> Option<f64> {
        ratio(self.true_positive, self.true_positive + self.false_negative)
    }

    fn specificity(self) -> Option<f64> {
        ratio(self.true_negative, self.true_negative + self.false_positive)
    }

    /// 2TP / (2TP + FP + FN): the harmonic mean, also where precision is undefined.
    fn f1(self) -> Option<f64> {
        ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)
    }
}

impl Confusion {
    /// Two classes: a sample is called positive where its probability is at or above `threshold`. `None` with more
    /// classes than two.
    pub fn at_threshold(labelled: &Labelled, threshold: f64) -> Option<Self> {
        let positive = labelled.positive()?;
        Some(Self::of(labelled, |row| usize::from(row[positive] >= threshold)))
    }

    /// The most probable class is called; of equally probable ones, the first.
    pub fn most_probable(labelled: &Labelled) -> Self {
        let first_best =
            |row: &[f64]| (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        Self::of(labelled, first_best)
    }

    fn of(labelled: &Labelled, call: impl Fn(&[f64]) -> usize) -> Self {
        let mut counts = vec![vec![0; labelled.classes()]; labelled.classes()];
        labelled.rows().for_each(|(label, row)| counts[label as usize][call(row)] += 1);
        Self { counts }
    }

    /// From the matrix itself.
    pub(super) fn from_counts(counts: Vec<Vec<u64>>) -> Self {
        Self { counts }
    }

    /// A score of decisions; `None` also for one that is not.
    pub fn score(&self, score: Score) -> Option<f64> {
        match score {
            Score::Accuracy => self.accuracy(),
            Score::BalancedAccuracy => self.balanced_accuracy(),
            Score::F1 => self.f1(),
            Score::Precision => self.precision(),
            Score::Recall => self.recall(),
            Score::Specificity => self.specificity(),
            Score::Auc | Score::Brier | Score::Ece | Score::Loss | Score::PrAuc => None,
        }
    }

    /// The matrix: a row per true class, a column per called class.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    fn against_rest(&self, class: usize) -> Counts {
        let true_positive = self.counts[class][class];
        let truly: u64 = self.counts[class].iter().sum();
        let called: u64 = self.counts.iter().map(|row| row[class]).sum();
        Counts {
            true_positive,
            false_positive: called - true_positive,
            false_negative: truly - true_positive,
            true_negative: self.total() + true_positive - truly - called,
        }
    }

    fn of_positive_or_mean(&self, score: impl Fn(Counts) -> Option<f64>) -> Option<f64> {
        let classes = self.counts.len();
        if classes == 2 {
            return score(self.against_rest(1));
        }
        let scores: Option<Vec<f64>> = (0..classes).map(|class| score(self.against_rest(class))).collect();
        scores.map(|scores| scores.iter().sum::<f64>() / classes as f64)
    }

    /// Part of the samples that were called right. Undefined without samples.
    pub fn accuracy(&self) -> Option<f64> {
        ratio((0..self.counts.len()).map(|class| self.counts[class][class]).sum(), self.total())
    }

    /// Positive predictive value. Undefined where nothing was called positive.
    pub fn precision(&self) -> Option<f64> {
        self.of_positive_or_mean(Counts::precision)
    }

    /// Sensitivity, true positive rate. Undefined where nothing is positive.
    pub fn recall(&self) -> Option<f64> {
        self.of_positive_or_mean(Counts::recall)
    }

    /// True negative rate. Undefined where nothing is negative.
    pub fn specificity(&self) -> Option<f64> {
        self.of_positive_or_mean(Counts::specificity)
    }

    /// Mean of the classes' recalls: with two classes, of sensitivity and specificity. Undefined where a class is absent.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        let classes = self.counts.len();
        let recalls: Option<Vec<f64>> = (0..classes).map(|class| self.against_rest(class).recall()).collect();
        recalls.map(|recalls| recalls.iter().sum::<f64>() / classes as f64)
    }

    /// Harmonic mean of precision and recall. Undefined where nothing is positive and nothing was called so.
    pub fn f1(&self) -> Option<f64> {
        self.of_positive_or_mean(Counts::f1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::strategy;

    fn binary(rows: &[(u32, f32)]) -> Labelled {
        let probabilities = rows.iter().flat_map(|(_, p)| [1.0 - p, *p]).collect();
        Labelled::new(2, rows.iter().map(|(label, _)| *label).collect(), probabilities).expect("well-formed")
    }

    #[test]
    fn two_classes_by_hand() {
        let labelled = binary(&[(1, 0.9), (1, 0.5), (1, 0.2), (0, 0.7), (0, 0.1), (0, 0.3), (0, 0.4)]);
        let confusion = Confusion::at_threshold(&labelled, 0.5).expect("two classes");
        assert_eq!(confusion.counts(), [[3, 1], [1, 2]]);
        assert_eq!(confusion.accuracy(), Some(5.0 / 7.0));
        assert_eq!(confusion.precision(), Some(2.0 / 3.0));
        assert_eq!(confusion.recall(), Some(2.0 / 3.0));
        assert_eq!(confusion.f1(), Some(2.0 / 3.0));
        assert_eq!(confusion.specificity(), Some(0.75));
    }

    #[test]
    fn what_has_no_denominator_is_undefined() {
        let negatives = Confusion::at_threshold(&binary(&[(0, 0.1)]), 0.5).expect("two classes");
        assert_eq!((negatives.precision(), negatives.recall(), negatives.f1()), (None, None, None));
        assert_eq!((negatives.accuracy(), negatives.specificity()), (Some(1.0), Some(1.0)));
        let missed = Confusion::at_threshold(&binary(&[(1, 0.1)]), 0.5).expect("two classes");
        assert_eq!((missed.precision(), missed.recall(), missed.f1()), (None, Some(0.0), Some(0.0)));
        let nothing = Confusion::at_threshold(&binary(&[]), 0.5).expect("two classes");
        assert_eq!(nothing.accuracy(), None);
    }

    #[test]
    fn three_classes_call_the_first_most_probable_and_average() {
        let rows = [[0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [0.1, 0.1, 0.8], [0.2, 0.5, 0.3]].concat();
        let labelled = Labelled::new(3, vec![0, 1, 2, 1], rows).expect("well-formed");
        assert_eq!(Confusion::at_threshold(&labelled, 0.5), None);
        let confusion = Confusion::most_probable(&labelled);
        assert_eq!(confusion.counts(), [[1, 0, 0], [1, 1, 0], [0, 0, 1]]);
        assert_eq!(confusion.accuracy(), Some(0.75));
        assert_eq!(confusion.precision(), Some((0.5 + 1.0 + 1.0) / 3.0));
        assert_eq!(confusion.recall(), Some((1.0 + 0.5 + 1.0) / 3.0));
    }

    proptest! {
        #[test]
        fn counts_add_up_and_rates_stay_in_range(labelled in strategy::binary(), threshold in 0.0f64..=1.0) {
            let confusion = Confusion::at_threshold(&labelled, threshold).expect("two classes");
            prop_assert_eq!(confusion.total(), labelled.samples() as u64);
            let scores = [confusion.accuracy(), confusion.precision(), confusion.recall(), confusion.f1(), confusion.specificity()];
            prop_assert!(scores.into_iter().flatten().all(|score| (0.0..=1.0).contains(&score)));
            if let (Some(p), Some(r), Some(f1)) = (confusion.precision(), confusion.recall(), confusion.f1())
                && p + r > 0.0
            {
                prop_assert!((f1 - 2.0 * p * r / (p + r)).abs() < 1e-12);
            }
        }
    }
}
