//! Comparison: gathers what the runs predicted at the epoch that is read, and lets the pure core judge.
//!
//! One run's predictions are in memory at a time for each of a few reads, and of every run what each patient contributes to the
//! metric (16 bytes a patient); scores are computed where it may block.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ceteris_shared::{
    compare::{self, DataSets, Input, Reading, RunFacts},
    document::{Comparison, Evidence, EvidenceRun},
    ids::{Epoch, RunId},
    plan::Pins,
    predictions,
};
use futures::{StreamExt, TryStreamExt};

use super::{Error, Service, verify::refuse_verification};

/// Runs scored at once.
const RUNS: usize = 4;

impl Service {
    /// Compares at epoch `at`; 0 is the endpoint.
    pub(super) async fn compare(&self, reference: &str, at: u32, exploratory: bool) -> Result<Comparison, Error> {
        let experiment = self.store.find_experiment(reference).await?;
        refuse_verification(&experiment.spec, "compare")?;
        let at = (at > 0).then_some(Epoch(at));
        let epoch = compare::epoch_to_read(&experiment.spec, at)?;
        let data = Arc::new(self.data_sets(&experiment.pins).await?);
        let known = self.known(experiment).await?;
        let evidence = self.evidence_of(&known).await?;
        let facts = |run: &EvidenceRun| {
            let (run, evidence, data) = (run.clone(), &evidence, data.clone());
            async move { Ok::<_, Error>((run.run, self.facts(evidence, &run, epoch, data).await?)) }
        };
        let runs: BTreeMap<RunId, RunFacts> =
            futures::stream::iter(evidence.runs.iter().map(facts)).buffer_unordered(RUNS).try_collect().await?;
        let comparing = move || {
            let record = &known.experiment;
            let (spec, plan, classes) = (&record.spec, &record.plan, &data.own.classes);
            compare::compare(&Input { experiment: record.id, spec, plan, classes, runs: &runs, at, exploratory })
        };
        Ok(tokio::task::spawn_blocking(comparing).await??)
    }

    async fn data_sets(&self, pins: &Pins) -> Result<DataSets, Error> {
        let own = pins.dataset.ok_or_else(|| Error::Damaged("the experiment's data set is not pinned".to_owned()))?;
        let own = self.manifest(own).await?;
        let mut external = BTreeMap::new();
        for (name, digest) in &pins.external {
            external.insert(name.clone(), self.manifest(*digest).await?);
        }
        Ok(DataSets::new(own, external))
    }

    /// What is known about a run, with its scores at epoch `at` or, where it did not get there, at its last one.
    async fn facts(
        &self,
        evidence: &Evidence,
        run: &EvidenceRun,
        at: Epoch,
        data: Arc<DataSets>,
    ) -> Result<RunFacts, Error> {
        let reading = match compare::files_to_read(evidence, run, at)? {
            None => Reading::default(),
            Some((_, wanted)) => {
                let mut files = HashMap::new();
                for file in wanted {
                    files
                        .insert(file.scored.clone(), self.blobs.get_bytes(&file.digest, predictions::MAX_BYTES).await?);
                }
                let spec = evidence.spec.clone();
                let reading = move || Ok::<_, Error>(Reading::of(&data.label(files)?, &data, &spec, at));
                tokio::task::spawn_blocking(reading).await??
            }
        };
        Ok(RunFacts::of(evidence, run, reading))
    }
}
