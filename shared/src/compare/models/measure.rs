//! Every score of every model and seed, with what patients contribute to it, and all of them again in each draw of the
//! bootstrap.

use std::collections::BTreeMap;

use super::{Aligned, Rules};
use crate::{
    compare::score,
    document::Scores,
    spec::Score,
    stats::{Bootstrapped, Influence, Labelled, Recalibration, Weighted, bootstrap, influence},
};

/// How documents call the slope of the recalibration.
pub(super) const SLOPE: &str = "calibration_slope";

/// A model with one seed.
pub(super) struct Measured {
    pub(super) labelled: Labelled,
    pub(super) scores: Scores,
    pub(super) influences: BTreeMap<Score, Influence>,
    /// For each sample, whether it is called right.
    pub(super) right: Vec<bool>,
}

impl Measured {
    /// The score that verdicts are given on among some samples, and what their patients contribute to it.
    pub(super) fn within(
        &self,
        samples: &[usize],
        aligned: &Aligned,
        rules: &Rules,
    ) -> Option<(f64, Option<Influence>)> {
        let (labelled, patients) = (self.labelled.subset(samples), aligned.patients.subset(samples));
        let value = score::scores(&labelled, Some(rules.threshold)).get(rules.metric)?;
        let influence = influence(rules.metric, &labelled, Some(rules.threshold), &patients);
        Some((value, influence.map(|(_, influence)| influence)))
    }
}

/// By model and seed.
pub(super) fn measure(aligned: &Aligned, threshold: f64) -> Vec<Vec<Measured>> {
    let one = |predicted: &Vec<f64>| {
        let labelled =
            Labelled::of_scores(aligned.labels.clone(), predicted).expect("probabilities, one for each sample");
        let of = |score: Score| Some((score, influence(score, &labelled, Some(threshold), &aligned.patients)?.1));
        let influences = Score::ALL.into_iter().filter_map(of).collect();
        let right = aligned.labels.iter().zip(predicted).map(|(label, score)| (*score >= threshold) == (*label == 1));
        Measured { scores: score::scores(&labelled, Some(threshold)), influences, right: right.collect(), labelled }
    };
    aligned.scores.iter().map(|seeds| seeds.iter().map(one).collect()).collect()
}

/// Scores of each model, and then the differences of each but the first from the first, by name.
pub(super) fn resample(
    aligned: &Aligned,
    measured: &[Vec<Measured>],
    rules: &Rules,
) -> Vec<BTreeMap<&'static str, Bootstrapped>> {
    let names: Vec<&'static str> = Score::ALL.into_iter().map(Score::name).chain([SLOPE]).collect();
    let ready: Vec<Vec<(Weighted<'_>, Option<Recalibration>)>> = measured
        .iter()
        .map(|seeds| {
            let one = |seed| ready(seed, aligned, rules.threshold);
            seeds.iter().map(one).collect()
        })
        .collect();
    let values = |seed: usize, weights: &[u32]| -> Vec<Option<f64>> {
        let of_model = |model: &Vec<(Weighted<'_>, Option<Recalibration>)>| {
            let (weighted, recalibration) = &model[seed];
            let slope = recalibration.and_then(|from| weighted.slope(weights, from));
            Score::ALL.map(|score| weighted.score(score, weights)).into_iter().chain([slope]).collect::<Vec<_>>()
        };
        let models: Vec<Vec<Option<f64>>> = ready.iter().map(of_model).collect();
        let minus = |(model, baseline): (&Option<f64>, &Option<f64>)| Some((*model)? - (*baseline)?);
        let against = models[1..].iter().flat_map(|model| model.iter().zip(&models[0]).map(minus)).collect::<Vec<_>>();
        models.concat().into_iter().chain(against).collect()
    };
    let (seeds, patients, confidence) = (aligned.seeds.len(), aligned.patients.count(), 1.0 - rules.compare.alpha);
    // One patient drawn again and again is the same each time.
    let draws = if patients < 2 { 0 } else { rules.draws };
    let found = bootstrap(seeds, patients, draws, confidence, values);
    let of = |found: &[Option<Bootstrapped>]| {
        names.iter().copied().zip(found).filter_map(|(name, found)| Some((name, (*found)?))).collect()
    };
    found.chunks(names.len()).map(of).collect()
}

fn ready<'a>(seed: &'a Measured, aligned: &'a Aligned, threshold: f64) -> (Weighted<'a>, Option<Recalibration>) {
    let Scores { calibration_slope, calibration_intercept, .. } = seed.scores;
    let recalibration =
        calibration_slope.zip(calibration_intercept).map(|(slope, intercept)| Recalibration { intercept, slope });
    (Weighted::new(&seed.labelled, Some(threshold), &aligned.patients), recalibration)
}
