//! The same samples in the same order for every model and seed; what does not agree is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{ModelsError, PredictedModel, Prediction, Rules};
use crate::stats::Clusters;

/// Predictions of all models on the same samples.
pub(super) struct Aligned {
    /// 1 where a sample is positive, in the order of the samples' names.
    pub(super) labels: Vec<u32>,
    /// The label that is positive.
    pub(super) positive: String,
    pub(super) patients: Clusters,
    pub(super) subgroups: Vec<Option<String>>,
    /// In ascending order, the same for every model.
    pub(super) seeds: Vec<u64>,
    /// By model, seed and sample.
    pub(super) scores: Vec<Vec<Vec<f64>>>,
}

impl Aligned {
    pub(super) fn positives(&self) -> usize {
        self.labels.iter().filter(|label| **label == 1).count()
    }
}

/// What is known of a sample, whichever model predicts it.
struct Sample<'a> {
    label: &'a str,
    patient: Option<&'a str>,
    subgroup: Option<&'a str>,
    by: &'a str,
}

type BySample<'a> = HashMap<&'a str, f64>;

pub(super) fn align(models: &[PredictedModel], rules: &Rules) -> Result<Aligned, ModelsError> {
    if models.len() < 2 {
        return Err(ModelsError::Input("it takes the predictions of two models or more to compare".to_owned()));
    }
    let mut names = HashSet::new();
    if let Some(model) = models.iter().find(|model| !names.insert(&model.name)) {
        return Err(ModelsError::Input(format!("two models are called {:?}; rename a file", model.name)));
    }
    let mut samples: BTreeMap<&str, Sample<'_>> = BTreeMap::new();
    let mut by_seed: Vec<BTreeMap<u64, BySample<'_>>> = Vec::with_capacity(models.len());
    for model in models {
        by_seed.push(read(model, &mut samples)?);
    }
    let seeds = same_seeds(models, &by_seed)?;
    same_samples(models, &by_seed, &samples)?;
    let positive = positive(samples.values().map(|sample| sample.label), rules.positive.as_deref())?;
    let order = |of: &BySample<'_>| samples.keys().map(|sample| of[sample]).collect::<Vec<f64>>();
    Ok(Aligned {
        labels: samples.values().map(|sample| u32::from(sample.label == positive)).collect(),
        patients: Clusters::named(samples.values().map(|sample| sample.patient)),
        subgroups: samples.values().map(|sample| sample.subgroup.map(str::to_owned)).collect(),
        scores: by_seed.iter().map(|seeds| seeds.values().map(order).collect()).collect(),
        positive,
        seeds,
    })
}

/// The model's scores by seed and sample. Whatever it says of a sample must be what others said.
fn read<'a>(
    model: &'a PredictedModel,
    samples: &mut BTreeMap<&'a str, Sample<'a>>,
) -> Result<BTreeMap<u64, BySample<'a>>, ModelsError> {
    let name = model.name.as_str();
    let mut by_seed: BTreeMap<u64, BySample<'_>> = BTreeMap::new();
    for Prediction { sample, patient, label, score, seed, subgroup } in &model.predictions {
        if !(0.0..=1.0).contains(score) {
            return Err(ModelsError::Input(format!(
                "{name}: the score {score} of sample {sample:?} is no probability of the positive class, between 0 and 1"
            )));
        }
        if by_seed.entry(*seed).or_default().insert(sample, *score).is_some() {
            return Err(ModelsError::Input(format!(
                "{name}: sample {sample:?} is there twice for seed {seed}; each sample has one row for each seed"
            )));
        }
        let (patient, subgroup) = (patient.as_deref(), subgroup.as_deref());
        let known = samples.entry(sample).or_insert(Sample { label, patient, subgroup, by: name });
        let differs = |what: &str, one: &str, other: &str| {
            let cause = format!("sample {sample:?} has the {what} {one:?} in {} and {other:?} in {name}", known.by);
            Err(ModelsError::NotComparable(cause))
        };
        if known.label != label {
            return differs("label", known.label, label);
        }
        for (what, known, new) in [("patient", known.patient, patient), ("subgroup", known.subgroup, subgroup)] {
            if let (Some(known), Some(new)) = (known, new)
                && known != new
            {
                return differs(what, known, new);
            }
        }
        known.patient = known.patient.or(patient);
        known.subgroup = known.subgroup.or(subgroup);
    }
    if by_seed.is_empty() {
        return Err(ModelsError::Input(format!("{name} has no predictions")));
    }
    Ok(by_seed)
}

fn same_seeds(models: &[PredictedModel], by_seed: &[BTreeMap<u64, BySample<'_>>]) -> Result<Vec<u64>, ModelsError> {
    let first: BTreeSet<u64> = by_seed[0].keys().copied().collect();
    for (model, seeds) in models.iter().zip(by_seed).skip(1) {
        let these: BTreeSet<u64> = seeds.keys().copied().collect();
        if these != first {
            let list = |seeds: &BTreeSet<u64>| seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            return Err(ModelsError::NotComparable(format!(
                "{} has the seeds {} and {} has {}; models are compared in pairs of one seed",
                models[0].name,
                list(&first),
                model.name,
                list(&these)
            )));
        }
    }
    Ok(first.into_iter().collect())
}

fn same_samples(
    models: &[PredictedModel],
    by_seed: &[BTreeMap<u64, BySample<'_>>],
    samples: &BTreeMap<&str, Sample<'_>>,
) -> Result<(), ModelsError> {
    for (model, seeds) in models.iter().zip(by_seed) {
        if let Some((seed, predicted)) = seeds.iter().find(|(_, predicted)| predicted.len() != samples.len()) {
            let missing: Vec<&str> = samples.keys().copied().filter(|sample| !predicted.contains_key(sample)).collect();
            let shown = missing.iter().take(3).map(|sample| format!("{sample:?}")).collect::<Vec<_>>().join(", ");
            return Err(ModelsError::NotComparable(format!(
                "{} has predictions of {} of {} samples with seed {seed}; {} are missing, such as {shown}",
                model.name,
                predicted.len(),
                samples.len(),
                missing.len()
            )));
        }
    }
    Ok(())
}

/// The label that is positive.
fn positive<'a>(labels: impl Iterator<Item = &'a str>, named: Option<&str>) -> Result<String, ModelsError> {
    let labels: BTreeSet<&str> = labels.collect();
    let list = || labels.iter().map(|label| format!("{label:?}")).collect::<Vec<_>>().join(", ");
    if let Some(named) = named {
        return match labels.contains(named) {
            true => Ok(named.to_owned()),
            false => Err(ModelsError::Input(format!("no sample has the label {named:?}; labels are {}", list()))),
        };
    }
    let number = |label: &&str| label.parse::<f64>().ok().filter(|number| number.is_finite());
    let numbers: Option<Vec<f64>> = labels.iter().map(number).collect();
    let zero_or_one = numbers.as_ref().is_some_and(|numbers| numbers.iter().all(|n| *n == 0.0 || *n == 1.0));
    match (labels.len(), numbers) {
        // Of one class only it is known which where it is a truth value.
        (1, Some(numbers)) if zero_or_one && numbers[0] == 0.0 => Ok("1".to_owned()),
        (1, Some(_)) if zero_or_one => Ok(list().trim_matches('"').to_owned()),
        (2, Some(numbers)) => {
            let larger = usize::from(numbers[1] > numbers[0]);
            Ok(labels.iter().nth(larger).map_or_else(String::new, |label| (*label).to_owned()))
        }
        (2, None) => Ok(labels.last().map_or_else(String::new, |label| (*label).to_owned())),
        _ => Err(ModelsError::Input(format!(
            "labels are {}; say with --positive which one is predicted: it is held against the rest",
            list()
        ))),
    }
}
