//! Experiments and runs: finding, listing, showing and cancelling them.

use std::collections::BTreeMap;

use ceteris_shared::{
    document::{Experiment, ExperimentRow, Experiments, State},
    plan::PlannedRun,
    spec::check_sharing,
};

use super::{
    Error, Service, moment,
    view::{self, Known, Now},
};
use crate::{
    driver::SharingChange,
    store::{ExperimentRecord, ExperimentSummary, SeriesQuery},
};

/// Values of whole epochs; those of single steps would make a document a hundred times as long.
const SHOWN: [&str; 3] = ["loss", "accuracy", "auc"];

impl Service {
    pub(super) async fn all_experiments(&self) -> Result<Experiments, Error> {
        Ok(Experiments { experiments: self.store.experiments().await?.into_iter().map(row).collect() })
    }

    /// The experiment with this id, beginning of an id, or name.
    pub(super) async fn show(&self, reference: &str) -> Result<Experiment, Error> {
        let experiment = self.store.find_experiment(reference).await?;
        self.document(experiment).await
    }

    pub(super) async fn cancel(&self, reference: &str) -> Result<Experiment, Error> {
        let experiment = self.store.find_experiment(reference).await?;
        // That it had ended, or been cancelled before, is in the document.
        self.driver.cancel(experiment.id).await?;
        self.show(&experiment.id.to_string()).await
    }

    /// Pauses an experiment, or lets it go on.
    pub(super) async fn pause(&self, reference: &str, pause: bool) -> Result<Experiment, Error> {
        let experiment = self.store.find_experiment(reference).await?;
        if pause {
            self.driver.pause(experiment.id).await?
        } else {
            self.driver.resume(experiment.id).await?
        }
        self.show(&experiment.id.to_string()).await
    }

    /// Changes how an experiment shares the fleet.
    pub(super) async fn share(&self, reference: &str, change: SharingChange) -> Result<Experiment, Error> {
        let experiment = self.store.find_experiment(reference).await?;
        let changed = change.of(experiment.sharing);
        check_sharing(changed.priority, changed.weight, changed.max_concurrent)?;
        self.driver.share(experiment.id, change).await?;
        self.show(&experiment.id.to_string()).await
    }

    /// Tries again what failed.
    pub(super) async fn retry(&self, reference: &str) -> Result<Experiment, Error> {
        let experiment = self.store.find_experiment(reference).await?;
        self.driver.retry(experiment.id).await?;
        self.show(&experiment.id.to_string()).await
    }

    pub(super) async fn document(&self, experiment: ExperimentRecord) -> Result<Experiment, Error> {
        let known = self.known(experiment).await?;
        let query = SeriesQuery {
            segments: known.segments.iter().map(|segment| segment.id).collect(),
            names: SHOWN.map(str::to_owned).to_vec(),
            uncommitted: false,
        };
        let series = self.store.series(&query).await?;
        Ok(view::experiment(&known, &series, &self.now(&known).await?))
    }

    pub(super) async fn known(&self, experiment: ExperimentRecord) -> Result<Known, Error> {
        let segments = self.store.segments(experiment.id).await?;
        Ok(Known { experiment, segments })
    }

    /// The run with this id or beginning of an id, and all that is known about its experiment.
    pub(super) async fn find_run(&self, reference: &str) -> Result<(Known, PlannedRun), Error> {
        let found = self.store.find_run(reference).await?;
        let experiment = self.store.find_experiment(&found.experiment.to_string()).await?;
        let run = experiment.plan.runs.get(found.position).cloned();
        let run = run.ok_or_else(|| Error::Damaged(format!("run {} is not in its experiment's plan", found.run)))?;
        Ok((self.known(experiment).await?, run))
    }

    async fn now(&self, known: &Known) -> Result<Now, Error> {
        let mut now = Now::default();
        if known.segments.iter().all(|segment| segment.state.live().is_none()) {
            return Ok(now);
        }
        now.names = self.store.workers().await?.into_iter().map(|worker| (worker.id, worker.name)).collect();
        let current: BTreeMap<_, _> =
            known.segments.iter().filter_map(|s| Some((s.id, s.state.live()?.attempt))).collect();
        let progress = self.driver.workers().await?.into_iter().flat_map(|worker| worker.attempts);
        for progress in progress.filter_map(|live| live.progress) {
            if current.get(&progress.attempt.segment) == Some(&progress.attempt.number) {
                now.live.insert(progress.attempt.segment, progress);
            }
        }
        Ok(now)
    }
}

fn row(summary: ExperimentSummary) -> ExperimentRow {
    ExperimentRow {
        state: summary_state(&summary.segments),
        paused: summary.paused_at.is_some(),
        id: summary.id,
        name: summary.name,
        submitted_at: moment(summary.submitted_at),
        runs: summary.runs,
        epochs_done: summary.committed,
        epochs_to_train: summary.epochs,
    }
}

/// The state by how many segments are in each state, by [`ceteris_scheduler::State::name`]; agrees with [`Known::state`].
pub(super) fn summary_state(segments: &BTreeMap<String, u64>) -> State {
    let any = |names: &[&str]| names.iter().any(|name| segments.get(*name).is_some_and(|count| *count > 0));
    if any(&["assigned", "running", "stopping"]) {
        State::Running
    } else if any(&["waiting", "queued"]) {
        if any(&["completed", "failed", "diverged", "blocked", "cancelled"]) { State::Running } else { State::Queued }
    } else if any(&["cancelled"]) {
        State::Cancelled
    } else if any(&["failed", "diverged", "blocked"]) {
        State::Failed
    } else {
        State::Done
    }
}
