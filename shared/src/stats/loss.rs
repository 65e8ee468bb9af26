//! Mean cross-entropy of stored probabilities.

use super::Labelled;

/// Mean of `-ln p` over samples, where `p` is the probability of the true class, at least [`Labelled::floor`].
/// Undefined without samples.
pub fn log_loss(labelled: &Labelled) -> Option<f64> {
    let samples = labelled.samples();
    let cost = |(label, row): (u32, &[f64])| -row[label as usize].max(labelled.floor()).ln();
    (samples > 0).then(|| labelled.rows().map(cost).sum::<f64>() / samples as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let loss = |labels, probabilities| log_loss(&Labelled::new(2, labels, probabilities).expect("well-formed"));
        let two = loss(vec![0, 1], vec![0.5, 0.5, 0.75, 0.25]).expect("defined");
        assert!((two - (2f64.ln() + 4f64.ln()) / 2.0).abs() < 1e-12);
        assert_eq!(loss(vec![1], vec![0.0, 1.0]).map(f64::abs), Some(0.0));
        let wrong = loss(vec![0], vec![0.0, 1.0]).expect("defined");
        assert!((wrong - 15.942_385).abs() < 1e-6, "{wrong}");
        assert_eq!(loss(vec![], vec![]), None);
    }
}
