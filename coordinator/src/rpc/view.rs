//! From what is stored to what is shown: `ceteris.experiment/1` as a pure function of records.
//!
//! States of runs and of the experiment are derived here from those of segments and stored nowhere.

use std::collections::{BTreeMap, HashMap};

use ceteris_proto::fleet::Progress;
use ceteris_scheduler::{Outcome, State as Scheduled};
use ceteris_shared::{
    compare,
    dataset::Split,
    document::{
        self, Experiment, ExperimentArm, Failure, Ledger, Live, NamedDigest, Run, RunSpent, SegmentRow, SegmentState,
        State,
    },
    ids::{Epoch, RunId, SegmentId, WorkerId},
    plan::PlannedRun,
    spec::Init,
};

use super::moment;
use crate::store::{CommittedRecord, ExperimentRecord, SegmentRecord, SeriesPoint};

/// Everything that is known about an experiment.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// As it was submitted.
    pub(super) experiment: ExperimentRecord,
    /// In the plan's order.
    pub(super) segments: Vec<SegmentRecord>,
}

/// How a run stands, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: State,
    pub(super) failure: Option<Failure>,
}

impl Known {
    fn path<'a>(&'a self, run: &'a PlannedRun) -> impl Iterator<Item = &'a SegmentRecord> {
        run.path.iter().filter_map(|&index| self.segments.get(index))
    }

    /// The committed epochs of a run, from epoch 1 without gaps.
    pub(super) fn committed<'a>(&'a self, run: &'a PlannedRun) -> impl Iterator<Item = &'a CommittedRecord> {
        let all = self.path(run).flat_map(|segment| &segment.committed);
        (1..).zip(all).take_while(|(epoch, committed)| committed.epoch == Epoch(*epoch)).map(|(_, found)| found)
    }

    /// How a run stands.
    pub(super) fn standing(&self, run: &PlannedRun) -> Standing {
        let plain = |state| Standing { state, failure: None };
        let outcomes: Vec<Option<&Outcome>> = self
            .path(run)
            .map(|segment| if let Scheduled::Done(outcome) = &segment.state { Some(outcome) } else { None })
            .collect();
        for outcome in outcomes.iter().flatten() {
            match outcome {
                Outcome::Completed => {}
                Outcome::Cancelled => return plain(State::Cancelled),
                Outcome::Failed { cause, message } => {
                    let failure = Failure { cause: *cause, message: message.clone() };
                    return Standing { state: State::Failed, failure: Some(failure) };
                }
                // The one that it is blocked by is earlier on the same path and has said why.
                Outcome::Blocked { .. } => return plain(State::Failed),
            }
        }
        if outcomes.iter().all(Option::is_some) {
            return plain(State::Done);
        }
        let done = Scheduled::Done(Outcome::Completed);
        let begun = |segment: &SegmentRecord| !segment.attempts.is_empty() || segment.state == done;
        plain(if self.path(run).any(begun) { State::Running } else { State::Queued })
    }

    /// How the experiment stands.
    pub(super) fn state(&self) -> State {
        let states: Vec<State> = self.experiment.plan.runs.iter().map(|run| self.standing(run).state).collect();
        let any = |wanted: State| states.contains(&wanted);
        if any(State::Running) || (any(State::Queued) && states.iter().any(|state| state.is_terminal())) {
            State::Running
        } else if any(State::Queued) {
            State::Queued
        } else if any(State::Cancelled) {
            State::Cancelled
        } else if any(State::Failed) {
            State::Failed
        } else {
            State::Done
        }
    }

    /// How a run stands, as the comparison sees it.
    pub(super) fn outcome(&self, run: &PlannedRun) -> compare::Outcome {
        let Standing { state, failure } = self.standing(run);
        match (state, failure) {
            (_, Some(Failure { cause, message })) => compare::Outcome::Failed { cause, message },
            (State::Done, None) => compare::Outcome::Done,
            (State::Cancelled, None) => compare::Outcome::Cancelled,
            (State::Queued | State::Running | State::Failed, None) => compare::Outcome::Unfinished,
        }
    }
}

/// What changes while workers train.
#[derive(Clone, Debug, Default)]
pub(super) struct Now {
    /// How far segments are that are being trained.
    pub(super) live: HashMap<SegmentId, Progress>,
    /// Names of workers.
    pub(super) names: HashMap<WorkerId, String>,
}

/// How it shares the fleet, if that is not what an experiment does that says nothing of it.
fn sharing(sharing: ceteris_scheduler::Sharing) -> Option<document::Sharing> {
    let ceteris_scheduler::Sharing { priority, weight, max_concurrent, device_memory } = sharing;
    let written = document::Sharing { priority, weight, max_concurrent, device_memory_bytes: device_memory };
    (sharing != ceteris_scheduler::Sharing::default()).then_some(written)
}

/// The document.
pub(super) fn experiment(known: &Known, series: &[SeriesPoint], now: &Now) -> Experiment {
    let ExperimentRecord { id, spec, pins, plan, submitted_at, .. } = &known.experiment;
    let mut by_segment: HashMap<SegmentId, Vec<&SeriesPoint>> = HashMap::new();
    series.iter().for_each(|point| by_segment.entry(point.attempt.segment).or_default().push(point));
    let mut runs = plan.runs.iter().map(|run| (run.arm, one_run(known, run, &by_segment, now))).peekable();
    let arms = plan.arms.iter().enumerate().map(|(index, arm)| {
        let of_arm = std::iter::from_fn(|| runs.next_if(|(arm, _)| *arm == index)).map(|(_, run)| run);
        let (name, levels, stages) = (arm.name.clone(), arm.levels.clone(), arm.stages.clone());
        ExperimentArm { name, levels, stages, runs: of_arm.collect() }
    });
    Experiment {
        id: *id,
        name: spec.name.clone(),
        state: known.state(),
        paused: known.experiment.paused_at.is_some(),
        submitted_at: moment(*submitted_at),
        budget: spec.budget.epochs,
        dataset: NamedDigest { name: spec.data.dataset.clone(), digest: pins.dataset },
        init: match &spec.model.init {
            init @ (Init::Random | Init::Run(_)) => NamedDigest { name: init.to_string(), digest: None },
            Init::Weights(name) => NamedDigest { name: name.clone(), digest: pins.init },
        },
        external: pins.external.iter().map(|(name, d)| NamedDigest { name: name.clone(), digest: Some(*d) }).collect(),
        endpoint: spec.endpoint.into(),
        epochs_asked: plan.epochs_asked(),
        epochs_to_train: plan.epochs_to_train(),
        epochs_done: known.segments.iter().map(|segment| segment.committed.len() as u64).sum(),
        epochs_reused: known.segments.iter().map(|segment| segment.reused().count() as u64).sum(),
        extends: spec.budget.extends,
        environment: known.experiment.environment.clone(),
        sharing: sharing(known.experiment.sharing),
        ledger: ledger(known),
        arms: arms.collect(),
        segments: segments(known, now),
    }
}

/// What an experiment cost.
pub(super) fn ledger(known: &Known) -> Ledger {
    let mut ledger = Ledger::default();
    for run in &known.experiment.plan.runs {
        known.committed(run).for_each(|committed| ledger.charged.add(&committed.spent));
    }
    for segment in &known.segments {
        for committed in &segment.committed {
            let column = if committed.source == segment.id { &mut ledger.trained } else { &mut ledger.reused };
            column.add(&committed.spent);
        }
        segment.replayed.iter().for_each(|replayed| ledger.replayed.add(&replayed.spent));
        for attempt in &segment.attempts {
            let Some((ended, _)) = &attempt.ended else { continue };
            ledger.attempts += 1;
            ledger.attempt_seconds += ended.since(attempt.assigned_at).as_secs_f64();
        }
    }
    ledger
}

fn one_run(known: &Known, run: &PlannedRun, series: &HashMap<SegmentId, Vec<&SeriesPoint>>, now: &Now) -> Run {
    let plan = &known.experiment.plan;
    let arm = &plan.arms[run.arm];
    let Standing { state, failure } = known.standing(run);
    let mut spent = RunSpent::default();
    known.committed(run).for_each(|committed| spent.add(&committed.spent));
    let epoch = Epoch(spent.epochs);
    let points = run.path.iter().filter_map(|&index| series.get(&plan.segments[index].id)).flatten();
    let mut points: Vec<document::SeriesPoint> = points
        .map(|SeriesPoint { point, .. }| document::SeriesPoint {
            epoch: point.epoch,
            split: point.split,
            name: point.name.clone(),
            value: point.value,
        })
        .filter(|point| point.epoch <= epoch)
        .collect();
    points.sort_by(|a, b| (a.epoch, a.split, &a.name).cmp(&(b.epoch, b.split, &b.name)));
    let latest = points.iter().filter(|point| point.epoch == epoch && point.split == Split::Val);
    let live = |progress: &Progress| {
        let Progress { attempt: _, epoch, step, steps, loss } = *progress;
        Live { epoch, step, steps, loss }
    };
    Run {
        run: run.id,
        arm: arm.name.clone(),
        seed: run.seed,
        state,
        epoch,
        epochs: known.experiment.spec.budget.epochs,
        live: run.path.iter().find_map(|&index| now.live.get(&plan.segments[index].id)).map(live),
        val: latest.map(|point| (point.name.clone(), point.value)).collect(),
        series: points,
        spent,
        failure,
    }
}

fn segments(known: &Known, now: &Now) -> Vec<SegmentRow> {
    let plan = &known.experiment.plan;
    let mut sharing: BTreeMap<usize, Vec<RunId>> = BTreeMap::new();
    for run in &plan.runs {
        run.path.iter().for_each(|&index| sharing.entry(index).or_default().push(run.id));
    }
    let row = |(index, record): (usize, &SegmentRecord)| {
        let planned = &plan.segments[index].work;
        let name = |worker: WorkerId| now.names.get(&worker).cloned().unwrap_or_else(|| worker.short());
        SegmentRow {
            id: record.id,
            state: segment_state(&record.state),
            attempts: u32::try_from(record.attempts.len()).unwrap_or(u32::MAX),
            worker: record.state.live().map(|live| name(live.worker)),
            first: planned.start().next(),
            last: planned.last_epoch(),
            runs: sharing.remove(&index).unwrap_or_default(),
        }
    };
    known.segments.iter().enumerate().take(plan.segments.len()).map(row).collect()
}

fn segment_state(state: &Scheduled) -> SegmentState {
    match state {
        Scheduled::Waiting { .. } => SegmentState::Waiting,
        Scheduled::Queued { .. } => SegmentState::Queued,
        Scheduled::Assigned { .. } => SegmentState::Assigned,
        Scheduled::Running { .. } => SegmentState::Running,
        Scheduled::Stopping { .. } => SegmentState::Stopping,
        Scheduled::Done(Outcome::Completed) => SegmentState::Done,
        Scheduled::Done(Outcome::Cancelled) => SegmentState::Cancelled,
        Scheduled::Done(Outcome::Failed { .. } | Outcome::Blocked { .. }) => SegmentState::Failed,
    }
}
