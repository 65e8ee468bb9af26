//! Contrasts within groups of samples: by view, sex, age, kind. What groups are made of does not influence training, so it is no part of a
//! data set; it is told when a report is made, and the report names it by digest.
//!
//! These are looks at parts of the data after the fact: no p-value, no correction, no verdict, but intervals that say how little a small
//! part shows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Facts;
use crate::{
    compare::{DataSets, Predicted},
    dataset::{Manifest, Split},
    digest::Digest,
    document::{SubgroupDifference, Uncertainty},
    spec::{ExperimentSpec, Metric},
    stats::{Clusters, Influence, Labelled, crossed, influence},
};

/// The most values of an attribute that make groups.
pub const MOST_VALUES: usize = 12;
/// Fewest samples of each class that a group must have to be told.
const FEWEST: usize = 10;

/// What is known of samples besides their class: by data set, by attribute, of each sample in the order of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// Of the experiment's own data set.
    pub own: BTreeMap<String, Vec<Option<String>>>,
    /// Of external data sets, by name.
    pub external: BTreeMap<String, BTreeMap<String, Vec<Option<String>>>>,
}

impl Attributes {
    /// Of the canonical JSON.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.external.is_empty()
    }
}

/// Samples that are looked at together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    scored: String,
    attribute: String,
    value: String,
    /// Places in the predictions on `scored`.
    places: Vec<usize>,
    clusters: Clusters,
    widened: bool,
}

/// The groups on the part that arms are judged on and on external data. A value that all samples of one class and none of the others
/// have, such as a kind of the disease, is held against all samples of the other classes.
pub(super) fn groups(attributes: &Attributes, data: &DataSets, split: Split) -> Vec<Group> {
    let of_split: Vec<usize> = data.own.split(split).map(|index| index as usize).collect();
    let mut groups = of_part(split.name(), &data.own, &of_split, &attributes.own);
    for (name, manifest) in &data.external {
        let all: Vec<usize> = (0..manifest.samples.len()).collect();
        let Some(attributes) = attributes.external.get(name) else { continue };
        groups.extend(of_part(name, manifest, &all, attributes));
    }
    groups
}

fn of_part(
    scored: &str,
    manifest: &Manifest,
    samples: &[usize],
    attributes: &BTreeMap<String, Vec<Option<String>>>,
) -> Vec<Group> {
    let class = |place: usize| manifest.samples[samples[place]].class;
    let mut groups = Vec::new();
    for (attribute, values) in attributes {
        let value = |place: usize| values.get(samples[place]).and_then(Option::as_ref);
        let known: BTreeSet<&String> = (0..samples.len()).filter_map(value).collect();
        for wanted in known.into_iter().take(MOST_VALUES) {
            let mut places: Vec<usize> = (0..samples.len()).filter(|&place| value(place) == Some(wanted)).collect();
            let classes: BTreeSet<u32> = places.iter().map(|&place| class(place)).collect();
            let widened = classes.len() == 1;
            if widened {
                places = (0..samples.len())
                    .filter(|&place| value(place) == Some(wanted) || !classes.contains(&class(place)))
                    .collect();
            }
            let count = |of: usize| places.iter().filter(|&&place| class(place) as usize == of).count();
            if (0..manifest.classes.len()).any(|class| count(class) < FEWEST) {
                continue;
            }
            let patient = |place: &usize| {
                let index = samples[*place];
                let own = manifest.samples[index].patient.clone();
                Some(own.unwrap_or_else(|| format!("\0{index}")))
            };
            groups.push(Group {
                scored: scored.to_owned(),
                attribute: attribute.clone(),
                value: wanted.clone(),
                clusters: Clusters::named(places.iter().map(patient)),
                places,
                widened,
            });
        }
    }
    groups
}

/// The primary score of one run in each group.
pub(super) fn of_run(groups: &[Group], predicted: &Predicted, spec: &ExperimentSpec) -> Vec<Option<(f64, Influence)>> {
    let threshold = predicted.threshold(spec.endpoint.threshold);
    let in_group = |group: &Group| {
        let labelled: &Labelled = match group.scored.as_str() {
            "val" => predicted.val.as_ref()?,
            "test" => predicted.test.as_ref()?,
            name => predicted.external.get(name)?,
        };
        influence(spec.endpoint.metric.score, &labelled.subset(&group.places), threshold, &group.clusters)
    };
    groups.iter().map(in_group).collect()
}

/// The contrast of arms within each group, over the seeds in which it is defined.
pub(super) fn differences(
    groups: &[Group],
    metric: Metric,
    alpha: f64,
    names: (&str, &str),
    pairs: &[(&Facts, &Facts)],
) -> Vec<SubgroupDifference> {
    let in_group = |(index, group): (usize, &Group)| {
        let value = |facts: &Facts| facts.groups.get(index).and_then(Option::as_ref).cloned();
        let side = |arm: bool| -> Option<Vec<(f64, Influence)>> {
            pairs.iter().map(|(baseline, of_arm)| value(if arm { of_arm } else { baseline })).collect()
        };
        let (baseline, arm) = (side(false)?, side(true)?);
        if baseline.is_empty() {
            return None;
        }
        let differences: Vec<f64> = arm.iter().zip(&baseline).map(|((arm, _), (baseline, _))| arm - baseline).collect();
        let influences: Vec<Influence> =
            arm.iter().zip(&baseline).map(|((_, arm), (_, baseline))| arm.minus(baseline)).collect();
        let mean = |side: &[(f64, Influence)]| side.iter().map(|(value, _)| value).sum::<f64>() / side.len() as f64;
        let estimate = crossed(&differences, &influences).filter(|estimate| estimate.standard_error > 0.0);
        Some(SubgroupDifference {
            scored: group.scored.clone(),
            attribute: group.attribute.clone(),
            value: group.value.clone(),
            widened: group.widened,
            samples: group.places.len() as u64,
            patients: group.clusters.count() as u64,
            baseline: names.0.to_owned(),
            arm: names.1.to_owned(),
            score: metric.score.name().to_owned(),
            of_baseline: mean(&baseline),
            of_arm: mean(&arm),
            difference: differences.iter().sum::<f64>() / differences.len() as f64,
            uncertainty: estimate.map(|estimate| Uncertainty::of(&estimate, alpha, group.clusters.count() as u64)),
        })
    };
    groups.iter().enumerate().filter_map(in_group).collect()
}
