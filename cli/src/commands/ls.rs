//! `ceteris ls`

use ceteris_proto::v1;
use ceteris_shared::document::Experiments;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output};

/// List experiments, the newest first.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris ls
  ceteris ls -o json | jq -r '.experiments[] | select(.state == \"running\") | .id'")]
pub struct Options {}

impl Options {
    /// # Errors
    /// When the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let answer = global.connect().await?.rpc.list_experiments(v1::ListExperimentsRequest {}).await?;
        output::print(&client::parse::<Experiments>(answer)?, global.output)
    }
}
