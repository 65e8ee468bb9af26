//! `ceteris share`

use ceteris_proto::v1;
use ceteris_shared::document::Experiment;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output, render};

/// Change how an experiment shares the fleet: its priority, its weight, how much of it is trained at once.
///
/// A higher priority goes first, and takes slots from what has a lower one when that has committed its epoch: nothing that was
/// computed is lost. Experiments of one priority share slots in proportion to their weights. No result depends on any of it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris share kermany --priority 10
  ceteris share kermany --weight 3 --max-concurrent 4
  ceteris share kermany --max-concurrent 0                as many at once as there are slots")]
pub struct Options {
    /// Its id, the beginning of one, or a name (the newest of that name).
    pub experiment: String,
    #[command(flatten)]
    what: What,
}

/// What is changed; the rest stays.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
struct What {
    /// What has a higher one goes first: -1000 to 1000, 0 at submission unless the spec says otherwise.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Its part of the slots, beside that of others of its priority: 1 to 1000.
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Most of its segments that are trained at once; 0 takes the limit away.
    #[arg(long, value_name = "N")]
    max_concurrent: Option<u32>,
    /// Bytes of memory that a device must have for it; 0 where any will do.
    #[arg(long, value_name = "BYTES")]
    device_memory_bytes: Option<u64>,
}

impl Options {
    /// # Errors
    /// When there is no such experiment, it has ended, a value is out of range, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let What { priority, weight, max_concurrent, device_memory_bytes } = self.what;
        let experiment = self.experiment;
        let request = v1::ShareRequest { experiment, priority, weight, max_concurrent, device_memory_bytes };
        let answer = global.connect().await?.rpc.share(request).await?;
        let experiment = client::parse::<Experiment>(answer)?;
        global.note(render::experiment::headline(&experiment));
        output::print(&experiment, global.output)
    }
}
