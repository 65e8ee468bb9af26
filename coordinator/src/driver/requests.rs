//! What users ask of the driver.

use std::collections::BTreeSet;

use ceteris_scheduler::{Event, Rejection, Reused, Submission};
use ceteris_shared::{
    checkpoint::Environment,
    dataset::Split,
    ids::ExperimentId,
    lineage::LineageKey,
    plan::Plan,
    planted,
    spec::{EnvironmentRule, ExperimentSpec, Init},
    trainer::Scored,
};

use super::{
    Driver,
    handle::{Cancelled, Command, Error, LiveAttempt, LiveWorker, SubmitRequest, Submitted},
};
use crate::store::{self, Change, ExperimentRecord, Store, TrainedEpoch};

impl Driver {
    /// A reply that nobody waits for any more is not missed.
    pub(super) async fn obey(&mut self, command: Command) -> Result<(), store::Error> {
        match command {
            Command::Submit { request, reply } if planted!(RepliesBeforeCommit) => {
                let _ = reply.send(Ok(Submitted::New));
                let _ = self.submit(*request).await?;
            }
            Command::Submit { request, reply } => {
                let _ = reply.send(self.submit(*request).await?);
            }
            Command::Cancel { experiment, reply } => {
                let _ = reply.send(self.cancel(experiment).await?);
            }
            Command::Pause { experiment, pause, reply } => {
                let _ = reply.send(self.pause(experiment, pause).await?);
            }
            Command::Retry { experiment, reply } => {
                let _ = reply.send(self.retry(experiment).await?);
            }
            Command::Collect { manifests, reply } => {
                let asked = manifests.clone();
                let decided = self.decide(Event::CollectCheckpoints(manifests));
                let given_up = |change: &Change| match change {
                    Change::Scheduler(ceteris_scheduler::Change::CheckpointCollected { manifest, .. }) => {
                        Some(*manifest)
                    }
                    _ => None,
                };
                let collected = decided.changes.iter().filter_map(given_up).collect();
                self.carry_out(Vec::new(), decided).await?;
                let _ = reply.send(if planted!(CollectAnswersAll) { asked } else { collected });
            }
            Command::Explain { run, reply } => {
                let explained = self.scheduler.explain_run(self.clock.now(), run);
                let _ = reply.send(explained.ok_or(Error::UnknownRun(run)));
            }
            Command::Workers { reply } => {
                let _ = reply.send(self.workers());
            }
            Command::Connect { register, outbox, closed, reply } => {
                self.connect(*register, outbox, closed, reply).await?;
            }
            Command::Disconnect { worker, session } => self.disconnect(worker, session).await?,
            Command::Heartbeat { worker, session, progress } => self.heartbeat(worker, session, progress).await?,
            Command::Report { worker, session, sequence, attempt, report, reply } => {
                let event = Event::AttemptReported { worker, session, attempt, report: *report };
                let _ = reply.send(self.report(worker, sequence, event).await?);
            }
        }
        Ok(())
    }

    async fn submit(&mut self, request: SubmitRequest) -> Result<Result<Submitted, Error>, store::Error> {
        let experiment = request.experiment;
        if self.scheduler.is_cancelled(experiment).is_some() {
            let known = self.store.find_experiment(&experiment.to_string()).await?;
            let same = known.spec == request.spec;
            return Ok(if same { Ok(Submitted::Before) } else { Err(Error::Conflict(experiment)) });
        }
        let mut submission = match submission(&request) {
            Ok(submission) => submission,
            Err(error) => return Ok(Err(error)),
        };
        let taken = match request.reused.clone() {
            Some(taken) => taken,
            None => {
                let connected: Vec<Environment> =
                    self.sessions.values().map(|session| session.register.environment.clone()).collect();
                reusable(self.store.as_ref(), &request.spec, &request.plan, &connected).await?
            }
        };
        (submission.reused, submission.environment) = (taken.segments, taken.environment);
        let decided = self.decide(Event::ExperimentSubmitted(Box::new(submission)));
        if let Some(rejection) = decided.rejections.first() {
            return Ok(Err(Error::Plan(rejection.to_string())));
        }
        let SubmitRequest { experiment: id, spec, source, pins, plan, reused: _ } = request;
        let submitted_at = self.clock.now();
        let record = ExperimentRecord {
            id,
            spec,
            source,
            pins,
            plan,
            submitted_at,
            cancelled_at: None,
            paused_at: None,
            environment: None,
        };
        self.carry_out(vec![Change::Experiment(Box::new(record))], decided).await?;
        tracing::info!(experiment = %id, "submitted");
        Ok(Ok(Submitted::New))
    }

    async fn cancel(&mut self, experiment: ExperimentId) -> Result<Result<Cancelled, Error>, store::Error> {
        match self.scheduler.is_cancelled(experiment) {
            None => return Ok(Err(Error::UnknownExperiment(experiment))),
            Some(true) => return Ok(Ok(Cancelled::Before)),
            Some(false) => {}
        }
        let rejections = self.handle(Event::CancelExperiment(experiment)).await?;
        let ended = rejections.iter().any(|rejection| matches!(rejection, Rejection::ExperimentEnded { .. }));
        Ok(Ok(if ended { Cancelled::Ended } else { Cancelled::Now }))
    }

    async fn pause(&mut self, experiment: ExperimentId, pause: bool) -> Result<Result<(), Error>, store::Error> {
        let event = if pause { Event::PauseExperiment(experiment) } else { Event::ResumeExperiment(experiment) };
        let rejections = self.handle(event).await?;
        // What is paused has no running segment that would say so.
        let _ = self.changes.send(experiment);
        Ok(match rejections.first() {
            None => Ok(()),
            Some(Rejection::UnknownExperiment { .. }) => Err(Error::UnknownExperiment(experiment)),
            Some(_) => Err(Error::Ended(experiment)),
        })
    }

    async fn retry(&mut self, experiment: ExperimentId) -> Result<Result<(), Error>, store::Error> {
        let rejections = self.handle(Event::RetryExperiment(experiment)).await?;
        Ok(match rejections.first() {
            None => Ok(()),
            Some(Rejection::UnknownExperiment { .. }) => Err(Error::UnknownExperiment(experiment)),
            Some(_) => Err(Error::NothingFailed(experiment)),
        })
    }

    fn workers(&self) -> Vec<LiveWorker> {
        let live = |(&id, session): (_, &super::Session)| LiveWorker {
            id,
            name: session.register.name.clone(),
            session: session.register.session,
            version: session.register.version.clone(),
            slots: session.register.slots,
            environment: session.register.environment.clone(),
            connected_at: session.connected_at,
            heard_at: session.heard_at,
            attempts: self
                .scheduler
                .held_by(id)
                .map(|attempt| LiveAttempt { attempt, progress: session.progress.get(&attempt).copied() })
                .collect(),
        };
        let mut workers: Vec<LiveWorker> = self.sessions.iter().map(live).collect();
        workers.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        workers
    }
}

/// What is trained already of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reusable {
    /// For each segment its first epochs, in whatever experiment they were trained; empty where nothing is.
    pub segments: Vec<Vec<Reused>>,
    /// The environment class that they were all trained in; none where that does not matter.
    pub environment: Option<Environment>,
}

impl Reusable {
    /// How many epochs need not be trained.
    pub(crate) fn epochs(&self) -> u64 {
        self.segments.iter().map(|epochs| epochs.len() as u64).sum()
    }
}

/// What of a plan is trained already. If the experiment is bound to one environment class, what was trained by experiments
/// that are bound to one class:
/// first one in which nothing is left to train, then one of a connected worker, then the one in which most is trained.
pub(crate) async fn reusable(
    store: &dyn Store,
    spec: &ExperimentSpec,
    plan: &Plan,
    connected: &[Environment],
) -> Result<Reusable, store::Error> {
    if !spec.execution.share {
        return Ok(Reusable::default());
    }
    let keys: Vec<LineageKey> =
        plan.segments.iter().flat_map(|segment| segment.work.epochs.iter().map(|work| work.key)).collect();
    let trained = store.trained(&keys).await?;
    let own = [Scored::Split(Split::Test)];
    let wanted: Vec<Scored> = own.into_iter().chain(spec.data.external.iter().cloned().map(Scored::External)).collect();
    let within = |environment: Option<&Environment>| -> Vec<Vec<Reused>> {
        plan.reusable(|key, ends| {
            let scored = |epoch: &&TrainedEpoch| !ends || wanted.iter().all(|wanted| epoch.scored.contains(wanted));
            // What was trained in the class may rest on what was not, unless its experiment was bound to it.
            let there = |epoch: &&TrainedEpoch| {
                environment.is_none_or(|wanted| epoch.bound && *wanted == epoch.environment)
            };
            let mut here = trained.get(&key)?.iter().filter(there);
            let TrainedEpoch { segment, manifest, weights, .. } = here.find(scored)?;
            Some(Reused { source: *segment, manifest: *manifest, weights: *weights })
        })
    };
    if spec.controls.environment == EnvironmentRule::Any {
        return Ok(Reusable { segments: within(None), environment: None });
    }
    let classes: BTreeSet<&Environment> = trained.values().flatten().map(|epoch| &epoch.environment).collect();
    let all = plan.epochs_to_train();
    let choices = classes
        .into_iter()
        .map(|environment| Reusable { segments: within(Some(environment)), environment: Some(environment.clone()) });
    let rank = |choice: &Reusable| {
        let here = choice.environment.as_ref().is_some_and(|environment| connected.contains(environment));
        (choice.epochs() == all, here, choice.epochs())
    };
    let best = choices.filter(|choice| choice.epochs() > 0).max_by_key(rank);
    Ok(best.unwrap_or_default())
}

/// What the scheduler has to know of a request: every name must stand for something.
fn submission(request: &SubmitRequest) -> Result<Submission, Error> {
    let pins = &request.pins;
    let dataset = pins.dataset.ok_or(Error::Unpinned { field: "data.dataset", what: "data set" })?;
    match &request.spec.model.init {
        Init::Weights(_) if pins.init.is_none() => {
            return Err(Error::Unpinned { field: "model.init", what: "set of weights" });
        }
        Init::Run(_) if pins.inherited.is_empty() => {
            return Err(Error::Unpinned { field: "model.init", what: "state of a run" });
        }
        Init::Random | Init::Weights(_) | Init::Run(_) => {}
    }
    let names = &request.spec.data.external;
    if !pins.external.iter().map(|(name, _)| name).eq(names) {
        return Err(Error::Unpinned { field: "data.external", what: "data set" });
    }
    Ok(Submission {
        experiment: request.experiment,
        plan: request.plan.clone(),
        dataset,
        external: pins.external.clone(),
        init: pins.init,
        reused: Vec::new(),
        rule: request.spec.controls.environment,
        environment: None,
    })
}
