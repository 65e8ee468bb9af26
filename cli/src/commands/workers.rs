//! `ceteris workers`

use ceteris_proto::v1;
use ceteris_shared::document::Workers;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output};

/// List workers: who is connected, on what device, and what each trains now.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris workers
  ceteris workers -o json | jq '.workers[] | select(.state == \"disconnected\")'")]
pub struct Options {}

impl Options {
    /// # Errors
    /// When the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let answer = global.connect().await?.rpc.list_workers(v1::ListWorkersRequest {}).await?;
        output::print(&client::parse::<Workers>(answer)?, global.output)
    }
}
