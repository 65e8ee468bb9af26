//! Choosing the threshold from which on a probability is called positive. It is chosen on val, frozen, and applied to
//! test and external data.
//!
//! Candidates are the probabilities that occur, so the chosen one is the smallest that is called positive. Where it can
//! be best to call nothing positive (a specificity, a cost), the next number above the largest of them is one too. Ties
//! are broken towards the largest threshold: of equally good rules, the one that calls fewest samples positive.
//!
//! Rules are compared in integers, so rounding breaks no tie. Where a number of the spec comes in, it is held against one
//! correctly rounded quotient of integers: rounding keeps the order, so 19 of 20 are never less than 0.95.

use super::Labelled;
use crate::spec::Threshold;

/// What a candidate threshold would do.
#[derive(Clone, Copy)]
struct Candidate {
    threshold: f64,
    true_positives: u64,
    false_positives: u64,
}

/// The threshold that `rule` chooses on `val`. Undefined with more than two classes, without positives, and but for F1's
/// without negatives.
pub fn choose(rule: Threshold, val: &Labelled) -> Option<f64> {
    let positive = val.positive()?;
    let scores = val.one_vs_rest(positive);
    let positives = scores.iter().filter(|(_, positive)| *positive).count() as u64;
    let negatives = scores.len() as u64 - positives;
    let is_defined = match rule {
        Threshold::Fixed(threshold) => return Some(threshold),
        Threshold::F1 => positives > 0,
        _ => positives > 0 && negatives > 0,
    };
    if !is_defined {
        return None;
    }
    let occurring = occurring(scores);
    let nothing = occurring.first().map(|largest| Candidate {
        threshold: largest.threshold.next_up(),
        true_positives: 0,
        false_positives: 0,
    });
    let all = nothing.into_iter().chain(occurring.iter().copied());
    let chosen = match rule {
        Threshold::Fixed(threshold) => return Some(threshold),
        // TP/P - FP/N, over the common denominator
        Threshold::Youden => {
            let index = |c: &Candidate| {
                i128::from(c.true_positives) * i128::from(negatives)
                    - i128::from(c.false_positives) * i128::from(positives)
            };
            best(occurring, |next, best| index(next) > index(best))
        }
        // 2TP / (TP + FP + P), by cross multiplication
        Threshold::F1 => {
            let denominator = |c: &Candidate| u128::from(c.true_positives + c.false_positives + positives);
            best(occurring, |next, best| {
                u128::from(next.true_positives) * denominator(best)
                    > u128::from(best.true_positives) * denominator(next)
            })
        }
        // The first that finds enough has fewest false alarms.
        Threshold::Sensitivity(least) => occurring.into_iter().find(|c| rate(c.true_positives, positives) >= least),
        Threshold::Specificity(least) => {
            let specific = all.filter(|c| rate(negatives - c.false_positives, negatives) >= least);
            best(specific, |next, best| next.true_positives > best.true_positives)
        }
        // What a candidate finds more must be worth the false alarms that it raises more.
        Threshold::Cost(cost) => best(all, |next, best| {
            let (found, alarms) =
                (next.true_positives - best.true_positives, next.false_positives - best.false_positives);
            found > 0 && rate(alarms, found) < cost
        }),
    };
    chosen.map(|chosen| chosen.threshold)
}

/// Correctly rounded.
fn rate(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// A candidate for each probability that occurs, the largest first: each calls all that the one before it calls.
fn occurring(mut scores: Vec<(f64, bool)>) -> Vec<Candidate> {
    scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut true_positives, mut false_positives) = (0, 0);
    let reached = |ties: &[(f64, bool)]| {
        let positives = ties.iter().filter(|(_, positive)| *positive).count() as u64;
        true_positives += positives;
        false_positives += ties.len() as u64 - positives;
        Candidate { threshold: ties[0].0, true_positives, false_positives }
    };
    scores.chunk_by(|a, b| a.0 == b.0).map(reached).collect()
}

/// The best candidate; of equally good ones, the first. Each is asked whether it is better than the best before it.
fn best(
    candidates: impl IntoIterator<Item = Candidate>,
    is_better: impl Fn(&Candidate, &Candidate) -> bool,
) -> Option<Candidate> {
    candidates.into_iter().reduce(|best, next| if is_better(&next, &best) { next } else { best })
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
    fn enough_is_found_with_fewest_false_alarms() {
        let val = binary(&[(0, 0.125), (1, 0.25), (0, 0.375), (1, 0.5), (0, 0.625), (1, 0.75), (1, 0.875)]);
        let at = |least| choose(Threshold::Sensitivity(least), &val);
        assert_eq!((at(1.0), at(0.76), at(0.75), at(0.5)), (Some(0.25), Some(0.25), Some(0.5), Some(0.75)));
        assert_eq!((at(0.25), at(1e-300)), (Some(0.875), Some(0.875)), "as few as are asked for");
        let tied = binary(&[(0, 0.5), (1, 0.5), (0, 0.75), (1, 0.25)]);
        assert_eq!(choose(Threshold::Sensitivity(0.5), &tied), Some(0.5));
    }

    #[test]
    fn few_are_called_by_mistake_and_most_are_found() {
        let val = binary(&[(0, 0.125), (1, 0.25), (0, 0.375), (1, 0.5), (0, 0.625), (1, 0.75), (0, 0.875)]);
        let at = |least| choose(Threshold::Specificity(least), &val);
        assert_eq!((at(0.75), at(0.5), at(0.25), at(0.01)), (Some(0.75), Some(0.5), Some(0.25), Some(0.25)));
        // Nothing may be called positive, and 0.875 is.
        assert_eq!(at(0.76), Some(0.875_f64.next_up()));
        // At 0.25 and at 0.5 all are found: of equally good ones the largest.
        let tied = binary(&[(0, 0.25), (1, 0.5), (1, 0.75), (0, 0.125)]);
        assert_eq!(choose(Threshold::Specificity(0.5), &tied), Some(0.5));
        let certain = binary(&[(0, 1.0), (1, 1.0)]);
        assert!(choose(Threshold::Specificity(1.0), &certain).is_some_and(|threshold| threshold > 1.0));
    }

    #[test]
    fn a_missed_positive_costs_so_many_false_alarms() {
        let val = binary(&[(0, 0.125), (1, 0.25), (0, 0.375), (0, 0.5), (0, 0.625), (1, 0.75), (0, 0.875)]);
        // Misses and false alarms at 0.25: 0 and 4; at 0.75: 1 and 1; of nothing: 2 and 0.
        let at = |cost| choose(Threshold::Cost(cost), &val);
        assert_eq!((at(0.5), at(2.0), at(5.0)), (Some(0.875_f64.next_up()), Some(0.75), Some(0.25)));
        assert_eq!((at(1.0), at(3.0)), (Some(0.875_f64.next_up()), Some(0.75)), "ties");
        // Ten misses of 0.1 cost as much as the one false alarm, however 0.1 is rounded.
        let mut tied = vec![(1, 0.25); 10];
        tied.push((0, 0.5));
        assert_eq!(choose(Threshold::Cost(0.1), &binary(&tied)), Some(0.5_f64.next_up()));
        assert_eq!(choose(Threshold::Cost(0.101), &binary(&tied)), Some(0.25));
    }

    /// Every rate in hundredths and in thousandths of up to 300 samples, against integers.
    #[test]
    fn a_rate_is_never_taken_for_less_than_it_is() {
        for (scale, digits) in [(100_u64, 2), (1000, 3)] {
            for least in 1..=scale {
                let written: f64 = format!("{}.{:0digits$}", least / scale, least % scale).parse().expect("a number");
                for samples in 1..=300 {
                    let enough = (least * samples).div_ceil(scale);
                    assert!(rate(enough, samples) >= written, "{enough} of {samples} are {written}");
                    assert!(rate(enough - 1, samples) < written, "{enough} less 1 of {samples} are not {written}");
                }
            }
        }
    }

    #[test]
    fn nineteen_of_twenty_are_a_sensitivity_of_0_95() {
        let mut rows: Vec<(u32, f32)> = (1..=20).map(|rank| (1, rank as f32 / 32.0)).collect();
        rows.push((0, 0.0));
        assert_eq!(choose(Threshold::Sensitivity(0.95), &binary(&rows)), Some(2.0 / 32.0));
        let flipped: Vec<(u32, f32)> = rows.iter().map(|(label, p)| (1 - label, 1.0 - p)).collect();
        // One false alarm of twenty negatives, and the positive is found.
        assert_eq!(choose(Threshold::Specificity(0.95), &binary(&flipped)), Some(1.0));
        let last: Vec<(u32, f32)> =
            rows.iter().map(|(label, p)| (1 - label, p + (*label == 0) as u32 as f32 * 0.6)).collect();
        assert_eq!(choose(Threshold::Specificity(0.95), &binary(&last)), Some(f64::from(0.6_f32)));
    }

    #[test]
    fn undefined_where_the_rates_are() {
        let negatives = binary(&[(0, 0.5)]);
        assert_eq!(choose(Threshold::Youden, &negatives), None);
        assert_eq!(choose(Threshold::F1, &negatives), None);
        assert_eq!(choose(Threshold::Youden, &binary(&[(1, 0.5)])), None);
        assert_eq!(choose(Threshold::F1, &binary(&[(1, 0.5)])), Some(0.5));
        for rule in [Threshold::Sensitivity(0.5), Threshold::Specificity(0.5), Threshold::Cost(2.0)] {
            assert_eq!((choose(rule, &negatives), choose(rule, &binary(&[(1, 0.5)]))), (None, None));
            assert_eq!(choose(rule, &binary(&[])), None);
        }
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

        #[test]
        fn no_other_threshold_that_is_sensitive_or_specific_enough_does_better(
            val in strategy::binary(), twentieths in 1u8..=20,
        ) {
            let least = f64::from(twentieths) / 20.0;
            let rates = |threshold: f64| {
                let confusion = Confusion::at_threshold(&val, threshold).expect("two classes");
                confusion.recall().zip(confusion.specificity())
            };
            // Above 1 nothing is called positive.
            let others = (0..=9).map(|eighth| f64::from(eighth) / 8.0).filter_map(|other| Some((other, rates(other)?)));
            if let Some(threshold) = choose(Threshold::Sensitivity(least), &val) {
                let (recall, specificity) = rates(threshold).expect("defined");
                prop_assert!(recall >= least);
                for (other, rates) in others.clone().filter(|(_, rates)| rates.0 >= least) {
                    prop_assert!(rates.1 <= specificity && other <= threshold);
                }
            }
            if let Some(threshold) = choose(Threshold::Specificity(least), &val) {
                let (recall, specificity) = rates(threshold).expect("defined");
                prop_assert!(specificity >= least);
                for (other, rates) in others.filter(|(_, rates)| rates.1 >= least) {
                    prop_assert!(rates.0 < recall || (rates.0 == recall && (other <= threshold || recall == 0.0)));
                }
            }
        }

        #[test]
        fn no_other_threshold_costs_less(val in strategy::binary(), quarters in 1u32..40) {
            // In quarters of a false alarm.
            let costs = |threshold: f64| {
                let confusion = Confusion::at_threshold(&val, threshold).expect("two classes");
                let counts = confusion.counts();
                4 * counts[0][1] + u64::from(quarters) * counts[1][0]
            };
            if let Some(threshold) = choose(Threshold::Cost(f64::from(quarters) / 4.0), &val) {
                for other in (0..=9).map(|eighth| f64::from(eighth) / 8.0) {
                    prop_assert!(costs(threshold) <= costs(other));
                    // Of equally good ones the largest; above the largest probability all do the same.
                    let same = Confusion::at_threshold(&val, other) == Confusion::at_threshold(&val, threshold);
                    prop_assert!(other <= threshold || costs(other) > costs(threshold) || same);
                }
            }
        }
    }
}
