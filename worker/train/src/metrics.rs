//! Scores of predictions: pure functions of stored probabilities and labels, so that every number can be computed again
//! from what is kept.

use ceteris_shared::predictions::Predictions;

/// The scores of one set of predictions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Share of samples whose most probable class (the first of equals) is their own.
    pub accuracy: f64,
    /// Area under the ROC curve: of the second class where there are two, else the mean over classes of one against the
    /// rest. Absent where it is undefined.
    pub auc: Option<f64>,
}

/// Scores `predictions` against `labels`, one per sample in the same order. None for no samples.
pub fn score(predictions: &Predictions, labels: &[u32]) -> Option<Scores> {
    if labels.is_empty() {
        return None;
    }
    let rows = || predictions.probabilities.chunks_exact(predictions.classes).zip(labels);
    let mean = |sum: f64| sum / labels.len() as f64;
    // A probability that was rounded to 0 counts as the smallest that is not.
    let loss = |p: f32| -f64::from(p.max(f32::MIN_POSITIVE)).ln();
    Some(Scores {
        loss: mean(rows().map(|(row, label)| loss(row[*label as usize])).sum()),
        accuracy: mean(rows().filter(|(row, label)| most_probable(row) == **label as usize).count() as f64),
        auc: macro_auc(predictions, labels),
    })
}

fn most_probable(row: &[f32]) -> usize {
    let mut best = 0;
    for (class, probability) in row.iter().enumerate() {
        if *probability > row[best] {
            best = class;
        }
    }
    best
}

fn macro_auc(predictions: &Predictions, labels: &[u32]) -> Option<f64> {
    let against_the_rest = |class: usize| {
        let column = predictions.probabilities.iter().skip(class).step_by(predictions.classes);
        auc(column.zip(labels).map(|(score, label)| (*score, *label as usize == class)).collect())
    };
    if predictions.classes == 2 {
        return against_the_rest(1);
    }
    let defined: Vec<f64> = (0..predictions.classes).filter_map(against_the_rest).collect();
    (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
}

/// Area under the ROC curve as the Mann-Whitney statistic: the probability that a positive scores above a negative, ties
/// counted half (Hanley and McNeil, 1982). None where one of the two kinds is missing.
pub fn auc(mut scored: Vec<(f32, bool)>) -> Option<f64> {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = scored.iter().filter(|(_, positive)| *positive).count() as f64;
    let negatives = scored.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let mut below = 0.0;
    let mut wins = 0.0;
    for tied in scored.chunk_by(|a, b| a.0 == b.0) {
        let tied_positives = tied.iter().filter(|(_, positive)| *positive).count() as f64;
        let tied_negatives = tied.len() as f64 - tied_positives;
        wins += tied_positives * (below + tied_negatives / 2.0);
        below += tied_negatives;
    }
    Some(wins / (positives * negatives))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions(classes: usize, probabilities: Vec<f32>) -> Predictions {
        let rows = probabilities.len() / classes;
        Predictions { samples: (0..rows as u32).collect(), probabilities, classes }
    }

    #[test]
    fn scores_match_a_hand_computed_example() {
        let predictions = predictions(2, vec![0.75, 0.25, 0.5, 0.5, 0.25, 0.75]);
        let scores = score(&predictions, &[0, 1, 1]).expect("three samples");
        let loss = -(0.75f64.ln() + 0.5f64.ln() + 0.75f64.ln()) / 3.0;
        assert!((scores.loss - loss).abs() < 1e-9);
        // A tie goes to the first class.
        assert_eq!(scores.accuracy, 2.0 / 3.0);
        assert_eq!(scores.auc, Some(1.0));
    }

    #[test]
    fn several_classes_are_averaged_one_against_the_rest() {
        let predictions = predictions(3, vec![0.8, 0.1, 0.1, 0.2, 0.3, 0.5, 0.1, 0.5, 0.4]);
        // Class 0: 1. Class 1: sample 1 (0.3) against 0.1 and 0.5: 1/2. Class 2: sample 2 (0.4) against 0.1 and 0.5: 1/2.
        assert_eq!(score(&predictions, &[0, 1, 2]).and_then(|s| s.auc), Some((1.0 + 0.5 + 0.5) / 3.0));
    }

    #[test]
    fn what_is_undefined_is_absent() {
        assert_eq!(score(&predictions(2, vec![]), &[]), None);
        let one_class = score(&predictions(2, vec![0.0, 1.0]), &[1]).expect("one sample");
        assert_eq!((one_class.auc, one_class.loss), (None, 0.0));
        let impossible = score(&predictions(2, vec![0.0, 1.0]), &[0]).expect("one sample");
        assert!(impossible.loss.is_finite());
    }

    proptest::proptest! {
        #[test]
        fn auc_is_the_share_of_pairs_in_order(scored in proptest::collection::vec((0u8..6, proptest::bool::ANY), 0..40)) {
            let scored: Vec<(f32, bool)> = scored.into_iter().map(|(s, p)| (f32::from(s), p)).collect();
            let mut pairs = 0.0;
            let mut wins = 0.0;
            for (high, _) in scored.iter().filter(|(_, p)| *p) {
                for (low, _) in scored.iter().filter(|(_, p)| !*p) {
                    pairs += 1.0;
                    wins += if high > low { 1.0 } else if high == low { 0.5 } else { 0.0 };
                }
            }
            let expected = (pairs > 0.0).then_some(wins / pairs);
            let same = match (auc(scored), expected) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-12,
                (a, b) => a == b,
            };
            proptest::prop_assert!(same);
        }
    }
}
