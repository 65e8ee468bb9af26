//! `ceteris.backup/1` and `ceteris.restored/1`: what was copied from a coordinator's database, and back.

use std::path::{Path, PathBuf};

use ceteris_coordinator::store::backup;
use ceteris_shared::{digest::Digest, document::Timestamp, ids::ExperimentId};
use serde::Serialize;

use crate::output::{ReadOut, Table, bytes, count};

/// A copy of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "schema", rename = "ceteris.backup/1")]
pub struct Backup {
    /// Of which one.
    pub database: PathBuf,
    /// Where it is.
    pub file: PathBuf,
    #[serde(flatten)]
    pub holds: Holds,
}

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holds {
    /// Its length.
    pub bytes: u64,
    /// Experiments that were submitted.
    pub experiments: u64,
    /// Their segments.
    pub segments: u64,
    /// Epochs that were trained and committed.
    pub epochs: u64,
    /// When the last of those was committed.
    pub last_commit: Option<Timestamp>,
}

/// A backup in the place of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "schema", rename = "ceteris.restored/1")]
pub struct Restored {
    /// The backup.
    pub backup: PathBuf,
    /// The database that it is now.
    pub database: PathBuf,
    #[serde(flatten)]
    pub holds: Holds,
    /// Where the database is that was there before.
    pub kept: Option<PathBuf>,
    /// What that one had and this one has not; null where there was none, or where it cannot be read.
    pub since: Option<Since>,
}

/// What happened after a backup was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Since {
    /// Experiments that were submitted.
    pub experiments: Vec<ExperimentId>,
    /// Manifests of the checkpoints of epochs that were committed.
    pub committed: Vec<Digest>,
    /// Manifests of checkpoints that were given up: the store may lack their parts.
    pub collected: Vec<Digest>,
}

impl From<backup::Backup> for Holds {
    fn from(backup: backup::Backup) -> Self {
        let backup::Contents { experiments, segments, epochs, last_commit, migration: _ } = backup.contents;
        let last_commit = last_commit.map(|at| Timestamp(at.0));
        Self { bytes: backup.bytes, experiments, segments, epochs, last_commit }
    }
}

impl Backup {
    pub fn new(database: PathBuf, file: PathBuf, made: backup::Backup) -> Self {
        Self { database, file, holds: made.into() }
    }
}

impl Restored {
    pub fn new(backup: PathBuf, database: PathBuf, restored: backup::Restored) -> Self {
        let (kept, lost) = restored.replaced.map(|replaced| (replaced.kept, replaced.lost)).unzip();
        let since = lost.flatten().map(|lost| Since {
            experiments: lost.experiments,
            committed: lost.epochs,
            collected: lost.collected,
        });
        Self { backup, database, holds: restored.backup.into(), kept, since }
    }
}

impl Holds {
    fn text(&self, file: &Path) -> String {
        let Self { experiments, segments, epochs, last_commit, .. } = self;
        let [experiments, segments, epochs] =
            [(experiments, "experiment"), (segments, "segment"), (epochs, "epoch")].map(|(n, noun)| count(*n, noun));
        let last = last_commit.map(|at| format!(", the last at {at}")).unwrap_or_default();
        let (file, bytes) = (file.display(), bytes(self.bytes));
        format!("{file} ({bytes}) is whole: {experiments}, {segments}, {epochs} committed{last}\n")
    }

    fn csv(&self, file: &Path) -> Table {
        let mut table = Table::new(["file", ">bytes", ">experiments", ">segments", ">epochs", "last commit"]);
        let numbers = [self.bytes, self.experiments, self.segments, self.epochs].map(|number| number.to_string());
        let last = self.last_commit.map(|at| at.to_string()).unwrap_or_default();
        table.row([file.display().to_string()].into_iter().chain(numbers).chain([last]));
        table
    }
}

impl ReadOut for Backup {
    fn text(&self) -> String {
        self.holds.text(&self.file)
    }

    fn csv(&self) -> Table {
        self.holds.csv(&self.file)
    }
}

impl ReadOut for Restored {
    fn text(&self) -> String {
        let mut text = self.holds.text(&self.backup);
        text += &format!("{} is that again\n", self.database.display());
        if let Some(kept) = &self.kept {
            text += &format!("what was there is kept as {}\n", kept.display());
        }
        text += &match (&self.since, &self.kept) {
            (Some(since), _) => since.text(),
            (None, Some(_)) => "what was there cannot be read, so what it had besides is not known\n".to_owned(),
            (None, None) => String::new(),
        };
        text + "`ceteris storage check` says which objects the store lacks, once a coordinator runs\n"
    }

    fn csv(&self) -> Table {
        self.holds.csv(&self.database)
    }
}

impl Since {
    fn text(&self) -> String {
        let mut text = String::new();
        let lines = [
            (self.experiments.len(), "experiment", "submitted since the backup and unknown now: submit again"),
            (
                self.committed.len(),
                "epoch",
                "committed since the backup, to be trained again; nothing names the objects now",
            ),
            (self.collected.len(), "checkpoint", "given up since the backup: the store may lack the parts"),
        ];
        for (number, noun, what) in lines.into_iter().filter(|line| line.0 > 0) {
            text += &format!("{} {what}\n", count(number as u64, noun));
        }
        if text.is_empty() {
            text += "nothing was submitted, committed or given up since the backup\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn holds() -> Holds {
        let last_commit = Some(Timestamp(1_790_000_000_000));
        Holds { bytes: 1_500_000, experiments: 3, segments: 12, epochs: 1, last_commit }
    }

    #[test]
    fn a_backup_says_what_it_holds() {
        let backup = Backup { database: "c.db".into(), file: "backups/monday".into(), holds: holds() };
        insta::assert_snapshot!(backup.text() + "\n" + &backup.csv().csv());
    }

    #[test]
    fn a_restored_database_says_what_is_missing_now() {
        let alone =
            Restored { backup: "monday".into(), database: "c.db".into(), holds: holds(), kept: None, since: None };
        let unreadable = Restored { kept: Some("c.db.replaced-1".into()), ..alone.clone() };
        let same = Restored { since: Some(Since::default()), ..unreadable.clone() };
        let since = Since {
            experiments: vec![ExperimentId(Uuid::from_u128(1))],
            committed: vec![Digest::of(b"1"), Digest::of(b"2")],
            collected: vec![Digest::of(b"3")],
        };
        let later = Restored { since: Some(since), ..unreadable.clone() };
        insta::assert_snapshot!([alone, unreadable, same, later].map(|restored| restored.text()).join("\n"));
    }
}
