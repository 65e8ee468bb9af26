//! `ceteris storage check`

use ceteris_proto::v1;
use ceteris_shared::document::Storage;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output};

/// Hold the object store against the database: what is missing, damaged, or named by nothing.
///
/// Changes nothing. A checkpoint that is missing or damaged is trained again when something goes on from it; a data set or
/// weights are imported again. Ends with exit code 5 where something is missing or damaged.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris storage check           presence and length of every object
  ceteris storage check --read    every byte")]
pub struct Options {
    /// Read every object to its end and check its digest.
    #[arg(long)]
    pub read: bool,
}

impl Options {
    /// # Errors
    /// When something is missing or damaged, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let answer = global.connect().await?.rpc.check_storage(v1::CheckStorageRequest { read: self.read }).await?;
        let storage = client::parse::<Storage>(answer)?;
        output::print(&storage, global.output)?;
        match storage.unusable_in_all {
            0 => Ok(()),
            count => Err(Failure::infrastructure(format!("{} cannot be used", output::count(count, "object")))),
        }
    }
}
