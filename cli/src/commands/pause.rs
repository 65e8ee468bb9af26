//! `ceteris pause`

use ceteris_proto::v1;
use ceteris_shared::document::Experiment;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output, render};

/// Pause an experiment: nothing of it is started until it is resumed, and what is running stops after its epoch.
///
/// Nothing that is committed is lost. Workers train other experiments meanwhile.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris pause kermany
  ceteris pause 1c3a6e5f -o json")]
pub struct Options {
    /// Its id, the beginning of one, or a name (the newest of that name).
    pub experiment: String,
}

impl Options {
    /// # Errors
    /// When there is no such experiment, it has ended, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let request = v1::ExperimentRequest { experiment: self.experiment };
        let answer = global.connect().await?.rpc.pause(request).await?;
        let experiment = client::parse::<Experiment>(answer)?;
        global.note(render::experiment::headline(&experiment));
        let running = experiment.segments.iter().filter(|segment| segment.worker.is_some()).count();
        if running > 0 {
            global.note("what is in flight stops after its epoch");
        }
        output::print(&experiment, global.output)
    }
}
