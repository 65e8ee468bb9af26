//! `ceteris verify show`

use ceteris_proto::v1;
use ceteris_shared::document::Verification;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output};

/// Show what a verification has found so far.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris verify show verify-8f14e45f
  ceteris verify show 1c3a6e5f -o json")]
pub struct Options {
    /// The verifying experiment's id, the beginning of one, or its name (the newest of that name).
    pub experiment: String,
}

impl Options {
    /// # Errors
    /// When the experiment verifies nothing, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let request = v1::ExperimentRequest { experiment: self.experiment };
        let answer = global.connect().await?.rpc.show_verification(request).await?;
        output::print(&client::parse::<Verification>(answer)?, global.output)
    }
}
