//! `ceteris resume`

use ceteris_proto::v1;
use ceteris_shared::document::Experiment;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output, render};

/// Let a paused experiment go on, from where each run is.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris resume kermany
  ceteris resume 1c3a6e5f -o json")]
pub struct Options {
    /// Its id, the beginning of one, or a name (the newest of that name).
    pub experiment: String,
}

impl Options {
    /// # Errors
    /// When there is no such experiment, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let request = v1::ExperimentRequest { experiment: self.experiment };
        let answer = global.connect().await?.rpc.resume(request).await?;
        let experiment = client::parse::<Experiment>(answer)?;
        global.note(render::experiment::headline(&experiment));
        output::print(&experiment, global.output)
    }
}
