//! Rows to records and back, the same on every database: numbers are 64-bit integers, ids, digests and JSON are text.
//! A value that was never written so is a damaged database, not a panic.

use std::str::FromStr;

use ceteris_scheduler::{AttemptEnd, Drain, Outcome, SavedStep, Sharing, State, StopReason, Timestamp};
use ceteris_shared::{
    ids::{Attempt, Epoch},
    trainer::{FailureCause, MetricPoint, Spent},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};

use super::{
    AttemptRecord, CommittedRecord, DatasetRecord, ExperimentRecord, LogBatch, ReplayedRecord, RunRef, SeriesPoint,
    WeightsRecord, WorkerRecord, fault::Fault,
};

/// Integers in both databases are signed; nothing counted here comes near the end of them.
pub(super) fn int(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

pub(super) fn json(value: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::Damaged(format!("a record cannot be written: {error}")))
}

fn damaged(column: &str, problem: impl std::fmt::Display) -> Fault {
    Fault::Damaged(format!("column `{column}`: {problem}"))
}

/// Columns as domain types.
pub(super) trait Columns {
    fn text(&self, column: &str) -> Result<String, Fault>;
    fn optional_text(&self, column: &str) -> Result<Option<String>, Fault>;
    fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, Fault>;
    fn optional_number<T: TryFrom<i64>>(&self, column: &str) -> Result<Option<T>, Fault>;
    fn float(&self, column: &str) -> Result<f64, Fault>;
    fn flag(&self, column: &str) -> Result<bool, Fault>;

    fn parsed<T: FromStr<Err: std::fmt::Display>>(&self, column: &str) -> Result<T, Fault> {
        self.text(column)?.parse().map_err(|error| damaged(column, error))
    }

    fn document<T: DeserializeOwned>(&self, column: &str) -> Result<T, Fault> {
        serde_json::from_str(&self.text(column)?).map_err(|error| damaged(column, error))
    }

    fn time(&self, column: &str) -> Result<Timestamp, Fault> {
        self.number(column).map(Timestamp)
    }

    fn optional_parsed<T: FromStr<Err: std::fmt::Display>>(&self, column: &str) -> Result<Option<T>, Fault> {
        let text = self.optional_text(column)?;
        text.map(|text| text.parse().map_err(|error| damaged(column, error))).transpose()
    }

    fn optional_document<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, Fault> {
        let text = self.optional_text(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| damaged(column, error))).transpose()
    }

    fn optional_time(&self, column: &str) -> Result<Option<Timestamp>, Fault> {
        Ok(self.optional_number(column)?.map(Timestamp))
    }
}

macro_rules! columns {
    ($row:ty) => {
        impl Columns for $row {
            fn text(&self, column: &str) -> Result<String, Fault> {
                Ok(self.try_get(column)?)
            }

            fn optional_text(&self, column: &str) -> Result<Option<String>, Fault> {
                Ok(self.try_get(column)?)
            }

            fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, Fault> {
                let value: i64 = self.try_get(column)?;
                value.try_into().map_err(|_| damaged(column, format!("{value} is out of range")))
            }

            fn optional_number<T: TryFrom<i64>>(&self, column: &str) -> Result<Option<T>, Fault> {
                let value: Option<i64> = self.try_get(column)?;
                value.map(|v| v.try_into().map_err(|_| damaged(column, format!("{v} is out of range")))).transpose()
            }

            fn float(&self, column: &str) -> Result<f64, Fault> {
                Ok(self.try_get(column)?)
            }

            fn flag(&self, column: &str) -> Result<bool, Fault> {
                Ok(self.try_get(column)?)
            }
        }
    };
}

columns!(SqliteRow);
columns!(PgRow);

/// The columns of a segment's state.
#[derive(Debug, Default)]
pub(super) struct StateColumns {
    pub(super) state: &'static str,
    pub(super) behind: Option<String>,
    pub(super) attempt: Option<i64>,
    pub(super) worker: Option<String>,
    pub(super) epoch: Option<i64>,
    pub(super) until: Option<i64>,
    pub(super) cause: Option<&'static str>,
    pub(super) message: Option<String>,
}

pub(super) fn state_columns(state: &State) -> StateColumns {
    let name = StateColumns { state: state.name(), ..StateColumns::default() };
    if let Some(live) = state.live() {
        let epoch = if let State::Running { epoch, .. } = state { Some(int(epoch.0)) } else { None };
        let cause = match state {
            State::Stopping { reason: StopReason::Cancelled, .. } => Some("cancelled"),
            State::Stopping { reason: StopReason::Paused, .. } => Some("paused"),
            State::Stopping { reason: StopReason::Preempted, .. } => Some("preempted"),
            _ => None,
        };
        let (attempt, worker, until) =
            (Some(int(live.attempt)), Some(live.worker.to_string()), Some(int(live.until.0)));
        return StateColumns { attempt, worker, until, epoch, cause, ..name };
    }
    match state {
        State::Waiting { parent: behind } | State::Done(Outcome::Blocked { by: behind }) => {
            StateColumns { behind: Some(behind.to_string()), ..name }
        }
        State::Queued { not_before } => StateColumns { until: Some(int(not_before.0)), ..name },
        State::Done(Outcome::Failed { cause, message }) => {
            StateColumns { cause: Some(cause_text(*cause)), message: Some(message.clone()), ..name }
        }
        _ => name,
    }
}

pub(super) fn state_of(row: &impl Columns) -> Result<State, Fault> {
    let name = row.text("state")?;
    Ok(match name.as_str() {
        "waiting" => State::Waiting { parent: row.parsed("behind")? },
        "queued" => State::Queued { not_before: row.time("until")? },
        "assigned" => State::Assigned {
            attempt: row.number("attempt")?,
            worker: row.parsed("worker")?,
            lease: row.time("until")?,
        },
        "running" => State::Running {
            attempt: row.number("attempt")?,
            worker: row.parsed("worker")?,
            lease: row.time("until")?,
            epoch: Epoch(row.number("epoch")?),
        },
        "stopping" => State::Stopping {
            attempt: row.number("attempt")?,
            worker: row.parsed("worker")?,
            deadline: row.time("until")?,
            reason: match row.optional_text("cause")?.as_deref() {
                Some("paused") => StopReason::Paused,
                Some("preempted") => StopReason::Preempted,
                _ => StopReason::Cancelled,
            },
        },
        "completed" => State::Done(Outcome::Completed),
        "cancelled" => State::Done(Outcome::Cancelled),
        "failed" | "diverged" => State::Done(Outcome::Failed { cause: cause_of(row)?, message: row.text("message")? }),
        "blocked" => State::Done(Outcome::Blocked { by: row.parsed("behind")? }),
        other => return Err(damaged("state", format!("{other:?} is not a state"))),
    })
}

fn cause_text(cause: FailureCause) -> &'static str {
    match cause {
        FailureCause::User => "user",
        FailureCause::Infrastructure => "infrastructure",
        FailureCause::Store => "store",
        FailureCause::Diverged => "diverged",
        FailureCause::Irreproducible => "irreproducible",
    }
}

fn cause_of(row: &impl Columns) -> Result<FailureCause, Fault> {
    match row.text("cause")?.as_str() {
        "user" => Ok(FailureCause::User),
        "infrastructure" => Ok(FailureCause::Infrastructure),
        "store" => Ok(FailureCause::Store),
        "diverged" => Ok(FailureCause::Diverged),
        "irreproducible" => Ok(FailureCause::Irreproducible),
        other => Err(damaged("cause", format!("{other:?} is not a cause"))),
    }
}

/// The columns `ending`, `cause` and `message`.
pub(super) fn end_columns(end: &AttemptEnd) -> (&'static str, Option<&'static str>, Option<&str>) {
    match end {
        AttemptEnd::Finished => ("finished", None, None),
        AttemptEnd::Stopped => ("stopped", None, None),
        AttemptEnd::Lost => ("lost", None, None),
        AttemptEnd::Failed { cause, message } => ("failed", Some(cause_text(*cause)), Some(message)),
    }
}

pub(super) fn end_of(row: &impl Columns) -> Result<Option<AttemptEnd>, Fault> {
    Ok(match row.optional_text("ending")?.as_deref() {
        None => None,
        Some("finished") => Some(AttemptEnd::Finished),
        Some("stopped") => Some(AttemptEnd::Stopped),
        Some("lost") => Some(AttemptEnd::Lost),
        Some("failed") => Some(AttemptEnd::Failed { cause: cause_of(row)?, message: row.text("message")? }),
        Some(other) => return Err(damaged("ending", format!("{other:?} is not an ending"))),
    })
}

pub(super) fn experiment_of(row: &impl Columns) -> Result<ExperimentRecord, Fault> {
    Ok(ExperimentRecord {
        id: row.parsed("id")?,
        spec: row.document("spec")?,
        source: row.text("source")?,
        pins: row.document("pins")?,
        plan: row.document("plan")?,
        submitted_at: row.time("submitted_at")?,
        cancelled_at: row.optional_time("cancelled_at")?,
        paused_at: row.optional_time("paused_at")?,
        environment: row.optional_document("environment")?,
        sharing: Sharing {
            priority: row.number("priority")?,
            weight: row.number("weight")?,
            max_concurrent: row.optional_number("max_concurrent")?,
            device_memory: row.number("device_memory")?,
        },
    })
}

/// What of a worker is not to be used.
pub(super) fn drain_of(row: &impl Columns) -> Result<Drain, Fault> {
    Ok(row.optional_document("slots")?.map_or(Drain::Worker, Drain::Slots))
}

pub(super) fn run_of(row: &impl Columns) -> Result<RunRef, Fault> {
    Ok(RunRef { run: row.parsed("id")?, experiment: row.parsed("experiment")?, position: row.number("position")? })
}

fn attempt_key(row: &impl Columns) -> Result<Attempt, Fault> {
    Ok(Attempt { segment: row.parsed("segment")?, number: row.number("number")? })
}

pub(super) fn attempt_of(row: &impl Columns) -> Result<AttemptRecord, Fault> {
    Ok(AttemptRecord {
        attempt: attempt_key(row)?,
        worker: row.parsed("worker")?,
        environment: row.document("environment")?,
        assigned_at: row.time("assigned_at")?,
        started_at: row.optional_time("started_at")?,
        ended: row.optional_time("ended_at")?.zip(end_of(row)?),
    })
}

/// Without its predictions.
pub(super) fn committed_of(row: &impl Columns) -> Result<CommittedRecord, Fault> {
    Ok(CommittedRecord {
        epoch: Epoch(row.number("epoch")?),
        key: row.parsed("lineage_key")?,
        source: row.parsed("source")?,
        attempt: row.number("attempt")?,
        environment: row.document("environment")?,
        manifest: row.parsed("manifest")?,
        weights: row.optional_parsed("weights")?,
        spent: spent_of(row)?,
        committed_at: row.time("committed_at")?,
        predictions: Vec::new(),
    })
}

fn spent_of(row: &impl Columns) -> Result<Spent, Fault> {
    Ok(Spent { steps: row.number("steps")?, samples: row.number("samples")?, seconds: row.float("seconds")? })
}

/// With the number of its attempt.
pub(super) fn replayed_of(row: &impl Columns) -> Result<ReplayedRecord, Fault> {
    Ok(ReplayedRecord { epoch: Epoch(row.number("epoch")?), attempt: row.number("number")?, spent: spent_of(row)? })
}

/// With the environment of its attempt.
pub(super) fn step_of(row: &impl Columns) -> Result<SavedStep, Fault> {
    Ok(SavedStep {
        epoch: Epoch(row.number("epoch")?),
        step: row.number("step")?,
        manifest: row.parsed("manifest")?,
        attempt: row.number("attempt")?,
        environment: row.document("environment")?,
    })
}

pub(super) fn point_of(row: &impl Columns) -> Result<SeriesPoint, Fault> {
    Ok(SeriesPoint {
        attempt: attempt_key(row)?,
        point: MetricPoint {
            epoch: Epoch(row.number("epoch")?),
            step: row.number("step")?,
            split: row.parsed("split")?,
            name: row.text("name")?,
            value: row.float("value")?,
        },
    })
}

pub(super) fn log_of(row: &impl Columns) -> Result<LogBatch, Fault> {
    Ok(LogBatch { cursor: row.number("id")?, attempt: attempt_key(row)?, lines: row.document("lines")? })
}

pub(super) fn dataset_of(row: &impl Columns) -> Result<DatasetRecord, Fault> {
    Ok(DatasetRecord {
        name: row.text("name")?,
        manifest: row.parsed("manifest")?,
        image_size: row.number("image_size")?,
        classes: row.document("classes")?,
        counts: row.document("counts")?,
        patients: row.optional_number("patients")?,
        registered_at: row.time("registered_at")?,
    })
}

pub(super) fn weights_of(row: &impl Columns) -> Result<WeightsRecord, Fault> {
    Ok(WeightsRecord {
        name: row.text("name")?,
        digest: row.parsed("digest")?,
        arch: row.document("arch")?,
        registered_at: row.time("registered_at")?,
    })
}

pub(super) fn worker_of(row: &impl Columns) -> Result<WorkerRecord, Fault> {
    Ok(WorkerRecord {
        id: row.parsed("id")?,
        name: row.text("name")?,
        version: row.text("version")?,
        slots: row.number("slots")?,
        environment: row.document("environment")?,
        first_seen: row.time("first_seen")?,
        last_seen: row.time("last_seen")?,
    })
}
