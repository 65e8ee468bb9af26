//! `ceteris restore`

use std::path::PathBuf;

use ceteris_coordinator::store::backup;
use clap::Args;

use super::backup::refused;
use crate::{context::Global, failure::Failure, output, render};

/// Make a coordinator's database what it was when a backup was made.
///
/// The backup is read to its end first, and nothing is changed if it is damaged. No coordinator may use the database; stop
/// the workers too. What was committed after the backup is trained again, and comes out the same.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris restore /backup/monday.db --database /var/lib/ceteris/coordinator.db
  ceteris restore latest.db --database coordinator.db --force   keep the one that is there aside

Then start the coordinator, and hold the object store against it: ceteris storage check")]
pub struct Options {
    /// A file that `ceteris backup` wrote.
    #[arg(value_name = "BACKUP")]
    pub backup: PathBuf,
    /// The SQLite database to make.
    #[arg(long, value_name = "FILE", env = "CETERIS_DATABASE", hide_env_values = true)]
    pub database: PathBuf,
    /// Take the place of a database that is there; it is kept beside the new one.
    #[arg(long)]
    pub force: bool,
}

impl Options {
    /// # Errors
    /// When the backup is none, is damaged or is of a newer version, when a coordinator uses the database, or when that
    /// exists or cannot be written.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let restored = match backup::restore(&self.backup, &self.database, self.force).await {
            Err(backup::Error::Exists { place }) => {
                let failure = Failure::usage(format!("{} exists", place.display()));
                return Err(failure.help("give another name, or take its place with --force, which keeps it aside"));
            }
            other => other.map_err(refused)?,
        };
        output::print(&render::Restored::new(self.backup, self.database, restored), global.output)
    }
}
