//! Area under the receiver operating characteristic curve, as the Mann-Whitney statistic (Hanley and McNeil, "The
//! meaning and use of the area under a ROC curve", Radiology 1982): the probability that a positive sample scores above
//! a negative one, a tie counting one half.

use super::Labelled;

/// The area for scores of positives (`true`) and negatives, in O(n log n). Undefined where either is absent.
pub fn auc(scores: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the number of (positive, negative) pairs that are in the right order, ties once.
    let (mut twice_won, mut positives, mut negatives) = (0u128, 0u64, 0u64);
    for ties in sorted.chunk_by(|a, b| a.0 == b.0) {
        let positives_here = ties.iter().filter(|(_, positive)| *positive).count() as u64;
        let negatives_here = ties.len() as u64 - positives_here;
        twice_won += u128::from(positives_here) * u128::from(2 * negatives + negatives_here);
        positives += positives_here;
        negatives += negatives_here;
    }
    let pairs = u128::from(positives) * u128::from(negatives);
    (pairs > 0).then(|| twice_won as f64 / (2 * pairs) as f64)
}

/// With two classes the area for the positive one; with more, the unweighted mean over classes of each against the
/// rest. Undefined where a class is absent.
pub fn auc_one_vs_rest(labelled: &Labelled) -> Option<f64> {
    if let Some(positive) = labelled.positive() {
        return auc(&labelled.one_vs_rest(positive));
    }
    let classes = labelled.classes();
    let areas: Option<Vec<f64>> = (0..classes).map(|class| auc(&labelled.one_vs_rest(class))).collect();
    areas.map(|areas| areas.iter().sum::<f64>() / classes as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::strategy;

    /// The definition, in O(n²).
    fn by_definition(scores: &[(f64, bool)]) -> Option<f64> {
        let side = |positive| scores.iter().filter(move |score| score.1 == positive).map(|score| score.0);
        let won = |p: f64, n: f64| {
            if p > n {
                1.0
            } else if p == n {
                0.5
            } else {
                0.0
            }
        };
        let pairs: Vec<f64> = side(true).flat_map(|p| side(false).map(move |n| won(p, n))).collect();
        (!pairs.is_empty()).then(|| pairs.iter().sum::<f64>() / pairs.len() as f64)
    }

    #[test]
    fn known_values() {
        // scikit-learn's documentation of roc_auc_score
        assert_eq!(auc(&[(0.1, false), (0.4, false), (0.35, true), (0.8, true)]), Some(0.75));
        assert_eq!(auc(&[(0.5, false), (0.5, true)]), Some(0.5));
        assert_eq!(auc(&[(0.2, false), (0.9, true)]), Some(1.0));
        assert_eq!(auc(&[(0.9, false), (0.2, true)]), Some(0.0));
        assert_eq!(auc(&[(0.9, true)]), None);
        assert_eq!(auc(&[]), None);
        assert_eq!(auc(&[(0.0, true), (-0.0, false)]), Some(0.5), "the zeros are one value");
    }

    #[test]
    fn three_classes_are_averaged() {
        let labelled = Labelled::new(
            3,
            vec![0, 1, 2, 2],
            [[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.1, 0.5, 0.4], [0.2, 0.2, 0.6]].concat(),
        )
        .expect("well-formed");
        // Class 0 wins all; class 1: 0.3 against 0.2, 0.5, 0.2; class 2: 0.4 and 0.6 against 0.1, 0.4.
        let expected = (1.0 + 2.0 / 3.0 + 3.5 / 4.0) / 3.0;
        assert!((auc_one_vs_rest(&labelled).expect("defined") - expected).abs() < 1e-15);
        let absent = Labelled::new(3, vec![0, 1], [[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]].concat()).expect("well-formed");
        assert_eq!(auc_one_vs_rest(&absent), None);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(labelled in strategy::binary()) {
            let scores = labelled.one_vs_rest(1);
            match (auc(&scores), by_definition(&scores)) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-12),
                (a, b) => prop_assert_eq!(a, b),
            }
        }

        #[test]
        fn swapping_the_classes_mirrors_it(labelled in strategy::binary()) {
            let scores = labelled.one_vs_rest(1);
            let swapped: Vec<_> = scores.iter().map(|(score, positive)| (*score, !positive)).collect();
            if let (Some(a), Some(b)) = (auc(&scores), auc(&swapped)) {
                prop_assert!((a + b - 1.0).abs() < 1e-15);
            }
        }
    }
}
