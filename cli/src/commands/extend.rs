//! `ceteris extend`

use ceteris_proto::v1;
use ceteris_shared::{document::Experiment, ids::ExperimentId};
use clap::Args;

use super::submit;
use crate::{client, context::Global, failure::Failure};

/// Give an experiment a longer budget: a new experiment, in which only the additional epochs are trained.
///
/// The last stage of each arm becomes longer. Refused where an arm ends in a schedule with a horizon (cosine,
/// one-cycle): in a longer stage the epochs that are trained would have been others.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris extend kermany --epochs 30 --follow
  ceteris extend 1c3a6e5f --epochs 30 --name kermany-30

With --follow, the exit code is 5 if the experiment does not complete.")]
pub struct Options {
    /// Its id, the beginning of one, or a name (the newest of that name).
    pub experiment: String,
    /// The new budget: epochs that every arm spends, those of the old one included.
    #[arg(long, value_name = "N")]
    pub epochs: u32,
    /// What the new experiment is called; the old one's name unless told.
    #[arg(long)]
    pub name: Option<String>,
    /// Stay and show how far it is, until it ends.
    #[arg(long)]
    pub follow: bool,
}

impl Options {
    /// # Errors
    /// When it cannot be extended, or the coordinator cannot be asked; with `--follow`, when the experiment fails.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let mut client = global.connect().await?;
        let id = ExperimentId(uuid::Uuid::new_v4());
        let request = v1::ExtendRequest {
            experiment: self.experiment,
            epochs: self.epochs,
            extension: id.to_string(),
            name: self.name.unwrap_or_default(),
        };
        let experiment = client::parse::<Experiment>(client.rpc.extend(request).await?)?;
        submit::submitted(global, &experiment, self.follow).await
    }
}
