//! `ceteris logs`

use ceteris_proto::v1;
use clap::Args;

use crate::{context::Global, failure::Failure, output};

/// Print what the trainers of a run said, of all its segments and attempts, in the order in which it arrived.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris logs 8f14e45f
  ceteris logs 8f14e45f -f")]
pub struct Options {
    /// The run's id or the beginning of one; `ceteris show EXPERIMENT` lists them.
    pub run: String,
    /// Go on until the run ends.
    #[arg(short, long)]
    pub follow: bool,
}

impl Options {
    /// # Errors
    /// When there is no such run, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let request = v1::RunLogsRequest { run: self.run, follow: self.follow };
        let mut chunks = global.connect().await?.rpc.run_logs(request).await?.into_inner();
        while let Some(chunk) = chunks.message().await? {
            let text: String = chunk.lines.iter().map(|line| output::printable(line) + "\n").collect();
            output::print_text(&text)?;
        }
        Ok(())
    }
}
