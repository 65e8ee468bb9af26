//! Evidence: what a comparison rests on, as one document, so that others can compute it again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ceteris_shared::{
    checkpoint::{Environment, MAX_MANIFEST_BYTES, Manifest, Role},
    dataset::Split,
    digest::Digest,
    document::{Evidence, EvidenceEpoch, EvidenceRun, PredictionFile},
    ids::{Epoch, ExperimentId, SegmentId},
    plan::PlannedRun,
    trainer::Scored,
};
use futures::{StreamExt, TryStreamExt};

use super::{Error, Service, moment, verify::refuse_verification, view, view::Known};
use crate::store::{CommittedRecord, ExperimentRecord, SeriesQuery};

/// Manifests of checkpoints that are read at once.
const READS: usize = 16;
/// What workers measure on val.
const MEASURED: [&str; 3] = ["loss", "accuracy", "auc"];

impl Service {
    /// The evidence of an experiment.
    pub(super) async fn evidence(&self, reference: &str) -> Result<Evidence, Error> {
        let experiment = self.store.find_experiment(reference).await?;
        refuse_verification(&experiment.spec, "report")?;
        let known = self.known(experiment).await?;
        let mut evidence = self.evidence_of(&known).await?;
        evidence.earlier_looks = self.earlier_looks(&known.experiment).await?;
        self.add_measured(&known, &mut evidence).await?;
        Ok(evidence)
    }

    /// The evidence without what workers measured and without earlier looks: what a comparison needs.
    pub(super) async fn evidence_of(&self, known: &Known) -> Result<Evidence, Error> {
        let frozen = self.frozen(known).await?;
        let ExperimentRecord { id, spec, pins, plan, submitted_at, .. } = &known.experiment;
        let mut environments: Vec<Environment> = Vec::new();
        let mut index = |environment: &Environment| match environments.iter().position(|known| known == environment) {
            Some(index) => index,
            None => {
                environments.push(environment.clone());
                environments.len() - 1
            }
        };
        let mut epoch = |committed: &CommittedRecord| EvidenceEpoch {
            key: committed.key,
            environment: index(&committed.environment),
            frozen: frozen.get(&committed.manifest).copied(),
            spent: committed.spent,
            measured: BTreeMap::new(),
            predictions: committed
                .predictions
                .iter()
                .cloned()
                .map(|(scored, digest)| PredictionFile { scored, digest })
                .collect(),
        };
        let mut runs = Vec::with_capacity(plan.runs.len());
        for run in &plan.runs {
            runs.push(EvidenceRun {
                run: run.id,
                arm: plan.arms[run.arm].name.clone(),
                seed: run.seed,
                outcome: known.outcome(run),
                epochs: known.committed(run).map(&mut epoch).collect(),
            });
        }
        Ok(Evidence {
            experiment: *id,
            submitted_at: moment(*submitted_at),
            spec: spec.clone(),
            pins: pins.clone(),
            ledger: view::ledger(known),
            environments,
            earlier_looks: Vec::new(),
            runs,
        })
    }

    /// What was frozen in the first and in the last epoch of each stage, by the checkpoint's manifest. Of checkpoints that are gone or
    /// damaged nothing is known, and that is no error here: `verify run` and `storage check` say what is wrong with them.
    async fn frozen(&self, known: &Known) -> Result<HashMap<Digest, Digest>, Error> {
        let wanted: BTreeSet<Digest> =
            known.experiment.plan.runs.iter().flat_map(|run| edges_of_stages(known, run)).collect();
        let read = |digest: Digest| async move {
            let bytes = match self.blobs.get_bytes(&digest, MAX_MANIFEST_BYTES).await {
                Ok(bytes) => bytes,
                // A store that is away is no checkpoint that is gone.
                Err(error) if error.is_transient() => return Err(Error::from(error)),
                Err(_) => return Ok(None),
            };
            let manifest = Manifest::from_bytes(&bytes).ok();
            let part = manifest.and_then(|manifest| manifest.parts.into_iter().find(|part| part.role == Role::Frozen));
            Ok(part.map(|part| (digest, part.digest)))
        };
        let read = futures::stream::iter(wanted.into_iter().map(read)).buffer_unordered(READS);
        let found: Vec<Option<(Digest, Digest)>> = read.try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Experiments on the same test split whose first look at it came before this one was submitted.
    async fn earlier_looks(&self, experiment: &ExperimentRecord) -> Result<Vec<ExperimentId>, Error> {
        let mut earlier = Vec::new();
        for summary in self.store.experiments().await? {
            if summary.id == experiment.id || summary.submitted_at >= experiment.submitted_at || summary.committed == 0
            {
                continue;
            }
            let record = self.store.find_experiment(&summary.id.to_string()).await?;
            if record.pins.dataset != experiment.pins.dataset {
                continue;
            }
            let looked = |committed: &CommittedRecord| {
                committed.committed_at < experiment.submitted_at
                    && committed.predictions.iter().any(|(scored, _)| *scored == Scored::Split(Split::Test))
            };
            let known = self.known(record).await?;
            if known.segments.iter().flat_map(|segment| &segment.committed).any(looked) {
                earlier.push(summary.id);
            }
        }
        earlier.sort_unstable();
        Ok(earlier)
    }

    async fn add_measured(&self, known: &Known, evidence: &mut Evidence) -> Result<(), Error> {
        let query = SeriesQuery {
            segments: known.segments.iter().map(|segment| segment.id).collect(),
            names: MEASURED.map(str::to_owned).to_vec(),
            uncommitted: false,
        };
        let mut measured: HashMap<(SegmentId, Epoch), BTreeMap<String, f64>> = HashMap::new();
        for point in self.store.series(&query).await? {
            if point.point.split == Split::Val {
                let epoch = measured.entry((point.attempt.segment, point.point.epoch)).or_default();
                epoch.insert(point.point.name, point.point.value);
            }
        }
        let plan = &known.experiment.plan;
        for (run, told) in plan.runs.iter().zip(&mut evidence.runs) {
            let segments = run.path.iter().flat_map(|&index| {
                let segment = &plan.segments[index];
                segment.work.epochs.iter().map(move |work| (segment.id, work.epoch))
            });
            for (place, epoch) in segments.zip(&mut told.epochs) {
                epoch.measured = measured.get(&place).cloned().unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// The manifests of the first and the last committed epoch of each stage of a run.
fn edges_of_stages<'a>(known: &'a Known, run: &'a PlannedRun) -> impl Iterator<Item = Digest> + use<'a> {
    let plan = &known.experiment.plan;
    let starts: BTreeSet<Epoch> = run
        .path
        .iter()
        .flat_map(|&index| &plan.segments[index].work.epochs)
        .filter(|work| work.optimizer_starts)
        .map(|work| work.epoch)
        .collect();
    let last = known.committed(run).last().map(|committed| committed.epoch);
    known
        .committed(run)
        .filter(move |committed| {
            let epoch = committed.epoch;
            starts.contains(&epoch) || starts.contains(&epoch.next()) || Some(epoch) == last
        })
        .map(|committed| committed.manifest)
}
