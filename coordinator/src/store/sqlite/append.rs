//! What workers measure and print, committed together.
//!
//! A commit costs a synchronisation of the disk, whatever is in it. So one task takes all that waits, up to a bound,
//! into one transaction, and answers each who waits after its commit; meanwhile the next ones gather. The bound keeps
//! the driver, whose commits take turns with these, from waiting long for one.
//!
//! A batch is one worker's, and its sequence number moves with it. What cannot be stored must not take others with it:
//! a transaction that fails is done again for each batch alone, and a batch that fails alone event for event, up to the
//! one that is the reason. Nothing after that one is stored, or its sequence number would say that all is.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use ceteris_shared::{
    dataset::Split,
    ids::{Attempt, WorkerId},
    trainer::MetricPoint,
};
use sqlx::{AssertSqlSafe, Sqlite as Driver, SqliteConnection, query, query_scalar, sqlite::SqliteArguments};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{Fault, Writer, write::write_sequence};
use crate::store::{
    Error, Observation, Observed,
    codec::{int, json},
};

/// A transaction that has so many bytes takes no more: some ten thousand points, written within tens of milliseconds.
const TRANSACTION_BYTES: usize = 512 << 10;
/// What waits in memory before those who bring more do.
const WAITING_BYTES: u32 = 32 << 20;
/// Batches that wait, each of another worker.
const WAITING_BATCHES: usize = 1024;
/// Rows of one INSERT, the most first: four values each, below SQLite's limit of 32,766. The statements are few so that
/// each is compiled once, and the largest is large, since each goes to another thread and back.
const ROWS: [usize; 4] = [4096, 512, 64, 8];

static INSERTS: LazyLock<[String; ROWS.len()]> = LazyLock::new(|| {
    ROWS.map(|rows| {
        let values = vec!["(?, ?, ?, ?)"; rows].join(", ");
        format!("INSERT INTO points (series, epoch, step, value) VALUES {values} ON CONFLICT DO NOTHING")
    })
});

/// Events of one worker, one after the other, and who waits for them.
struct Batch {
    worker: WorkerId,
    observed: Vec<Observed>,
    bytes: usize,
    answer: oneshot::Sender<Result<Vec<bool>, Error>>,
    /// Its share of what may wait.
    _room: OwnedSemaphorePermit,
}

/// The way to the task that writes. The task ends with the last of these.
#[derive(Clone, Debug)]
pub(super) struct Appender {
    place: PathBuf,
    batches: mpsc::Sender<Batch>,
    room: Arc<Semaphore>,
}

/// A row of `points`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    series: i64,
    epoch: i64,
    step: i64,
    value: f64,
}

impl Appender {
    pub(super) fn start(writer: Writer) -> Self {
        let place = writer.place.clone();
        let (batches, waiting) = mpsc::channel(WAITING_BATCHES);
        tokio::spawn(write(writer, waiting));
        Self { place, batches, room: Arc::new(Semaphore::new(WAITING_BYTES as usize)) }
    }

    /// Returns when they are durable.
    pub(super) async fn append(&self, worker: WorkerId, observed: Vec<Observed>) -> Result<Vec<bool>, Error> {
        let bytes: usize = observed.iter().map(Observed::bytes).sum();
        let share = u32::try_from(bytes).unwrap_or(u32::MAX).min(WAITING_BYTES);
        let room = Arc::clone(&self.room).acquire_many_owned(share).await.map_err(|_| self.ended())?;
        let (answer, stored) = oneshot::channel();
        let batch = Batch { worker, observed, bytes, answer, _room: room };
        self.batches.send(batch).await.map_err(|_| self.ended())?;
        stored.await.map_err(|_| self.ended())?
    }

    fn ended(&self) -> Error {
        Error::Database { place: self.place.clone(), cause: "it is closed".to_owned() }
    }
}

/// Commits what waits, until nobody can bring more.
async fn write(writer: Writer, mut waiting: mpsc::Receiver<Batch>) {
    while let Some(first) = waiting.recv().await {
        let mut bytes = first.bytes;
        let mut batches = vec![first];
        while bytes < TRANSACTION_BYTES
            && let Ok(next) = waiting.try_recv()
        {
            bytes += next.bytes;
            batches.push(next);
        }
        match commit(&writer, batches.iter().map(|batch| (batch.worker, &batch.observed[..]))).await {
            Ok(known) => {
                // Who is gone needs no answer.
                batches.into_iter().zip(known).for_each(|(batch, known)| drop(batch.answer.send(Ok(known))));
            }
            Err(fault) if batches.len() == 1 && batches[0].observed.len() == 1 => {
                batches.into_iter().for_each(|batch| drop(batch.answer.send(Err(writer.named(&fault)))));
            }
            Err(_) => {
                for batch in batches {
                    let stored = alone(&writer, &batch).await;
                    drop(batch.answer.send(stored.map_err(|fault| writer.named(&fault))));
                }
            }
        }
        writer.fold_log_back().await;
    }
}

/// One batch; if it cannot be stored as a whole, all before the event that is the reason.
async fn alone(writer: &Writer, batch: &Batch) -> Result<Vec<bool>, Fault> {
    if let Ok(mut known) = commit(writer, [(batch.worker, &batch.observed[..])].into_iter()).await {
        return Ok(known.remove(0));
    }
    let mut known = Vec::with_capacity(batch.observed.len());
    for observed in &batch.observed {
        let stored = commit(writer, [(batch.worker, std::slice::from_ref(observed))].into_iter()).await?;
        known.extend(stored.into_iter().flatten());
    }
    Ok(known)
}

/// One transaction; for each event of each batch, whether its attempt is the worker's.
async fn commit<'a>(
    writer: &Writer,
    batches: impl Iterator<Item = (WorkerId, &'a [Observed])> + Send,
) -> Result<Vec<Vec<bool>>, Fault> {
    let mut transaction = writer.writing().await?;
    let mut names = Names::default();
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for (worker, observed) in batches {
        let mut known = Vec::with_capacity(observed.len());
        for Observed { sequence, attempt, what } in observed {
            let row = names.attempt(&mut transaction, worker, *attempt).await?;
            known.push(row.is_some());
            match (row, what) {
                (None, _) => {}
                (Some(row), Observation::Metrics(points)) => {
                    names.rows(&mut transaction, row, points, &mut rows).await?;
                }
                (Some(row), Observation::Log(lines)) => write_lines(&mut transaction, row, *sequence, lines).await?,
            }
        }
        if let Some(last) = observed.iter().map(|observed| observed.sequence).max() {
            write_sequence(&mut transaction, worker, last).await?;
        }
        all.push(known);
    }
    write_rows(&mut transaction, &rows).await?;
    transaction.commit().await?;
    Ok(all)
}

async fn write_lines(to: &mut SqliteConnection, attempt: i64, sequence: u64, lines: &[String]) -> Result<(), Fault> {
    query("INSERT INTO logs (attempt, sequence, lines) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(attempt)
        .bind(int(sequence))
        .bind(json(&lines)?)
        .execute(to)
        .await?;
    Ok(())
}

/// An INSERT with its values.
type Insert = sqlx::query::Query<'static, Driver, SqliteArguments>;

/// SQLite works on a thread of its own: the next statement is made ready while it has one.
async fn write_rows(to: &mut SqliteConnection, rows: &[Row]) -> Result<(), Fault> {
    let (mut next, mut later) = first_insert(rows);
    while let Some(insert) = next.take() {
        let ready = async {
            (next, later) = first_insert(later);
        };
        let (done, ()) = tokio::join!(insert.execute(&mut *to), ready);
        done?;
    }
    Ok(())
}

/// The first rows as a statement, and those after them. What is there already stays as it is, so a statement that has room
/// left is filled with its last row again.
fn first_insert(rows: &[Row]) -> (Option<Insert>, &[Row]) {
    let index = ROWS.iter().rposition(|&size| size >= rows.len()).unwrap_or(0);
    let (now, later) = rows.split_at(rows.len().min(ROWS[index]));
    let Some(last) = now.last() else { return (None, later) };
    let mut insert = query(AssertSqlSafe(INSERTS[index].as_str()));
    for row in now.iter().chain(std::iter::repeat_n(last, ROWS[index] - now.len())) {
        insert = insert.bind(row.series).bind(row.epoch).bind(row.step).bind(row.value);
    }
    (Some(insert), later)
}

/// The numbers of attempts and series, each asked for once in a transaction.
#[derive(Default)]
struct Names {
    attempts: HashMap<(WorkerId, Attempt), Option<i64>>,
    series: HashMap<(i64, Split), HashMap<String, i64>>,
}

impl Names {
    /// The row of an attempt, if it is the worker's.
    async fn attempt(
        &mut self,
        from: &mut SqliteConnection,
        worker: WorkerId,
        attempt: Attempt,
    ) -> Result<Option<i64>, Fault> {
        let entry = match self.attempts.entry((worker, attempt)) {
            Entry::Occupied(known) => return Ok(*known.get()),
            Entry::Vacant(entry) => entry,
        };
        let rows = query_scalar("SELECT id FROM attempts WHERE segment = ? AND number = ? AND worker = ?")
            .bind(attempt.segment.to_string())
            .bind(int(attempt.number))
            .bind(worker.to_string())
            .fetch_all(from)
            .await?;
        Ok(*entry.insert(rows.first().copied()))
    }

    async fn rows(
        &mut self,
        to: &mut SqliteConnection,
        attempt: i64,
        points: &[MetricPoint],
        rows: &mut Vec<Row>,
    ) -> Result<(), Fault> {
        rows.reserve(points.len());
        let mut last: Option<(Split, &str, i64)> = None;
        for MetricPoint { epoch, step, split, name, value } in points {
            // Mostly the losses of an epoch's steps, one after the other.
            let id = match last {
                Some((of, named, id)) if of == *split && named == name => id,
                _ => self.series(to, attempt, *split, name).await?,
            };
            last = Some((*split, name, id));
            rows.push(Row { series: id, epoch: int(epoch.0), step: int(*step), value: *value });
        }
        Ok(())
    }

    async fn series(
        &mut self,
        to: &mut SqliteConnection,
        attempt: i64,
        split: Split,
        name: &str,
    ) -> Result<i64, Fault> {
        let series = self.series.entry((attempt, split)).or_default();
        if let Some(id) = series.get(name) {
            return Ok(*id);
        }
        let id = series_id(to, attempt, split, name).await?;
        series.insert(name.to_owned(), id);
        Ok(id)
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
