//! Places at which a process can be made to die: one after each step that makes something durable, so that tests can show
//! of every one of them that whoever comes next goes on from there.
//!
//! Without the feature `points`, [`here`] does nothing. With it, a process dies at the point whose name is in the
//! file that `CETERIS_CRASH_FILE` names. The first process that gets there takes the file away, so that one asks for one
//! death, of whichever process comes by, and sees that it happened. Nothing is unwound, flushed or said to anyone, as
//! with `kill -9`.

macro_rules! points {
    ($($name:ident: $sentence:literal,)*) => {
        /// A place at which a process can be made to die.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point {
            $(#[doc = $sentence] $name,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name: in the code, and in the file that asks for a death.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What was made durable there.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

points! {
    // A coordinator.
    DatabaseMigrated: "The database has this version's tables; nobody was told that the coordinator is there.",
    LeadershipTaken: "A coordinator that stood by has raised the epoch; it leads, and has not begun to.",
    DecisionsCommitted: "What was decided is committed; no worker and no user was told.",
    ObservationsStored: "Measured values are stored; they are not acknowledged.",
    UploadStored: "An object that a user sent is stored; the user was not told.",
    DatasetNamed: "A data set has its name; the user was not told.",
    WeightsNamed: "Initial weights have their name; the user was not told.",
    CheckpointsGivenUp: "Checkpoints are given up; none of their objects is deleted.",
    ObjectDeleted: "One object of a checkpoint that is given up is deleted; others are not.",
    // An agent.
    WorkerIdWritten: "A worker has an id; it has no spool.",
    SpoolFileMade: "A spool has a new file; no event is in it.",
    EventSpooled: "An event is spooled; it was not sent.",
    SpoolFileRemoved: "A spool file of acknowledged events is removed.",
    ObjectFetched: "An object lies in the cache; no trainer was told.",
    PredictionsStored: "An epoch's predictions are in the store; its checkpoint is not.",
    CheckpointPartStored: "A part of a checkpoint is in the store; its manifest is not.",
    CheckpointManifestStored: "A whole checkpoint is in the store; no event says so.",
    // A trainer.
    FileWritten: "A file of a checkpoint, of predictions or of features is written; others are not.",
    CheckpointWritten: "All files of a checkpoint are written; the agent was not told.",
    // A command.
    BackupCopied: "A backup's bytes are written aside; it has no name.",
    BackupNamed: "A backup has its name; the user was not told.",
    LogOfReplacedRemoved: "A database that is being replaced is kept, and its log is removed; the backup has not its name yet.",
    RestoreNamed: "A database was restored; the user was not told.",
}

/// Dies here, if that was asked for.
#[cfg(feature = "points")]
pub fn here(point: Point) {
    use std::{env, fs, path::PathBuf, sync::OnceLock};

    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| env::var_os("CETERIS_CRASH_FILE").map(PathBuf::from)) else { return };
    let asked = fs::read_to_string(file).is_ok_and(|name| name.trim() == point.name());
    // Of several that read it, one takes it away.
    if asked && fs::remove_file(file).is_ok() {
        std::process::abort();
    }
}

/// Does nothing in this build.
#[cfg(not(feature = "points"))]
#[inline]
pub fn here(_point: Point) {}
