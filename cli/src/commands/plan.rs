//! `ceteris plan`

use std::path::{Path, PathBuf};

use ceteris_proto::v1;
use ceteris_shared::{
    document::Plan,
    ids::ExperimentId,
    plan::{self, Pins},
    spec::ExperimentSpec,
};
use clap::Args;

use crate::{
    client,
    context::Global,
    failure::{Exit, Failure},
    output, spec_file,
};

/// Say what a spec would do and cost, and which contrasts can be significant, without submitting it.
///
/// With a coordinator, the names of data sets and weights are looked up and pinned. Without one, the plan is made here
/// and says that names are not resolved.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris plan examples/kermany.toml
  ceteris plan grid.toml --offline
  ceteris plan grid.toml -o json | jq '{runs, epochs_to_train, saving}'")]
pub struct Options {
    /// The spec: TOML, JSON or YAML by its extension; - is TOML on stdin.
    pub file: PathBuf,
    /// Do not ask a coordinator.
    #[arg(long)]
    pub offline: bool,
}

impl Options {
    /// # Errors
    /// When the spec is refused.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let spec = spec_file::read(&self.file)?.spec;
        let plan = if self.offline {
            local(&self.file, &spec)?
        } else {
            match global.connect().await {
                Ok(mut client) => {
                    let spec = spec_file::to_json(&spec);
                    client::parse::<Plan>(client.rpc.plan(v1::PlanRequest { spec }).await?)?
                }
                // A URL or a token that is wrong is a mistake; a coordinator that is not there is not needed here.
                Err(failure) if failure.exit == Exit::Infrastructure => {
                    global.note(format!("no coordinator at {}: planned without one", global.coordinator));
                    local(&self.file, &spec)?
                }
                Err(failure) => return Err(failure),
            }
        };
        output::print(&plan, global.output)
    }
}

fn local(file: &Path, spec: &ExperimentSpec) -> Result<Plan, Failure> {
    let planned = plan::plan(ExperimentId(uuid::Uuid::nil()), spec, &Pins::default())
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    Ok(Plan::new(spec, &planned, None))
}
