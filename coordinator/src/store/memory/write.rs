//! What changes the tables.

use std::collections::{BTreeMap, BTreeSet};

use ceteris_scheduler::{Change as Decision, CommittedEpoch, Timestamp};
use ceteris_shared::{
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, WorkerId},
    planted,
    trainer::MetricPoint,
};

use super::{
    database,
    tables::{AttemptRow, EpochRow, ExperimentRow, ReplayRow, SegmentRow, Tables, WorkerRow},
};
use crate::store::{AttemptRecord, Change, DatasetRecord, Error, LogBatch, ReplayedRecord, WeightsRecord, What};

/// What a commit adds that later changes of it may name.
#[derive(Default)]
struct Added {
    workers: BTreeSet<WorkerId>,
    experiments: BTreeSet<ExperimentId>,
    segments: BTreeSet<SegmentId>,
    attempts: BTreeSet<Attempt>,
    epochs: BTreeSet<(SegmentId, Epoch)>,
}

impl Tables {
    pub(super) fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        let mut added = Added::default();
        for change in changes {
            self.check(&mut added, change)?;
        }
        for change in changes {
            self.apply(change);
        }
        Ok(())
    }

    /// Whether a change contradicts nothing that is there, or that the changes before it add.
    fn check(&self, added: &mut Added, change: &Change) -> Result<(), Error> {
        let holds = match change {
            Change::Experiment(record) => self.experiment(record.id).is_none() && added.experiments.insert(record.id),
            Change::Worker(record) => {
                added.workers.insert(record.id);
                true
            }
            Change::Sequence { .. } => true,
            Change::Scheduler(decision) => self.check_decision(added, decision),
        };
        if holds { Ok(()) } else { Err(database(format!("a change contradicts what is there: {change:?}"))) }
    }

    fn check_decision(&self, added: &mut Added, decision: &Decision) -> bool {
        let experiment =
            |added: &Added, id: &ExperimentId| added.experiments.contains(id) || self.experiment(*id).is_some();
        let segment = |added: &Added, id: &SegmentId| added.segments.contains(id) || self.segments.contains_key(id);
        let attempt = |added: &Added, attempt: &Attempt| {
            let known = self.segments.get(&attempt.segment);
            added.attempts.contains(attempt) || known.is_some_and(|row| row.attempts.contains_key(&attempt.number))
        };
        let epoch = |added: &Added, id: (SegmentId, Epoch)| added.epochs.contains(&id) || self.epochs.contains_key(&id);
        match decision {
            Decision::SegmentAdded { segment: id, experiment: of, .. } => {
                experiment(added, of) && !self.segments.contains_key(id) && added.segments.insert(*id)
            }
            Decision::EpochReused { segment: id, epoch: at, reused } => {
                segment(added, id) && epoch(added, (reused.source, *at))
            }
            Decision::SegmentChanged { segment: id, .. } => segment(added, id),
            Decision::AttemptAssigned { attempt: new, worker, .. } => {
                let free = segment(added, &new.segment) && !attempt(added, new);
                let known = added.workers.contains(worker) || self.workers.contains_key(worker);
                free && known && added.attempts.insert(*new)
            }
            Decision::AttemptStarted { attempt: of, .. }
            | Decision::AttemptEnded { attempt: of, .. }
            | Decision::StepCommitted { attempt: of, .. } => attempt(added, of),
            Decision::EpochCommitted { attempt: of, committed, .. } => {
                let id = (of.segment, committed.epoch);
                attempt(added, of) && !epoch(added, id) && added.epochs.insert(id)
            }
            Decision::EpochReplayed { attempt: of, .. } => attempt(added, of),
            Decision::CheckpointDamaged { attempt: of, manifest, .. } => {
                attempt(added, of) && !self.damaged.contains(manifest)
            }
            Decision::CheckpointCollected { manifest, .. } => !self.collected.contains(manifest),
            Decision::ExperimentBound { experiment: of, .. }
            | Decision::ExperimentShared { experiment: of, .. }
            | Decision::ExperimentPaused { experiment: of, .. }
            | Decision::ExperimentCancelled { experiment: of, .. } => experiment(added, of),
            Decision::WorkerDrained { .. } => true,
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Experiment(record) => {
                let row = ExperimentRow { record: (**record).clone(), segments: Vec::new() };
                self.experiments.push(row);
            }
            Change::Worker(record) => {
                let new = || WorkerRow { record: record.clone(), sequence: 0 };
                let row = self.workers.entry(record.id).or_insert_with(new);
                row.record = crate::store::WorkerRecord { first_seen: row.record.first_seen, ..record.clone() };
            }
            Change::Sequence { worker, sequence } => self.record_sequence(*worker, *sequence),
            Change::Scheduler(decision) => self.apply_decision(decision),
        }
    }

    fn record_sequence(&mut self, worker: WorkerId, sequence: u64) {
        if let Some(row) = self.workers.get_mut(&worker) {
            row.sequence = row.sequence.max(sequence);
        }
    }

    fn apply_decision(&mut self, decision: &Decision) {
        match decision {
            Decision::SegmentAdded { segment, experiment, state, .. } => {
                let row = SegmentRow {
                    experiment: *experiment,
                    state: state.clone(),
                    failures: 0,
                    losses: 0,
                    attempts: BTreeMap::new(),
                    reused: BTreeMap::new(),
                    step: None,
                };
                self.segments.insert(*segment, row);
                if let Some(known) = self.experiments.iter_mut().find(|known| known.record.id == *experiment) {
                    known.segments.push(*segment);
                }
            }
            Decision::EpochReused { segment, epoch, reused } => {
                if let Some(row) = self.segments.get_mut(segment) {
                    row.reused.insert(*epoch, reused.source);
                }
            }
            Decision::SegmentChanged { segment, state, failures, losses } => {
                if let Some(row) = self.segments.get_mut(segment) {
                    (row.state, row.failures, row.losses) = (state.clone(), *failures, *losses);
                }
            }
            Decision::AttemptAssigned { attempt, worker, environment, replays, at } => {
                let record = AttemptRecord {
                    attempt: *attempt,
                    worker: *worker,
                    environment: environment.clone(),
                    assigned_at: *at,
                    started_at: None,
                    ended: None,
                };
                let row = AttemptRow {
                    record,
                    replays: *replays,
                    replayed: Vec::new(),
                    metrics: BTreeMap::new(),
                    logged: BTreeSet::new(),
                };
                if let Some(segment) = self.segments.get_mut(&attempt.segment) {
                    segment.attempts.insert(attempt.number, row);
                }
            }
            Decision::AttemptStarted { attempt, at } => {
                if let Some(row) = self.attempt_mut(*attempt) {
                    row.record.started_at = Some(*at);
                }
            }
            Decision::AttemptEnded { attempt, end, at } => {
                if let Some(row) = self.attempt_mut(*attempt) {
                    row.record.ended = Some((*at, end.clone()));
                }
            }
            Decision::StepCommitted { attempt, committed, .. } => {
                if let Some(row) = self.segments.get_mut(&attempt.segment) {
                    row.step = Some((*committed, attempt.number));
                }
            }
            Decision::EpochCommitted { attempt, committed, at } => self.add_epoch(*attempt, committed, *at),
            Decision::EpochReplayed { attempt, segment, committed, .. } => {
                self.add_replay(*attempt, *segment, committed);
            }
            Decision::CheckpointDamaged { manifest, .. } => drop(self.damaged.insert(*manifest)),
            Decision::CheckpointCollected { manifest, .. } => drop(self.collected.insert(*manifest)),
            Decision::ExperimentBound { experiment, environment } => {
                if let Some(record) = self.experiment_mut(*experiment) {
                    record.environment = Some(environment.clone());
                }
            }
            Decision::ExperimentShared { experiment, sharing } => {
                if let Some(record) = self.experiment_mut(*experiment) {
                    record.sharing = *sharing;
                }
            }
            Decision::WorkerDrained { worker, drain } => match drain {
                Some(drain) => drop(self.drains.insert(*worker, drain.clone())),
                None => drop(self.drains.remove(worker)),
            },
            Decision::ExperimentPaused { experiment, since } => {
                if let Some(record) = self.experiment_mut(*experiment) {
                    record.paused_at = *since;
                }
            }
            Decision::ExperimentCancelled { experiment, at } => {
                if let Some(record) = self.experiment_mut(*experiment) {
                    record.cancelled_at = Some(*at);
                }
            }
        }
    }

    fn add_epoch(&mut self, attempt: Attempt, committed: &CommittedEpoch, at: Timestamp) {
        let Some(environment) = self.attempt_mut(attempt).map(|row| row.record.environment.clone()) else { return };
        let CommittedEpoch { epoch, key, manifest, predictions, spent, weights } = committed.clone();
        let mut predictions = predictions;
        predictions.sort();
        let row = EpochRow {
            key,
            attempt: attempt.number,
            environment,
            manifest,
            weights,
            spent,
            committed_at: at,
            predictions,
            replays: Vec::new(),
        };
        self.epochs.insert((attempt.segment, epoch), row);
        self.epochs_by_key.entry(key).or_default().push((attempt.segment, epoch));
    }

    /// The predictions of an epoch that is trained again are those that are there.
    fn add_replay(&mut self, attempt: Attempt, segment: SegmentId, committed: &CommittedEpoch) {
        let CommittedEpoch { epoch, manifest, weights, spent, .. } = *committed;
        let reused = self.segments.get(&segment).and_then(|row| row.reused.get(&epoch).copied());
        let Some(environment) = self.attempt_mut(attempt).map(|row| row.record.environment.clone()) else { return };
        let Some(row) = self.epochs.get_mut(&(reused.unwrap_or(segment), epoch)) else { return };
        let known = row.known_weights();
        let counts = row.environment == environment && known.is_none_or(|known| weights == Some(known));
        row.replays.push(ReplayRow { counts, manifest, weights });
        if let Some(own) = self.attempt_mut(attempt) {
            own.replayed.push(ReplayedRecord { epoch, attempt: attempt.number, spent });
        }
    }

    /// The execution, if it is the worker's.
    fn own_attempt(&mut self, worker: WorkerId, attempt: Attempt) -> Option<&mut AttemptRow> {
        self.attempt_mut(attempt).filter(|row| row.record.worker == worker || planted!(MetricsOfAnyone))
    }

    pub(super) fn append_metrics(
        &mut self,
        worker: WorkerId,
        sequence: u64,
        attempt: Attempt,
        points: &[MetricPoint],
    ) -> bool {
        self.record_sequence(worker, sequence);
        let Some(row) = self.own_attempt(worker, attempt) else { return false };
        for point in points {
            let MetricPoint { epoch, step, split, name, value } = point;
            let there = row.metrics.entry((split.name(), name.clone(), *epoch, *step)).or_insert(*value);
            if planted!(MetricsOverwritten) {
                *there = *value;
            }
        }
        true
    }

    pub(super) fn append_log(&mut self, worker: WorkerId, sequence: u64, attempt: Attempt, lines: &[String]) -> bool {
        if !planted!(LogTwice) {
            self.record_sequence(worker, sequence);
        }
        let Some(row) = self.own_attempt(worker, attempt) else { return false };
        if row.logged.insert(sequence) || planted!(LogTwice) {
            let cursor = i64::try_from(self.logs.len() + 1).unwrap_or(i64::MAX);
            self.logs.push(LogBatch { cursor, attempt, lines: lines.to_vec() });
        }
        true
    }

    pub(super) fn register_dataset(&mut self, dataset: &DatasetRecord) -> Result<DatasetRecord, Error> {
        let known = self.datasets.entry(dataset.name.clone()).or_insert_with(|| dataset.clone());
        refuse_other(What::Dataset, &dataset.name, known.manifest, dataset.manifest)?;
        Ok(known.clone())
    }

    pub(super) fn register_weights(&mut self, weights: &WeightsRecord) -> Result<WeightsRecord, Error> {
        let known = self.weights.entry(weights.name.clone()).or_insert_with(|| weights.clone());
        refuse_other(What::Weights, &weights.name, known.digest, weights.digest)?;
        Ok(known.clone())
    }
}

fn refuse_other(what: What, name: &str, existing: Digest, given: Digest) -> Result<(), Error> {
    if existing == given {
        return Ok(());
    }
    Err(Error::NameTaken { what, name: name.to_owned(), existing, given })
}
