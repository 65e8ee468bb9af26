//! Comparison: gathers what the runs predicted at the epoch that is read, and lets the pure core judge.
//!
//! One run's predictions are in memory at a time for each of a few reads, and of every run what each patient contributes to the
//! metric (16 bytes a patient); scores are computed where it may block.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ceteris_shared::{
    compare::{self, Input, Patients, Predicted, RunFacts},
    dataset::{Manifest, Split},
    digest::Digest,
    document::{Comparison, Metrics},
    ids::{Epoch, RunId},
    plan::PlannedRun,
    predictions::{self, Predictions},
    trainer::Scored,
};
use futures::{StreamExt, TryStreamExt};

use super::{Error, Service, verify::refuse_verification, view::Known};
use crate::store::CommittedRecord;

/// Runs scored at once.
const RUNS: usize = 4;

/// The data sets that labels come from.
#[derive(Clone)]
struct Labels {
    own: Arc<Manifest>,
    patients: Arc<Patients>,
    external: Arc<BTreeMap<String, Manifest>>,
}

impl Service {
    /// Compares at epoch `at`; 0 is the endpoint.
    pub(super) async fn compare(&self, reference: &str, at: u32, exploratory: bool) -> Result<Comparison, Error> {
        let experiment = self.store.find_experiment(reference).await?;
        refuse_verification(&experiment.spec, "compare")?;
        let at = (at > 0).then_some(Epoch(at));
        let epoch = compare::epoch_to_read(&experiment.spec, at)?;
        let labels = self.labels(&experiment.pins).await?;
        let known = self.known(experiment).await?;
        let facts = |run: &PlannedRun| {
            let (run, known, labels) = (run.clone(), &known, labels.clone());
            async move { Ok::<_, Error>((run.id, self.facts(known, &run, epoch, labels).await?)) }
        };
        let runs: BTreeMap<RunId, RunFacts> = futures::stream::iter(known.experiment.plan.runs.iter().map(facts))
            .buffer_unordered(RUNS)
            .try_collect()
            .await?;
        let comparing = move || {
            let record = &known.experiment;
            let (spec, plan, classes) = (&record.spec, &record.plan, &labels.own.classes);
            compare::compare(&Input { experiment: record.id, spec, plan, classes, runs: &runs, at, exploratory })
        };
        Ok(tokio::task::spawn_blocking(comparing).await??)
    }

    async fn labels(&self, pins: &ceteris_shared::plan::Pins) -> Result<Labels, Error> {
        let own = pins.dataset.ok_or_else(|| Error::Damaged("the experiment's data set is not pinned".to_owned()))?;
        let own = Arc::new(self.manifest(own).await?);
        let mut external = BTreeMap::new();
        for (name, digest) in &pins.external {
            external.insert(name.clone(), self.manifest(*digest).await?);
        }
        let patients = Arc::new(Patients::of(&own));
        Ok(Labels { own, patients, external: Arc::new(external) })
    }

    /// What is known about a run, with its scores at epoch `at` or, where it did not get there, at its last one.
    async fn facts(&self, known: &Known, run: &PlannedRun, at: Epoch, labels: Labels) -> Result<RunFacts, Error> {
        let mut environments = Vec::new();
        let mut last: Option<&CommittedRecord> = None;
        for committed in known.committed(run) {
            environments.push(committed.environment.clone());
            last = if committed.epoch <= at { Some(committed) } else { last };
        }
        let spec = &known.experiment.spec;
        let (metrics, influence) = match last {
            None => (Metrics::default(), None),
            Some(committed) => {
                let endpoint = committed.epoch.0 == spec.budget.epochs;
                let files = self.prediction_files(run.id, committed, endpoint).await?;
                let (rule, metric) = (spec.endpoint.threshold, compare::metric_to_read(spec, at));
                let scoring = move || {
                    let predicted = predicted(files, &labels)?;
                    let influence = compare::influence(&predicted, &labels.patients, rule, metric);
                    Ok::<_, Error>((compare::score(&predicted, rule), influence))
                };
                tokio::task::spawn_blocking(scoring).await??
            }
        };
        Ok(RunFacts { outcome: known.outcome(run), environments, metrics, influence })
    }

    /// The predictions files of an epoch. Test and external data are read at the endpoint only, even where a shorter run
    /// that ends here was scored on them.
    async fn prediction_files(
        &self,
        run: RunId,
        committed: &CommittedRecord,
        endpoint: bool,
    ) -> Result<HashMap<Scored, Vec<u8>>, Error> {
        let wanted = |scored: &Scored| match scored {
            Scored::Split(Split::Val) => true,
            Scored::Split(Split::Test) | Scored::External(_) => endpoint,
            Scored::Split(Split::Train) => false,
        };
        let mut files = HashMap::new();
        for (scored, digest) in committed.predictions.iter().filter(|(scored, _)| wanted(scored)) {
            files.insert(scored.clone(), self.prediction_file(digest).await?);
        }
        let missing = |split| !files.contains_key(&Scored::Split(split));
        if missing(Split::Val) || (endpoint && missing(Split::Test)) {
            return Err(Error::Damaged(format!(
                "epoch {} of run {run} was committed without its predictions on val{}",
                committed.epoch,
                if endpoint { " and test" } else { "" }
            )));
        }
        Ok(files)
    }

    async fn prediction_file(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        Ok(self.blobs.get_bytes(digest, predictions::MAX_BYTES).await?)
    }
}

fn predicted(files: HashMap<Scored, Vec<u8>>, labels: &Labels) -> Result<Predicted, Error> {
    let mut predicted = Predicted::default();
    for (scored, bytes) in files {
        let manifest = match &scored {
            Scored::Split(_) => labels.own.as_ref(),
            Scored::External(name) => labels.external.get(name).ok_or_else(|| {
                Error::Damaged(format!("there are predictions on {name:?}, which the experiment does not name"))
            })?,
        };
        let labelled = compare::label(Predictions::from_bytes(&bytes)?, manifest, &scored)?;
        match scored {
            Scored::Split(Split::Val) => predicted.val = Some(labelled),
            Scored::Split(Split::Test) => predicted.test = Some(labelled),
            Scored::Split(Split::Train) => {}
            Scored::External(name) => drop(predicted.external.insert(name, labelled)),
        }
    }
    Ok(predicted)
}
