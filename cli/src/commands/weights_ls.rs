//! `ceteris weights ls`

use ceteris_proto::v1;
use ceteris_shared::document::Weights;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output};

/// List initial weights.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris weights ls
  ceteris weights ls -o json")]
pub struct Options {}

impl Options {
    /// # Errors
    /// When the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let answer = global.connect().await?.rpc.list_weights(v1::ListWeightsRequest {}).await?;
        output::print(&client::parse::<Weights>(answer)?, global.output)
    }
}
