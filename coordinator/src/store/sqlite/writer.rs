//! The one connection that writes, and the log that it writes to.
//!
//! SQLite folds its log back into the file by itself, but only so far as no reader still needs what was there before,
//! and begins it anew only when it is folded back entirely while nobody reads from it. Under steady writing, readers
//! that follow upon one another keep it from that for ever. So where the log has grown long, the writer waits for those
//! who read just then; those who come meanwhile read from the file. A reader that takes long, such as a backup, is not
//! waited for again until the log has grown by as much again.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{Sqlite as Driver, SqlitePool, Transaction};

use super::{Fault, sql};
use crate::store::Error;

/// A log of so many bytes is long.
pub(super) const LONG: u64 = 16 << 20;
/// How long the writer waits for readers then.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it waits for others at any other time; there are none but backups and people with a SQL prompt.
pub(super) const BUSY: Duration = Duration::from_secs(10);

/// Writes, one transaction at a time. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) place: PathBuf,
    pub(super) pool: SqlitePool,
    /// The length of the log from which it is folded back.
    due: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(place: &Path, pool: SqlitePool) -> Self {
        Self { place: place.to_owned(), pool, due: Arc::new(AtomicU64::new(LONG)) }
    }

    /// A transaction that holds the write lock from its beginning.
    pub(super) async fn writing(&self) -> Result<Transaction<'static, Driver>, Fault> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// The error that names the database.
    pub(super) fn named(&self, fault: &Fault) -> Error {
        match fault {
            Fault::Refused(error) => error.clone(),
            Fault::Damaged(what) => Error::Damaged { place: self.place.clone(), what: what.clone() },
            Fault::Sql(error) => sql(&self.place, error),
        }
    }

    /// Folds the log back into the file if it is long. What was committed is durable either way, so what goes wrong is
    /// told to the log alone.
    pub(super) async fn fold_log_back(&self) {
        let bytes = log_bytes(&self.place);
        if bytes < self.due.load(Ordering::Relaxed) {
            return;
        }
        let left = match self.fold().await {
            Ok(()) => log_bytes(&self.place),
            Err(error) => {
                tracing::warn!(%error, bytes, "the database's log cannot be folded back");
                bytes
            }
        };
        self.due.store(left + LONG, Ordering::Relaxed);
    }

    async fn fold(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        wait_for(&mut connection, PATIENCE).await?;
        let folded = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(&mut *connection).await;
        wait_for(&mut connection, BUSY).await?;
        folded.map(drop)
    }
}

async fn wait_for(connection: &mut sqlx::SqliteConnection, patience: Duration) -> Result<(), sqlx::Error> {
    let pragma = format!("PRAGMA busy_timeout = {}", patience.as_millis());
    sqlx::query(sqlx::AssertSqlSafe(pragma)).fetch_all(connection).await.map(drop)
}

/// The length of a database's log; 0 where it has none.
pub(super) fn log_bytes(place: &Path) -> u64 {
    fs::metadata(beside(place, "-wal")).map_or(0, |log| log.len())
}

/// The file beside a database whose name ends so.
pub(super) fn beside(place: &Path, ending: &str) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
