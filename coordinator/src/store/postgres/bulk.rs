//! Rows that come by the thousand: one statement for all of them, with an array for each column.

use ceteris_scheduler::Change as Decision;
use ceteris_shared::trainer::MetricPoint;
use sqlx::{PgConnection, query};

use super::{Fault, text};
use crate::store::{
    Change, ExperimentRecord,
    codec::{StateColumns, int, state_columns},
};

/// Every segment that is added.
pub(super) async fn add_segments(to: &mut PgConnection, changes: &[Change]) -> Result<(), Fault> {
    let added = || {
        changes.iter().filter_map(|change| match change {
            Change::Scheduler(Decision::SegmentAdded { segment, experiment, position, state }) => {
                Some((segment, experiment, position, state))
            }
            _ => None,
        })
    };
    let states: Vec<StateColumns> = added().map(|(.., state)| state_columns(state)).collect();
    query(
        "INSERT INTO segments (id, experiment, position, state, behind, attempt, worker, epoch, until, cause, message) \
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[], \
                              $8::bigint[], $9::bigint[], $10::text[], $11::text[])",
    )
    .bind(added().map(|(segment, ..)| segment.to_string()).collect::<Vec<_>>())
    .bind(added().map(|(_, experiment, ..)| experiment.to_string()).collect::<Vec<_>>())
    .bind(added().map(|(_, _, position, _)| int(*position)).collect::<Vec<_>>())
    .bind(states.iter().map(|columns| columns.state).collect::<Vec<_>>())
    .bind(states.iter().map(|columns| columns.behind.clone()).collect::<Vec<_>>())
    .bind(states.iter().map(|columns| columns.attempt).collect::<Vec<_>>())
    .bind(states.iter().map(|columns| columns.worker.clone()).collect::<Vec<_>>())
    .bind(states.iter().map(|columns| columns.epoch).collect::<Vec<_>>())
    .bind(states.iter().map(|columns| columns.until).collect::<Vec<_>>())
    .bind(states.iter().map(|columns| columns.cause).collect::<Vec<_>>())
    .bind(states.iter().map(|columns| columns.message.as_deref().map(text)).collect::<Vec<_>>())
    .execute(to)
    .await?;
    Ok(())
}

/// Every epoch that is taken from an earlier experiment.
pub(super) async fn add_reused(to: &mut PgConnection, changes: &[Change]) -> Result<(), Fault> {
    let added = || {
        changes.iter().filter_map(|change| match change {
            Change::Scheduler(Decision::EpochReused { segment, epoch, reused }) => Some((segment, epoch, reused)),
            _ => None,
        })
    };
    query("INSERT INTO reused (segment, epoch, source) SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])")
        .bind(added().map(|(segment, ..)| segment.to_string()).collect::<Vec<_>>())
        .bind(added().map(|(_, epoch, _)| int(epoch.0)).collect::<Vec<_>>())
        .bind(added().map(|(.., reused)| reused.source.to_string()).collect::<Vec<_>>())
        .execute(to)
        .await?;
    Ok(())
}

/// The runs of an experiment, in the plan's order.
pub(super) async fn add_runs(to: &mut PgConnection, experiment: &ExperimentRecord) -> Result<(), Fault> {
    let runs = &experiment.plan.runs;
    query("INSERT INTO runs (id, experiment, position) SELECT id, $1, position FROM unnest($2::text[], $3::bigint[]) AS r (id, position)")
        .bind(experiment.id.to_string())
        .bind(runs.iter().map(|run| run.id.to_string()).collect::<Vec<_>>())
        .bind((0..runs.len()).map(int).collect::<Vec<_>>())
        .execute(to)
        .await?;
    Ok(())
}

/// Values that the attempt with this row measured; those that are there stay as they are.
pub(super) async fn add_metrics(to: &mut PgConnection, attempt: i64, points: &[MetricPoint]) -> Result<(), Fault> {
    query(
        "INSERT INTO metrics (attempt, split, name, epoch, step, value) \
         SELECT $1, split, name, epoch, step, value \
         FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::float8[]) \
              AS m (split, name, epoch, step, value) \
         ON CONFLICT DO NOTHING",
    )
    .bind(attempt)
    .bind(points.iter().map(|point| point.split.name()).collect::<Vec<_>>())
    .bind(points.iter().map(|point| text(&point.name)).collect::<Vec<_>>())
    .bind(points.iter().map(|point| int(point.epoch.0)).collect::<Vec<_>>())
    .bind(points.iter().map(|point| int(point.step)).collect::<Vec<_>>())
    .bind(points.iter().map(|point| point.value).collect::<Vec<_>>())
    .execute(to)
    .await?;
    Ok(())
}
