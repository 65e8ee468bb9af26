//! `ceteris retry`

use ceteris_proto::v1;
use ceteris_shared::document::Experiment;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output, render};

/// Try again what failed of an experiment, from the last checkpoint.
///
/// For failures whose cause is mended: a full disk, a GPU without memory, a driver. What diverged is a result and is
/// not tried again.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris retry kermany --failed
  ceteris retry 1c3a6e5f --failed && ceteris watch 1c3a6e5f")]
pub struct Options {
    /// Its id, the beginning of one, or a name (the newest of that name).
    pub experiment: String,
    /// What failed: the only thing that is tried again.
    #[arg(long, required = true)]
    pub failed: bool,
}

impl Options {
    /// # Errors
    /// When nothing failed, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let request = v1::ExperimentRequest { experiment: self.experiment };
        let answer = global.connect().await?.rpc.retry(request).await?;
        let experiment = client::parse::<Experiment>(answer)?;
        global.note(render::experiment::headline(&experiment));
        output::print(&experiment, global.output)
    }
}
