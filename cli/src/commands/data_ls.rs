//! `ceteris data ls`

use ceteris_proto::v1;
use ceteris_shared::document::Datasets;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output};

/// List data sets: size, images, patients, classes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris data ls
  ceteris data ls -o csv > counts.csv      images per split and class")]
pub struct Options {}

impl Options {
    /// # Errors
    /// When the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let answer = global.connect().await?.rpc.list_datasets(v1::ListDatasetsRequest {}).await?;
        output::print(&client::parse::<Datasets>(answer)?, global.output)
    }
}
