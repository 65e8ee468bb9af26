//! What is in memory, and how tables are found from each other.

use std::collections::{BTreeMap, BTreeSet};

use ceteris_scheduler::{CommittedStep, Drain, State, Timestamp};
use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, WorkerId},
    lineage::LineageKey,
    trainer::{Scored, Spent},
};

use crate::store::{
    AttemptRecord, DatasetRecord, ExperimentRecord, LogBatch, ReplayedRecord, WeightsRecord, WorkerRecord,
};

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) datasets: BTreeMap<String, DatasetRecord>,
    pub(super) weights: BTreeMap<String, WeightsRecord>,
    pub(super) workers: BTreeMap<WorkerId, WorkerRow>,
    /// In the order of submission.
    pub(super) experiments: Vec<ExperimentRow>,
    pub(super) segments: BTreeMap<SegmentId, SegmentRow>,
    pub(super) epochs: BTreeMap<(SegmentId, Epoch), EpochRow>,
    pub(super) epochs_by_key: BTreeMap<LineageKey, Vec<(SegmentId, Epoch)>>,
    pub(super) drains: BTreeMap<WorkerId, Drain>,
    pub(super) damaged: BTreeSet<Digest>,
    pub(super) collected: BTreeSet<Digest>,
    /// In the order of arrival.
    pub(super) logs: Vec<LogBatch>,
}

#[derive(Debug)]
pub(super) struct WorkerRow {
    pub(super) record: WorkerRecord,
    pub(super) sequence: u64,
}

#[derive(Debug)]
pub(super) struct ExperimentRow {
    pub(super) record: ExperimentRecord,
    /// In the plan's order.
    pub(super) segments: Vec<SegmentId>,
}

#[derive(Debug)]
pub(super) struct SegmentRow {
    pub(super) experiment: ExperimentId,
    pub(super) state: State,
    pub(super) failures: u32,
    pub(super) losses: u32,
    pub(super) attempts: BTreeMap<u32, AttemptRow>,
    /// Epochs that count for it, and the segments that trained them.
    pub(super) reused: BTreeMap<Epoch, SegmentId>,
    /// The last checkpoint within an epoch, and the number of the execution that made it.
    pub(super) step: Option<(CommittedStep, u32)>,
}

#[derive(Debug)]
pub(super) struct AttemptRow {
    pub(super) record: AttemptRecord,
    pub(super) replays: u32,
    pub(super) replayed: Vec<ReplayedRecord>,
    /// Measured values by split, name, epoch and step.
    pub(super) metrics: BTreeMap<(&'static str, String, Epoch, u32), f64>,
    /// Sequence numbers of the events that brought its log.
    pub(super) logged: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) struct EpochRow {
    pub(super) key: LineageKey,
    pub(super) attempt: u32,
    pub(super) environment: Environment,
    pub(super) manifest: Digest,
    pub(super) weights: Option<Digest>,
    pub(super) spent: Spent,
    pub(super) committed_at: Timestamp,
    /// In order.
    pub(super) predictions: Vec<(Scored, Digest)>,
    /// Of executions that trained it again.
    pub(super) replays: Vec<ReplayRow>,
}

#[derive(Debug)]
pub(super) struct ReplayRow {
    /// It was in the same environment class and ended in the same weights.
    pub(super) counts: bool,
    pub(super) manifest: Digest,
    pub(super) weights: Option<Digest>,
}

impl EpochRow {
    fn replay(&self) -> Option<&ReplayRow> {
        self.replays.iter().rfind(|replay| replay.counts)
    }

    /// The checkpoint to go on from.
    pub(super) fn checkpoint(&self) -> Digest {
        self.replay().map_or(self.manifest, |replay| replay.manifest)
    }

    pub(super) fn known_weights(&self) -> Option<Digest> {
        self.weights.or(self.replay().and_then(|replay| replay.weights))
    }

    pub(super) fn was_replayed(&self) -> bool {
        self.replay().is_some()
    }
}

impl Tables {
    pub(super) fn experiment(&self, id: ExperimentId) -> Option<&ExperimentRow> {
        self.experiments.iter().find(|row| row.record.id == id)
    }

    pub(super) fn experiment_mut(&mut self, id: ExperimentId) -> Option<&mut ExperimentRecord> {
        self.experiments.iter_mut().map(|row| &mut row.record).find(|record| record.id == id)
    }

    pub(super) fn attempt_mut(&mut self, attempt: Attempt) -> Option<&mut AttemptRow> {
        self.segments.get_mut(&attempt.segment)?.attempts.get_mut(&attempt.number)
    }

    /// Every epoch that counts for a segment, in order, and the segment that trained it.
    pub(super) fn counted(&self, id: SegmentId) -> impl Iterator<Item = (SegmentId, Epoch, &EpochRow)> {
        let reused = self.segments.get(&id).into_iter().flat_map(|segment| &segment.reused);
        let reused = reused.filter_map(|(&epoch, &source)| Some((source, epoch, self.epochs.get(&(source, epoch))?)));
        // What is taken from elsewhere comes before what is trained.
        let own = self.epochs.range((id, Epoch(0))..=(id, Epoch(u32::MAX)));
        reused.chain(own.map(|(&(segment, epoch), row)| (segment, epoch, row)))
    }
}
