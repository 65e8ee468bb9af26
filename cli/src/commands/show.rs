//! `ceteris show`

use ceteris_proto::v1;
use ceteris_shared::document::Experiment;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output};

/// Show an experiment: what it was, how far each run is, why runs failed.
///
/// With -o json also the values of every epoch, what each run cost, and the segments that are scheduled.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris show kermany
  ceteris show 1c3a6e5f -o json | jq '.arms[].runs[] | {arm, seed, state, val}'
  ceteris show kermany -o csv > runs.csv")]
pub struct Options {
    /// Its id, the beginning of one, or a name (the newest of that name).
    pub experiment: String,
}

impl Options {
    /// # Errors
    /// When there is no such experiment, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let request = v1::ExperimentRequest { experiment: self.experiment };
        let answer = global.connect().await?.rpc.show_experiment(request).await?;
        output::print(&client::parse::<Experiment>(answer)?, global.output)
    }
}
