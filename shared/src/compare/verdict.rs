//! What can be said about a difference, and why, in words.
//!
//! A winner is named where the interval over seeds and patients leaves 0 out, at the family's error rate; two arms are equivalent
//! where the difference is surely smaller than the margin that was declared not to matter. Everything else is inconclusive, and
//! then it is said what would help. The exact sign-flip test stands beside it: it assumes less, and cannot say much about few
//! seeds.

use super::{Input, contrast::number};
use crate::{
    document::{Contrast, Difference, Uncertainty, Verdict},
    ids::Epoch,
    spec::{Compare, Correction, Score},
    stats::{EXACT_LIMIT, holm},
};

/// Corrects over the family of all declared contrasts, and gives verdicts.
pub(super) fn judge(input: &Input<'_>, contrasts: &mut [Contrast], family: usize, at: Epoch) {
    correct(&input.spec.compare, contrasts.iter_mut().map(|contrast| &mut contrast.difference), family);
    for contrast in contrasts {
        (contrast.verdict, contrast.because) = of_contrast(input, contrast, family, at);
    }
}

/// Corrects p-values over `family` differences. One that could not be made counts as one that showed nothing, so that what happened
/// to other arms cannot make a result more significant.
pub(super) fn correct<'a>(compare: &Compare, differences: impl Iterator<Item = &'a mut Difference>, family: usize) {
    let differences: Vec<&mut Difference> = differences.collect();
    let corrected = |p: Vec<Option<f64>>| {
        let mut all: Vec<f64> = p.iter().map(|p| p.unwrap_or(1.0)).collect();
        all.resize(family.max(all.len()), 1.0);
        let corrected = match compare.correct {
            Correction::Holm => holm(&all),
            Correction::None => all,
        };
        p.into_iter().zip(corrected).map(|(p, corrected)| p.map(|_| corrected)).collect::<Vec<Option<f64>>>()
    };
    let p = corrected(differences.iter().map(|difference| difference.p).collect());
    let equivalence_p = corrected(differences.iter().map(|difference| difference.equivalence_p).collect());
    for (difference, (p, equivalence_p)) in differences.into_iter().zip(p.into_iter().zip(equivalence_p)) {
        (difference.p_corrected, difference.equivalence_p) = (p, equivalence_p);
    }
}

fn of_contrast(input: &Input<'_>, contrast: &Contrast, family: usize, at: Epoch) -> (Verdict, String) {
    let inconclusive = |because: String| (Verdict::Inconclusive, because);
    // Only what is comparable is tested.
    if contrast.difference.sign_flip_p.is_none() {
        let because = "exploratory: what `refused` lists differs besides the treatment, so this is evidence of nothing";
        return (Verdict::NotComparable, because.to_owned());
    }
    let budget = input.spec.budget.epochs;
    if at.0 < budget {
        return inconclusive(format!(
            "read before the endpoint, epoch {budget}: a look at unfinished training, so there is no verdict"
        ));
    }
    if !tells_of_treatments(contrast) {
        let because = if contrast.treatment.is_empty() {
            "the two arms are set up the same: there is no treatment"
        } else {
            "with one seed nothing is known about how training varies; at least 2 are needed"
        };
        return inconclusive(because.to_owned());
    }
    verdict(&contrast.difference, contrast.metric.score, &input.spec.compare, family)
}

/// Whether there is a treatment, and enough seeds to see how training varies.
pub(super) fn tells_of_treatments(contrast: &Contrast) -> bool {
    !contrast.treatment.is_empty() && contrast.difference.pairs.len() >= 2
}

/// The verdict on a difference that is comparable, with its p-values corrected.
pub(super) fn verdict(difference: &Difference, score: Score, compare: &Compare, family: usize) -> (Verdict, String) {
    let inconclusive = |because: String| (Verdict::Inconclusive, because);
    let Some(uncertainty) = &difference.uncertainty else {
        let because = "nothing varies over seeds and patients, or there are fewer than 2 patients of a kind that the metric needs: \
                       nothing can be said about chance";
        return inconclusive(because.to_owned());
    };
    let p = difference.p_corrected.unwrap_or(1.0);
    let measured = measured(difference, uncertainty, compare);
    let margin = difference.margin.zip(difference.equivalence_p);
    if let Some((margin, equivalence)) = margin.filter(|(_, equivalence)| *equivalence <= compare.alpha) {
        let because = format!(
            "{measured}; surely smaller than the margin of {}: {} in two one-sided tests{}",
            number(margin),
            p_value(equivalence),
            after(compare, family)
        );
        return (Verdict::Equivalent, because);
    }
    let tested = format!("{measured}; {}{}{}", p_value(p), after(compare, family), exact(difference, compare));
    if p <= compare.alpha {
        let better = (difference.mean_difference > 0.0) == score.larger_is_better();
        return (if better { Verdict::Better } else { Verdict::Worse }, tested);
    }
    inconclusive(format!("{tested}{}", what_helps(difference)))
}

fn measured(difference: &Difference, uncertainty: &Uncertainty, compare: &Compare) -> String {
    let [low, high] = uncertainty.interval;
    let seeds = difference.pairs.len();
    format!(
        "differs by {}, {} interval {} to {} over {seeds} {} and {} patients",
        number(difference.mean_difference),
        confidence(compare.alpha),
        number(low),
        number(high),
        if seeds == 1 { "seed" } else { "seeds" },
        uncertainty.patients
    )
}

/// Of intervals, without digits that rounding made: `95 %`.
pub(super) fn confidence(alpha: f64) -> String {
    format!("{} %", (1e8 * (1.0 - alpha)).round() / 1e6)
}

fn after(compare: &Compare, family: usize) -> String {
    match (compare.correct, family) {
        (Correction::Holm, 2..) => format!(" after Holm's correction over {family} contrasts"),
        (Correction::Holm | Correction::None, _) => String::new(),
    }
}

/// What is smaller than 0.0001 is said to be.
fn p_value(p: f64) -> String {
    if p < 1e-4 { "p < 0.0001".to_owned() } else { format!("p = {}", number(p)) }
}

/// What the test says that assumes no distribution. About one seed it says nothing.
fn exact(difference: &Difference, compare: &Compare) -> String {
    match difference.pairs.len() {
        1 => String::new(),
        seeds if difference.smallest_p > compare.alpha => {
            format!(
                " ({seeds} seeds cannot give p below {} in the exact sign-flip test)",
                number(difference.smallest_p)
            )
        }
        _ => {
            let exact = if difference.pairs.len() > EXACT_LIMIT { "" } else { "exact " };
            let p = difference.sign_flip_p.map(|p| format!(" ({exact}sign-flip over seeds: {})", p_value(p)));
            p.unwrap_or_default()
        }
    }
}

fn what_helps(difference: &Difference) -> String {
    let seeds = difference.pairs.len() as u64;
    if seeds == 1 {
        return String::new();
    }
    let of = match difference.margin {
        Some(margin) => format!("a true difference of {}, the margin,", number(margin)),
        None => "a true difference of this size".to_owned(),
    };
    match difference.seeds_needed {
        None if difference.margin.is_none() && difference.mean_difference == 0.0 => {
            "; declare a margin to learn how many seeds would show what matters".to_owned()
        }
        Some(needed) if needed > seeds => {
            format!("; {of} would be shown by {needed} seeds, {} more, with probability 0.8", needed - seeds)
        }
        Some(_) => format!("; {of} would have been shown by as many seeds with probability 0.8 or more"),
        None => format!("; no number of seeds would show {of} with probability 0.8 on so few patients"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        compare::difference::difference,
        document::Pair,
        stats::{Clusters, Influence, Labelled, influence},
    };

    fn scored(scores: &[u8]) -> (f64, Influence) {
        let scores: Vec<f64> = scores.iter().map(|score| f64::from(*score) / 255.0).collect();
        let labels = (0..).take(scores.len()).map(|index| index % 2).collect();
        let labelled = Labelled::of_scores(labels, &scores).expect("well-formed");
        influence(Score::Auc, &labelled, None, &Clusters::singletons(scores.len())).expect("both classes")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// So what the benchmark counts of intervals, false alarms and coverage, is true of verdicts.
        #[test]
        fn a_winner_is_named_exactly_where_the_interval_leaves_0_out(
            seeds in proptest::collection::vec((proptest::collection::vec(0u8.., 24), proptest::collection::vec(0u8.., 24), 0u8..80), 2..6)
        ) {
            let both = seeds.iter().map(|(baseline, arm, better)| {
                // The arm's positives are raised, so that differences of all sizes occur.
                let raised = (0..).zip(arm).map(|(index, score): (usize, &u8)| score.saturating_add(if index % 2 == 1 { *better } else { 0 }));
                (scored(baseline), scored(&raised.collect::<Vec<u8>>()))
            });
            let (mut pairs, mut influences) = (Vec::new(), Vec::new());
            for (seed, ((baseline, of_baseline), (arm, of_arm))) in (0..).zip(both) {
                pairs.push(Pair { seed, baseline, arm, difference: arm - baseline });
                influences.push(of_arm.minus(&of_baseline));
            }
            let compare = Compare { correct: Correction::None, ..Compare::default() };
            let mut difference = difference(pairs, Some(&influences), &compare, 1);
            correct(&compare, std::iter::once(&mut difference), 1);
            let [low, high] = difference.uncertainty.as_ref().map_or([-1.0, 1.0], |known| known.interval);
            let (verdict, _) = verdict(&difference, Score::Auc, &compare, 1);
            let expected = if low > 0.0 { Verdict::Better } else if high < 0.0 { Verdict::Worse } else { Verdict::Inconclusive };
            prop_assert_eq!(verdict, expected, "{:?}", difference.uncertainty);
        }
    }
}
