//! What can be said about a difference, and why, in words.
//!
//! A winner is named where the interval over seeds and patients leaves 0 out, at the family's error rate; two arms are equivalent
//! where the difference is surely smaller than the margin that was declared not to matter. Everything else is inconclusive, and
//! then it is said what would help. The exact sign-flip test stands beside it: it assumes less, and cannot say much about few
//! seeds.

use super::{Input, contrast::number};
use crate::{
    document::{Contrast, Uncertainty, Verdict},
    ids::Epoch,
    spec::{Compare, Correction},
    stats::holm,
};

/// Corrects over the family of all declared contrasts, and gives verdicts. A contrast that could not be made counts as one that
/// showed nothing, so that what happened to other arms cannot make a result more significant.
pub(super) fn judge(input: &Input<'_>, contrasts: &mut [Contrast], family: usize, at: Epoch) {
    let compare = &input.spec.compare;
    let corrected = |p: Vec<Option<f64>>| {
        let mut all: Vec<f64> = p.iter().map(|p| p.unwrap_or(1.0)).collect();
        all.resize(family.max(all.len()), 1.0);
        let corrected = match compare.correct {
            Correction::Holm => holm(&all),
            Correction::None => all,
        };
        p.into_iter().zip(corrected).map(|(p, corrected)| p.map(|_| corrected)).collect::<Vec<Option<f64>>>()
    };
    let differences = corrected(contrasts.iter().map(|contrast| contrast.p).collect());
    let equivalences = corrected(contrasts.iter().map(|contrast| contrast.equivalence_p).collect());
    for (contrast, (difference, equivalence)) in contrasts.iter_mut().zip(differences.into_iter().zip(equivalences)) {
        (contrast.p_corrected, contrast.equivalence_p) = (difference, equivalence);
        (contrast.verdict, contrast.because) = verdict(input, contrast, family, at);
    }
}

fn verdict(input: &Input<'_>, contrast: &Contrast, family: usize, at: Epoch) -> (Verdict, String) {
    let compare = &input.spec.compare;
    let inconclusive = |because: String| (Verdict::Inconclusive, because);
    // Only what is comparable is tested.
    if contrast.sign_flip_p.is_none() {
        let because = "exploratory: what `refused` lists differs besides the treatment, so this is evidence of nothing";
        return (Verdict::NotComparable, because.to_owned());
    }
    let budget = input.spec.budget.epochs;
    if at.0 < budget {
        return inconclusive(format!(
            "read before the endpoint, epoch {budget}: a look at unfinished training, so there is no verdict"
        ));
    }
    if contrast.treatment.is_empty() {
        return inconclusive("the two arms are set up the same: there is no treatment".to_owned());
    }
    if contrast.pairs.len() < 2 {
        return inconclusive(
            "with one seed nothing is known about how training varies; at least 2 are needed".to_owned(),
        );
    }
    let Some(uncertainty) = &contrast.uncertainty else {
        let because = "too few patients to say how sure it is: at least 2 of each kind that the metric needs";
        return inconclusive(because.to_owned());
    };
    let Some(p) = contrast.p_corrected else {
        return inconclusive("nothing varies over seeds and patients, so nothing can be said about chance".to_owned());
    };
    let measured = measured(contrast, uncertainty, compare);
    let margin = contrast.margin.zip(contrast.equivalence_p);
    if let Some((margin, equivalence)) = margin.filter(|(_, equivalence)| *equivalence <= compare.alpha) {
        let because = format!(
            "{measured}; smaller than the margin of {}, p = {}{}",
            number(margin),
            number(equivalence),
            after(compare, family)
        );
        return (Verdict::Equivalent, because);
    }
    let exact = exact(contrast, compare);
    if p <= compare.alpha {
        let larger = contrast.mean_difference > 0.0;
        let better = larger == contrast.metric.score.larger_is_better();
        let because = format!("{measured}; p = {}{}{exact}", number(p), after(compare, family));
        return (if better { Verdict::Better } else { Verdict::Worse }, because);
    }
    inconclusive(format!("{measured}; p = {}{}{exact}; {}", number(p), after(compare, family), what_helps(contrast)))
}

fn measured(contrast: &Contrast, uncertainty: &Uncertainty, compare: &Compare) -> String {
    let [low, high] = uncertainty.interval;
    format!(
        "differs by {}, {} % interval {} to {} over {} seeds and {} patients",
        number(contrast.mean_difference),
        number(100.0 * (1.0 - compare.alpha)),
        number(low),
        number(high),
        contrast.pairs.len(),
        uncertainty.patients
    )
}

fn after(compare: &Compare, family: usize) -> String {
    match (compare.correct, family) {
        (Correction::Holm, 2..) => format!(" after Holm's correction over {family} contrasts"),
        (Correction::Holm | Correction::None, _) => String::new(),
    }
}

/// What the test says that assumes no distribution.
fn exact(contrast: &Contrast, compare: &Compare) -> String {
    let seeds = contrast.pairs.len();
    if contrast.smallest_p > compare.alpha {
        return format!(
            " ({seeds} seeds cannot give p below {} in the exact sign-flip test)",
            number(contrast.smallest_p)
        );
    }
    contrast.sign_flip_p.map(|p| format!(" (exact sign-flip over seeds: p = {})", number(p))).unwrap_or_default()
}

fn what_helps(contrast: &Contrast) -> String {
    let seeds = contrast.pairs.len() as u64;
    let of = match contrast.margin {
        Some(margin) => format!("a true difference of {}, the margin,", number(margin)),
        None => "a true difference of this size".to_owned(),
    };
    match contrast.seeds_needed {
        None if contrast.margin.is_none() && contrast.mean_difference == 0.0 => {
            "declare `compare.margin` to learn how many seeds would show what matters".to_owned()
        }
        Some(needed) if needed > seeds => {
            format!("{of} would be shown by {needed} seeds, {} more, with probability 0.8", needed - seeds)
        }
        Some(_) => format!("{of} would have been shown by as many seeds with probability 0.8 or more"),
        None => format!("no number of seeds would show {of} with probability 0.8 on so few patients"),
    }
}
