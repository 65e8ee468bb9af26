//! Models that were trained elsewhere, compared by their predictions with the same statistics. Nothing is known of their budgets,
//! so that they were equal is for others to say; that they predict the same samples is checked here.

mod align;
mod measure;

use std::collections::BTreeMap;

use super::{difference::difference, verdict};
use crate::{
    document::{
        BootstrapInterval, DelongTest, McnemarTest, Model, ModelContrast, ModelDifference, ModelSeed, ModelSummary,
        Models, Pair, Scope, SeedTests, Subgroup,
    },
    spec::{Compare, Score},
    stats::{self, Bootstrapped, Discordance, Influence, crossed, interquartile_mean, mcnemar},
};
use align::Aligned;
use measure::Measured;

/// One prediction of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Which sample.
    pub sample: String,
    /// Whose it is; on its own where it is not known.
    pub patient: Option<String>,
    /// Its true class.
    pub label: String,
    /// The probability of the positive class.
    pub score: f64,
    /// The seed that the model was trained with.
    pub seed: u64,
    /// What it is looked at apart by.
    pub subgroup: Option<String>,
}

/// A model's predictions, with each of its seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictedModel {
    /// What people call it.
    pub name: String,
    /// In any order.
    pub predictions: Vec<Prediction>,
}

/// How models are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The score that verdicts are given on.
    pub metric: Score,
    /// Where a probability is called positive.
    pub threshold: f64,
    /// The label that is predicted; where it is absent, 1 of 0 and 1, and otherwise the last of two in sorted order.
    pub positive: Option<String>,
    /// Error rate, correction and margin; the baseline is the first model.
    pub compare: Compare,
    /// Draws of the bootstrap; 0 for none.
    pub draws: u32,
}

/// Why models are not compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ModelsError {
    /// What was given cannot be meant.
    #[error("{0}")]
    Input(String),
    /// They are no models of the same thing.
    #[error("not comparable: {0}")]
    NotComparable(String),
}

/// Compares models, each with the first.
///
/// # Errors
/// When there are fewer than two, when predictions are contradictory, or when models are not of the same samples and seeds.
pub fn compare_models(models: &[PredictedModel], rules: &Rules) -> Result<Models, ModelsError> {
    let aligned = align::align(models, rules)?;
    let measured = measure::measure(&aligned, rules.threshold);
    let undefined = measured.iter().flatten().find(|seed| seed.scores.get(rules.metric).is_none());
    if undefined.is_some() {
        let cause = match (aligned.positives(), rules.metric) {
            (0, _) => "no sample is positive".to_owned(),
            (positives, _) if positives == aligned.labels.len() => "every sample is positive".to_owned(),
            _ => format!("nothing is called positive at the threshold {}", rules.threshold),
        };
        return Err(ModelsError::NotComparable(format!(
            "{} is undefined, because {cause}; judge on another score with --metric",
            rules.metric.name()
        )));
    }
    let resampled = measure::resample(&aligned, &measured, rules);
    let model = |(index, model): (usize, &PredictedModel)| Model {
        name: model.name.clone(),
        seeds: aligned.seeds.iter().zip(&measured[index]).map(|(seed, measured)| model_seed(*seed, measured)).collect(),
        summary: summary(&measured[index], &resampled[index], rules),
    };
    let mut contrasts: Vec<ModelContrast> =
        (1..models.len()).map(|index| contrast(models, &aligned, &measured, index, &resampled, rules)).collect();
    let family = contrasts.len();
    for score in Score::ALL {
        let of_score = contrasts.iter_mut().filter_map(|contrast| contrast.differences.get_mut(score.name()));
        verdict::correct(&rules.compare, of_score.map(|of| &mut of.difference), family);
    }
    for contrast in &mut contrasts {
        let Some(judged) = contrast.differences.get(rules.metric.name()) else { continue };
        (contrast.verdict, contrast.because) =
            verdict::verdict(&judged.difference, rules.metric, &rules.compare, family);
    }
    Ok(Models {
        budget_verified: false,
        scope: if aligned.seeds.len() == 1 { Scope::Models } else { Scope::Treatments },
        metric: rules.metric,
        threshold: rules.threshold,
        positive_class: aligned.positive.clone(),
        alpha: rules.compare.alpha,
        correct: rules.compare.correct,
        samples: aligned.labels.len() as u64,
        patients: aligned.patients.count() as u64,
        draws: rules.draws,
        models: models.iter().enumerate().map(model).collect(),
        contrasts,
    })
}

fn model_seed(seed: u64, measured: &Measured) -> ModelSeed {
    let auc_variance = measured.influences.get(&Score::Auc).map(Influence::variance);
    ModelSeed { seed, scores: measured.scores.clone(), auc_variance }
}

fn summary(
    seeds: &[Measured],
    resampled: &BTreeMap<&'static str, Bootstrapped>,
    rules: &Rules,
) -> BTreeMap<String, ModelSummary> {
    let confidence = 1.0 - rules.compare.alpha;
    let of = |name: &'static str, values: Vec<f64>, influences: Option<Vec<Influence>>| {
        let estimate = influences.and_then(|influences| crossed(&values, &influences));
        let summary = ModelSummary {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            interquartile_mean: interquartile_mean(&values)?,
            interval: estimate.filter(|of| of.standard_error > 0.0).map(|of| of.interval(confidence)),
            bootstrap: resampled.get(name).map(|found| BootstrapInterval::of(found, seeds.len())),
        };
        Some((name.to_owned(), summary))
    };
    let of_score = |score: Score| {
        let values = seeds.iter().map(|seed| seed.scores.get(score)).collect::<Option<Vec<f64>>>()?;
        of(score.name(), values, influences(seeds, score))
    };
    let slopes = seeds.iter().map(|seed| seed.scores.calibration_slope).collect::<Option<Vec<f64>>>();
    let slope = slopes.and_then(|values| of(measure::SLOPE, values, None));
    Score::ALL.into_iter().filter_map(of_score).chain(slope).collect()
}

fn influences(seeds: &[Measured], score: Score) -> Option<Vec<Influence>> {
    seeds.iter().map(|seed| seed.influences.get(&score).cloned()).collect()
}

impl BootstrapInterval {
    /// As documents have it: of one seed nothing is known about how seeds deviate.
    fn of(found: &Bootstrapped, seeds: usize) -> Self {
        let Bootstrapped { interval, deviation, seed_deviation, patient_deviation, undefined } = *found;
        let seed_deviation = (seeds > 1).then_some(seed_deviation);
        Self { interval, deviation, seed_deviation, patient_deviation, undefined }
    }
}

fn contrast(
    models: &[PredictedModel],
    aligned: &Aligned,
    measured: &[Vec<Measured>],
    index: usize,
    resampled: &[BTreeMap<&'static str, Bootstrapped>],
    rules: &Rules,
) -> ModelContrast {
    let family = models.len() - 1;
    let (baseline, model) = (&measured[0], &measured[index]);
    let of_score = |score: Score| {
        let pair = |((seed, baseline), model): ((&u64, &Measured), &Measured)| {
            let (baseline, arm) = (baseline.scores.get(score)?, model.scores.get(score)?);
            Some(Pair { seed: *seed, baseline, arm, difference: arm - baseline })
        };
        let pairs = aligned.seeds.iter().zip(baseline).zip(model).map(pair).collect::<Option<Vec<Pair>>>()?;
        let influences = influences(baseline, score).zip(influences(model, score));
        let influences = influences.map(|(baseline, model)| differences(&baseline, &model));
        let difference = difference(pairs, influences.as_deref(), &rules.compare, family);
        // Differences of a model come after the scores of all of them.
        let bootstrap = resampled[models.len() + index - 1].get(score.name());
        let bootstrap = bootstrap.map(|found| BootstrapInterval::of(found, aligned.seeds.len()));
        Some((score.name().to_owned(), ModelDifference { difference, bootstrap }))
    };
    let tests = aligned.seeds.iter().enumerate().map(|(at, &seed)| tests(aligned, &baseline[at], &model[at], seed));
    ModelContrast {
        baseline: models[0].name.clone(),
        model: models[index].name.clone(),
        verdict: crate::document::Verdict::Inconclusive,
        because: String::new(),
        differences: Score::ALL.into_iter().filter_map(of_score).collect(),
        tests: tests.collect(),
        subgroups: subgroups(aligned, baseline, model, rules),
    }
}

fn differences(baseline: &[Influence], model: &[Influence]) -> Vec<Influence> {
    model.iter().zip(baseline).map(|(model, baseline)| model.minus(baseline)).collect()
}

fn tests(aligned: &Aligned, baseline: &Measured, model: &Measured, seed: u64) -> SeedTests {
    let positive = 1;
    let (first, second) = (baseline.labelled.one_vs_rest(positive), model.labelled.one_vs_rest(positive));
    let delong = stats::area_test(&first, &second, &aligned.patients).map(|test| DelongTest {
        difference: test.difference,
        variance: test.variance,
        z: test.z,
        p: test.p,
    });
    let mut discordance = Discordance { first_only: 0, second_only: 0 };
    for (baseline, model) in baseline.right.iter().zip(&model.right) {
        discordance.first_only += u64::from(*baseline && !model);
        discordance.second_only += u64::from(*model && !baseline);
    }
    let Discordance { first_only, second_only } = discordance;
    let mcnemar = McnemarTest { baseline_only: first_only, model_only: second_only, p: mcnemar(discordance) };
    SeedTests { seed, delong, mcnemar }
}

fn subgroups(aligned: &Aligned, baseline: &[Measured], model: &[Measured], rules: &Rules) -> Vec<Subgroup> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, name) in aligned.subgroups.iter().enumerate() {
        name.iter().for_each(|name| groups.entry(name).or_default().push(index));
    }
    let family = groups.len();
    let of_group = |(name, samples): (&str, Vec<usize>)| {
        let of = |measured: &Measured| measured.within(&samples, aligned, rules);
        let both = |((seed, baseline), model): ((&u64, &Measured), &Measured)| {
            let ((baseline, of_baseline), (arm, of_arm)) = (of(baseline)?, of(model)?);
            let pair = Pair { seed: *seed, baseline, arm, difference: arm - baseline };
            Some((pair, of_arm.zip(of_baseline).map(|(of_arm, of_baseline)| of_arm.minus(&of_baseline))))
        };
        let pairs = aligned.seeds.iter().zip(baseline).zip(model).map(both).collect::<Option<Vec<_>>>();
        let difference = pairs.map(|pairs| {
            let (pairs, influences): (Vec<Pair>, Vec<Option<Influence>>) = pairs.into_iter().unzip();
            let influences: Option<Vec<Influence>> = influences.into_iter().collect();
            difference(pairs, influences.as_deref(), &rules.compare, family)
        });
        let positives = samples.iter().filter(|&&index| aligned.labels[index] == 1).count();
        Subgroup { name: name.to_owned(), samples: samples.len() as u64, positives: positives as u64, difference }
    };
    let mut groups: Vec<Subgroup> = groups.into_iter().map(of_group).collect();
    verdict::correct(&rules.compare, groups.iter_mut().filter_map(|group| group.difference.as_mut()), family);
    groups
}

#[cfg(test)]
mod tests;
