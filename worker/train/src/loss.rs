//! The loss: cross-entropy with what `torch.nn.CrossEntropyLoss(weight, label_smoothing)` does with class weights and
//! smoothed targets, and with targets that mixup mixed.
//!
//! All of it is one coefficient for each sample and class, which the log-probabilities are multiplied with. The
//! coefficients are made on the host, in double precision; the tape sees a softmax, a product and a sum.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData, activation::log_softmax};
use ceteris_shared::spec::optimization::{ClassWeighting, ClassWeights, Optimization};

/// A loss with its settings, for a network that tells so many classes apart.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropy {
    /// One for each class.
    weights: Vec<f64>,
    /// In [0, 1).
    smoothing: f64,
}

/// What the samples of a batch should be classified as.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// One for each sample.
    pub labels: &'a [u32],
    /// Where images were mixed.
    pub mixed: Option<Mixed<'a>>,
}

/// What each sample was mixed with (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018).
#[derive(Clone, Copy, Debug)]
pub struct Mixed<'a> {
    /// The other image's label, one for each sample.
    pub labels: &'a [u32],
    /// The own image's share, in [0, 1], one for each sample; the rest is the other's.
    pub shares: &'a [f64],
}

impl CrossEntropy {
    /// The loss of a run over classes that have `counts` samples in the training split.
    pub fn new(settings: &Optimization, counts: &[u64]) -> Self {
        let weights = match &settings.class_weights {
            ClassWeights::Named(ClassWeighting::None) => vec![1.0; counts.len()],
            ClassWeights::Named(ClassWeighting::Balanced) => balanced_weights(counts),
            ClassWeights::Listed(weights) => weights.clone(),
        };
        Self { weights, smoothing: settings.label_smoothing }
    }

    /// The sum of the targets' class weights, by which a whole batch's loss is divided: the number of samples where
    /// classes are not weighted.
    pub fn normaliser(&self, targets: &Targets<'_>) -> f64 {
        let parts = (0..targets.labels.len()).flat_map(|sample| targets.of(sample));
        parts.map(|(label, share)| share * self.weight(label)).sum()
    }

    /// The loss `[1]` of `logits` `[samples, classes]`: the weighted sum over the samples, divided by `normaliser`.
    ///
    /// With the samples' own [`CrossEntropy::normaliser`] this is PyTorch's weighted mean. With that of a whole batch
    /// of which these are a part, the parts' losses, and so their gradients, add up to the batch's.
    pub fn loss(&self, logits: Tensor<2>, targets: &Targets<'_>, normaliser: f64) -> Tensor<1> {
        let [samples, classes] = logits.dims();
        let data = TensorData::new(self.coefficients(targets, classes), [samples, classes]);
        let coefficients = Tensor::from_data(data, (&logits.device(), logits.dtype()));
        // A product, because burn's tape rounds the divisor of a quotient to single precision.
        log_softmax(logits, 1).mul(coefficients).sum().mul_scalar(-1.0 / normaliser)
    }

    /// What each log-probability counts, row by row.
    fn coefficients(&self, targets: &Targets<'_>, classes: usize) -> Vec<f64> {
        // PyTorch weighs the spread part by the weights of the classes that it is spread over, not by the target's.
        let spread = self.smoothing / classes as f64;
        let row: Vec<f64> = self.weights.iter().map(|weight| spread * weight).collect();
        let mut all = row.repeat(targets.labels.len());
        for (sample, row) in all.chunks_exact_mut(classes).enumerate() {
            for (label, share) in targets.of(sample) {
                row[label as usize] += (1.0 - self.smoothing) * share * self.weight(label);
            }
        }
        all
    }

    fn weight(&self, label: u32) -> f64 {
        self.weights[label as usize]
    }
}

impl<'a> Targets<'a> {
    /// Targets of samples that were not mixed.
    pub fn new(labels: &'a [u32]) -> Self {
        Self { labels, mixed: None }
    }

    /// Those of some of the samples.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let mixed =
            self.mixed.map(|mixed| Mixed { labels: &mixed.labels[rows.clone()], shares: &mixed.shares[rows.clone()] });
        Self { labels: &self.labels[rows], mixed }
    }

    /// A sample's labels and their shares.
    fn of(&self, sample: usize) -> [(u32, f64); 2] {
        let own = self.labels[sample];
        match self.mixed {
            Some(mixed) => [(own, mixed.shares[sample]), (mixed.labels[sample], 1.0 - mixed.shares[sample])],
            None => [(own, 1.0), (own, 0.0)],
        }
    }
}

/// Class weights that give every class the same say (scikit-learn's `class_weight="balanced"`): samples / (classes ×
/// samples of the class), over the classes that have samples; 0 for the others.
pub fn balanced_weights(counts: &[u64]) -> Vec<f64> {
    let samples: u64 = counts.iter().sum();
    let classes = counts.iter().filter(|count| **count > 0).count();
    let weight = |count: &u64| match count {
        0 => 0.0,
        count => samples as f64 / (classes as f64 * *count as f64),
    };
    counts.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::backend::{DeviceName, open};

    const LOGITS: [f64; 9] = [1.0, -2.0, 0.5, 0.0, 3.0, -1.0, 2.0, 2.0, -0.25];
    const LABELS: [u32; 3] = [0, 2, 1];

    fn device() -> Device {
        open(DeviceName::default(), 1).expect("the processor is always there").device
    }

    fn logits(rows: std::ops::Range<usize>, device: &Device) -> Tensor<2> {
        let values = LOGITS[rows.start * 3..rows.end * 3].to_vec();
        Tensor::from_data(TensorData::new(values, [rows.len(), 3]), (device, DType::F64))
    }

    fn log_probability(sample: usize, class: usize) -> f64 {
        let row = &LOGITS[sample * 3..][..3];
        row[class] - row.iter().map(|logit| logit.exp()).sum::<f64>().ln()
    }

    fn settings(weights: &[f64], label_smoothing: f64) -> Optimization {
        Optimization {
            class_weights: ClassWeights::Listed(weights.to_vec()),
            label_smoothing,
            ..Optimization::default()
        }
    }

    #[track_caller]
    fn assert_close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-12, "{got} is not {expected}");
    }

    /// The loss of all samples by PyTorch's formula, one sample's target at a time.
    fn by_hand(weights: &[f64], smoothing: f64, target: impl Fn(usize) -> Vec<(usize, f64)>) -> f64 {
        let (mut sum, mut total) = (0.0, 0.0);
        for sample in 0..3 {
            for (label, share) in target(sample) {
                let own = -weights[label] * log_probability(sample, label);
                let spread: f64 = (0..3).map(|class| -weights[class] * log_probability(sample, class)).sum();
                sum += share * ((1.0 - smoothing) * own + smoothing / 3.0 * spread);
                total += share * weights[label];
            }
        }
        sum / total
    }

    #[test]
    fn weights_and_smoothing_combine_as_in_pytorch() {
        let device = device();
        let labelled = |sample: usize| vec![(LABELS[sample] as usize, 1.0)];
        for (weights, smoothing) in [([1.0; 3], 0.0), ([1.0; 3], 0.1), ([0.5, 2.0, 3.0], 0.0), ([0.5, 2.0, 3.0], 0.3)] {
            let loss = CrossEntropy::new(&settings(&weights, smoothing), &[1, 1, 1]);
            let targets = Targets::new(&LABELS);
            let got = loss.loss(logits(0..3, &device), &targets, loss.normaliser(&targets));
            assert_close(got.into_scalar(), by_hand(&weights, smoothing, labelled));
        }
    }

    #[test]
    fn mixed_targets_share_the_loss_of_both_labels() {
        let device = device();
        let (others, shares) = ([2, 2, 0], [0.75, 0.5, 1.0]);
        let targets = Targets { labels: &LABELS, mixed: Some(Mixed { labels: &others, shares: &shares }) };
        let weights = [0.5, 2.0, 3.0];
        let loss = CrossEntropy::new(&settings(&weights, 0.2), &[1, 1, 1]);
        let expected = by_hand(&weights, 0.2, |sample| {
            vec![(LABELS[sample] as usize, shares[sample]), (others[sample] as usize, 1.0 - shares[sample])]
        });
        assert_close(loss.loss(logits(0..3, &device), &targets, loss.normaliser(&targets)).into_scalar(), expected);
    }

    #[test]
    fn losses_of_parts_add_up_to_the_batchs() {
        let device = device();
        let loss = CrossEntropy::new(&settings(&[0.5, 2.0, 3.0], 0.1), &[1, 1, 1]);
        let whole = loss.normaliser(&Targets::new(&LABELS));
        let part = |rows: std::ops::Range<usize>| -> f64 {
            loss.loss(logits(rows.clone(), &device), &Targets::new(&LABELS[rows]), whole).into_scalar()
        };
        assert_close(part(0..2) + part(2..3), part(0..3));
    }

    #[test]
    fn the_gradient_is_probability_minus_target() {
        let device = device().autodiff();
        let loss = CrossEntropy::new(&Optimization::default(), &[1, 1, 1]);
        let logits = logits(0..3, &device).require_grad();
        let gradients = loss.loss(logits.clone(), &Targets::new(&LABELS), 3.0).backward();
        let got: Vec<f64> = logits.grad(&gradients).expect("it was asked for").into_data().try_into_vec().expect("f64");
        for (index, got) in got.into_iter().enumerate() {
            let (sample, class) = (index / 3, index % 3);
            let target = f64::from(LABELS[sample] as usize == class);
            assert_close(got, (log_probability(sample, class).exp() - target) / 3.0);
        }
    }

    #[test]
    fn balanced_weights_are_scikit_learns() {
        // compute_class_weight("balanced", classes=[0, 1, 2], y=[0] * 10 + [1] * 20 + [2] * 70)
        assert_eq!(balanced_weights(&[10, 20, 70]), [100.0 / 30.0, 100.0 / 60.0, 100.0 / 210.0]);
        assert_eq!(balanced_weights(&[5, 0, 5]), [1.0, 0.0, 1.0]);
        assert_eq!(balanced_weights(&[]), [0.0; 0]);
        let balanced = ClassWeights::Named(ClassWeighting::Balanced);
        let settings = Optimization { class_weights: balanced, ..Optimization::default() };
        assert_eq!(CrossEntropy::new(&settings, &[1, 3]).weights, [2.0, 4.0 / 6.0]);
    }
}
