//! Training a run again, alone, and holding what comes out against what is on record.
//!
//! A verification is an experiment of one run that shares nothing and takes nothing, except, if asked, the state to begin
//! from. It is bound to the environment class of the run: in another one other bits prove nothing.

use std::collections::BTreeSet;

use ceteris_blob::Blobs;
use ceteris_shared::{
    checkpoint::{MAX_MANIFEST_BYTES, Manifest, Part},
    digest::Digest,
    document::{self, State, Verification, VerifiedEpoch},
    ids::{ExperimentId, RunId},
    plan::{PlannedRun, Segment},
    spec::{EnvironmentRule, ExperimentSpec},
};

use super::{Error, Service, view::Known};
use crate::{
    driver::{Reusable, SubmitRequest},
    store::CommittedRecord,
};

/// The largest part that is read to find the tensor that differs.
const MAX_PART_BYTES: u64 = 1 << 30;

impl Service {
    /// Submits the verification of a run from the state after epoch `from` on; 0 is from the beginning.
    pub(super) async fn verify(
        &self,
        reference: &str,
        from: u32,
        verification: ExperimentId,
    ) -> Result<document::Experiment, Error> {
        let (known, run) = self.find_run(reference).await?;
        let record = &known.experiment;
        if record.spec.execution.verifies.is_some() {
            return Err(Error::invalid(
                format!("run {} is a verification itself", run.id),
                "verify the run that it verifies",
            ));
        }
        let committed: Vec<&CommittedRecord> = known.committed(&run).collect();
        if committed.len() as u64 != record.plan.epochs_of(&run) {
            return Err(Error::invalid(
                format!("run {} is not trained to its end yet", run.id),
                format!("wait for it: `ceteris watch {}`", record.id.short()),
            ));
        }
        if u64::from(from) >= committed.len() as u64 {
            return Err(Error::invalid(
                format!("after epoch {from} nothing of run {} is left to verify", run.id),
                format!("give an epoch before {}", committed.len()),
            ));
        }
        let classes: BTreeSet<_> = committed.iter().map(|epoch| &epoch.environment).collect();
        let Some(environment) = classes.first().filter(|_| classes.len() == 1) else {
            return Err(Error::invalid(
                format!("run {} was trained in {} environment classes", run.id, classes.len()),
                "only what was trained in one can come out the same",
            ));
        };
        let plan = record.plan.alone(&run, verification);
        let mut taken = committed[..from as usize].iter().map(|epoch| epoch.as_reused());
        let of = |segment: &Segment| taken.by_ref().take(segment.work.epochs.len()).collect();
        let reused =
            Reusable { segments: plan.segments.iter().map(of).collect(), environment: Some((*environment).clone()) };
        let spec = alone(&record.spec, &known, &run);
        let source = serde_json::to_string_pretty(&spec).map_err(|error| Error::Damaged(error.to_string()))?;
        let (experiment, pins) = (verification, record.pins.clone());
        self.driver.submit(SubmitRequest { experiment, spec, source, pins, plan, reused: Some(reused) }).await?;
        self.show(&experiment.to_string()).await
    }

    /// What a verification has found so far.
    pub(super) async fn verification(&self, reference: &str) -> Result<Verification, Error> {
        let record = self.store.find_experiment(reference).await?;
        let Some(verified) = record.spec.execution.verifies else {
            return Err(Error::invalid(
                format!("experiment {} verifies nothing", record.id),
                "`ceteris verify run RUN` submits one that does",
            ));
        };
        let by = self.known(record).await?;
        let (of, run) = self.find_run(&verified.to_string()).await?;
        let Some(again) = by.experiment.plan.runs.first() else {
            return Err(Error::Damaged("a verification has no run".to_owned()));
        };
        let recorded: Vec<&CommittedRecord> = of.committed(&run).collect();
        let trained: Vec<&CommittedRecord> = by.committed(again).collect();
        let mut epochs = Vec::new();
        let mut differs = None;
        for (recorded, trained) in recorded.iter().zip(&trained).filter(|(_, trained)| is_own(&by, trained)) {
            let equal = recorded.weights.is_some() && recorded.weights == trained.weights;
            if !equal && differs.is_none() {
                differs = Some(difference(&self.blobs, recorded, trained).await?);
            }
            let (epoch, recorded, trained) = (recorded.epoch, recorded.weights, trained.weights);
            epochs.push(VerifiedEpoch { epoch, recorded, trained, equal });
        }
        let state = by.state();
        let done = state == State::Done;
        Ok(Verification {
            run: run.id,
            experiment: of.experiment.id,
            by: by.experiment.id,
            state,
            environment: by.experiment.environment.clone(),
            equal: if differs.is_some() { Some(false) } else { done.then_some(true) },
            epochs,
            first_difference: differs,
        })
    }
}

/// Whether the verification trained the epoch itself.
fn is_own(by: &Known, epoch: &CommittedRecord) -> bool {
    by.segments.iter().any(|segment| segment.id == epoch.source)
}

/// The spec of a run's verification: what is not its arm's, or other seeds', is left out.
fn alone(spec: &ExperimentSpec, known: &Known, run: &PlannedRun) -> ExperimentSpec {
    let levels = &known.experiment.plan.arms[run.arm].levels;
    let mut spec = spec.clone();
    spec.name = format!("verify-{}", run.id.short());
    spec.arm.retain(|arm| levels.get("arm") == Some(&arm.name));
    (spec.seeds.count, spec.seeds.values) = (None, Some(vec![run.seed]));
    (spec.execution.share, spec.execution.verifies) = (false, Some(run.id));
    spec.controls.environment = EnvironmentRule::Same;
    (spec.compare.baseline, spec.budget.extends) = (None, None);
    spec
}

/// What of two checkpoints of one epoch differs first, in words.
async fn difference(blobs: &Blobs, recorded: &CommittedRecord, trained: &CommittedRecord) -> Result<String, Error> {
    let epoch = recorded.epoch;
    let read = async |record: &CommittedRecord| -> Result<Manifest, Error> {
        Ok(Manifest::from_bytes(&blobs.get_bytes(&record.manifest, MAX_MANIFEST_BYTES).await?)?)
    };
    let (before, after) = match (read(recorded).await, read(trained).await) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(error), _) | (_, Err(error)) => {
            return Ok(format!("epoch {epoch}: the digests differ, and where cannot be seen: {error}"));
        }
    };
    let Some((one, other)) = before.parts.iter().zip(&after.parts).find(|(one, other)| one.digest != other.digest)
    else {
        return Ok(match recorded.weights {
            None => format!("epoch {epoch}: it was trained by a worker that did not record the weights' digest"),
            Some(_) => format!("epoch {epoch}: the digest on record is not that of the checkpoint on record"),
        });
    };
    let part = |part: &Part| part.role.name();
    let bytes = async |digest: &Digest| blobs.get_bytes(digest, MAX_PART_BYTES).await;
    Ok(match (bytes(&one.digest).await, bytes(&other.digest).await) {
        (Ok(one_bytes), Ok(other_bytes)) => {
            let tensor = ceteris_shared::checkpoint::first_difference(&one_bytes, &other_bytes);
            let place = tensor.map_or_else(|| "its header".to_owned(), |name| format!("tensor {name}"));
            format!("epoch {epoch}: the {} part differs first in {place}", part(one))
        }
        // What was given up can no longer be looked into.
        _ => format!(
            "epoch {epoch}: the {} part has digest {}, where {} is on record",
            part(one),
            other.digest,
            one.digest
        ),
    })
}

/// Refuses what makes no sense for the verification of a run.
pub(super) fn refuse_verification(spec: &ExperimentSpec, what: &str) -> Result<(), Error> {
    let refuse = |run: RunId| {
        let help = format!("`ceteris verify show` says what came of it; {what} the experiment of run {}", run.short());
        Err(Error::invalid(format!("experiment {:?} is the verification of a run", spec.name), help))
    };
    spec.execution.verifies.map_or(Ok(()), refuse)
}
