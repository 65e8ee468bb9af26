//! What reads the database. Lists of ids go in as arrays, so that every statement is a constant.

use std::collections::HashMap;

use ceteris_scheduler::Snapshot;
use ceteris_shared::{
    digest::Digest,
    ids::{Epoch, ExperimentId, SegmentId, WorkerId},
    lineage::LineageKey,
    trainer::Scored,
};
use sqlx::{query, query_scalar};

use super::{Fault, Postgres, text};
use crate::store::{
    DatasetRecord, ExperimentRecord, ExperimentSummary, LogBatch, References, RunRef, SegmentRecord, SeriesPoint,
    SeriesQuery, TrainedEpoch, WeightsRecord, What, WorkerRecord,
    codec::{Columns as _, dataset_of, experiment_of, int, log_of, point_of, run_of, weights_of, worker_of},
    lookup::{self, id_range, not_found, only},
    scored_text,
    select::{self, ReferenceRows, SegmentRows, SnapshotRows},
};

/// Lineage keys of one question.
const KEYS: usize = 10_000;

/// Each key's trainings.
const TRAINED: &str = "SELECT t.lineage_key, t.segment, t.manifest, t.weights, attempts.environment, \
     experiments.environment IS NOT NULL AS bound, \
     (SELECT coalesce(json_agg(scored), '[]')::text FROM predictions AS p \
      WHERE p.segment = t.segment AND p.epoch = t.epoch) AS scored \
     FROM unnest($1::text[]) AS wanted (key) JOIN trained AS t ON t.lineage_key = wanted.key \
     JOIN attempts ON attempts.segment = t.segment AND attempts.number = t.attempt \
     JOIN segments ON segments.id = t.segment JOIN experiments ON experiments.id = segments.experiment \
     ORDER BY t.committed_at, t.segment";
/// Parameters: segments, whether what is not committed is wanted, names (none: all).
const SERIES: &str = "WITH wanted AS (SELECT w.id, w.key FROM unnest($1::text[]) WITH ORDINALITY AS w (id, key)), \
     measured AS ( \
       SELECT wanted.key, c.segment, a.id, a.number, c.epoch \
       FROM wanted JOIN counted AS c ON c.segment = wanted.id \
       JOIN attempts AS a ON a.segment = c.source AND a.number = c.attempt \
       UNION ALL \
       SELECT wanted.key, a.segment, a.id, a.number, NULL \
       FROM wanted JOIN attempts AS a ON a.segment = wanted.id \
       WHERE $2 AND a.number = (SELECT max(number) FROM attempts WHERE segment = a.segment)) \
     SELECT w.segment, w.number, m.split, m.name, m.epoch, m.step, m.value \
     FROM measured AS w JOIN metrics AS m ON m.attempt = w.id \
     WHERE (m.epoch = w.epoch \
            OR (w.epoch IS NULL AND m.epoch NOT IN (SELECT epoch FROM counted WHERE segment = w.segment))) \
       AND (cardinality($3::text[]) = 0 OR m.name = ANY ($3)) \
     ORDER BY w.key, m.split, m.name, m.epoch, m.step";
/// Parameters: segments, cursor, how many.
const LOGS: &str = "SELECT logs.id, a.segment, a.number, logs.lines FROM attempts AS a \
     JOIN logs ON logs.attempt = a.id \
     WHERE a.segment = ANY ($1) AND logs.id > $2 ORDER BY logs.id LIMIT $3";

fn ids(segments: &[SegmentId]) -> Vec<String> {
    segments.iter().map(ToString::to_string).collect()
}

impl Postgres {
    pub(super) async fn read_snapshot(&self) -> Result<Snapshot, Fault> {
        let mut from = self.reading().await?;
        let mut rows = async |question: &'static str| query(question).fetch_all(&mut *from).await;
        select::snapshot(&SnapshotRows {
            experiments: rows(select::SNAPSHOT_EXPERIMENTS).await?,
            segments: rows(select::SNAPSHOT_SEGMENTS).await?,
            counted: rows(select::SNAPSHOT_COUNTED).await?,
            steps: rows(select::SNAPSHOT_STEPS).await?,
            attempts: rows(select::SNAPSHOT_ATTEMPTS).await?,
            damaged: rows(select::SNAPSHOT_DAMAGED).await?,
            collected: rows(select::SNAPSHOT_COLLECTED).await?,
            drained: rows(select::SNAPSHOT_DRAINED).await?,
        })
    }

    pub(super) async fn read_trained(
        &self,
        keys: &[LineageKey],
    ) -> Result<HashMap<LineageKey, Vec<TrainedEpoch>>, Fault> {
        let mut trained = HashMap::new();
        for keys in keys.chunks(KEYS) {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            select::add_trained(&query(TRAINED).bind(keys).fetch_all(&self.pool).await?, &mut trained)?;
        }
        Ok(trained)
    }

    pub(super) async fn read_references(&self) -> Result<References, Fault> {
        let mut from = self.reading().await?;
        let mut rows = async |question: &'static str| query(question).fetch_all(&mut *from).await;
        select::references(&ReferenceRows {
            checkpoints: rows(select::REFERENCED_CHECKPOINTS).await?,
            collected: rows(select::REFERENCED_COLLECTED).await?,
            steps: rows(select::REFERENCED_STEPS).await?,
            predictions: rows(select::REFERENCED_PREDICTIONS).await?,
            datasets: rows(select::REFERENCED_DATASETS).await?,
            weights: rows(select::REFERENCED_WEIGHTS).await?,
        })
    }

    pub(super) async fn read_sequence(&self, worker: WorkerId) -> Result<u64, Fault> {
        let row = query(select::SEQUENCE).bind(worker.to_string()).fetch_optional(&self.deciding).await?;
        row.map_or(Ok(0), |row| row.number("sequence"))
    }

    pub(super) async fn read_datasets(&self) -> Result<Vec<DatasetRecord>, Fault> {
        let rows = query(select::DATASETS).fetch_all(&self.pool).await?;
        rows.iter().map(dataset_of).collect()
    }

    pub(super) async fn read_dataset(&self, name: &str) -> Result<DatasetRecord, Fault> {
        let rows = query(select::DATASET).bind(text(name)).fetch_all(&self.pool).await?;
        rows.first().map_or_else(|| Err(not_found(What::Dataset, name, lookup::HINT_DATASETS)), dataset_of)
    }

    pub(super) async fn read_all_weights(&self) -> Result<Vec<WeightsRecord>, Fault> {
        let rows = query(select::WEIGHTS).fetch_all(&self.pool).await?;
        rows.iter().map(weights_of).collect()
    }

    pub(super) async fn read_weights(&self, name: &str) -> Result<WeightsRecord, Fault> {
        let rows = query(select::WEIGHTS_NAMED).bind(text(name)).fetch_all(&self.pool).await?;
        rows.first().map_or_else(|| Err(not_found(What::Weights, name, lookup::HINT_WEIGHTS)), weights_of)
    }

    pub(super) async fn read_experiments(&self) -> Result<Vec<ExperimentSummary>, Fault> {
        let mut from = self.reading().await?;
        let states = query(select::STATES).fetch_all(&mut *from).await?;
        let experiments = query(select::SUMMARIES).fetch_all(&mut *from).await?;
        select::summaries(&experiments, &states)
    }

    pub(super) async fn read_experiment(&self, name: &str) -> Result<ExperimentRecord, Fault> {
        let mut ids: Vec<String> =
            query_scalar(select::EXPERIMENT_NAMED).bind(text(name)).fetch_all(&self.pool).await?;
        ids.truncate(1);
        if ids.is_empty() {
            let (low, high) = id_range(name).unwrap_or_default();
            let begins = query_scalar(select::EXPERIMENTS_WITHIN).bind(low).bind(high).bind(int(lookup::ASKED));
            ids = begins.fetch_all(&self.pool).await?;
        }
        let id = only(What::Experiment, name, ids, lookup::HINT_EXPERIMENTS)?;
        let row = query(select::EXPERIMENT).bind(id).fetch_optional(&self.pool).await?;
        row.as_ref().map_or_else(|| Err(not_found(What::Experiment, name, "it is gone")), experiment_of)
    }

    pub(super) async fn read_run(&self, name: &str) -> Result<RunRef, Fault> {
        let (low, high) = id_range(name).unwrap_or_default();
        let begins = query(select::RUNS_WITHIN).bind(low).bind(high).bind(int(lookup::ASKED));
        let rows = begins.fetch_all(&self.pool).await?;
        let ids = rows.iter().map(|row| row.text("id")).collect::<Result<_, _>>()?;
        let id = only(What::Run, name, ids, lookup::HINT_RUNS)?;
        let found = rows.iter().find(|row| row.text("id").is_ok_and(|found| found == id));
        found.map_or_else(|| Err(not_found(What::Run, name, "it is gone")), run_of)
    }

    pub(super) async fn read_segments(&self, experiment: ExperimentId) -> Result<Vec<SegmentRecord>, Fault> {
        let id = experiment.to_string();
        let mut from = self.reading().await?;
        let mut rows = async |question: &'static str| query(question).bind(&id).fetch_all(&mut *from).await;
        select::segments(&SegmentRows {
            segments: rows(select::SEGMENTS).await?,
            attempts: rows(select::SEGMENTS_ATTEMPTS).await?,
            counted: rows(select::SEGMENTS_COUNTED).await?,
            predictions: rows(select::SEGMENTS_PREDICTIONS).await?,
            replays: rows(select::SEGMENTS_REPLAYS).await?,
        })
    }

    pub(super) async fn read_series(&self, wanted: &SeriesQuery) -> Result<Vec<SeriesPoint>, Fault> {
        let names: Vec<_> = wanted.names.iter().map(|name| text(name).into_owned()).collect();
        let series = query(SERIES).bind(ids(&wanted.segments)).bind(wanted.uncommitted).bind(names);
        series.fetch_all(&self.pool).await?.iter().map(point_of).collect()
    }

    pub(super) async fn read_predictions(
        &self,
        segment: SegmentId,
        epoch: Epoch,
        scored: &Scored,
    ) -> Result<Option<Digest>, Fault> {
        let scored = scored_text(scored);
        let row = query(select::PREDICTIONS).bind(segment.to_string()).bind(int(epoch.0)).bind(text(&scored));
        row.fetch_optional(&self.pool).await?.map(|row| row.parsed("digest")).transpose()
    }

    pub(super) async fn read_logs(
        &self,
        segments: &[SegmentId],
        after: i64,
        limit: u32,
    ) -> Result<Vec<LogBatch>, Fault> {
        let logs = query(LOGS).bind(ids(segments)).bind(after).bind(int(limit));
        logs.fetch_all(&self.pool).await?.iter().map(log_of).collect()
    }

    pub(super) async fn read_workers(&self) -> Result<Vec<WorkerRecord>, Fault> {
        let rows = query(select::WORKERS).fetch_all(&self.pool).await?;
        rows.iter().map(worker_of).collect()
    }
}
