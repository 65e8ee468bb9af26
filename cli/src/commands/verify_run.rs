//! `ceteris verify run`

use ceteris_proto::v1;
use ceteris_shared::{
    document::{Experiment, Verification},
    ids::ExperimentId,
};
use clap::Args;

use super::watch;
use crate::{client, context::Global, failure::Failure, output};

/// Train a run again, alone, and see whether its weights come out the same after every epoch.
///
/// Needs a worker of the run's environment class. What is damaged of the run's checkpoints and predictions in the object
/// store is made whole by this too.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris verify run 8f14e45f
  ceteris verify run 8f14e45f --from 15      only the epochs after the 15th
  ceteris verify run 8f14e45f -o json

Exit codes: 0 if everything came out the same · 5 if not, or if it could not be trained.")]
pub struct Options {
    /// The run's id or the beginning of one; `ceteris show EXPERIMENT` lists them.
    pub run: String,
    /// Begin from the state after this epoch instead of from the beginning.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub from: u32,
}

impl Options {
    /// # Errors
    /// When the run is not trained to its end, when something differs, or when the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let mut client = global.connect().await?;
        let verification = ExperimentId(uuid::Uuid::new_v4()).to_string();
        let request = v1::VerifyRequest { run: self.run, from: self.from, verification };
        let experiment = client::parse::<Experiment>(client.rpc.verify(request).await?)?;
        global.note(format!("trained again by {} ({})", experiment.name, experiment.id));
        let end = watch::follow(global, &experiment.id.to_string()).await?;
        let request = v1::ExperimentRequest { experiment: experiment.id.to_string() };
        let verification = client::parse::<Verification>(client.rpc.show_verification(request).await?)?;
        output::print(&verification, global.output)?;
        match (verification.equal, verification.first_difference) {
            (Some(true), _) => Ok(()),
            (_, Some(difference)) => Err(Failure::infrastructure(format!(
                "the run does not come out the same: {difference}; nothing that rests on it is to be trusted until it is known why"
            ))),
            _ => watch::ended(global, &end),
        }
    }
}
