//! `ceteris backup`

use std::path::PathBuf;

use ceteris_coordinator::store::{self, backup};
use clap::Args;

use crate::{
    failure::Failure,
    file,
    output::{self, Format},
    render,
};

/// Copy a coordinator's database, whether it is in use or not.
///
/// The copy is one file that holds one state of the database: experiments, what was decided, trained, measured and
/// printed. It is read again before it gets its name. Objects, such as checkpoints, are not in it: they are in the object
/// store, and are never changed there.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris backup --database /var/lib/ceteris/coordinator.db -o /backup/monday.db
  ceteris backup --database coordinator.db -o latest.db --force")]
pub struct Options {
    /// The SQLite database that the coordinator was given.
    #[arg(long, value_name = "FILE", env = "CETERIS_DATABASE", hide_env_values = true)]
    pub database: PathBuf,
    /// The file to write.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub to: PathBuf,
    /// Overwrite the file if it exists.
    #[arg(long)]
    pub force: bool,
    /// What to print on stdout: a table for people, JSON with a schema name, or CSV. Here without its short form.
    // The same id as the global option, so that this one takes its place.
    #[arg(
        id = "output",
        long = "output",
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    pub format: Format,
}

impl Options {
    /// # Errors
    /// When there is no database, when it is damaged or of a newer version, or when the file exists or cannot be written.
    pub async fn run(self) -> Result<(), Failure> {
        let made = backup::backup(&self.database, &self.to, self.force).await.map_err(refused)?;
        output::print(&render::Backup::new(self.database, self.to, made), self.format)
    }
}

/// Why there is no copy, as a failure of a command.
pub(super) fn refused(error: backup::Error) -> Failure {
    use backup::Error;
    match error {
        Error::Exists { place } => file::exists(&place),
        Error::Missing { .. } | Error::InUse { .. } => Failure::usage(error.to_string()),
        Error::Foreign { .. } => {
            Failure::usage(error.to_string()).help("name the file that the coordinator was given with --database")
        }
        Error::NoBackup { .. } => Failure::usage(error.to_string())
            .help("give a file that `ceteris backup` wrote; it also makes one of any other copy of a database"),
        Error::Damaged { .. } => Failure::infrastructure(error.to_string()),
        Error::Io { doing, place, source } => Failure::io(format!("{doing} {}", place.display()), &source),
        Error::Store(store::Error::Newer { .. }) => Failure::usage(error.to_string()),
        Error::Store(error) => Failure::infrastructure(error.to_string()),
    }
}
