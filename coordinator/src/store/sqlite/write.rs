//! What changes the database. Every function here is one transaction.

use ceteris_scheduler::{Change as Decision, Drain, Sharing, State, Timestamp};
use ceteris_shared::{
    digest::Digest,
    ids::{Attempt, ExperimentId, SegmentId, WorkerId},
};
use sqlx::{SqliteConnection, query};

use super::{
    Fault, Sqlite,
    codec::{dataset_of, end_columns, int, json, state_columns, weights_of},
};
use crate::store::{Change, DatasetRecord, Error, ExperimentRecord, WeightsRecord, What, WorkerRecord, scored_text};

impl Sqlite {
    pub(super) async fn write_changes(&self, changes: &[Change]) -> Result<(), Fault> {
        let mut transaction = self.writer.writing().await?;
        for change in changes {
            write_change(&mut transaction, change).await?;
        }
        transaction.commit().await?;
        self.writer.fold_log_back().await;
        Ok(())
    }

    pub(super) async fn write_dataset(&self, dataset: &DatasetRecord) -> Result<DatasetRecord, Fault> {
        let mut transaction = self.writer.writing().await?;
        query(
            "INSERT INTO datasets (name, manifest, image_size, classes, counts, patients, registered_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(&dataset.name)
        .bind(dataset.manifest.to_string())
        .bind(int(dataset.image_size))
        .bind(json(&dataset.classes)?)
        .bind(json(&dataset.counts)?)
        .bind(dataset.patients.map(int))
        .bind(int(dataset.registered_at.0))
        .execute(&mut *transaction)
        .await?;
        let row = query("SELECT * FROM datasets WHERE name = ?").bind(&dataset.name);
        let known = dataset_of(&row.fetch_one(&mut *transaction).await?)?;
        refuse_other(What::Dataset, &dataset.name, known.manifest, dataset.manifest)?;
        transaction.commit().await?;
        Ok(known)
    }

    pub(super) async fn write_weights(&self, weights: &WeightsRecord) -> Result<WeightsRecord, Fault> {
        let mut transaction = self.writer.writing().await?;
        query("INSERT INTO weights (name, digest, arch, registered_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(&weights.name)
            .bind(weights.digest.to_string())
            .bind(json(&weights.arch)?)
            .bind(int(weights.registered_at.0))
            .execute(&mut *transaction)
            .await?;
        let row = query("SELECT * FROM weights WHERE name = ?").bind(&weights.name);
        let known = weights_of(&row.fetch_one(&mut *transaction).await?)?;
        refuse_other(What::Weights, &weights.name, known.digest, weights.digest)?;
        transaction.commit().await?;
        Ok(known)
    }
}

fn refuse_other(what: What, name: &str, existing: Digest, given: Digest) -> Result<(), Fault> {
    if existing == given {
        return Ok(());
    }
    Err(Fault::Refused(Error::NameTaken { what, name: name.to_owned(), existing, given }))
}

async fn write_change(to: &mut SqliteConnection, change: &Change) -> Result<(), Fault> {
    match change {
        Change::Experiment(experiment) => write_experiment(to, experiment).await,
        Change::Scheduler(decision) => write_decision(to, decision).await,
        Change::Worker(worker) => write_worker(to, worker).await,
        Change::Sequence { worker, sequence } => write_sequence(to, *worker, *sequence).await,
    }
}

async fn write_experiment(to: &mut SqliteConnection, experiment: &ExperimentRecord) -> Result<(), Fault> {
    let id = experiment.id.to_string();
    query(
        "INSERT INTO experiments (id, name, spec, source, pins, plan, epochs, submitted_at, cancelled_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&id)
    .bind(&experiment.spec.name)
    .bind(json(&experiment.spec)?)
    .bind(&experiment.source)
    .bind(json(&experiment.pins)?)
    .bind(json(&experiment.plan)?)
    .bind(int(experiment.plan.epochs_to_train()))
    .bind(int(experiment.submitted_at.0))
    .bind(experiment.cancelled_at.map(|at| int(at.0)))
    .execute(&mut *to)
    .await?;
    for (position, run) in experiment.plan.runs.iter().enumerate() {
        query("INSERT INTO runs (id, experiment, position) VALUES (?, ?, ?)")
            .bind(run.id.to_string())
            .bind(&id)
            .bind(int(position))
            .execute(&mut *to)
            .await?;
    }
    Ok(())
}

async fn write_worker(to: &mut SqliteConnection, worker: &WorkerRecord) -> Result<(), Fault> {
    query(
        "INSERT INTO workers (id, name, version, slots, environment, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, version = excluded.version, slots = excluded.slots, \
         environment = excluded.environment, last_seen = excluded.last_seen",
    )
    .bind(worker.id.to_string())
    .bind(&worker.name)
    .bind(&worker.version)
    .bind(int(worker.slots))
    .bind(json(&worker.environment)?)
    .bind(int(worker.first_seen.0))
    .bind(int(worker.last_seen.0))
    .execute(to)
    .await?;
    Ok(())
}

pub(super) async fn write_sequence(to: &mut SqliteConnection, worker: WorkerId, sequence: u64) -> Result<(), Fault> {
    query("UPDATE workers SET sequence = max(sequence, ?) WHERE id = ?")
        .bind(int(sequence))
        .bind(worker.to_string())
        .execute(to)
        .await?;
    Ok(())
}

async fn write_decision(to: &mut SqliteConnection, decision: &Decision) -> Result<(), Fault> {
    match decision {
        Decision::SegmentAdded { segment, experiment, position, state } => {
            add_segment(to, *segment, *experiment, *position).await?;
            write_state(to, *segment, state, 0, 0).await
        }
        Decision::EpochReused { segment, epoch, reused } => {
            query("INSERT INTO reused (segment, epoch, source) VALUES (?, ?, ?)")
                .bind(segment.to_string())
                .bind(int(epoch.0))
                .bind(reused.source.to_string())
                .execute(to)
                .await?;
            Ok(())
        }
        Decision::SegmentChanged { segment, state, failures, losses } => {
            write_state(to, *segment, state, *failures, *losses).await
        }
        Decision::AttemptAssigned { attempt, worker, environment, replays, at } => {
            let insert = query(
                "INSERT INTO attempts (segment, number, worker, environment, replays, assigned_at) VALUES (?, ?, ?, ?, ?, ?)",
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
            query("UPDATE attempts SET started_at = ? WHERE segment = ? AND number = ?")
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
                "UPDATE attempts SET ended_at = ?, ending = ?, cause = ?, message = ? WHERE segment = ? AND number = ?",
            )
            .bind(int(at.0))
            .bind(ending)
            .bind(cause)
            .bind(message)
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
                 SELECT ?, id, ? FROM attempts WHERE segment = ? AND number = ?",
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
            query("INSERT INTO collected (manifest, collected_at) VALUES (?, ?)")
                .bind(manifest.to_string())
                .bind(int(at.0))
                .execute(to)
                .await?;
            Ok(())
        }
        Decision::ExperimentBound { experiment, environment } => {
            query("UPDATE experiments SET environment = ? WHERE id = ?")
                .bind(json(environment)?)
                .bind(experiment.to_string())
                .execute(to)
                .await?;
            Ok(())
        }
        Decision::ExperimentPaused { experiment, since } => {
            query("UPDATE experiments SET paused_at = ? WHERE id = ?")
                .bind(since.map(|at| int(at.0)))
                .bind(experiment.to_string())
                .execute(to)
                .await?;
            Ok(())
        }
        Decision::ExperimentShared { experiment, sharing } => write_sharing(to, *experiment, *sharing).await,
        Decision::WorkerDrained { worker, drain } => write_drain(to, *worker, drain.as_ref()).await,
        Decision::ExperimentCancelled { experiment, at } => {
            query("UPDATE experiments SET cancelled_at = ? WHERE id = ?")
                .bind(int(at.0))
                .bind(experiment.to_string())
                .execute(to)
                .await?;
            Ok(())
        }
    }
}

async fn write_sharing(to: &mut SqliteConnection, experiment: ExperimentId, sharing: Sharing) -> Result<(), Fault> {
    query("UPDATE experiments SET priority = ?, weight = ?, max_concurrent = ?, device_memory = ? WHERE id = ?")
        .bind(int(sharing.priority))
        .bind(int(sharing.weight))
        .bind(sharing.max_concurrent.map(int))
        .bind(int(sharing.device_memory))
        .bind(experiment.to_string())
        .execute(to)
        .await?;
    Ok(())
}

async fn write_drain(to: &mut SqliteConnection, worker: WorkerId, drain: Option<&Drain>) -> Result<(), Fault> {
    let slots = match drain {
        None => {
            query("DELETE FROM drained WHERE worker = ?").bind(worker.to_string()).execute(to).await?;
            return Ok(());
        }
        Some(Drain::Worker) => None,
        Some(Drain::Slots(slots)) => Some(json(slots)?),
    };
    query(
        "INSERT INTO drained (worker, slots) VALUES (?, ?) ON CONFLICT (worker) DO UPDATE SET slots = excluded.slots",
    )
    .bind(worker.to_string())
    .bind(slots)
    .execute(to)
    .await?;
    Ok(())
}

async fn add_segment(
    to: &mut SqliteConnection,
    segment: SegmentId,
    experiment: ExperimentId,
    position: usize,
) -> Result<(), Fault> {
    query("INSERT INTO segments (id, experiment, position, state) VALUES (?, ?, ?, 'waiting')")
        .bind(segment.to_string())
        .bind(experiment.to_string())
        .bind(int(position))
        .execute(to)
        .await?;
    Ok(())
}

async fn write_state(
    to: &mut SqliteConnection,
    segment: SegmentId,
    state: &State,
    failures: u32,
    losses: u32,
) -> Result<(), Fault> {
    let columns = state_columns(state);
    query(
        "UPDATE segments SET state = ?, behind = ?, attempt = ?, worker = ?, epoch = ?, until = ?, cause = ?, \
         message = ?, failures = ?, losses = ? WHERE id = ?",
    )
    .bind(columns.state)
    .bind(columns.behind)
    .bind(columns.attempt)
    .bind(columns.worker)
    .bind(columns.epoch)
    .bind(columns.until)
    .bind(columns.cause)
    .bind(columns.message)
    .bind(int(failures))
    .bind(int(losses))
    .bind(segment.to_string())
    .execute(to)
    .await?;
    Ok(())
}

async fn write_step(
    to: &mut SqliteConnection,
    attempt: Attempt,
    committed: &ceteris_scheduler::CommittedStep,
    at: Timestamp,
) -> Result<(), Fault> {
    query(
        "INSERT INTO steps (segment, epoch, step, lineage_key, attempt, manifest, committed_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (segment) DO UPDATE SET epoch = excluded.epoch, step = excluded.step, \
         lineage_key = excluded.lineage_key, attempt = excluded.attempt, manifest = excluded.manifest, \
         committed_at = excluded.committed_at",
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
    to: &mut SqliteConnection,
    attempt: Attempt,
    segment: SegmentId,
    committed: &ceteris_scheduler::CommittedEpoch,
    at: Timestamp,
) -> Result<(), Fault> {
    query(
        "INSERT INTO replays (segment, epoch, attempt, counts, manifest, weights, steps, samples, seconds, committed_at) \
         SELECT counted.source, counted.epoch, own.id, \
                own.environment = first.environment AND coalesce(counted.weights = ?2, counted.weights IS NULL), \
                ?1, ?2, ?3, ?4, ?5, ?6 \
         FROM counted JOIN attempts AS first ON first.segment = counted.source AND first.number = counted.attempt \
         JOIN attempts AS own ON own.segment = ?9 AND own.number = ?10 \
         WHERE counted.segment = ?7 AND counted.epoch = ?8",
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
    to: &mut SqliteConnection,
    attempt: Attempt,
    committed: &ceteris_scheduler::CommittedEpoch,
    at: Timestamp,
) -> Result<(), Fault> {
    let segment = attempt.segment.to_string();
    query(
        "INSERT INTO epochs (segment, epoch, lineage_key, attempt, manifest, weights, steps, samples, seconds, committed_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        query("INSERT INTO predictions (segment, epoch, scored, digest) VALUES (?, ?, ?, ?)")
            .bind(&segment)
            .bind(int(committed.epoch.0))
            .bind(scored_text(scored))
            .bind(digest.to_string())
            .execute(&mut *to)
            .await?;
    }
    Ok(())
}
