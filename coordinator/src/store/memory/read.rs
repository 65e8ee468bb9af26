//! What reads the tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ceteris_scheduler::{SavedEpoch, SavedExperiment, SavedSegment, SavedStep, Snapshot, Submission};
use ceteris_shared::{
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId},
    lineage::LineageKey,
    planted,
    trainer::{MetricPoint, Scored},
};

use super::{
    database,
    tables::{EpochRow, ExperimentRow, SegmentRow, Tables},
};
use crate::store::{
    CommittedRecord, DatasetRecord, Error, ExperimentRecord, ExperimentSummary, LogBatch, References, RunRef,
    SegmentRecord, SeriesPoint, SeriesQuery, TrainedEpoch, WeightsRecord, What, WorkerRecord,
};

/// How many ids an ambiguous beginning is answered with.
const SHOWN: usize = 5;

impl Tables {
    pub(super) fn snapshot(&self) -> Result<Snapshot, Error> {
        let experiments = self.experiments.iter().map(|row| self.saved_experiment(row)).collect::<Result<_, _>>()?;
        let (damaged, collected) = (&self.damaged, &self.collected);
        Ok(Snapshot {
            experiments,
            damaged: damaged.iter().filter(|_| !planted!(SnapshotForgetsDamage)).copied().collect(),
            collected: collected.iter().copied().collect(),
            drained: self.drains.iter().map(|(worker, drain)| (*worker, drain.clone())).collect(),
        })
    }

    fn saved_experiment(&self, row: &ExperimentRow) -> Result<SavedExperiment, Error> {
        let record = &row.record;
        let unpinned = || database(format!("experiment {} is not pinned to a data set", record.id));
        let submission = Submission {
            experiment: record.id,
            plan: record.plan.clone(),
            dataset: record.pins.dataset.ok_or_else(unpinned)?,
            external: record.pins.external.clone(),
            init: record.pins.init,
            reused: Vec::new(),
            rule: record.spec.controls.environment,
            environment: None,
            sharing: record.sharing,
        };
        let segments = row.segments.iter().filter_map(|id| Some(self.saved_segment(*id, self.segments.get(id)?)));
        Ok(SavedExperiment {
            submission,
            cancelled: record.cancelled_at.is_some() && !planted!(SnapshotForgetsCancel),
            paused: record.paused_at.is_some() && !planted!(SnapshotForgetsPause),
            environment: record.environment.clone(),
            segments: segments.collect(),
        })
    }

    fn saved_segment(&self, id: SegmentId, row: &SegmentRow) -> SavedSegment {
        let last = row.attempts.last_key_value();
        let saved = |(_, _, epoch): (SegmentId, Epoch, &EpochRow)| SavedEpoch {
            manifest: epoch.checkpoint(),
            weights: epoch.known_weights(),
            replayed: epoch.was_replayed(),
        };
        let step = row.step.as_ref().and_then(|(step, attempt)| {
            let environment = row.attempts.get(attempt)?.record.environment.clone();
            let (epoch, manifest, attempt) = (step.epoch, step.manifest, *attempt);
            Some(SavedStep { epoch, step: step.step, manifest, attempt, environment })
        });
        let forgotten = usize::from(planted!(SnapshotForgetsReplay));
        let replayed = |replayed: usize| u32::try_from(replayed + forgotten).unwrap_or(u32::MAX);
        SavedSegment {
            state: row.state.clone(),
            attempts: last.map_or(0, |(&number, _)| number),
            failures: row.failures,
            losses: row.losses,
            committed: self.counted(id).map(saved).collect(),
            replays: last.map_or(0, |(_, last)| last.replays.saturating_sub(replayed(last.replayed.len()))),
            step,
            environment: last.map(|(_, last)| last.record.environment.clone()),
            last_end: row.attempts.values().rev().find_map(|row| row.record.ended.clone()).map(|(_, end)| end),
        }
    }

    pub(super) fn trained(&self, keys: &[LineageKey]) -> HashMap<LineageKey, Vec<TrainedEpoch>> {
        let mut trained = HashMap::new();
        for key in keys {
            let Some(ids) = self.epochs_by_key.get(key) else { continue };
            let mut rows: Vec<_> = ids.iter().filter_map(|id| Some((id.0, self.epochs.get(id)?))).collect();
            rows.sort_by_key(|(segment, row)| (row.committed_at, *segment));
            let is_bound = |segment: &SegmentId| {
                let of = self.segments.get(segment).and_then(|segment| self.experiment(segment.experiment));
                of.is_some_and(|experiment| experiment.record.environment.is_some())
            };
            let epoch = |(segment, row): (SegmentId, &EpochRow)| TrainedEpoch {
                bound: is_bound(&segment),
                segment,
                manifest: row.checkpoint(),
                weights: row.known_weights(),
                environment: row.environment.clone(),
                scored: row.predictions.iter().map(|(scored, _)| scored.clone()).collect(),
            };
            trained.insert(*key, rows.into_iter().map(epoch).collect());
        }
        trained
    }

    pub(super) fn references(&self) -> References {
        // What was trained again is gone on from by whoever did so, until the coordinator starts anew.
        let again = self.epochs.values().flat_map(|row| row.replays.iter().map(|replay| replay.manifest));
        let again = again.filter(|manifest| !self.damaged.contains(manifest));
        let open = |row: &&SegmentRow| !matches!(row.state.name(), "completed" | "cancelled");
        let steps = self.segments.values().filter(open).filter_map(|row| Some(row.step.as_ref()?.0.manifest));
        let predictions = self.epochs.values().flat_map(|row| row.predictions.iter().map(|(_, digest)| *digest));
        References {
            checkpoints: unique(self.epochs.values().map(EpochRow::checkpoint).chain(again)),
            collected: self.collected.iter().copied().collect(),
            steps: unique(steps),
            predictions: unique(predictions),
            datasets: unique(self.datasets.values().map(|dataset| dataset.manifest)),
            weights: unique(self.weights.values().map(|weights| weights.digest)),
        }
    }

    pub(super) fn find_dataset(&self, name: &str) -> Result<DatasetRecord, Error> {
        let by_digest = || self.datasets.values().find(|dataset| dataset.manifest.to_string() == name);
        let hint = "`ceteris data ls` lists those that are imported, `ceteris data import` imports one";
        self.datasets.get(name).or_else(by_digest).cloned().ok_or_else(|| not_found(What::Dataset, name, hint))
    }

    pub(super) fn find_weights(&self, name: &str) -> Result<WeightsRecord, Error> {
        let by_digest = || self.weights.values().find(|weights| weights.digest.to_string() == name);
        let hint = "`ceteris weights ls` lists those that are imported, `ceteris weights import` imports some";
        self.weights.get(name).or_else(by_digest).cloned().ok_or_else(|| not_found(What::Weights, name, hint))
    }

    pub(super) fn summaries(&self) -> Vec<ExperimentSummary> {
        let summary = |row: &ExperimentRow| {
            let record = &row.record;
            let mut segments: BTreeMap<String, u64> = BTreeMap::new();
            for state in row.segments.iter().filter_map(|id| Some(&self.segments.get(id)?.state)) {
                *segments.entry(state.name().to_owned()).or_default() += 1;
            }
            ExperimentSummary {
                id: record.id,
                name: record.spec.name.clone(),
                submitted_at: record.submitted_at,
                cancelled_at: record.cancelled_at,
                paused_at: record.paused_at,
                runs: record.plan.runs.len() as u64,
                segments,
                epochs: record.plan.epochs_to_train(),
                committed: row.segments.iter().map(|id| self.counted(*id).count() as u64).sum(),
            }
        };
        self.experiments.iter().rev().map(summary).collect()
    }

    pub(super) fn find_experiment(&self, text: &str) -> Result<ExperimentRecord, Error> {
        let records = || self.experiments.iter().map(|row| &row.record);
        let by_id = records().find(|record| record.id.to_string() == text);
        let exact = by_id.or_else(|| records().rfind(|record| record.spec.name == text));
        if let Some(record) = exact {
            return Ok(record.clone());
        }
        let begins =
            records().filter(|record| begins(&record.id.0, text)).map(|record| (record.id.to_string(), record));
        only(What::Experiment, text, begins.collect(), "`ceteris ls` lists those that are").cloned()
    }

    pub(super) fn find_run(&self, text: &str) -> Result<RunRef, Error> {
        let runs = self.experiments.iter().flat_map(|row| {
            let of = row.record.id;
            row.record.plan.runs.iter().enumerate().map(move |(position, run)| RunRef {
                run: run.id,
                experiment: of,
                position,
            })
        });
        let begins = runs.filter(|found| begins(&found.run.0, text)).map(|found| (found.run.to_string(), found));
        only(What::Run, text, begins.collect(), "`ceteris show EXPERIMENT` lists an experiment's")
    }

    pub(super) fn segment_records(&self, experiment: ExperimentId) -> Vec<SegmentRecord> {
        let Some(row) = self.experiment(experiment) else { return Vec::new() };
        let record = |(position, id): (usize, &SegmentId)| {
            let row = self.segments.get(id)?;
            let committed = |(source, epoch, row): (SegmentId, Epoch, &EpochRow)| CommittedRecord {
                epoch,
                key: row.key,
                source,
                attempt: row.attempt,
                environment: row.environment.clone(),
                manifest: row.checkpoint(),
                weights: row.known_weights(),
                spent: row.spent,
                committed_at: row.committed_at,
                predictions: row.predictions.clone(),
            };
            Some(SegmentRecord {
                id: *id,
                position,
                state: row.state.clone(),
                failures: row.failures,
                losses: row.losses,
                attempts: row.attempts.values().map(|row| row.record.clone()).collect(),
                committed: self.counted(*id).map(committed).collect(),
                replayed: row.attempts.values().flat_map(|row| row.replayed.iter().copied()).collect(),
            })
        };
        row.segments.iter().enumerate().filter_map(record).collect()
    }

    pub(super) fn series(&self, query: &SeriesQuery) -> Vec<SeriesPoint> {
        query.segments.iter().flat_map(|&segment| self.series_of(segment, query)).collect()
    }

    fn series_of(&self, id: SegmentId, query: &SeriesQuery) -> Vec<SeriesPoint> {
        let mut found: BTreeMap<_, SeriesPoint> = BTreeMap::new();
        let counted: BTreeMap<Epoch, Attempt> = self
            .counted(id)
            .map(|(source, epoch, row)| (epoch, Attempt { segment: source, number: row.attempt }))
            .collect();
        let own = self.segments.get(&id).filter(|_| query.uncommitted);
        let latest = own.and_then(|row| row.attempts.last_key_value());
        let latest = latest.map(|(&number, _)| Attempt { segment: id, number });
        let sources: BTreeSet<Attempt> = counted.values().copied().chain(latest).collect();
        for attempt in sources {
            let segment = self.segments.get(&attempt.segment);
            let Some(row) = segment.and_then(|row| row.attempts.get(&attempt.number)) else { continue };
            for ((split, name, epoch, step), &value) in &row.metrics {
                let wanted = match counted.get(epoch) {
                    Some(source) => *source == attempt,
                    None => Some(attempt) == latest,
                };
                let named = query.names.is_empty() || query.names.contains(name);
                let Some(parsed) = split.parse().ok().filter(|_| wanted && named) else { continue };
                let point = MetricPoint { epoch: *epoch, step: *step, split: parsed, name: name.clone(), value };
                let attempt = Attempt { segment: id, number: attempt.number };
                found.insert((*split, name.clone(), *epoch, *step), SeriesPoint { attempt, point });
            }
        }
        found.into_values().collect()
    }

    pub(super) fn predictions(&self, segment: SegmentId, epoch: Epoch, scored: &Scored) -> Option<Digest> {
        let (_, _, row) = self.counted(segment).find(|(_, counted, _)| *counted == epoch)?;
        row.predictions.iter().find(|(known, _)| known == scored).map(|(_, digest)| *digest)
    }

    pub(super) fn log_batches(&self, segments: &[SegmentId], after: i64, limit: u32) -> Vec<LogBatch> {
        let wanted = |batch: &&LogBatch| batch.cursor > after && segments.contains(&batch.attempt.segment);
        self.logs.iter().filter(wanted).take(limit as usize).cloned().collect()
    }

    pub(super) fn worker_records(&self) -> Vec<WorkerRecord> {
        let mut workers: Vec<_> = self.workers.values().map(|row| row.record.clone()).collect();
        workers.sort_by_key(|worker| (std::cmp::Reverse(worker.last_seen), worker.id));
        workers
    }
}

fn unique(digests: impl Iterator<Item = Digest>) -> Vec<Digest> {
    digests.collect::<BTreeSet<_>>().into_iter().collect()
}

fn not_found(what: What, text: &str, hint: &'static str) -> Error {
    Error::NotFound { what, text: text.to_owned(), hint }
}

/// Whether an id begins with these digits.
fn begins(id: &uuid::Uuid, text: &str) -> bool {
    let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    !digits.is_empty() && id.simple().to_string().starts_with(&digits)
}

/// The only one of those that were found by their ids.
fn only<T>(what: What, text: &str, mut found: Vec<(String, T)>, hint: &'static str) -> Result<T, Error> {
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    match found.len() {
        0 => Err(not_found(what, text, hint)),
        1 => Ok(found.remove(0).1),
        count => {
            let matches = found.into_iter().take(SHOWN).map(|(id, _)| id).collect();
            Err(Error::Ambiguous { what, text: text.to_owned(), matches, more: count > SHOWN })
        }
    }
}
