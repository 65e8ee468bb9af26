//! The numbers under which attempts and series are stored, and the rows that events become with them.
//!
//! They never change, so they are asked for once and remembered. Rows of events whose names are all known are made without
//! the database, while it writes those of others.

use std::collections::HashMap;

use ceteris_shared::{
    dataset::Split,
    ids::{Attempt, WorkerId},
    trainer::MetricPoint,
};
use sqlx::{SqliteConnection, query, query_scalar};

use super::Fault;
use crate::store::{Observation, Observed, codec::int};

/// Attempts or series whose numbers are remembered, some tens of MB; with more, all are asked for anew.
const NAMES: usize = 1 << 17;

/// A worker's events.
pub(super) type Events<'a> = (WorkerId, &'a [Observed]);

/// A row of `points`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) series: i64,
    pub(super) epoch: i64,
    pub(super) step: i64,
    pub(super) value: f64,
}

/// What a transaction writes.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) points: Vec<Row>,
    /// Attempt, sequence number, and which batch and which of its events has the lines.
    pub(super) lines: Vec<(i64, u64, usize, usize)>,
    /// For each event of each batch, whether its attempt is the worker's.
    pub(super) known: Vec<Vec<bool>>,
}

/// The numbers of attempts and series, which never change. What is here was committed, or is of the transaction that is
/// open.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// None where it is not the worker's, which is asked again in the next transaction.
    attempts: HashMap<(WorkerId, Attempt), Option<i64>>,
    series: HashMap<(i64, Split), HashMap<String, i64>>,
    strangers: Vec<(WorkerId, Attempt)>,
    /// How many series there are.
    count: usize,
}

impl Names {
    /// After a commit: what is known stays so.
    pub(super) fn keep(&mut self) {
        for stranger in self.strangers.drain(..) {
            self.attempts.remove(&stranger);
        }
        if self.count > NAMES || self.attempts.len() > NAMES {
            self.forget();
        }
    }

    /// After a transaction that came to nothing, and its series with it.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What these events write in a transaction after this one; None where that cannot be known yet.
    pub(super) fn rows_ahead(&self, batches: &[Events<'_>]) -> Option<Rows> {
        // Who is a stranger now may be given the attempt until then.
        if self.strangers.is_empty() { self.rows(batches) } else { None }
    }

    /// What these events write; None where a name is not known.
    pub(super) fn rows(&self, batches: &[Events<'_>]) -> Option<Rows> {
        let mut rows = Rows::default();
        for (batch, (worker, observed)) in batches.iter().enumerate() {
            let mut known = Vec::with_capacity(observed.len());
            for (event, Observed { sequence, attempt, what }) in observed.iter().enumerate() {
                let attempt = *self.attempts.get(&(*worker, *attempt))?;
                known.push(attempt.is_some());
                match (attempt, what) {
                    (None, _) => {}
                    (Some(attempt), Observation::Metrics(points)) => self.points(attempt, points, &mut rows.points)?,
                    (Some(attempt), Observation::Log(_)) => rows.lines.push((attempt, *sequence, batch, event)),
                }
            }
            rows.known.push(known);
        }
        Some(rows)
    }

    fn points(&self, attempt: i64, points: &[MetricPoint], rows: &mut Vec<Row>) -> Option<()> {
        rows.reserve(points.len());
        let mut last: Option<(Split, &str, i64)> = None;
        for MetricPoint { epoch, step, split, name, value } in points {
            // Mostly the losses of an epoch's steps, one after the other.
            let id = match last {
                Some((of, named, id)) if of == *split && named == name => id,
                _ => *self.series.get(&(attempt, *split))?.get(name)?,
            };
            last = Some((*split, name, id));
            rows.push(Row { series: id, epoch: int(epoch.0), step: int(*step), value: *value });
        }
        Some(())
    }

    /// Asks for every name of these events that is not known. Series that are not there yet are made.
    pub(super) async fn learn(&mut self, with: &mut SqliteConnection, batches: &[Events<'_>]) -> Result<(), Fault> {
        for (worker, observed) in batches {
            for Observed { attempt, what, .. } in *observed {
                let attempt = self.learn_attempt(with, *worker, *attempt).await?;
                if let (Some(attempt), Observation::Metrics(points)) = (attempt, what) {
                    self.learn_series(with, attempt, points).await?;
                }
            }
        }
        Ok(())
    }

    /// The row of an attempt, if it is the worker's.
    async fn learn_attempt(
        &mut self,
        from: &mut SqliteConnection,
        worker: WorkerId,
        attempt: Attempt,
    ) -> Result<Option<i64>, Fault> {
        if let Some(known) = self.attempts.get(&(worker, attempt)) {
            return Ok(*known);
        }
        let rows = query_scalar("SELECT id FROM attempts WHERE segment = ? AND number = ? AND worker = ?")
            .bind(attempt.segment.to_string())
            .bind(int(attempt.number))
            .bind(worker.to_string())
            .fetch_all(from)
            .await?;
        let id: Option<i64> = rows.first().copied();
        self.attempts.insert((worker, attempt), id);
        if id.is_none() {
            self.strangers.push((worker, attempt));
        }
        Ok(id)
    }

    async fn learn_series(
        &mut self,
        with: &mut SqliteConnection,
        attempt: i64,
        points: &[MetricPoint],
    ) -> Result<(), Fault> {
        let mut last: Option<(Split, &str)> = None;
        for MetricPoint { split, name, .. } in points {
            if last == Some((*split, name)) {
                continue;
            }
            last = Some((*split, name));
            let series = self.series.entry((attempt, *split)).or_default();
            if !series.contains_key(name) {
                series.insert(name.to_owned(), series_id(with, attempt, *split, name).await?);
                self.count += 1;
            }
        }
        Ok(())
    }
}

async fn series_id(to: &mut SqliteConnection, attempt: i64, split: Split, name: &str) -> Result<i64, Fault> {
    let select = "SELECT id FROM series WHERE attempt = ? AND split = ? AND name = ?";
    let known = query_scalar(select).bind(attempt).bind(split.name()).bind(name).fetch_all(&mut *to).await?;
    if let Some(&id) = known.first() {
        return Ok(id);
    }
    let insert = query("INSERT INTO series (attempt, split, name) VALUES (?, ?, ?)");
    Ok(insert.bind(attempt).bind(split.name()).bind(name).execute(to).await?.last_insert_rowid())
}
