//! What workers measure and print, committed together.
//!
//! A commit costs a synchronisation of the disk, whatever is in it. So one task takes all that waits, up to a bound,
//! into one transaction, and answers each who waits after its commit; meanwhile the next ones gather. The bound keeps
//! the driver, whose commits take turns with these, from waiting long for one.
//!
//! A batch is one worker's, and its sequence number moves with it. What cannot be stored must not take others with it:
//! a transaction that fails is done again for each batch alone, and a batch that fails alone event for event, up to the
//! one that is the reason. Nothing after that one is stored, or its sequence number would say that all is.

mod names;

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use ceteris_shared::ids::WorkerId;
use sqlx::{AssertSqlSafe, Sqlite as Driver, SqliteConnection, Transaction, query, sqlite::SqliteArguments};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::names::{Events, Names, Row, Rows};
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

/// Batches of one transaction, and its rows where they could be made ready before it began.
struct Round {
    batches: Vec<Batch>,
    rows: Option<Rows>,
}

impl Round {
    /// What waits, up to what a transaction takes.
    fn gather(first: Batch, waiting: &mut mpsc::Receiver<Batch>) -> Self {
        let mut bytes = first.bytes;
        let mut batches = vec![first];
        while bytes < TRANSACTION_BYTES
            && let Ok(next) = waiting.try_recv()
        {
            bytes += next.bytes;
            batches.push(next);
        }
        Self { batches, rows: None }
    }

    fn events(&self) -> Vec<Events<'_>> {
        self.batches.iter().map(|batch| (batch.worker, &batch.observed[..])).collect()
    }
}

/// Commits what waits, until nobody can bring more.
async fn write(writer: Writer, mut waiting: mpsc::Receiver<Batch>) {
    let mut names = Names::default();
    let mut gathered = None;
    loop {
        let mut round = match gathered.take() {
            Some(round) => round,
            None => match waiting.recv().await {
                Some(first) => Round::gather(first, &mut waiting),
                None => return,
            },
        };
        let rows = round.rows.take();
        // SQLite works on a thread of its own, and has the next transaction at once.
        let gather = |names: &Names| {
            let mut next = Round::gather(waiting.try_recv().ok()?, &mut waiting);
            next.rows = names.rows_ahead(&next.events());
            Some(next)
        };
        let (stored, next) = commit(&writer, &mut names, &round.events(), rows, gather).await;
        gathered = next;
        match stored {
            Ok(known) => {
                // Who is gone needs no answer.
                round.batches.into_iter().zip(known).for_each(|(batch, known)| drop(batch.answer.send(Ok(known))));
            }
            Err(fault) => {
                // Their names may have been given up with the transaction.
                gathered.iter_mut().for_each(|next| next.rows = None);

                let is_reason = round.batches.len() == 1 && round.batches[0].observed.len() == 1;
                for batch in round.batches {
                    let stored = match is_reason {
                        true => Err(writer.named(&fault)),
                        false => alone(&writer, &mut names, &batch).await.map_err(|fault| writer.named(&fault)),
                    };
                    drop(batch.answer.send(stored));
                }
            }
        }
        writer.fold_log_back().await;
    }
}

/// One batch; if it cannot be stored as a whole, all before the event that is the reason.
async fn alone(writer: &Writer, names: &mut Names, batch: &Batch) -> Result<Vec<bool>, Fault> {
    let nothing_else = |_: &Names| None;
    let (stored, _) = commit(writer, names, &[(batch.worker, &batch.observed[..])], None, nothing_else).await;
    if let Ok(mut known) = stored {
        return Ok(known.remove(0));
    }
    let mut known = Vec::with_capacity(batch.observed.len());
    for observed in &batch.observed {
        let event = [(batch.worker, std::slice::from_ref(observed))];
        let (stored, _) = commit(writer, names, &event, None, nothing_else).await;
        known.extend(stored?.into_iter().flatten());
    }
    Ok(known)
}

/// One transaction; for each event of each batch, whether its attempt is the worker's. `meanwhile` is done while SQLite
/// works.
async fn commit(
    writer: &Writer,
    names: &mut Names,
    batches: &[Events<'_>],
    rows: Option<Rows>,
    meanwhile: impl FnOnce(&Names) -> Option<Round>,
) -> (Result<Vec<Vec<bool>>, Fault>, Option<Round>) {
    let begin = async {
        let mut transaction = writer.writing().await?;
        let mut ready = rows;
        let rows = loop {
            match ready.take() {
                Some(rows) => break rows,
                None => names.learn(&mut transaction, batches).await?,
            }
            ready = names.rows(batches);
        };
        Ok((transaction, rows))
    };
    let (transaction, rows) = match begin.await {
        Ok(begun) => begun,
        Err(fault) => {
            names.forget();
            return (Err(fault), None);
        }
    };
    let known_names = &*names;
    let (stored, next) = tokio::join!(store(transaction, batches, &rows), async { meanwhile(known_names) });
    match stored {
        Ok(()) => names.keep(),
        Err(_) => names.forget(),
    }
    (stored.map(|()| rows.known), next)
}

async fn store(
    mut transaction: Transaction<'static, Driver>,
    batches: &[Events<'_>],
    rows: &Rows,
) -> Result<(), Fault> {
    write_rows(&mut transaction, &rows.points).await?;
    for &(attempt, sequence, batch, event) in &rows.lines {
        if let Observation::Log(lines) = &batches[batch].1[event].what {
            write_lines(&mut transaction, attempt, sequence, lines).await?;
        }
    }
    for (worker, observed) in batches {
        if let Some(last) = observed.iter().map(|observed| observed.sequence).max() {
            write_sequence(&mut transaction, *worker, last).await?;
        }
    }
    Ok(transaction.commit().await?)
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
