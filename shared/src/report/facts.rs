//! What a report repeats from the evidence: what runs spent, and what the data sets are.

use crate::{
    compare::DataSets,
    dataset::{Manifest, Split},
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
