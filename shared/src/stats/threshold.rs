//! Choosing the threshold from which on a probability is called positive. It is chosen on val, frozen, and applied to
//! test and external data.
//!
//! Candidates are the probabilities that occur, so the chosen one is the smallest that is called positive. Ties are
//! broken towards the largest threshold: of equally good rules, the one that calls fewest samples positive. Rules are
//! compared in integers, so rounding breaks no tie.

use std::cmp::Ordering;

use super::Labelled;
use crate::spec::Threshold;

/// What a candidate threshold would do.
#[derive(Clone, Copy)]
struct Candidate {
    threshold: f64,
    true_positives: u64,
    false_positives: u64,
}

/// The threshold that `rule` chooses on `val`. Undefined with more than two classes, and where the rule's rates are:
/// Youden's without positives or without negatives, F1's without positives.
pub fn choose(rule: Threshold, val: &Labelled) -> Option<f64> {
    let positive = val.positive()?;
    let scores = val.one_vs_rest(positive);
    let positives = scores.iter().filter(|(_, positive)| *positive).count() as u64;
    let negatives = scores.len() as u64 - positives;
    match rule {
        Threshold::Fixed(threshold) => Some(threshold),
        // TP/P - FP/N, over the common denominator
        Threshold::Youden => (positives > 0 && negatives > 0).then(|| {
            let index = |c: &Candidate| {
                i128::from(c.true_positives) * i128::from(negatives)
                    - i128::from(c.false_positives) * i128::from(positives)
            };
            best(&scores, |a, b| index(a).cmp(&index(b)))
        })?,
        // 2TP / (TP + FP + P), by cross multiplication
        Threshold::F1 => (positives > 0).then(|| {
            let denominator = |c: &Candidate| u128::from(c.true_positives + c.false_positives + positives);
            best(&scores, |a, b| {
                (u128::from(a.true_positives) * denominator(b)).cmp(&(u128::from(b.true_positives) * denominator(a)))
            })
        })?,
    }
}

/// The best candidate; of equally good ones, the largest.
fn best(scores: &[(f64, bool)], compare: impl Fn(&Candidate, &Candidate) -> Ordering) -> Option<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut reached = Candidate { threshold: 1.0, true_positives: 0, false_positives: 0 };
    let mut best: Option<Candidate> = None;
    for ties in sorted.chunk_by(|a, b| a.0 == b.0) {
        let positives = ties.iter().filter(|(_, positive)| *positive).count() as u64;
        reached.threshold = ties[0].0;
        reached.true_positives += positives;
        reached.false_positives += ties.len() as u64 - positives;
        if best.is_none_or(|best| compare(&reached, &best) == Ordering::Greater) {
            best = Some(reached);
        }
    }
    best.map(|best| best.threshold)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::{Confusion, strategy};

    fn binary(rows: &[(u32, f32)]) -> Labelled {
        let probabilities = rows.iter().flat_map(|(_, p)| [1.0 - p, *p]).collect();
        Labelled::new(2, rows.iter().map(|(label, _)| *label).collect(), probabilities).expect("well-formed")
    }

    #[test]
    fn by_hand() {
        let val = binary(&[(0, 0.125), (0, 0.25), (1, 0.375), (0, 0.5), (1, 0.75), (1, 0.875)]);
        // At 0.375: 3/3 - 1/3; at 0.75: 2/3 - 0/3: a tie, so the larger.
        assert_eq!(choose(Threshold::Youden, &val), Some(0.75));
        // At 0.375: 6/7; at 0.75: 4/5.
        assert_eq!(choose(Threshold::F1, &val), Some(0.375));
        assert_eq!(choose(Threshold::Fixed(0.3), &val), Some(0.3));
    }

    #[test]
    fn undefined_where_the_rates_are() {
        let negatives = binary(&[(0, 0.5)]);
        assert_eq!(choose(Threshold::Youden, &negatives), None);
        assert_eq!(choose(Threshold::F1, &negatives), None);
        assert_eq!(choose(Threshold::Youden, &binary(&[(1, 0.5)])), None);
        assert_eq!(choose(Threshold::F1, &binary(&[(1, 0.5)])), Some(0.5));
        let three = Labelled::new(3, vec![0], vec![0.5, 0.25, 0.25]).expect("well-formed");
        assert_eq!(choose(Threshold::Fixed(0.5), &three), None);
    }

    proptest! {
        #[test]
        fn no_other_threshold_does_better(val in strategy::binary()) {
            let at = |threshold| Confusion::at_threshold(&val, threshold).expect("two classes");
            let youden = |c: &Confusion| c.recall().zip(c.specificity()).map(|(a, b)| a + b - 1.0);
            let others = (0..=8).map(|eighth| at(f64::from(eighth) / 8.0));
            if let Some(threshold) = choose(Threshold::Youden, &val) {
                let chosen = youden(&at(threshold)).expect("defined");
                prop_assert!(others.clone().filter_map(|c| youden(&c)).all(|other| other <= chosen + 1e-12));
            }
            if let Some(threshold) = choose(Threshold::F1, &val) {
                let chosen = at(threshold).f1().expect("defined");
                prop_assert!(others.filter_map(|c| c.f1()).all(|other| other <= chosen + 1e-12));
            }
        }
    }
}
