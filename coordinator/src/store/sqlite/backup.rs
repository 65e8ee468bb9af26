//! Copies of a database: made while a coordinator uses it, and put in its place again.
//!
//! A backup is one SQLite file that holds one state of the database and nothing else (`VACUUM INTO`), under a seal. Files
//! are written aside, synchronised, checked as a whole, and only then given their names.

mod restore;
mod seal;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use ceteris_scheduler::Timestamp;
use sqlx::{Connection as _, SqliteConnection, migrate::Migrator, query, query_scalar, sqlite::SqliteConnectOptions};

pub use restore::{Lost, Replaced, Restored, restore};

use super::{
    Fault, migrating, result_code, sql,
    writer::{BUSY, beside},
};
use crate::store::{self, codec::Columns as _};

pub(super) static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("there is no database {}; name the file that the coordinator was given with --database", place.display())]
    Missing { place: PathBuf },
    #[error("{} exists", place.display())]
    Exists { place: PathBuf },
    #[error("{} is a coordinator's database, and a backup does not take its place; give the backup a name of its own", place.display())]
    InUse { place: PathBuf },
    #[error("{} is no database of a coordinator: {what}", place.display())]
    Foreign { place: PathBuf, what: String },
    #[error("{} is no backup that `ceteris backup` made: {what}", place.display())]
    NoBackup { place: PathBuf, what: String },
    #[error("the backup {} is not what was written: {what}; use another one", place.display())]
    Damaged { place: PathBuf, what: String },
    #[error("cannot {doing} {}: {source}", place.display())]
    Io { doing: &'static str, place: PathBuf, source: io::Error },
}

/// What a database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Experiments that were submitted.
    pub experiments: u64,
    /// Their segments.
    pub segments: u64,
    /// Epochs that were trained and committed.
    pub epochs: u64,
    /// When the last of those was committed; none where there are none.
    pub last_commit: Option<Timestamp>,
    /// The last migration that was applied to it.
    pub migration: i64,
}

/// A copy that was written, or looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// What it holds.
    pub contents: Contents,
    /// The length of the file.
    pub bytes: u64,
}

/// Writes one state of `database` to the file `to`, whether a coordinator uses the database or not. Overwrites a file
/// only where `replace` says so.
///
/// # Errors
/// When there is no database, when it is damaged or of a newer version, or when the file exists or cannot be written; then
/// there is no new file.
pub async fn backup(database: &Path, to: &Path, replace: bool) -> Result<Backup, Error> {
    if !database.exists() {
        return Err(Error::Missing { place: database.to_owned() });
    }
    if !replace && to.exists() {
        return Err(Error::Exists { place: to.to_owned() });
    }
    // Whatever is to be replaced: a coordinator would go on with a file that has no name any more.
    if is_in_use(to) {
        return Err(Error::InUse { place: to.to_owned() });
    }
    let aside = beside(to, ".partial");
    let written = copy_state(database, &aside).await;
    if written.is_err() {
        // What is left of it is overwritten the next time.
        let _ = fs::remove_file(&aside);
    }
    let backup = written?;
    ceteris_crash::here(ceteris_crash::Point::BackupCopied);
    rename(&aside, to)?;
    ceteris_crash::here(ceteris_crash::Point::BackupNamed);
    Ok(backup)
}

/// Whether a file is, or was when its coordinator was killed, a coordinator's database: those have a log and a lock.
fn is_in_use(place: &Path) -> bool {
    let with = |ending| beside(&place.canonicalize().unwrap_or_else(|_| place.to_owned()), ending).exists();
    place.exists() && (with("-wal") || with(".lock"))
}

async fn copy_state(database: &Path, to: &Path) -> Result<Backup, Error> {
    let mut connection = open(database, false).await?;
    check_schema(&mut connection, database).await?;
    let target = to.to_str().ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8");
        Error::Io { doing: "write", place: to.to_owned(), source }
    })?;
    // SQLite writes into a file that is there and empty; what it says of one that it cannot make names the database.
    File::create(to).map_err(doing("write", to))?;
    let copied = query("VACUUM INTO ?").bind(target).execute(&mut connection).await;
    copied.map_err(|error| match result_code(&error) {
        Some(13) => doing("write", to)(io::ErrorKind::StorageFull.into()),
        _ => named(database, error),
    })?;
    close(connection, database).await?;
    seal::seal(to)?;
    examine(to).await
}

/// Reads a whole backup and says what it holds.
///
/// # Errors
/// When it is none, is damaged, or is of a newer version.
pub async fn examine(place: &Path) -> Result<Backup, Error> {
    let bytes = seal::check(place)?;
    let mut connection = open(place, true).await?;
    check_schema(&mut connection, place).await?;
    let damaged = |what: String| Error::Damaged { place: place.to_owned(), what };
    let sound: Vec<String> = query_scalar("PRAGMA integrity_check(1)")
        .fetch_all(&mut connection)
        .await
        .map_err(|error| named(place, error))?;
    if sound != ["ok"] {
        return Err(damaged(sound.join("; ")));
    }
    let dangling = query("PRAGMA foreign_key_check").fetch_all(&mut connection).await;
    if let Some(row) = dangling.map_err(|error| named(place, error))?.first() {
        let table = row.text("table").unwrap_or_default();
        return Err(damaged(format!("a row of the table `{table}` belongs to one that is not there")));
    }
    // What the schema does not say; a backup of an earlier one has no points.
    let known = query("SELECT 1 FROM sqlite_schema WHERE name = 'points'").fetch_optional(&mut connection).await;
    if known.map_err(|error| named(place, error))?.is_some() {
        let lost = "SELECT 1 FROM points WHERE series NOT IN (SELECT id FROM series) LIMIT 1";
        let lost = query(lost).fetch_optional(&mut connection).await.map_err(|error| named(place, error))?;
        if lost.is_some() {
            return Err(damaged("a measured value belongs to a series that is not there".to_owned()));
        }
    }
    let contents = contents(&mut connection).await.map_err(|fault| within(place, fault))?;
    close(connection, place).await?;
    Ok(Backup { contents, bytes })
}

async fn contents(connection: &mut SqliteConnection) -> Result<Contents, Fault> {
    let select = "SELECT (SELECT count(*) FROM experiments) AS experiments, (SELECT count(*) FROM segments) AS segments, \
         (SELECT count(*) FROM epochs) AS epochs, (SELECT max(committed_at) FROM epochs) AS last_commit, \
         (SELECT max(version) FROM _sqlx_migrations) AS migration";
    let rows = query(select).fetch_all(connection).await?;
    let row = rows.first().ok_or_else(|| Fault::Damaged("counting gives nothing".to_owned()))?;
    Ok(Contents {
        experiments: row.number("experiments")?,
        segments: row.number("segments")?,
        epochs: row.number("epochs")?,
        last_commit: row.optional_time("last_commit")?,
        migration: row.number("migration")?,
    })
}

/// A connection that reads. A backup is a file that nobody writes to.
async fn open(place: &Path, immutable: bool) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new().filename(place).read_only(true).immutable(immutable).busy_timeout(BUSY);
    SqliteConnection::connect_with(&options).await.map_err(|error| named(place, error))
}

async fn close(connection: SqliteConnection, place: &Path) -> Result<(), Error> {
    connection.close().await.map_err(|error| named(place, error))
}

/// Refuses what this program did not make, or made of a later version.
async fn check_schema(connection: &mut SqliteConnection, place: &Path) -> Result<(), Error> {
    let tables =
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('_sqlx_migrations', 'experiments', 'segments', 'epochs')";
    let tables: i64 = query_scalar(tables).fetch_one(&mut *connection).await.map_err(|error| named(place, error))?;
    if tables != 4 {
        return Err(Error::Foreign { place: place.to_owned(), what: "it lacks the tables of one".to_owned() });
    }
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(connection)
            .await
            .map_err(|error| named(place, error))?;
    for (version, checksum) in applied {
        let known = MIGRATOR.iter().find(|migration| migration.version == version);
        let problem = match known {
            None => sqlx::migrate::MigrateError::VersionMissing(version),
            Some(known) if known.checksum[..] != checksum[..] => sqlx::migrate::MigrateError::VersionMismatch(version),
            Some(_) => continue,
        };
        return Err(migrating(place, problem).into());
    }
    Ok(())
}

fn named(place: &Path, error: sqlx::Error) -> Error {
    within(place, Fault::Sql(error))
}

fn within(place: &Path, fault: Fault) -> Error {
    match fault {
        Fault::Sql(error) if result_code(&error) == Some(26) => {
            Error::Foreign { place: place.to_owned(), what: "it is no SQLite file".to_owned() }
        }
        Fault::Sql(error) => sql(place, &error).into(),
        Fault::Damaged(what) => store::Error::Damaged { place: place.to_owned(), what }.into(),
        Fault::Refused(error) => error.into(),
    }
}

fn doing(doing: &'static str, place: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let place = place.to_owned();
    move |source| Error::Io { doing, place, source }
}

fn remove(place: &Path) -> Result<(), Error> {
    match fs::remove_file(place) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Io { doing: "remove", place: place.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Gives a file its name, for good.
fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(doing("write", to))?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(doing("write", folder))
}
