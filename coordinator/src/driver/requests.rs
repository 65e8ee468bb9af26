//! What users ask of the driver.

use std::collections::BTreeSet;

use ceteris_scheduler::{Event, Rejection, Reused, Sharing, Submission};
use ceteris_shared::{
    checkpoint::Environment,
    dataset::Split,
    ids::ExperimentId,
    lineage::LineageKey,
    plan::Plan,
    planted,
    spec::{EnvironmentRule, Execution, ExperimentSpec, Init},
    trainer::Scored,
};

use super::{
    Driver,
    handle::{Cancelled, Command, Error, LiveAttempt, LiveWorker, SharingChange, SubmitRequest, Submitted},
};
use crate::store::{self, Change, ExperimentRecord, Store, TrainedEpoch};

impl Driver {
    /// Decides, and answers after the next commit.
    pub(super) async fn obey(&mut self, command: Command) -> Result<(), store::Error> {
        match command {
            Command::Submit { request, reply } if planted!(RepliesBeforeCommit) => {
                let _ = reply.send(self.submit(*request).await?);
            }
            Command::Submit { request, reply } => {
                let submitted = self.submit(*request).await?;
                self.answer(reply, submitted);
            }
            Command::Cancel { experiment, reply } => {
                let cancelled = self.cancel(experiment);
                self.answer(reply, cancelled);
            }
            Command::Pause { experiment, pause, reply } => {
                let paused = self.pause(experiment, pause);
                self.answer(reply, paused);
            }
            Command::Share { experiment, change, reply } => {
                let shared = self.share(experiment, change);
                self.answer(reply, shared);
            }
            Command::Drain { worker, drain, reply } => {
                self.handle(Event::DrainWorker { worker, drain });
                self.answer(reply, ());
            }
            Command::Drains { reply } => {
                self.answer(reply, self.scheduler.drains().clone());
            }
            Command::Retry { experiment, reply } => {
                let retried = self.retry(experiment);
                self.answer(reply, retried);
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
                self.hold(Vec::new(), decided);
                self.answer(reply, if planted!(CollectAnswersAll) { asked } else { collected });
            }
            Command::Explain { run, reply } => {
                let explained = self.scheduler.explain_run(self.clock.now(), run);
                self.answer(reply, explained.ok_or(Error::UnknownRun(run)));
            }
            Command::Workers { reply } => {
                let workers = self.workers();
                self.answer(reply, workers);
            }
            Command::Connect { register, outbox, closed, reply } => {
                self.connect(*register, outbox, closed, reply).await?;
            }
            Command::Disconnect { worker, session } => self.disconnect(worker, session),
            Command::Heartbeat { worker, session, progress } => self.heartbeat(worker, session, progress),
            Command::Report { worker, session, sequence, attempt, report, reply } => {
                let event = Event::AttemptReported { worker, session, attempt, report: *report };
                let stored = self.report(worker, sequence, event);
                self.answer(reply, stored);
            }
        }
        Ok(())
    }

    async fn submit(&mut self, request: SubmitRequest) -> Result<Result<Submitted, Error>, store::Error> {
        let experiment = request.experiment;
        // What is stored is asked below, and so must have everything that is decided.
        self.flush().await?;
        if self.scheduler.is_cancelled(experiment).is_some() {
            let known = match self.store.find_experiment(&experiment.to_string()).await {
                Ok(known) => known,
                Err(error) => return Ok(Err(Error::Unread(error.to_string()))),
            };
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
                match reusable(self.store.as_ref(), &request.spec, &request.plan, &connected).await {
                    Ok(taken) => taken,
                    Err(error) => return Ok(Err(Error::Unread(error.to_string()))),
                }
            }
        };
        (submission.reused, submission.environment) = (taken.segments, taken.environment);
        let sharing = submission.sharing;
        let decided = self.decide(Event::ExperimentSubmitted(Box::new(submission)));
        if let Some(rejection) = decided.rejections.first().map(ToString::to_string) {
            // Others may be given work at the same moment.
            if !planted!(RefusedSubmissionDropsWork) {
                self.hold(Vec::new(), decided);
            }
            return Ok(Err(Error::Plan(rejection)));
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
            sharing,
        };
        self.hold(vec![Change::Experiment(Box::new(record))], decided);
        tracing::info!(experiment = %id, "submitted");
        Ok(Ok(Submitted::New))
    }

    fn cancel(&mut self, experiment: ExperimentId) -> Result<Cancelled, Error> {
        match self.scheduler.is_cancelled(experiment) {
            None => return Err(Error::UnknownExperiment(experiment)),
            Some(true) => return Ok(Cancelled::Before),
            Some(false) => {}
        }
        let rejections = self.handle(Event::CancelExperiment(experiment));
        let ended = rejections.iter().any(|rejection| matches!(rejection, Rejection::ExperimentEnded { .. }));
        Ok(if ended { Cancelled::Ended } else { Cancelled::Now })
    }

    fn pause(&mut self, experiment: ExperimentId, pause: bool) -> Result<(), Error> {
        let event = if pause { Event::PauseExperiment(experiment) } else { Event::ResumeExperiment(experiment) };
        let rejections = self.handle(event);
        // What is paused has no running segment that would say so.
        self.touch(experiment);
        match rejections.first() {
            None => Ok(()),
            Some(Rejection::UnknownExperiment { .. }) => Err(Error::UnknownExperiment(experiment)),
            Some(_) => Err(Error::Ended(experiment)),
        }
    }

    fn share(&mut self, experiment: ExperimentId, change: SharingChange) -> Result<(), Error> {
        let before = self.scheduler.sharing(experiment).ok_or(Error::UnknownExperiment(experiment))?;
        let rejections = self.handle(Event::ShareExperiment { experiment, sharing: change.of(before) });
        self.touch(experiment);
        if rejections.is_empty() { Ok(()) } else { Err(Error::NothingToShare(experiment)) }
    }

    fn retry(&mut self, experiment: ExperimentId) -> Result<(), Error> {
        let rejections = self.handle(Event::RetryExperiment(experiment));
        match rejections.first() {
            None => Ok(()),
            Some(Rejection::UnknownExperiment { .. }) => Err(Error::UnknownExperiment(experiment)),
            Some(_) => Err(Error::NothingFailed(experiment)),
        }
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
            set_aside_until: self.scheduler.set_aside_until(id),
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
                environment.is_none_or(|wanted| {
                    (epoch.bound || planted!(EpochsOfUnboundTaken)) && *wanted == epoch.environment
                })
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
        sharing: sharing(&request.spec.execution),
    })
}

fn sharing(execution: &Execution) -> Sharing {
    let Execution { priority, weight, max_concurrent, device_memory_bytes, .. } = *execution;
    Sharing { priority, weight, max_concurrent, device_memory: device_memory_bytes }
}
