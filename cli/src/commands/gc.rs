//! `ceteris gc`

use std::time::Duration;

use ceteris_proto::v1;
use ceteris_shared::document::Garbage;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output};

/// Make room in the object store: give up checkpoints that no experiment keeps, and delete what nothing names.
///
/// An experiment that has ended and says `[keep]` keeps the checkpoints that it says; all others keep every one. What
/// training can still go on from stays. Results, predictions and the record of what was trained stay too, and a
/// checkpoint that was given up is trained again should it be needed.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris gc --dry-run            what would be deleted
  ceteris gc
  ceteris gc --older-than 7days   leave what was stored within a week and is named by nothing")]
pub struct Options {
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Leave what nothing names if it is younger: it may be on its way to being committed. Longer than workers may have
    /// been without the coordinator.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    pub older_than: Duration,
}

impl Options {
    /// # Errors
    /// When the store does not let the coordinator list or delete, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let request =
            v1::CollectGarbageRequest { dry_run: self.dry_run, older_than_seconds: Some(self.older_than.as_secs()) };
        let answer = global.connect().await?.rpc.collect_garbage(request).await?;
        output::print(&client::parse::<Garbage>(answer)?, global.output)
    }
}
