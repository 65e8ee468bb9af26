//! What changes the database. Every function here is one transaction, and begins with the fence.

use std::collections::HashMap;

use ceteris_scheduler::{Change as Decision, Drain, Sharing, Timestamp};
use ceteris_shared::ids::{Attempt, ExperimentId, SegmentId, WorkerId};
use sqlx::{PgConnection, query, query_scalar};

use super::{Fault, Postgres, bulk, leadership::LOCKS, text};
use crate::store::{
    Change, DatasetRecord, ExperimentRecord, Observation, Observed, WeightsRecord, What, WorkerRecord,
    codec::{dataset_of, end_columns, int, json, state_columns, weights_of},
    lookup::refuse_other,
    scored_text,
};

/// The second key of the lock under which log lines arrive. Readers go on from the last id that they saw, so ids have to
/// become visible in their order.
const LOGS: i32 = 2;

impl Postgres {
    pub(super) async fn write_changes(&self, changes: &[Change]) -> Result<(), Fault> {
        let mut transaction = self.writing_in(&self.deciding).await?;
        let (mut added, mut reused) = (false, false);
        for change in changes {
            match change {
                // An experiment brings many of each: they are written together where the first one stands.
                Change::Scheduler(Decision::SegmentAdded { .. }) => {
                    if !std::mem::replace(&mut added, true) {
                        bulk::add_segments(&mut transaction, changes).await?;
                    }
                }
                Change::Scheduler(Decision::EpochReused { .. }) => {
                    if !std::mem::replace(&mut reused, true) {
                        bulk::add_reused(&mut transaction, changes).await?;
                    }
                }
                change => write_change(&mut transaction, change).await?,
            }
        }
        Ok(transaction.commit().await?)
    }

    /// Events of one worker, all or none.
    pub(super) async fn write_observed(&self, worker: WorkerId, observed: &[Observed]) -> Result<Vec<bool>, Fault> {
        let Some(last) = observed.iter().map(|observed| observed.sequence).max() else { return Ok(Vec::new()) };
        let mut transaction = self.writing().await?;
        write_sequence(&mut transaction, worker, last).await?;
        let (mut rows, mut known) = (HashMap::new(), Vec::with_capacity(observed.len()));
        for Observed { sequence, attempt, what } in observed {
            let row = match rows.get(attempt) {
                Some(row) => *row,
                None => *rows.entry(*attempt).or_insert(attempt_row(&mut transaction, worker, *attempt).await?),
            };
            known.push(row.is_some());
            match (row, what) {
                (None, _) => {}
                (Some(row), Observation::Metrics(points)) => bulk::add_metrics(&mut transaction, row, points).await?,
                (Some(row), Observation::Log(lines)) => write_lines(&mut transaction, row, *sequence, lines).await?,
            }
        }
        transaction.commit().await?;
        Ok(known)
    }

    pub(super) async fn write_dataset(&self, dataset: &DatasetRecord) -> Result<DatasetRecord, Fault> {
        let mut transaction = self.writing().await?;
        query(
            "INSERT INTO datasets (name, manifest, image_size, classes, counts, patients, registered_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(text(&dataset.name))
        .bind(dataset.manifest.to_string())
        .bind(int(dataset.image_size))
        .bind(json(&dataset.classes)?)
        .bind(json(&dataset.counts)?)
        .bind(dataset.patients.map(int))
        .bind(int(dataset.registered_at.0))
        .execute(&mut *transaction)
        .await?;
        let row = query("SELECT * FROM datasets WHERE name = $1").bind(text(&dataset.name));
        let known = dataset_of(&row.fetch_one(&mut *transaction).await?)?;
        refuse_other(What::Dataset, &dataset.name, known.manifest, dataset.manifest)?;
        transaction.commit().await?;
        Ok(known)
    }

    pub(super) async fn write_weights(&self, weights: &WeightsRecord) -> Result<WeightsRecord, Fault> {
        let mut transaction = self.writing().await?;
        query("INSERT INTO weights (name, digest, arch, registered_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
            .bind(text(&weights.name))
            .bind(weights.digest.to_string())
            .bind(json(&weights.arch)?)
            .bind(int(weights.registered_at.0))
            .execute(&mut *transaction)
            .await?;
        let row = query("SELECT * FROM weights WHERE name = $1").bind(text(&weights.name));
        let known = weights_of(&row.fetch_one(&mut *transaction).await?)?;
        refuse_other(What::Weights, &weights.name, known.digest, weights.digest)?;
        transaction.commit().await?;
        Ok(known)
    }
}

async fn write_change(to: &mut PgConnection, change: &Change) -> Result<(), Fault> {
    match change {
        Change::Experiment(experiment) => write_experiment(to, experiment).await,
        Change::Scheduler(decision) => write_decision(to, decision).await,
        Change::Worker(worker) => write_worker(to, worker).await,
        Change::Sequence { worker, sequence } => write_sequence(to, *worker, *sequence).await,
    }
}

async fn write_experiment(to: &mut PgConnection, experiment: &ExperimentRecord) -> Result<(), Fault> {
    query(
        "INSERT INTO experiments (id, name, spec, source, pins, plan, epochs, submitted_at, cancelled_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(experiment.id.to_string())
    .bind(text(&experiment.spec.name))
    .bind(json(&experiment.spec)?)
    .bind(text(&experiment.source))
    .bind(json(&experiment.pins)?)
    .bind(json(&experiment.plan)?)
    .bind(int(experiment.plan.epochs_to_train()))
    .bind(int(experiment.submitted_at.0))
    .bind(experiment.cancelled_at.map(|at| int(at.0)))
    .execute(&mut *to)
    .await?;
    bulk::add_runs(to, experiment).await
}

async fn write_worker(to: &mut PgConnection, worker: &WorkerRecord) -> Result<(), Fault> {
    query(
        "INSERT INTO workers (id, name, version, slots, environment, first_seen, last_seen) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, version = excluded.version, slots = excluded.slots, \
         environment = excluded.environment, last_seen = excluded.last_seen",
    )
    .bind(worker.id.to_string())
    .bind(text(&worker.name))
    .bind(text(&worker.version))
    .bind(int(worker.slots))
    .bind(json(&worker.environment)?)
    .bind(int(worker.first_seen.0))
    .bind(int(worker.last_seen.0))
    .execute(to)
    .await?;
    Ok(())
}

async fn write_sequence(to: &mut PgConnection, worker: WorkerId, sequence: u64) -> Result<(), Fault> {
    query("UPDATE workers SET sequence = greatest(sequence, $1) WHERE id = $2")
        .bind(int(sequence))
        .bind(worker.to_string())
        .execute(to)
        .await?;
    Ok(())
}

/// The row of an attempt, if it is the worker's.
async fn write_lines(to: &mut PgConnection, attempt: i64, sequence: u64, lines: &[String]) -> Result<(), Fault> {
    query("SELECT pg_advisory_xact_lock($1, $2)").bind(LOCKS).bind(LOGS).execute(&mut *to).await?;
    query("INSERT INTO logs (attempt, sequence, lines) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
        .bind(attempt)
        .bind(int(sequence))
        .bind(json(&lines)?)
        .execute(to)
        .await?;
    Ok(())
}

async fn attempt_row(to: &mut PgConnection, worker: WorkerId, attempt: Attempt) -> Result<Option<i64>, Fault> {
    let row = query_scalar("SELECT id FROM attempts WHERE segment = $1 AND number = $2 AND worker = $3")
        .bind(attempt.segment.to_string())
        .bind(int(attempt.number))
        .bind(worker.to_string());
    Ok(row.fetch_optional(to).await?)
}

/// Of those that come singly.
async fn write_decision(to: &mut PgConnection, decision: &Decision) -> Result<(), Fault> {
    match decision {
        Decision::SegmentAdded { .. } | Decision::EpochReused { .. } => {
            let change = [Change::Scheduler(decision.clone())];
            bulk::add_segments(to, &change).await?;
            bulk::add_reused(to, &change).await
        }
        Decision::SegmentChanged { segment, state, failures, losses } => {
            let columns = state_columns(state);
            let update = query(
                "UPDATE segments SET state = $1, behind = $2, attempt = $3, worker = $4, epoch = $5, until = $6, \
                 cause = $7, message = $8, failures = $9, losses = $10 WHERE id = $11",
            );
            update
                .bind(columns.state)
                .bind(columns.behind)
                .bind(columns.attempt)
                .bind(columns.worker)
                .bind(columns.epoch)
                .bind(columns.until)
                .bind(columns.cause)
                .bind(columns.message.as_deref().map(text))
                .bind(int(*failures))
                .bind(int(*losses))
                .bind(segment.to_string())
                .execute(to)
                .await?;
            Ok(())
        }
        Decision::AttemptAssigned { attempt, worker, environment, replays, at } => {
            let insert = query(
                "INSERT INTO attempts (segment, number, worker, environment, replays, assigned_at) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
            );
            insert
                .bind(attempt.segment.to_string())
                .bind(int(attempt.number))
                .bind(worker.to_string())
                .bind(json(environment)?)
                .bind(int(*replays))
                .bind(int(at.0))
                .execute(to)
                .await?;
            Ok(())
        }
        Decision::AttemptStarted { attempt, at } => {
            query("UPDATE attempts SET started_at = $1 WHERE segment = $2 AND number = $3")
                .bind(int(at.0))
                .bind(attempt.segment.to_string())
                .bind(int(attempt.number))
                .execute(to)
                .await?;
            Ok(())
        }
        Decision::AttemptEnded { attempt, end, at } => {
            let (ending, cause, message) = end_columns(end);
            query(
                "UPDATE attempts SET ended_at = $1, ending = $2, cause = $3, message = $4 \
                 WHERE segment = $5 AND number = $6",
            )
            .bind(int(at.0))
            .bind(ending)
            .bind(cause)
            .bind(message.map(text))
            .bind(attempt.segment.to_string())
            .bind(int(attempt.number))
            .execute(to)
            .await?;
            Ok(())
        }
        Decision::StepCommitted { attempt, committed, at } => write_step(to, *attempt, committed, *at).await,
        Decision::EpochCommitted { attempt, committed, at } => write_epoch(to, *attempt, committed, *at).await,
        Decision::EpochReplayed { attempt, segment, committed, at } => {
            write_replay(to, *attempt, *segment, committed, *at).await
        }
        Decision::CheckpointDamaged { attempt, manifest, at } => {
            query(
                "INSERT INTO damaged (manifest, attempt, found_at) \
                 SELECT $1, id, $2 FROM attempts WHERE segment = $3 AND number = $4",
            )
            .bind(manifest.to_string())
            .bind(int(at.0))
            .bind(attempt.segment.to_string())
            .bind(int(attempt.number))
            .execute(to)
            .await?;
            Ok(())
        }
        Decision::CheckpointCollected { manifest, at } => {
            query("INSERT INTO collected (manifest, collected_at) VALUES ($1, $2)")
                .bind(manifest.to_string())
                .bind(int(at.0))
                .execute(to)
                .await?;
            Ok(())
        }
        Decision::ExperimentBound { experiment, environment } => {
            query("UPDATE experiments SET environment = $1 WHERE id = $2")
                .bind(json(environment)?)
                .bind(experiment.to_string())
                .execute(to)
                .await?;
            Ok(())
        }
        Decision::ExperimentPaused { experiment, since } => {
            query("UPDATE experiments SET paused_at = $1 WHERE id = $2")
                .bind(since.map(|at| int(at.0)))
                .bind(experiment.to_string())
                .execute(to)
                .await?;
            Ok(())
        }
        Decision::ExperimentShared { experiment, sharing } => write_sharing(to, *experiment, *sharing).await,
        Decision::WorkerDrained { worker, drain } => write_drain(to, *worker, drain.as_ref()).await,
        Decision::ExperimentCancelled { experiment, at } => cancel(to, *experiment, *at).await,
    }
}

async fn write_sharing(to: &mut PgConnection, experiment: ExperimentId, sharing: Sharing) -> Result<(), Fault> {
    query("UPDATE experiments SET priority = $1, weight = $2, max_concurrent = $3, device_memory = $4 WHERE id = $5")
        .bind(int(sharing.priority))
        .bind(int(sharing.weight))
        .bind(sharing.max_concurrent.map(int))
        .bind(int(sharing.device_memory))
        .bind(experiment.to_string())
        .execute(to)
        .await?;
    Ok(())
}

async fn write_drain(to: &mut PgConnection, worker: WorkerId, drain: Option<&Drain>) -> Result<(), Fault> {
    let slots = match drain {
        None => {
            query("DELETE FROM drained WHERE worker = $1").bind(worker.to_string()).execute(to).await?;
            return Ok(());
        }
        Some(Drain::Worker) => None,
        Some(Drain::Slots(slots)) => Some(json(slots)?),
    };
    query(
        "INSERT INTO drained (worker, slots) VALUES ($1, $2) ON CONFLICT (worker) DO UPDATE SET slots = excluded.slots",
    )
    .bind(worker.to_string())
    .bind(slots)
    .execute(to)
    .await?;
    Ok(())
}

async fn cancel(to: &mut PgConnection, experiment: ExperimentId, at: Timestamp) -> Result<(), Fault> {
    query("UPDATE experiments SET cancelled_at = $1 WHERE id = $2")
        .bind(int(at.0))
        .bind(experiment.to_string())
        .execute(to)
        .await?;
    Ok(())
}

async fn write_step(
    to: &mut PgConnection,
    attempt: Attempt,
    committed: &ceteris_scheduler::CommittedStep,
    at: Timestamp,
) -> Result<(), Fault> {
    query(
        "INSERT INTO steps (segment, epoch, step, lineage_key, attempt, manifest, committed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (segment) DO UPDATE SET epoch = excluded.epoch, \
         step = excluded.step, lineage_key = excluded.lineage_key, attempt = excluded.attempt, \
         manifest = excluded.manifest, committed_at = excluded.committed_at",
    )
    .bind(attempt.segment.to_string())
    .bind(int(committed.epoch.0))
    .bind(int(committed.step))
    .bind(committed.key.to_string())
    .bind(int(attempt.number))
    .bind(committed.manifest.to_string())
    .bind(int(at.0))
    .execute(to)
    .await?;
    Ok(())
}

/// The predictions of an epoch that is trained again are those that are there.
async fn write_replay(
    to: &mut PgConnection,
    attempt: Attempt,
    segment: SegmentId,
    committed: &ceteris_scheduler::CommittedEpoch,
    at: Timestamp,
) -> Result<(), Fault> {
    query(
        "INSERT INTO replays (segment, epoch, attempt, counts, manifest, weights, steps, samples, seconds, committed_at) \
         SELECT counted.source, counted.epoch, own.id, \
                own.environment = first.environment AND coalesce(counted.weights = $2, counted.weights IS NULL), \
                $1, $2, $3, $4, $5, $6 \
         FROM counted JOIN attempts AS first ON first.segment = counted.source AND first.number = counted.attempt \
         JOIN attempts AS own ON own.segment = $9 AND own.number = $10 \
         WHERE counted.segment = $7 AND counted.epoch = $8",
    )
    .bind(committed.manifest.to_string())
    .bind(committed.weights.map(|weights| weights.to_string()))
    .bind(int(committed.spent.steps))
    .bind(int(committed.spent.samples))
    .bind(committed.spent.seconds)
    .bind(int(at.0))
    .bind(segment.to_string())
    .bind(int(committed.epoch.0))
    .bind(attempt.segment.to_string())
    .bind(int(attempt.number))
    .execute(to)
    .await?;
    Ok(())
}

async fn write_epoch(
    to: &mut PgConnection,
    attempt: Attempt,
    committed: &ceteris_scheduler::CommittedEpoch,
    at: Timestamp,
) -> Result<(), Fault> {
    let segment = attempt.segment.to_string();
    query(
        "INSERT INTO epochs (segment, epoch, lineage_key, attempt, manifest, weights, steps, samples, seconds, committed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(&segment)
    .bind(int(committed.epoch.0))
    .bind(committed.key.to_string())
    .bind(int(attempt.number))
    .bind(committed.manifest.to_string())
    .bind(committed.weights.map(|weights| weights.to_string()))
    .bind(int(committed.spent.steps))
    .bind(int(committed.spent.samples))
    .bind(committed.spent.seconds)
    .bind(int(at.0))
    .execute(&mut *to)
    .await?;
    for (scored, digest) in &committed.predictions {
        query("INSERT INTO predictions (segment, epoch, scored, digest) VALUES ($1, $2, $3, $4)")
            .bind(&segment)
            .bind(int(committed.epoch.0))
            .bind(text(&scored_text(scored)))
            .bind(digest.to_string())
            .execute(&mut *to)
            .await?;
    }
    Ok(())
}
