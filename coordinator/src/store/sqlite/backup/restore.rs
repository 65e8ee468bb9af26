//! A backup in the place of a database.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ceteris_shared::{digest::Digest, ids::ExperimentId};
use sqlx::{Connection as _, SqliteConnection, query, query_scalar, sqlite::SqliteConnectOptions};

use super::{
    super::{lock, writer::beside},
    Backup, Error, close, examine, named, open, remove, rename,
    seal::unsealed,
};
use crate::store;

/// Kept databases of one name.
const MOST_KEPT: u32 = 10_000;

/// What became of a database that a backup took the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Where it is now.
    pub kept: PathBuf,
    /// What it had that the backup has not; none where it cannot be read.
    pub lost: Option<Lost>,
}

/// What happened since a backup, as far as the database tells that it took the place of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Experiments that were submitted.
    pub experiments: Vec<ExperimentId>,
    /// Epochs that were committed: manifests of their checkpoints, which nothing names now.
    pub epochs: Vec<Digest>,
    /// Manifests of checkpoints that were given up: the backup counts on them, and the store may lack their parts.
    pub collected: Vec<Digest>,
}

/// A backup that is a database again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup.
    pub backup: Backup,
    /// What was there before.
    pub replaced: Option<Replaced>,
}

/// Makes `database` what it was when `backup` was made. A database that is there is kept under another name where
/// `replace` says so, and the error says that it is there where not.
///
/// # Errors
/// When the backup is none, is damaged, or is of a newer version; when a coordinator uses the database; when it exists, or
/// cannot be written. Then the database is as it was.
pub async fn restore(backup: &Path, database: &Path, replace: bool) -> Result<Restored, Error> {
    let found = examine(backup).await?;
    let _lock = lock(database)?;
    let there = database.exists();
    if there && !replace {
        return Err(Error::Exists { place: database.to_owned() });
    }
    let lost = if there { lost(backup, database).await.ok() } else { None };
    let aside = beside(database, ".restoring");
    if let Err(error) = unsealed(backup, &aside) {
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    if there && let Err(error) = fold_log_back(database).await {
        // A damaged database is what one restores.
        tracing::debug!(%error, "the log of the database that is replaced is kept beside it as it is");
    }
    let kept = if there { Some(keep(database)?) } else { None };
    // A log belongs to the database that wrote it, and would be folded into this one.
    for ending in ["-wal", "-shm"] {
        remove(&beside(database, ending))?;
    }
    ceteris_crash::here(ceteris_crash::Point::LogOfReplacedRemoved);
    rename(&aside, database)?;
    ceteris_crash::here(ceteris_crash::Point::RestoreNamed);
    Ok(Restored { backup: found, replaced: kept.map(|kept| Replaced { kept, lost }) })
}

/// Takes what is in a database's log into the database, so that nothing is lost to it when the log is removed and this
/// process dies before the backup has its name.
async fn fold_log_back(database: &Path) -> Result<(), sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(database);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
    connection.close().await
}

/// Gives a database and its log a second name.
fn keep(database: &Path) -> Result<PathBuf, Error> {
    let free = (1..=MOST_KEPT).map(|number| beside(database, &format!(".replaced-{number}")));
    let kept = free.into_iter().find(|place| !place.exists() && !beside(place, "-wal").exists());
    let kept = kept.ok_or_else(|| Error::Exists { place: beside(database, &format!(".replaced-{MOST_KEPT}")) })?;
    for ending in ["-wal", ""] {
        let (from, to) = (beside(database, ending), beside(&kept, ending));
        if from.exists() {
            // Where a disk knows no second names, it takes as long as copying.
            let linked = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop));
            linked.map_err(|source| Error::Io { doing: "keep the database as", place: to, source })?;
        }
    }
    Ok(kept)
}

/// What `database` has that `backup` has not.
async fn lost(backup: &Path, database: &Path) -> Result<Lost, Error> {
    let failed = |error| named(database, error);
    let mut connection = open(database, false).await?;
    let attach = query("ATTACH ? AS backup").bind(backup.display().to_string());
    attach.execute(&mut connection).await.map_err(failed)?;
    let mut column = async |select: &'static str| -> Result<Vec<String>, Error> {
        query_scalar(select).fetch_all(&mut connection).await.map_err(failed)
    };
    let experiments =
        "SELECT id FROM main.experiments WHERE id NOT IN (SELECT id FROM backup.experiments) ORDER BY position";
    let experiments = parsed(database, column(experiments).await?)?;
    let epochs = "SELECT DISTINCT manifest FROM main.epochs WHERE (segment, epoch) NOT IN \
         (SELECT segment, epoch FROM backup.epochs) ORDER BY manifest";
    let epochs = parsed(database, column(epochs).await?)?;
    let known = "SELECT name FROM main.sqlite_schema WHERE name = 'collected' INTERSECT \
         SELECT name FROM backup.sqlite_schema WHERE name = 'collected'";
    let collected = if column(known).await?.is_empty() {
        Vec::new()
    } else {
        let collected = "SELECT manifest FROM main.collected WHERE manifest NOT IN (SELECT manifest FROM backup.collected) \
             ORDER BY manifest";
        parsed(database, column(collected).await?)?
    };
    close(connection, database).await?;
    Ok(Lost { experiments, epochs, collected })
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(place: &Path, texts: Vec<String>) -> Result<Vec<T>, Error> {
    let damaged = |error: T::Err| store::Error::Damaged { place: place.to_owned(), what: error.to_string() };
    texts.iter().map(|text| text.parse().map_err(|error| Error::Store(damaged(error)))).collect()
}
