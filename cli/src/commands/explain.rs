//! `ceteris explain`

use ceteris_proto::v1;
use ceteris_shared::document::Explanation;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output};

/// Say in one paragraph why a run is where it is: what it waits for, who trains it, why it failed.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris explain 8f14e45f
  ceteris show kermany -o csv | tail -n +2 | cut -d, -f4 | xargs -n1 ceteris explain")]
pub struct Options {
    /// The run's id or the beginning of one; `ceteris show EXPERIMENT` lists them.
    pub run: String,
}

impl Options {
    /// # Errors
    /// When there is no such run, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let answer = global.connect().await?.rpc.explain_run(v1::RunRequest { run: self.run }).await?;
        output::print(&client::parse::<Explanation>(answer)?, global.output)
    }
}
