//! Reading a run at an epoch: from the files that hold its predictions to scores, and to what each patient contributes to them.
//! The coordinator, reports and verification all read in this way, so that they cannot disagree.

use std::collections::BTreeMap;

use super::{Error, Patients, Predicted, label, metric_to_read, score};
use crate::{
    dataset::{Manifest, Split},
    document::{Evidence, EvidenceRun, Metrics, PredictionFile},
    ids::Epoch,
    predictions::Predictions,
    report::Attributes,
    spec::ExperimentSpec,
    stats::Influence,
    trainer::Scored,
};

/// What predictions are held against: labels and patients.
#[derive(Clone, Debug)]
pub struct DataSets {
    /// The experiment's own.
    pub own: Manifest,
    /// External ones, by name.
    pub external: BTreeMap<String, Manifest>,
    /// Whose images the samples are.
    pub patients: Patients,
    /// What else is known of samples, for groups of them.
    pub attributes: Attributes,
}

impl DataSets {
    /// From manifests.
    pub fn new(own: Manifest, external: BTreeMap<String, Manifest>) -> Self {
        let patients = Patients::of(&own, &external);
        Self { own, external, patients, attributes: Attributes::default() }
    }

    /// Puts labels next to what the files of one run after one epoch say.
    ///
    /// # Errors
    /// When a file is not one of predictions, or not of these data sets.
    pub fn label(&self, files: impl IntoIterator<Item = (Scored, Vec<u8>)>) -> Result<Predicted, Error> {
        let mut predicted = Predicted::default();
        for (scored, bytes) in files {
            let manifest = match &scored {
                Scored::Split(_) => &self.own,
                Scored::External(name) => {
                    self.external.get(name).ok_or_else(|| Error::UnknownExternal(name.clone()))?
                }
            };
            let labelled = label(Predictions::from_bytes(&bytes)?, manifest, &scored)?;
            match scored {
                Scored::Split(Split::Val) => predicted.val = Some(labelled),
                Scored::Split(Split::Test) => predicted.test = Some(labelled),
                Scored::Split(Split::Train) => {}
                Scored::External(name) => drop(predicted.external.insert(name, labelled)),
            }
        }
        Ok(predicted)
    }
}

/// The predictions files to read of a run that is read at epoch `at`: of that epoch or, where it did not get there, of its last one,
/// which is returned too. Test and external data are read at the endpoint only, even where a shorter run that ends here was scored
/// on them. None where the run has no epoch.
///
/// # Errors
/// When predictions are not there that every such epoch has.
pub fn files_to_read<'a>(
    evidence: &Evidence,
    run: &'a EvidenceRun,
    at: Epoch,
) -> Result<Option<(Epoch, Vec<&'a PredictionFile>)>, Error> {
    let epoch = Epoch(at.0.min(u32::try_from(run.epochs.len()).unwrap_or(u32::MAX)));
    let Some(committed) = epoch.0.checked_sub(1).and_then(|index| run.epochs.get(index as usize)) else {
        return Ok(None);
    };
    let endpoint = epoch.0 == evidence.spec.budget.epochs;
    let mut expected = vec![Scored::Split(Split::Val)];
    if endpoint {
        expected.push(Scored::Split(Split::Test));
        expected.extend(evidence.pins.external.iter().map(|(name, _)| Scored::External(name.clone())));
    }
    let find = |scored: &Scored| committed.predictions.iter().find(|file| file.scored == *scored);
    let missing: Vec<String> = expected
        .iter()
        .filter(|scored| find(scored).is_none())
        .map(|scored| match scored {
            Scored::Split(split) => split.to_string(),
            Scored::External(name) => name.clone(),
        })
        .collect();
    if !missing.is_empty() {
        return Err(Error::Unpredicted { run: run.run, epoch, what: missing.join(" and ") });
    }
    Ok(Some((epoch, expected.iter().filter_map(find).collect())))
}

/// What one run says at an epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Its scores.
    pub metrics: Metrics,
    /// What each patient contributes to the metric that is read there.
    pub influence: Option<Influence>,
}

impl Reading {
    /// From labelled predictions. `at` is the epoch that the comparison reads.
    pub fn of(predicted: &Predicted, data: &DataSets, spec: &ExperimentSpec, at: Epoch) -> Self {
        let (rule, metric) = (spec.endpoint.threshold, metric_to_read(spec, at));
        Self { metrics: score(predicted, rule), influence: predicted.influence(&data.patients, rule, metric) }
    }
}
