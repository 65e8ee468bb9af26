//! The numbers of a difference over paired seeds. What they mean for the family of contrasts comes after, in `verdict`.

use crate::{
    document::{Difference, Pair, Uncertainty},
    spec::{Compare, Correction},
    stats::{
        Design, Estimate, Influence, crossed, minimum_detectable, probability_of_improvement, seeds_needed, sign_flip,
        smallest_p,
    },
};

/// With which probability a study should show what is there.
const POWER: f64 = 0.8;

/// The difference over `pairs`, of which there is at least one. `influences`, one for each pair, are on its difference; without
/// them nothing is said about chance but what the sign-flip test says. p-values are not corrected yet.
pub(super) fn difference(
    pairs: Vec<Pair>,
    influences: Option<&[Influence]>,
    compare: &Compare,
    family: usize,
) -> Difference {
    let Compare { alpha, margin, correct, .. } = *compare;
    let differences: Vec<f64> = pairs.iter().map(|pair| pair.difference).collect();
    let estimate = influences.and_then(|influences| crossed(&differences, influences));
    // What does not vary has no interval: of few patients that is chance, and no certainty.
    let estimate = estimate.filter(|estimate| estimate.standard_error > 0.0);
    let patients = influences.and_then(|influences| influences.first()).map_or(0, Influence::clusters);
    // The largest p-value that Holm's correction lets through whatever the other contrasts show.
    let strict = if correct == Correction::Holm { alpha / family.max(1) as f64 } else { alpha };
    let design = estimate.as_ref().and_then(|estimate| Design::of(estimate, strict));
    let mean_difference = differences.iter().sum::<f64>() / differences.len() as f64;
    let needed = design.and_then(|design| seeds_needed(&design, margin.unwrap_or(mean_difference), POWER));
    let values = |side: fn(&Pair) -> f64| pairs.iter().map(side).collect::<Vec<f64>>();
    Difference {
        mean_difference,
        min_difference: differences.iter().copied().fold(f64::INFINITY, f64::min),
        max_difference: differences.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        uncertainty: estimate.as_ref().map(|estimate| Uncertainty::of(estimate, alpha, patients as u64)),
        p: estimate.as_ref().and_then(Estimate::p),
        p_corrected: None,
        margin,
        equivalence_p: estimate.as_ref().zip(margin).and_then(|(estimate, margin)| estimate.equivalence_p(margin)),
        sign_flip_p: sign_flip(&differences),
        smallest_p: smallest_p(pairs.len()),
        probability_larger: probability_of_improvement(&values(|pair| pair.baseline), &values(|pair| pair.arm)),
        minimum_detectable: design.and_then(|design| minimum_detectable(&design, pairs.len(), POWER)),
        seeds_needed: needed.and_then(|seeds| u64::try_from(seeds).ok()),
        pairs,
    }
}

impl Uncertainty {
    /// As documents have it.
    pub(crate) fn of(estimate: &Estimate, alpha: f64, patients: u64) -> Self {
        let Estimate { standard_error, degrees_of_freedom, seed_variance, patient_variance, .. } = *estimate;
        let degrees_of_freedom = Some(degrees_of_freedom).filter(|df| df.is_finite());
        let interval = estimate.interval(1.0 - alpha);
        Self { interval, standard_error, degrees_of_freedom, seed_variance, patient_variance, patients }
    }
}
