//! How everything ends.

use std::collections::{BTreeMap, BTreeSet};

use ceteris_coordinator::store::{Memory, SeriesQuery, Store as _};
use ceteris_proto::fleet::Start;
use ceteris_scheduler::{Outcome, State};
use ceteris_shared::{
    ids::{Attempt, ExperimentId, SegmentId},
    spec::EnvironmentRule,
    trainer::FailureCause,
};
use futures::FutureExt as _;

use super::{Books, Known, Oracle, Planned, Point, Record};
use crate::objects;

/// Whether trying again can mend it.
pub(super) fn is_mendable(state: Option<&State>) -> bool {
    matches!(state, Some(State::Done(Outcome::Failed { cause, .. })) if *cause != FailureCause::Diverged)
}

type Metrics = BTreeMap<Attempt, BTreeMap<Point, u64>>;
type Logs = BTreeMap<Attempt, BTreeSet<u64>>;

/// What became of a world's segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Ending {
    pub completed: u64,
    pub cancelled: u64,
    pub failed: u64,
    pub attempts: u64,
    pub epochs: u64,
}

impl Oracle {
    /// Judges a world in which nothing will happen any more.
    pub fn judge(&self, store: &Memory) -> Ending {
        let mut books = self.lock();
        let Books { stored: record, metrics, logs, .. } = &mut *books;
        let mut ending = Ending::default();
        let ids: Vec<SegmentId> = record.segments.keys().copied().collect();
        for &id in &ids {
            record.check_outcome(id, &mut ending);
        }
        ending.epochs = record.trained.len() as u64;
        let experiments: Vec<ExperimentId> = record.experiments.keys().copied().collect();
        for id in experiments {
            record.check_weights(id, store);
        }
        record.check_metrics(metrics, &ids, store);
        record.check_logs(logs, &ids, store);
        ending
    }
}

impl Record {
    fn check_outcome(&mut self, id: SegmentId, ending: &mut Ending) {
        let Some(own) = self.segments.get(&id) else { return };
        ending.attempts += u64::from(own.attempts);
        let cancelled = self.experiments.get(&own.experiment).is_some_and(|known| known.cancelled);
        let fails = |segment: &Planned| segment.epochs.iter().any(|(_, key)| objects::fails(*key).is_some());
        let holds = match &own.state {
            Some(State::Done(Outcome::Completed)) => {
                ending.completed += 1;
                own.committed == own.epochs.len()
            }
            Some(State::Done(Outcome::Cancelled)) => {
                ending.cancelled += 1;
                cancelled
            }
            Some(State::Done(Outcome::Failed { cause: FailureCause::Diverged | FailureCause::User, .. })) => {
                ending.failed += 1;
                fails(own)
            }
            Some(State::Done(Outcome::Blocked { by })) => {
                ending.failed += 1;
                cancelled || self.segments.get(by).is_some_and(fails)
            }
            Some(State::Done(Outcome::Failed { .. })) => {
                ending.failed += 1;
                cancelled
            }
            _ => false,
        };
        let detail = format!("{id} ended as {:?} with {} of {} epochs", own.state, own.committed, own.epochs.len());
        self.require(holds, "everything ends as it should", || detail);
    }

    /// Every epoch that counts has the weights that an undisturbed training has.
    fn check_weights(&mut self, id: ExperimentId, store: &Memory) {
        let Some(Known { plan, rule, .. }) = self.experiments.get(&id) else { return };
        if *rule != EnvironmentRule::Same {
            return;
        }
        let plan = plan.clone();
        let Some(Ok(records)) = store.segments(id).now_or_never() else { return };
        let records: BTreeMap<SegmentId, _> = records.into_iter().map(|record| (record.id, record)).collect();
        for run in &plan.runs {
            let mut weights = objects::initial(&Start::Random);
            let epochs = run.path.iter().filter_map(|&index| records.get(&plan.segments[index].id));
            for committed in epochs.flat_map(|record| &record.committed) {
                weights = objects::trained(weights, committed.key, &committed.environment);
                self.require(committed.weights == Some(weights), "weights are those of undisturbed training", || {
                    format!("epoch {} of run {} of {id} has other weights", committed.epoch, run.id)
                });
            }
        }
    }

    /// Each value is stored once, as it was received first, and none of an epoch that counts is missing.
    fn check_metrics(&mut self, metrics: &Metrics, ids: &[SegmentId], store: &Memory) {
        for &id in ids {
            let query = SeriesQuery { segments: vec![id], names: vec![], uncommitted: false };
            let Some(Ok(series)) = store.series(&query).now_or_never() else { return };
            let mut found: Vec<_> = series
                .iter()
                .map(|found| {
                    let point = &found.point;
                    (point.split.name(), point.name.clone(), point.epoch, point.step, point.value.to_bits())
                })
                .collect();
            found.sort();
            let mut expected = Vec::new();
            let Some(own) = self.segments.get(&id) else { continue };
            for (epoch, _) in own.epochs.iter().take(own.committed) {
                let source = self.reused.get(&(id, *epoch)).copied().unwrap_or(id);
                let Some(attempt) = self.trained.get(&(source, *epoch)) else { continue };
                let values = metrics.get(attempt).into_iter().flatten();
                let of_epoch: Vec<_> = values.filter(|((_, _, at, _), _)| at == epoch).collect();
                if of_epoch.is_empty() {
                    let detail = format!("epoch {epoch} of {id} counts, and no value of it is stored");
                    return self.broken("metrics are complete", detail);
                }
                let plain = |((split, name, epoch, step), value): (&super::Point, &u64)| {
                    (*split, name.clone(), *epoch, *step, *value)
                };
                expected.extend(of_epoch.into_iter().map(plain));
            }
            expected.sort();
            self.require(found == expected, "metrics are stored once, as received first", || {
                format!("{id} has {found:?} where {expected:?} were received")
            });
        }
    }

    fn check_logs(&mut self, logs: &Logs, ids: &[SegmentId], store: &Memory) {
        let Some(Ok(batches)) = store.logs(ids, 0, u32::MAX).now_or_never() else { return };
        let mut found: BTreeMap<Attempt, usize> = BTreeMap::new();
        for batch in batches {
            *found.entry(batch.attempt).or_default() += 1;
        }
        let expected: BTreeMap<Attempt, usize> =
            logs.iter().map(|(attempt, events)| (*attempt, events.len())).collect();
        self.require(found == expected, "log lines are stored once", || {
            format!("{found:?} batches of lines are stored, where {expected:?} were received")
        });
    }
}
