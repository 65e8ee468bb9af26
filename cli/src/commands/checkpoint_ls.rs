//! `ceteris checkpoint ls`

use ceteris_proto::v1;
use ceteris_shared::document::Checkpoints;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output};

/// List the checkpoints of a run: one for each committed epoch.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris checkpoint ls 8f14e45f
  ceteris checkpoint ls 8f14e45f -o json | jq -r '.epochs[-1].manifest'")]
pub struct Options {
    /// The run's id or the beginning of one; `ceteris show EXPERIMENT` lists them.
    pub run: String,
}

impl Options {
    /// # Errors
    /// When there is no such run, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let answer = global.connect().await?.rpc.list_checkpoints(v1::RunRequest { run: self.run }).await?;
        output::print(&client::parse::<Checkpoints>(answer)?, global.output)
    }
}
