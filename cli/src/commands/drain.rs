//! `ceteris drain`

use ceteris_proto::v1;
use ceteris_shared::document::Workers;
use clap::Args;

use crate::{client, context::Global, failure::Failure, output};

/// Use a worker no more, or one of its devices: before maintenance, or because it is broken.
///
/// Nothing new is begun there, and what runs is handed back after its epoch: another worker goes on from that checkpoint. It stays so,
/// also when the worker or the coordinator starts again, until it is undone.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris drain gpu-03                                    the whole machine
  ceteris drain gpu-03 --slot 1 --slot 2                  two of its devices, counted from 0
  ceteris drain gpu-03 --undo")]
pub struct Options {
    /// Its name, its id or the beginning of one; `ceteris workers` lists them.
    pub worker: String,
    /// Only this slot, counted from 0 in the order of the worker's devices; may be given several times.
    #[arg(long, value_name = "N")]
    slot: Vec<u32>,
    /// Use all of it again.
    #[arg(long, conflicts_with = "slot")]
    undo: bool,
}

impl Options {
    /// # Errors
    /// When there is no such worker, several have the name, or the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let request = v1::DrainRequest { worker: self.worker, slots: self.slot, undo: self.undo };
        let answer = global.connect().await?.rpc.drain(request).await?;
        let workers = client::parse::<Workers>(answer)?;
        if workers.workers.iter().any(|worker| !worker.drained_slots.is_empty() && !worker.attempts.is_empty()) {
            global.note("what runs there is handed back after its epoch; `ceteris workers` shows when it is gone");
        }
        output::print(&workers, global.output)
    }
}
