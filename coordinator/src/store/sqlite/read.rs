//! What reads the database. Lists of ids go in as one JSON parameter, so that every statement is a constant.

use std::collections::{BTreeMap, HashMap};

use ceteris_scheduler::{SavedEpoch, SavedExperiment, SavedSegment, SavedStep, Snapshot, Submission};
use ceteris_shared::{
    digest::Digest,
    ids::{Epoch, ExperimentId, SegmentId, WorkerId},
    lineage::LineageKey,
    trainer::Scored,
};
use sqlx::{SqliteConnection, query, query_scalar, sqlite::SqliteRow};

use super::{
    Fault, Sqlite,
    codec::{
        Columns as _, attempt_of, committed_of, dataset_of, drain_of, end_of, experiment_of, int, json, log_of,
        point_of, replayed_of, run_of, state_of, step_of, weights_of, worker_of,
    },
};
use crate::store::{
    DatasetRecord, Error, ExperimentRecord, ExperimentSummary, LogBatch, References, RunRef, SegmentRecord,
    SeriesPoint, SeriesQuery, TrainedEpoch, WeightsRecord, What, WorkerRecord, scored_of, scored_text,
};

/// How many ids an ambiguous beginning is answered with.
const SHOWN: usize = 5;
/// Lineage keys of one question.
const KEYS: usize = 10_000;

impl Sqlite {
    pub(super) async fn read_snapshot(&self) -> Result<Snapshot, Fault> {
        let mut from = self.reading().await?;
        let experiments = query("SELECT * FROM experiments ORDER BY position").fetch_all(&mut *from).await?;
        let mut segments = saved_segments(&mut from).await?;
        let experiments = experiments.iter().map(|row| {
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
        let damaged = query("SELECT manifest FROM damaged ORDER BY manifest").fetch_all(&mut *from).await?;
        let damaged = damaged.iter().map(|row| row.parsed("manifest")).collect::<Result<_, _>>()?;
        let collected = query("SELECT manifest FROM collected ORDER BY manifest").fetch_all(&mut *from).await?;
        let collected = collected.iter().map(|row| row.parsed("manifest")).collect::<Result<_, _>>()?;
        let drained = query("SELECT worker, slots FROM drained ORDER BY worker").fetch_all(&mut *from).await?;
        let drained =
            drained.iter().map(|row| Ok((row.parsed("worker")?, drain_of(row)?))).collect::<Result<_, Fault>>()?;
        Ok(Snapshot { experiments, damaged, collected, drained })
    }

    pub(super) async fn read_trained(
        &self,
        keys: &[LineageKey],
    ) -> Result<HashMap<LineageKey, Vec<TrainedEpoch>>, Fault> {
        let select = "SELECT t.lineage_key, t.segment, t.manifest, t.weights, attempts.environment, \
             experiments.environment IS NOT NULL AS bound, \
             (SELECT json_group_array(scored) FROM predictions AS p WHERE p.segment = t.segment AND p.epoch = t.epoch) AS scored \
             FROM json_each(?) AS wanted JOIN trained AS t ON t.lineage_key = wanted.value \
             JOIN attempts ON attempts.segment = t.segment AND attempts.number = t.attempt \
             JOIN segments ON segments.id = t.segment JOIN experiments ON experiments.id = segments.experiment \
             ORDER BY t.committed_at, t.segment";
        let mut trained: HashMap<LineageKey, Vec<TrainedEpoch>> = HashMap::new();
        for keys in keys.chunks(KEYS) {
            for row in query(select).bind(json(&keys)?).fetch_all(&self.readers).await? {
                let texts: Vec<String> = row.document("scored")?;
                let scored = |text: &String| {
                    scored_of(text).ok_or_else(|| Fault::Damaged(format!("{text:?} is nothing to score")))
                };
                let scored = texts.iter().map(scored).collect::<Result<Vec<_>, _>>()?;
                let epoch = TrainedEpoch {
                    segment: row.parsed("segment")?,
                    manifest: row.parsed("manifest")?,
                    weights: row.optional_parsed("weights")?,
                    environment: row.document("environment")?,
                    bound: row.number::<u8>("bound")? != 0,
                    scored,
                };
                trained.entry(row.parsed("lineage_key")?).or_default().push(epoch);
            }
        }
        Ok(trained)
    }

    pub(super) async fn read_references(&self) -> Result<References, Fault> {
        let mut from = self.reading().await?;
        let mut digests = async |select: &'static str| -> Result<Vec<Digest>, Fault> {
            let rows = query(select).fetch_all(&mut *from).await?;
            rows.iter().map(|row| row.parsed("digest")).collect()
        };
        Ok(References {
            // What was trained again is gone on from by whoever did so, until the coordinator starts anew.
            checkpoints: digests(
                "SELECT manifest AS digest FROM trained UNION \
                 SELECT manifest FROM replays WHERE manifest NOT IN (SELECT manifest FROM damaged) ORDER BY digest",
            )
            .await?,
            collected: digests("SELECT manifest AS digest FROM collected ORDER BY digest").await?,
            steps: digests(
                "SELECT steps.manifest AS digest FROM steps JOIN segments ON segments.id = steps.segment \
                 WHERE segments.state NOT IN ('completed', 'cancelled') ORDER BY digest",
            )
            .await?,
            predictions: digests("SELECT DISTINCT digest FROM predictions ORDER BY digest").await?,
            datasets: digests("SELECT DISTINCT manifest AS digest FROM datasets ORDER BY digest").await?,
            weights: digests("SELECT DISTINCT digest FROM weights ORDER BY digest").await?,
        })
    }

    pub(super) async fn read_sequence(&self, worker: WorkerId) -> Result<u64, Fault> {
        let rows = query("SELECT sequence FROM workers WHERE id = ?").bind(worker.to_string());
        rows.fetch_all(&self.readers).await?.first().map_or(Ok(0), |row| row.number("sequence"))
    }

    pub(super) async fn read_datasets(&self) -> Result<Vec<DatasetRecord>, Fault> {
        let rows = query("SELECT * FROM datasets ORDER BY name").fetch_all(&self.readers).await?;
        rows.iter().map(dataset_of).collect()
    }

    pub(super) async fn read_dataset(&self, name: &str) -> Result<DatasetRecord, Fault> {
        let select = "SELECT * FROM datasets WHERE name = ?1 OR manifest = ?1 ORDER BY name = ?1 DESC, name";
        let rows = query(select).bind(name).fetch_all(&self.readers).await?;
        let hint = "`ceteris data ls` lists those that are imported, `ceteris data import` imports one";
        rows.first().map_or_else(|| Err(not_found(What::Dataset, name, hint)), dataset_of)
    }

    pub(super) async fn read_all_weights(&self) -> Result<Vec<WeightsRecord>, Fault> {
        let rows = query("SELECT * FROM weights ORDER BY name").fetch_all(&self.readers).await?;
        rows.iter().map(weights_of).collect()
    }

    pub(super) async fn read_weights(&self, name: &str) -> Result<WeightsRecord, Fault> {
        let select = "SELECT * FROM weights WHERE name = ?1 OR digest = ?1 ORDER BY name = ?1 DESC, name";
        let rows = query(select).bind(name).fetch_all(&self.readers).await?;
        let hint = "`ceteris weights ls` lists those that are imported, `ceteris weights import` imports some";
        rows.first().map_or_else(|| Err(not_found(What::Weights, name, hint)), weights_of)
    }

    pub(super) async fn read_experiments(&self) -> Result<Vec<ExperimentSummary>, Fault> {
        let mut from = self.reading().await?;
        let counts = "SELECT experiment, state, count(*) AS count FROM segments GROUP BY experiment, state";
        let mut segments: HashMap<String, BTreeMap<String, u64>> = HashMap::new();
        for row in query(counts).fetch_all(&mut *from).await? {
            segments.entry(row.text("experiment")?).or_default().insert(row.text("state")?, row.number("count")?);
        }
        let select = "SELECT id, name, submitted_at, cancelled_at, paused_at, epochs, \
             (SELECT count(*) FROM runs WHERE experiment = experiments.id) AS runs, \
             (SELECT count(*) FROM segments JOIN epochs ON epochs.segment = segments.id \
              WHERE segments.experiment = experiments.id) \
             + (SELECT count(*) FROM segments JOIN reused ON reused.segment = segments.id \
                WHERE segments.experiment = experiments.id) AS committed \
             FROM experiments ORDER BY position DESC";
        let rows = query(select).fetch_all(&mut *from).await?;
        let summary = |row: &SqliteRow| {
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
        rows.iter().map(summary).collect()
    }

    pub(super) async fn read_experiment(&self, text: &str) -> Result<ExperimentRecord, Fault> {
        let (low, high) = id_range(text).unwrap_or_default();
        let select = "SELECT id FROM experiments WHERE id = ?1 UNION ALL \
             SELECT id FROM (SELECT id FROM experiments WHERE name = ?1 ORDER BY position DESC LIMIT 1)";
        let mut ids: Vec<String> = query_scalar(select).bind(text).fetch_all(&self.readers).await?;
        ids.truncate(1);
        if ids.is_empty() {
            let select = "SELECT id FROM experiments WHERE id >= ? AND id < ? ORDER BY id LIMIT ?";
            let begins = query_scalar(select).bind(low).bind(high).bind(int(SHOWN + 1));
            ids = begins.fetch_all(&self.readers).await?;
        }
        let id = only(What::Experiment, text, ids, "`ceteris ls` lists those that are")?;
        let rows = query("SELECT * FROM experiments WHERE id = ?").bind(id).fetch_all(&self.readers).await?;
        rows.first().map_or_else(|| Err(not_found(What::Experiment, text, "it is gone")), experiment_of)
    }

    pub(super) async fn read_run(&self, text: &str) -> Result<RunRef, Fault> {
        let (low, high) = id_range(text).unwrap_or_default();
        let select = "SELECT * FROM runs WHERE id >= ? AND id < ? ORDER BY id LIMIT ?";
        let rows = query(select).bind(low).bind(high).bind(int(SHOWN + 1)).fetch_all(&self.readers).await?;
        let ids = rows.iter().map(|row| row.text("id")).collect::<Result<_, _>>()?;
        let id = only(What::Run, text, ids, "`ceteris show EXPERIMENT` lists an experiment's")?;
        let found = rows.iter().find(|row| row.text("id").is_ok_and(|found| found == id));
        found.map_or_else(|| Err(not_found(What::Run, text, "it is gone")), run_of)
    }

    pub(super) async fn read_segments(&self, experiment: ExperimentId) -> Result<Vec<SegmentRecord>, Fault> {
        let id = experiment.to_string();
        let mut from = self.reading().await?;
        let select = "SELECT * FROM segments WHERE experiment = ? ORDER BY position";
        let rows = query(select).bind(&id).fetch_all(&mut *from).await?;
        let mut segments = rows.iter().map(segment_of).collect::<Result<Vec<_>, _>>()?;
        let index: HashMap<SegmentId, usize> = segments.iter().enumerate().map(|(i, s)| (s.id, i)).collect();

        let select = "SELECT attempts.* FROM segments JOIN attempts ON attempts.segment = segments.id \
             WHERE segments.experiment = ? ORDER BY attempts.segment, attempts.number";
        for row in query(select).bind(&id).fetch_all(&mut *from).await? {
            let attempt = attempt_of(&row)?;
            if let Some(&index) = index.get(&attempt.attempt.segment) {
                segments[index].attempts.push(attempt);
            }
        }
        let select = "SELECT counted.*, attempts.environment FROM segments \
             JOIN counted ON counted.segment = segments.id \
             JOIN attempts ON attempts.segment = counted.source AND attempts.number = counted.attempt \
             WHERE segments.experiment = ? ORDER BY counted.segment, counted.epoch";
        for row in query(select).bind(&id).fetch_all(&mut *from).await? {
            if let Some(&index) = index.get(&row.parsed("segment")?) {
                segments[index].committed.push(committed_of(&row)?);
            }
        }
        let select = "SELECT counted.segment, predictions.epoch, predictions.scored, predictions.digest FROM segments \
             JOIN counted ON counted.segment = segments.id \
             JOIN predictions ON predictions.segment = counted.source AND predictions.epoch = counted.epoch \
             WHERE segments.experiment = ? ORDER BY counted.segment, predictions.epoch";
        for row in query(select).bind(&id).fetch_all(&mut *from).await? {
            let (epoch, text) = (Epoch(row.number("epoch")?), row.text("scored")?);
            let scored = scored_of(&text).ok_or_else(|| Fault::Damaged(format!("{text:?} is nothing to score")))?;
            let Some(&index) = index.get(&row.parsed("segment")?) else { continue };
            let committed = &mut segments[index].committed;
            if let Ok(at) = committed.binary_search_by_key(&epoch, |committed| committed.epoch) {
                committed[at].predictions.push((scored, row.parsed("digest")?));
            }
        }
        let select = "SELECT replays.*, attempts.number, attempts.segment AS of FROM segments \
             JOIN attempts ON attempts.segment = segments.id JOIN replays ON replays.attempt = attempts.id \
             WHERE segments.experiment = ? ORDER BY replays.id";
        for row in query(select).bind(&id).fetch_all(&mut *from).await? {
            if let Some(&index) = index.get(&row.parsed("of")?) {
                segments[index].replayed.push(replayed_of(&row)?);
            }
        }
        segments.iter_mut().flat_map(|segment| &mut segment.committed).for_each(|epoch| epoch.predictions.sort());
        Ok(segments)
    }

    pub(super) async fn read_series(&self, wanted: &SeriesQuery) -> Result<Vec<SeriesPoint>, Fault> {
        let select = "WITH measured AS ( \
               SELECT wanted.key, c.segment, a.number, s.split, s.name, p.epoch, p.step, p.value \
               FROM json_each(?1) AS wanted JOIN counted AS c ON c.segment = wanted.value \
               JOIN attempts AS a ON a.segment = c.source AND a.number = c.attempt \
               JOIN series AS s ON s.attempt = a.id JOIN points AS p ON p.series = s.id AND p.epoch = c.epoch \
               WHERE ?3 = '[]' OR s.name IN (SELECT value FROM json_each(?3)) \
               UNION ALL \
               SELECT wanted.key, a.segment, a.number, s.split, s.name, p.epoch, p.step, p.value \
               FROM json_each(?1) AS wanted JOIN attempts AS a ON a.segment = wanted.value \
               JOIN series AS s ON s.attempt = a.id JOIN points AS p ON p.series = s.id \
               WHERE ?2 AND a.number = (SELECT max(number) FROM attempts WHERE segment = a.segment) \
                 AND NOT EXISTS (SELECT 1 FROM counted WHERE segment = a.segment AND epoch = p.epoch) \
                 AND (?3 = '[]' OR s.name IN (SELECT value FROM json_each(?3)))) \
             SELECT segment, number, split, name, epoch, step, value FROM measured \
             ORDER BY key, split, name, epoch, step";
        let rows = query(select)
            .bind(json(&wanted.segments)?)
            .bind(wanted.uncommitted)
            .bind(json(&wanted.names)?)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(point_of).collect()
    }

    pub(super) async fn read_predictions(
        &self,
        segment: SegmentId,
        epoch: Epoch,
        scored: &Scored,
    ) -> Result<Option<Digest>, Fault> {
        let select = "SELECT digest FROM counted JOIN predictions \
             ON predictions.segment = counted.source AND predictions.epoch = counted.epoch \
             WHERE counted.segment = ? AND counted.epoch = ? AND scored = ?";
        let rows = query(select).bind(segment.to_string()).bind(int(epoch.0)).bind(scored_text(scored));
        rows.fetch_all(&self.readers).await?.first().map(|row| row.parsed("digest")).transpose()
    }

    pub(super) async fn read_logs(
        &self,
        segments: &[SegmentId],
        after: i64,
        limit: u32,
    ) -> Result<Vec<LogBatch>, Fault> {
        let select = "SELECT logs.id, a.segment, a.number, logs.lines FROM attempts AS a \
             JOIN logs ON logs.attempt = a.id \
             WHERE a.segment IN (SELECT value FROM json_each(?)) AND logs.id > ? ORDER BY logs.id LIMIT ?";
        let rows = query(select).bind(json(&segments)?).bind(after).bind(int(limit)).fetch_all(&self.readers).await?;
        rows.iter().map(log_of).collect()
    }

    pub(super) async fn read_workers(&self) -> Result<Vec<WorkerRecord>, Fault> {
        let rows = query("SELECT * FROM workers ORDER BY last_seen DESC, id").fetch_all(&self.readers).await?;
        rows.iter().map(worker_of).collect()
    }
}

fn segment_of(row: &SqliteRow) -> Result<SegmentRecord, Fault> {
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

/// Of every experiment, in the plan's order.
async fn saved_segments(from: &mut SqliteConnection) -> Result<HashMap<ExperimentId, Vec<SavedSegment>>, Fault> {
    let mut committed: HashMap<String, Vec<SavedEpoch>> = HashMap::new();
    let select = "SELECT segment, manifest, weights, replayed FROM counted ORDER BY segment, epoch";
    for row in query(select).fetch_all(&mut *from).await? {
        committed.entry(row.text("segment")?).or_default().push(SavedEpoch {
            manifest: row.parsed("manifest")?,
            weights: row.optional_parsed("weights")?,
            replayed: row.number::<u8>("replayed")? != 0,
        });
    }
    let select = "SELECT steps.*, attempts.environment FROM steps JOIN attempts \
         ON attempts.segment = steps.segment AND attempts.number = steps.attempt";
    let mut steps: HashMap<String, SavedStep> = HashMap::new();
    for row in query(select).fetch_all(&mut *from).await? {
        steps.insert(row.text("segment")?, step_of(&row)?);
    }
    let select = "SELECT segment, number, environment, ending, cause, message, \
         replays - (SELECT count(*) FROM replays WHERE replays.attempt = attempts.id) AS replays \
         FROM attempts ORDER BY segment, number";
    let mut attempts: HashMap<String, (u32, u32, Option<_>, Option<_>)> = HashMap::new();
    for row in query(select).fetch_all(&mut *from).await? {
        let (number, replays, environment, last_end) = attempts.entry(row.text("segment")?).or_default();
        (*number, *replays) = (row.number("number")?, row.number("replays")?);
        *environment = Some(row.document("environment")?);
        if let Some(end) = end_of(&row)? {
            *last_end = Some(end);
        }
    }
    let mut segments: HashMap<ExperimentId, Vec<SavedSegment>> = HashMap::new();
    for row in query("SELECT * FROM segments ORDER BY experiment, position").fetch_all(from).await? {
        let id = row.text("id")?;
        let (attempts, replays, environment, last_end) = attempts.remove(&id).unwrap_or_default();
        segments.entry(row.parsed("experiment")?).or_default().push(SavedSegment {
            state: state_of(&row)?,
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

fn not_found(what: What, text: &str, hint: &'static str) -> Fault {
    Fault::Refused(Error::NotFound { what, text: text.to_owned(), hint })
}

/// The one id that was found.
fn only(what: What, text: &str, mut ids: Vec<String>, hint: &'static str) -> Result<String, Fault> {
    match ids.len() {
        0 => Err(not_found(what, text, hint)),
        1 => Ok(ids.remove(0)),
        found => {
            ids.truncate(SHOWN);
            let (text, more) = (text.to_owned(), found > SHOWN);
            Err(Fault::Refused(Error::Ambiguous { what, text, matches: ids, more }))
        }
    }
}

/// The ids that begin with `text`, as a range of their text; nothing when no id can.
fn id_range(text: &str) -> Option<(String, String)> {
    let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    if digits.is_empty() || digits.len() > 32 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let mut low = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if matches!(index, 8 | 12 | 16 | 20) {
            low.push('-');
        }
        low.push(digit);
    }
    // `g` comes after every digit and after the hyphen.
    let high = format!("{low}g");
    Some((low, high))
}
