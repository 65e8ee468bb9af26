//! Statistics: scores of predictions against labels, decision thresholds, and tests over seeds.
//!
//! Everything is exact where that is possible: ranks and counts are integers until the last division, so no tie is
//! broken by rounding. What is undefined is `None`, never NaN and never a made-up zero.

mod bootstrap;
mod calibration;
mod clusters;
mod confusion;
mod crossed;
mod delong;
#[cfg(test)]
mod golden;
mod holm;
mod influence;
mod loss;
mod mcnemar;
mod over_seeds;
mod power;
mod precision_recall;
mod roc;
mod sign_flip;
mod student;
mod threshold;
mod weighted;

pub use bootstrap::{BOOTSTRAP_DRAWS, Bootstrapped, bootstrap};
pub use calibration::{CALIBRATION_BINS, Recalibration, brier, expected_calibration_error, recalibration};
pub use clusters::Clusters;
pub use confusion::Confusion;
pub use crossed::{Estimate, crossed, crossed_over};
pub use delong::{AreaTest, area_test, area_variance};
pub use holm::holm;
pub use influence::{Influence, influence};
pub use loss::log_loss;
pub use mcnemar::{Discordance, mcnemar};
pub use over_seeds::{interquartile_mean, probability_of_improvement};
pub use power::{Design, minimum_detectable, power, seeds_needed};
pub use precision_recall::{average_precision, average_precision_one_vs_rest};
pub use roc::{auc, auc_one_vs_rest};
pub use sign_flip::{EXACT_LIMIT, MONTE_CARLO_DRAWS, pairs_needed, sign_flip, smallest_p};
pub use threshold::choose;
pub use weighted::Weighted;

/// Probabilities of every class next to the true classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    classes: usize,
    labels: Vec<u32>,
    probabilities: Vec<f64>,
    floor: f64,
}

/// Why labels and probabilities do not belong together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{samples} labels with {classes} classes do not go with {probabilities} probabilities")]
    Shape { samples: usize, classes: usize, probabilities: usize },
    #[error("label {label} is not one of {classes} classes")]
    Label { label: u32, classes: usize },
    #[error("{0} is not a probability")]
    Probability(String),
}

impl Labelled {
    /// `labels` of shape `[n]`, each below `classes`; `probabilities` row-major of shape `[n, classes]`.
    ///
    /// # Errors
    /// When shapes disagree, a label is no class, there are fewer than two classes, or a value is no probability.
    pub fn new(classes: usize, labels: Vec<u32>, probabilities: Vec<f32>) -> Result<Self, Error> {
        let probabilities = probabilities.into_iter().map(f64::from).collect();
        Self::checked(classes, labels, probabilities, f64::from(f32::EPSILON))
    }

    /// Two classes, by the probability of the positive one: `labels` and `probabilities` of shape `[n]`.
    ///
    /// # Errors
    /// As [`Labelled::new`].
    pub fn of_scores(labels: Vec<u32>, scores: &[f64]) -> Result<Self, Error> {
        let probabilities = scores.iter().flat_map(|score| [1.0 - score, *score]).collect();
        Self::checked(2, labels, probabilities, f64::EPSILON)
    }

    fn checked(classes: usize, labels: Vec<u32>, probabilities: Vec<f64>, floor: f64) -> Result<Self, Error> {
        if classes < 2 || labels.len().checked_mul(classes) != Some(probabilities.len()) {
            return Err(Error::Shape { samples: labels.len(), classes, probabilities: probabilities.len() });
        }
        if let Some(&label) = labels.iter().find(|&&label| label as usize >= classes) {
            return Err(Error::Label { label, classes });
        }
        if let Some(value) = probabilities.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(Error::Probability(value.to_string()));
        }
        Ok(Self { classes, labels, probabilities, floor })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.labels.len()
    }

    /// True class and probabilities of each sample.
    fn rows(&self) -> impl Iterator<Item = (u32, &[f64])> {
        self.labels.iter().copied().zip(self.probabilities.chunks_exact(self.classes))
    }

    /// Those of the samples at `indices`, in that order.
    pub fn subset(&self, indices: &[usize]) -> Self {
        let row = |index: &usize| &self.probabilities[index * self.classes..(index + 1) * self.classes];
        Self {
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            probabilities: indices.iter().flat_map(row).copied().collect(),
            ..*self
        }
    }

    /// The mean of predictions on the same samples, of probabilities or, with two classes, of their logits. Undefined where labels
    /// differ, and without members.
    pub(crate) fn combined(members: &[Self], logits: bool) -> Option<Self> {
        let (first, rest) = members.split_first()?;
        if rest.iter().any(|member| (member.classes, &member.labels) != (first.classes, &first.labels)) {
            return None;
        }
        let count = members.len() as f64;
        let mean = |index: usize| members.iter().map(|member| member.probabilities[index]).sum::<f64>() / count;
        let logit = |index: usize| {
            let sum: f64 =
                members.iter().map(|member| calibration::logit(member.probabilities[index], member.floor)).sum();
            1.0 / (1.0 + (-sum / count).exp())
        };
        let probabilities = match (logits, first.classes) {
            (true, 2) => (0..first.labels.len()).map(|row| logit(2 * row + 1)).flat_map(|p| [1.0 - p, p]).collect(),
            _ => (0..first.probabilities.len()).map(mean).collect(),
        };
        Self::checked(first.classes, first.labels.clone(), probabilities, first.floor).ok()
    }

    /// The probability of `class` and whether that is the true class, for each sample.
    pub(crate) fn one_vs_rest(&self, class: usize) -> Vec<(f64, bool)> {
        self.rows().map(|(label, row)| (row[class], label as usize == class)).collect()
    }

    /// The smallest probability that a true class is credited with: the machine epsilon of the type that probabilities are kept
    /// in, as scikit-learn's `log_loss` has it. Without it one confident mistake would make the mean loss infinite.
    pub fn floor(&self) -> f64 {
        self.floor
    }

    /// The positive class of two: the last one in sorted order, such as PNEUMONIA after NORMAL.
    pub fn positive(&self) -> Option<usize> {
        (self.classes == 2).then_some(1)
    }
}

#[cfg(test)]
pub(crate) mod strategy {
    //! Random labelled predictions with ties.
    use proptest::prelude::*;

    use super::Labelled;

    /// Two classes; probabilities are multiples of 1/8, so that ties are common.
    pub fn binary() -> impl Strategy<Value = Labelled> {
        proptest::collection::vec((0u32..2, 0u8..=8), 0..60).prop_map(|rows| {
            let probabilities = rows.iter().flat_map(|(_, p)| [1.0 - f32::from(*p) / 8.0, f32::from(*p) / 8.0]);
            let probabilities = probabilities.collect();
            Labelled::new(2, rows.iter().map(|(label, _)| *label).collect(), probabilities).expect("well-formed")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_belong_together_is_refused() {
        assert!(matches!(Labelled::new(2, vec![0], vec![1.0]), Err(Error::Shape { .. })));
        assert!(matches!(Labelled::new(1, vec![0], vec![1.0]), Err(Error::Shape { .. })));
        assert!(matches!(Labelled::new(2, vec![2], vec![0.5, 0.5]), Err(Error::Label { label: 2, .. })));
        assert!(matches!(Labelled::of_scores(vec![1], &[1.5]), Err(Error::Probability(_))));
        for value in [f32::NAN, -0.1, 1.1, f32::INFINITY] {
            assert!(matches!(Labelled::new(2, vec![1], vec![0.5, value]), Err(Error::Probability(_))), "{value}");
        }
    }
}
