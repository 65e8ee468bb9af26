//! What a report repeats from the evidence: what runs spent, and what the data sets are.

use std::collections::{BTreeSet, HashMap};

use crate::{
    compare::DataSets,
    dataset::{Manifest, Sample, Split},
    digest::Digest,
    document::{DataSummary, Evidence, EvidenceRun, RunSpent, SplitSummary},
    ids::Epoch,
    stats::Clusters,
};

/// What runs spent up to epoch `at`, on average.
pub(super) fn mean_spent<'a>(runs: impl Iterator<Item = &'a EvidenceRun>, at: Epoch) -> RunSpent {
    let mut all = RunSpent::default();
    let mut count = 0u32;
    for run in runs {
        count += 1;
        run.epochs.iter().take(at.0 as usize).for_each(|epoch| all.add(&epoch.spent));
    }
    let count = count.max(1);
    RunSpent {
        epochs: all.epochs / count,
        steps: all.steps / u64::from(count),
        samples: all.samples / u64::from(count),
        seconds: all.seconds / f64::from(count),
    }
}

/// Patients with samples in more than one split.
fn patients_in_two_parts(manifest: &Manifest, external: bool) -> u64 {
    let mut parts: HashMap<&str, BTreeSet<Split>> = HashMap::new();
    for sample in &manifest.samples {
        if let Some(patient) = &sample.patient {
            parts.entry(patient).or_default().insert(sample.split);
        }
    }
    if external { 0 } else { parts.values().filter(|parts| parts.len() > 1).count() as u64 }
}

/// Samples that are scored whose pixels are those of a sample that is trained on, or that another part is chosen on.
fn pixels_in_two_parts(manifest: &Manifest, external: bool, own: &Manifest) -> u64 {
    let mut parts: HashMap<Digest, BTreeSet<Split>> = HashMap::new();
    for sample in &own.samples {
        parts.entry(sample.pixels).or_default().insert(sample.split);
    }
    let elsewhere = |sample: &Sample| {
        let of = parts.get(&sample.pixels);
        if external { of.is_some() } else { sample.split != Split::Train && of.is_some_and(|parts| parts.len() > 1) }
    };
    manifest.samples.iter().filter(|sample| elsewhere(sample)).count() as u64
}

/// The experiment's own data set, then the external ones.
pub(super) fn data_summaries(evidence: &Evidence, data: &DataSets) -> Vec<DataSummary> {
    let summary = |name: &str, digest: Digest, manifest: &Manifest, external: bool| {
        let part = |split: Option<Split>| {
            let samples: Vec<_> =
                manifest.samples.iter().filter(|sample| split.is_none_or(|split| sample.split == split)).collect();
            let mut counts = vec![0; manifest.classes.len()];
            samples.iter().for_each(|sample| counts[sample.class as usize] += 1);
            let known = samples.iter().all(|sample| sample.patient.is_some());
            let patients = Clusters::named(samples.iter().map(|sample| sample.patient.as_deref())).count();
            let name = split.map_or("all", Split::name).to_owned();
            SplitSummary { split: name, samples: counts, patients: known.then_some(patients as u64) }
        };
        let splits = if external { vec![part(None)] } else { Split::ALL.map(|split| part(Some(split))).to_vec() };
        DataSummary {
            name: name.to_owned(),
            digest,
            transform: manifest.transform.clone(),
            image_size: manifest.image_size,
            external,
            classes: manifest.classes.clone(),
            splits,
            patients_in_two_parts: patients_in_two_parts(manifest, external),
            pixels_in_two_parts: pixels_in_two_parts(manifest, external, &data.own),
        }
    };
    let own = evidence.pins.dataset.map(|digest| summary(&evidence.spec.data.dataset, digest, &data.own, false));
    let external = evidence
        .pins
        .external
        .iter()
        .filter_map(|(name, digest)| Some(summary(name, *digest, data.external.get(name)?, true)));
    own.into_iter().chain(external).collect()
}
