//! Following an experiment: the words on the bars, the lines where there are no bars, and the time that is left.

use std::collections::BTreeMap;

use ceteris_shared::{
    dataset::Split,
    document::{Experiment, Run, SegmentState, State},
    ids::{Epoch, RunId},
};

use super::{experiment::in_flight, score};

/// Tells each committed epoch of each run once, and each run's end.
#[derive(Debug, Default)]
pub struct Lines {
    told: BTreeMap<RunId, (Epoch, bool)>,
}

impl Lines {
    /// What is new since the last call, in the order of runs and epochs.
    pub fn next(&mut self, experiment: &Experiment) -> Vec<String> {
        let mut lines = Vec::new();
        for run in experiment.arms.iter().flat_map(|arm| &arm.runs) {
            let (epoch, ended) = self.told.entry(run.run).or_default();
            while *epoch < run.epoch {
                *epoch = epoch.next();
                lines.push(format!("{} epoch {}/{}: {}", name(run), epoch, run.epochs, values(run, *epoch)));
            }
            if run.state.is_terminal() && !*ended {
                *ended = true;
                let why = run.failure.as_ref().map(|failure| format!(": {}", failure.message)).unwrap_or_default();
                lines.push(format!("{} {}{why}", name(run), run.state.name()));
            }
        }
        lines
    }
}

fn values(run: &Run, epoch: Epoch) -> String {
    let value = |split, name: &str| {
        run.series
            .iter()
            .find(|point| (point.epoch, point.split) == (epoch, split) && point.name == name)
            .map(|p| p.value)
    };
    format!(
        "train loss {}, val loss {}, val auc {}",
        score(value(Split::Train, "loss")),
        score(value(Split::Val, "loss")),
        score(value(Split::Val, "auc"))
    )
}

/// A run in a few words.
pub fn name(run: &Run) -> String {
    format!("{} seed {}", run.arm, run.seed)
}

/// The right-hand side of a run's bar.
pub fn status(run: &Run) -> String {
    let auc = run.val.get("auc").map(|auc| format!("val auc {auc:.4} ")).unwrap_or_default();
    match (&run.live, run.state) {
        (Some(_), _) => format!("{auc}{}", in_flight(run)),
        (None, State::Running) => format!("{auc}waiting"),
        (None, state) => format!("{auc}{}", state.name()),
    }
}

/// How much of a run is trained, in thousandths of an epoch.
pub fn run_position(run: &Run) -> u64 {
    u64::from(run.epoch.0) * 1000 + run.live.map_or(0, |live| in_epoch(live.epoch, run.epoch, live.step, live.steps))
}

/// How much of an experiment is trained, in thousandths of an epoch; what runs share is counted once.
pub fn position(experiment: &Experiment) -> u64 {
    let runs: BTreeMap<RunId, &Run> =
        experiment.arms.iter().flat_map(|arm| &arm.runs).map(|run| (run.run, run)).collect();
    let live = experiment
        .segments
        .iter()
        .filter(|segment| matches!(segment.state, SegmentState::Running | SegmentState::Stopping))
        .filter_map(|segment| segment.runs.iter().find_map(|run| runs.get(run)))
        .map(|run| run_position(run) - u64::from(run.epoch.0) * 1000);
    experiment.epochs_done * 1000 + live.sum::<u64>()
}

/// An epoch that is committed already counts no second time while its worker has not told of the next one.
fn in_epoch(live: Epoch, committed: Epoch, step: u32, steps: u32) -> u64 {
    if live > committed && steps > 0 { u64::from(step.min(steps)) * 999 / u64::from(steps) } else { 0 }
}

/// Seconds that remain if the rest goes as fast as what was seen: `seen` thousandths of an epoch in `seconds`.
pub fn seconds_left(seen: u64, seconds: f64, remaining: u64) -> Option<f64> {
    (seen > 0).then(|| seconds / seen as f64 * remaining as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn each_epoch_is_told_once() {
        let mut lines = Lines::default();
        insta::assert_snapshot!(lines.next(&fixtures::running()).join("\n"));
        assert_eq!(lines.next(&fixtures::running()), Vec::<String>::new());
        insta::assert_snapshot!(lines.next(&fixtures::failed()).join("\n"));
        assert_eq!(lines.next(&fixtures::failed()), Vec::<String>::new());
    }

    #[test]
    fn bars_say_where_a_run_is() {
        let experiment = fixtures::running();
        let bars = experiment.arms.iter().flat_map(|arm| &arm.runs);
        let bars = bars.map(|run| format!("{} {} {}", name(run), run_position(run), status(run)));
        insta::assert_snapshot!(bars.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn a_shared_epoch_in_flight_counts_once() {
        let experiment = fixtures::running();
        assert_eq!(position(&experiment), 3 * 1000 + 499);
    }

    #[test]
    fn what_is_left_follows_from_what_was_seen() {
        assert_eq!(seconds_left(0, 10.0, 500), None);
        assert_eq!(seconds_left(500, 10.0, 1500), Some(30.0));
    }
}
