//! Questions that every database is asked in the same words, and what their rows come to. What each has to be asked in
//! its own way is in its own folder.

use std::collections::{BTreeMap, HashMap};

use ceteris_scheduler::{SavedEpoch, SavedExperiment, SavedSegment, SavedStep, Snapshot, Submission};
use ceteris_shared::{
    digest::Digest,
    ids::{Epoch, ExperimentId, SegmentId},
    lineage::LineageKey,
    trainer::Scored,
};

use super::{
    ExperimentSummary, References, SegmentRecord, TrainedEpoch,
    codec::{Columns, attempt_of, committed_of, drain_of, end_of, experiment_of, replayed_of, state_of, step_of},
    fault::Fault,
    scored_of,
};

pub(super) const DATASETS: &str = "SELECT * FROM datasets ORDER BY name";
/// Parameter: a name or a digest. The name goes first.
pub(super) const DATASET: &str =
    "SELECT * FROM datasets WHERE name = $1 OR manifest = $1 ORDER BY name = $1 DESC, name";
pub(super) const WEIGHTS: &str = "SELECT * FROM weights ORDER BY name";
/// Parameter: a name or a digest. The name goes first.
pub(super) const WEIGHTS_NAMED: &str =
    "SELECT * FROM weights WHERE name = $1 OR digest = $1 ORDER BY name = $1 DESC, name";
pub(super) const WORKERS: &str = "SELECT * FROM workers ORDER BY last_seen DESC, id";
pub(super) const SEQUENCE: &str = "SELECT sequence FROM workers WHERE id = $1";
pub(super) const EXPERIMENT: &str = "SELECT * FROM experiments WHERE id = $1";
/// Parameter: an id or a name. The id goes first, and of a name the newest.
pub(super) const EXPERIMENT_NAMED: &str = "SELECT id FROM experiments WHERE id = $1 UNION ALL \
     SELECT id FROM (SELECT id FROM experiments WHERE name = $1 ORDER BY position DESC LIMIT 1) AS newest";
/// Parameters: the range of ids, and how many.
pub(super) const EXPERIMENTS_WITHIN: &str =
    "SELECT id FROM experiments WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3";
/// Parameters: the range of ids, and how many.
pub(super) const RUNS_WITHIN: &str = "SELECT * FROM runs WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3";
/// Parameters: segment, epoch, what was scored.
pub(super) const PREDICTIONS: &str = "SELECT digest FROM counted JOIN predictions \
     ON predictions.segment = counted.source AND predictions.epoch = counted.epoch \
     WHERE counted.segment = $1 AND counted.epoch = $2 AND scored = $3";

/// What [`summaries`] is made of, the newest first, and the number of segments in each state.
pub(super) const SUMMARIES: &str = "SELECT id, name, submitted_at, cancelled_at, paused_at, epochs, \
     (SELECT count(*) FROM runs WHERE experiment = experiments.id) AS runs, \
     (SELECT count(*) FROM segments JOIN epochs ON epochs.segment = segments.id \
      WHERE segments.experiment = experiments.id) \
     + (SELECT count(*) FROM segments JOIN reused ON reused.segment = segments.id \
        WHERE segments.experiment = experiments.id) AS committed \
     FROM experiments ORDER BY position DESC";
pub(super) const STATES: &str = "SELECT experiment, state, count(*) AS count FROM segments GROUP BY experiment, state";

pub(super) fn summaries<R: Columns>(experiments: &[R], states: &[R]) -> Result<Vec<ExperimentSummary>, Fault> {
    let mut segments: HashMap<String, BTreeMap<String, u64>> = HashMap::new();
    for row in states {
        segments.entry(row.text("experiment")?).or_default().insert(row.text("state")?, row.number("count")?);
    }
    let summary = |row: &R| {
        Ok(ExperimentSummary {
            id: row.parsed("id")?,
            name: row.text("name")?,
            submitted_at: row.time("submitted_at")?,
            cancelled_at: row.optional_time("cancelled_at")?,
            paused_at: row.optional_time("paused_at")?,
            runs: row.number("runs")?,
            segments: segments.remove(&row.text("id")?).unwrap_or_default(),
            epochs: row.number("epochs")?,
            committed: row.number("committed")?,
        })
    };
    experiments.iter().map(summary).collect()
}

/// Rows that [`segments`] is made of; the parameter of each question is the experiment.
pub(super) struct SegmentRows<R> {
    pub(super) segments: Vec<R>,
    pub(super) attempts: Vec<R>,
    pub(super) counted: Vec<R>,
    pub(super) predictions: Vec<R>,
    pub(super) replays: Vec<R>,
}

pub(super) const SEGMENTS: &str = "SELECT * FROM segments WHERE experiment = $1 ORDER BY position";
pub(super) const SEGMENTS_ATTEMPTS: &str = "SELECT attempts.* FROM segments JOIN attempts ON attempts.segment = segments.id \
     WHERE segments.experiment = $1 ORDER BY attempts.segment, attempts.number";
pub(super) const SEGMENTS_COUNTED: &str = "SELECT counted.*, attempts.environment FROM segments \
     JOIN counted ON counted.segment = segments.id \
     JOIN attempts ON attempts.segment = counted.source AND attempts.number = counted.attempt \
     WHERE segments.experiment = $1 ORDER BY counted.segment, counted.epoch";
pub(super) const SEGMENTS_PREDICTIONS: &str = "SELECT counted.segment, predictions.epoch, predictions.scored, predictions.digest FROM segments \
     JOIN counted ON counted.segment = segments.id \
     JOIN predictions ON predictions.segment = counted.source AND predictions.epoch = counted.epoch \
     WHERE segments.experiment = $1 ORDER BY counted.segment, predictions.epoch";
pub(super) const SEGMENTS_REPLAYS: &str = "SELECT replays.*, attempts.number, attempts.segment AS of FROM segments \
     JOIN attempts ON attempts.segment = segments.id JOIN replays ON replays.attempt = attempts.id \
     WHERE segments.experiment = $1 ORDER BY replays.id";

pub(super) fn segments<R: Columns>(rows: &SegmentRows<R>) -> Result<Vec<SegmentRecord>, Fault> {
    let mut segments = rows.segments.iter().map(segment_of).collect::<Result<Vec<_>, _>>()?;
    let index: HashMap<SegmentId, usize> = segments.iter().enumerate().map(|(i, s)| (s.id, i)).collect();
    for row in &rows.attempts {
        let attempt = attempt_of(row)?;
        if let Some(&index) = index.get(&attempt.attempt.segment) {
            segments[index].attempts.push(attempt);
        }
    }
    for row in &rows.counted {
        if let Some(&index) = index.get(&row.parsed("segment")?) {
            segments[index].committed.push(committed_of(row)?);
        }
    }
    for row in &rows.predictions {
        let (epoch, scored) = (Epoch(row.number("epoch")?), scored_in(&row.text("scored")?)?);
        let Some(&index) = index.get(&row.parsed("segment")?) else { continue };
        let committed = &mut segments[index].committed;
        if let Ok(at) = committed.binary_search_by_key(&epoch, |committed| committed.epoch) {
            committed[at].predictions.push((scored, row.parsed("digest")?));
        }
    }
    for row in &rows.replays {
        if let Some(&index) = index.get(&row.parsed("of")?) {
            segments[index].replayed.push(replayed_of(row)?);
        }
    }
    segments.iter_mut().flat_map(|segment| &mut segment.committed).for_each(|epoch| epoch.predictions.sort());
    Ok(segments)
}

fn segment_of(row: &impl Columns) -> Result<SegmentRecord, Fault> {
    Ok(SegmentRecord {
        id: row.parsed("id")?,
        position: row.number("position")?,
        state: state_of(row)?,
        failures: row.number("failures")?,
        losses: row.number("losses")?,
        attempts: Vec::new(),
        committed: Vec::new(),
        replayed: Vec::new(),
    })
}

/// Rows that a [`snapshot`] is made of, all of one state of the database.
pub(super) struct SnapshotRows<R> {
    pub(super) experiments: Vec<R>,
    pub(super) segments: Vec<R>,
    pub(super) counted: Vec<R>,
    pub(super) steps: Vec<R>,
    pub(super) attempts: Vec<R>,
    pub(super) damaged: Vec<R>,
    pub(super) collected: Vec<R>,
    pub(super) drained: Vec<R>,
}

pub(super) const SNAPSHOT_EXPERIMENTS: &str = "SELECT * FROM experiments ORDER BY position";
pub(super) const SNAPSHOT_SEGMENTS: &str = "SELECT * FROM segments ORDER BY experiment, position";
pub(super) const SNAPSHOT_COUNTED: &str =
    "SELECT segment, manifest, weights, replayed FROM counted ORDER BY segment, epoch";
pub(super) const SNAPSHOT_STEPS: &str = "SELECT steps.*, attempts.environment FROM steps JOIN attempts \
     ON attempts.segment = steps.segment AND attempts.number = steps.attempt";
pub(super) const SNAPSHOT_ATTEMPTS: &str = "SELECT segment, number, environment, ending, cause, message, \
     replays - (SELECT count(*) FROM replays WHERE replays.attempt = attempts.id) AS replays \
     FROM attempts ORDER BY segment, number";
pub(super) const SNAPSHOT_DAMAGED: &str = "SELECT manifest FROM damaged ORDER BY manifest";
pub(super) const SNAPSHOT_COLLECTED: &str = "SELECT manifest FROM collected ORDER BY manifest";
pub(super) const SNAPSHOT_DRAINED: &str = "SELECT worker, slots FROM drained ORDER BY worker";

pub(super) fn snapshot<R: Columns>(rows: &SnapshotRows<R>) -> Result<Snapshot, Fault> {
    let mut segments = saved_segments(rows)?;
    let experiments = rows.experiments.iter().map(|row| {
        let record = experiment_of(row)?;
        let dataset = record
            .pins
            .dataset
            .ok_or_else(|| Fault::Damaged(format!("experiment {} is not pinned to a data set", record.id)))?;
        let (cancelled, paused) = (record.cancelled_at.is_some(), record.paused_at.is_some());
        let environment = record.environment;
        let segments = segments.remove(&record.id).unwrap_or_default();
        let submission = Submission {
            experiment: record.id,
            plan: record.plan,
            dataset,
            external: record.pins.external,
            init: record.pins.init,
            reused: Vec::new(),
            rule: record.spec.controls.environment,
            environment: None,
            sharing: record.sharing,
        };
        Ok(SavedExperiment { submission, cancelled, paused, environment, segments })
    });
    let experiments = experiments.collect::<Result<_, Fault>>()?;
    let manifests = |rows: &[R]| rows.iter().map(|row| row.parsed("manifest")).collect::<Result<_, _>>();
    let drained = rows.drained.iter().map(|row| Ok((row.parsed("worker")?, drain_of(row)?)));
    Ok(Snapshot {
        experiments,
        damaged: manifests(&rows.damaged)?,
        collected: manifests(&rows.collected)?,
        drained: drained.collect::<Result<_, Fault>>()?,
    })
}

/// Of every experiment, in the plan's order.
fn saved_segments<R: Columns>(rows: &SnapshotRows<R>) -> Result<HashMap<ExperimentId, Vec<SavedSegment>>, Fault> {
    let mut committed: HashMap<String, Vec<SavedEpoch>> = HashMap::new();
    for row in &rows.counted {
        committed.entry(row.text("segment")?).or_default().push(SavedEpoch {
            manifest: row.parsed("manifest")?,
            weights: row.optional_parsed("weights")?,
            replayed: row.flag("replayed")?,
        });
    }
    let mut steps: HashMap<String, SavedStep> = HashMap::new();
    for row in &rows.steps {
        steps.insert(row.text("segment")?, step_of(row)?);
    }
    let mut attempts: HashMap<String, (u32, u32, Option<_>, Option<_>)> = HashMap::new();
    for row in &rows.attempts {
        let (number, replays, environment, last_end) = attempts.entry(row.text("segment")?).or_default();
        (*number, *replays) = (row.number("number")?, row.number("replays")?);
        *environment = Some(row.document("environment")?);
        if let Some(end) = end_of(row)? {
            *last_end = Some(end);
        }
    }
    let mut segments: HashMap<ExperimentId, Vec<SavedSegment>> = HashMap::new();
    for row in &rows.segments {
        let id = row.text("id")?;
        let (attempts, replays, environment, last_end) = attempts.remove(&id).unwrap_or_default();
        segments.entry(row.parsed("experiment")?).or_default().push(SavedSegment {
            state: state_of(row)?,
            attempts,
            failures: row.number("failures")?,
            losses: row.number("losses")?,
            committed: committed.remove(&id).unwrap_or_default(),
            replays,
            step: steps.remove(&id),
            environment,
            last_end,
        });
    }
    Ok(segments)
}

/// Rows with the column `digest` that [`references`] is made of, all of one state of the database.
pub(super) struct ReferenceRows<R> {
    pub(super) checkpoints: Vec<R>,
    pub(super) collected: Vec<R>,
    pub(super) steps: Vec<R>,
    pub(super) predictions: Vec<R>,
    pub(super) datasets: Vec<R>,
    pub(super) weights: Vec<R>,
}

/// What was trained again is gone on from by whoever did so, until the coordinator starts anew.
pub(super) const REFERENCED_CHECKPOINTS: &str = "SELECT manifest AS digest FROM trained UNION \
     SELECT manifest FROM replays WHERE manifest NOT IN (SELECT manifest FROM damaged) ORDER BY digest";
pub(super) const REFERENCED_COLLECTED: &str = "SELECT manifest AS digest FROM collected ORDER BY digest";
pub(super) const REFERENCED_STEPS: &str = "SELECT steps.manifest AS digest FROM steps JOIN segments ON segments.id = steps.segment \
     WHERE segments.state NOT IN ('completed', 'cancelled') ORDER BY digest";
pub(super) const REFERENCED_PREDICTIONS: &str = "SELECT DISTINCT digest FROM predictions ORDER BY digest";
pub(super) const REFERENCED_DATASETS: &str = "SELECT DISTINCT manifest AS digest FROM datasets ORDER BY digest";
pub(super) const REFERENCED_WEIGHTS: &str = "SELECT DISTINCT digest FROM weights ORDER BY digest";

pub(super) fn references<R: Columns>(rows: &ReferenceRows<R>) -> Result<References, Fault> {
    let digests = |rows: &[R]| -> Result<Vec<Digest>, Fault> { rows.iter().map(|row| row.parsed("digest")).collect() };
    Ok(References {
        checkpoints: digests(&rows.checkpoints)?,
        collected: digests(&rows.collected)?,
        steps: digests(&rows.steps)?,
        predictions: digests(&rows.predictions)?,
        datasets: digests(&rows.datasets)?,
        weights: digests(&rows.weights)?,
    })
}

/// Adds rows of trained epochs, whose column `scored` is a JSON list, to what they are trainings of.
pub(super) fn add_trained<R: Columns>(
    rows: &[R],
    to: &mut HashMap<LineageKey, Vec<TrainedEpoch>>,
) -> Result<(), Fault> {
    for row in rows {
        let texts: Vec<String> = row.document("scored")?;
        let epoch = TrainedEpoch {
            segment: row.parsed("segment")?,
            manifest: row.parsed("manifest")?,
            weights: row.optional_parsed("weights")?,
            environment: row.document("environment")?,
            bound: row.flag("bound")?,
            scored: texts.iter().map(|text| scored_in(text)).collect::<Result<_, _>>()?,
        };
        to.entry(row.parsed("lineage_key")?).or_default().push(epoch);
    }
    Ok(())
}

fn scored_in(text: &str) -> Result<Scored, Fault> {
    scored_of(text).ok_or_else(|| Fault::Damaged(format!("{text:?} is nothing to score")))
}
