//! `ceteris data show`

use ceteris::import::summary::summary;
use ceteris_proto::v1;
use ceteris_shared::dataset::{MAX_MANIFEST_BYTES, Manifest};
use clap::Args;

use crate::{context::Global, failure::Failure, output};

/// Show what a data set holds: images per split and class, patients, duplicates.
///
/// Patients and pixel-identical images that are in more than one split leak from training into evaluation, so they are
/// listed by name; all of them with -o json.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris data show kermany
  ceteris data show kermany -o json | jq '.duplicates.across_splits'
  ceteris data show kermany -o csv")]
pub struct Options {
    /// Its name or digest.
    pub name: String,
}

impl Options {
    /// # Errors
    /// When there is no such data set, when its manifest is damaged, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let mut client = global.connect().await?;
        let found = client.rpc.show_dataset(v1::ShowDatasetRequest { name: self.name }).await?.into_inner();
        let digest = found
            .manifest
            .parse()
            .map_err(|error| Failure::infrastructure(format!("the coordinator's answer is not understood: {error}")))?;
        let bytes = client.get_bytes(digest, MAX_MANIFEST_BYTES).await?;
        let manifest = Manifest::from_bytes(&bytes).map_err(|error| Failure::infrastructure(error.to_string()))?;
        output::print(&summary(&manifest), global.output)
    }
}
