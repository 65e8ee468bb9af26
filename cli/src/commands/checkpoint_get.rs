//! `ceteris checkpoint get`

use std::{path::PathBuf, sync::Arc};

use ceteris_proto::v1;
use ceteris_shared::{
    checkpoint::{MAX_MANIFEST_BYTES, Manifest, Role},
    document::{Checkpoint, Checkpoints},
};
use clap::Args;

use crate::{
    checkpoint_file,
    client::{self, Client},
    context::Global,
    failure::Failure,
    file, output,
    progress::{Progress, Unit},
    render,
};

/// The largest part that is fetched; ResNet-50's optimizer state has 200 MB.
const MAX_PART_BYTES: u64 = 1 << 30;

/// Fetch a checkpoint as one safetensors file that torchvision's model loads with strict=True.
///
/// Every part is verified against its digest. The network and the classes, in the order of the outputs, stand in
/// the file's metadata.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris checkpoint get 8f14e45f --to model.safetensors
  ceteris checkpoint get 8f14e45f --epoch 15 --to epoch15.safetensors --force

In Python:
  model = torchvision.models.densenet121(num_classes=2)
  model.load_state_dict(safetensors.torch.load_file(\"model.safetensors\"), strict=True)
Its input: grey, divided by 255, repeated to three channels, then ImageNet's mean and deviation.")]
pub struct Options {
    /// The run's id or the beginning of one; `ceteris show EXPERIMENT` lists them.
    pub run: String,
    /// The state after this epoch; by default the last committed one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub epoch: Option<u32>,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Overwrite the file if it exists.
    #[arg(long)]
    pub force: bool,
}

impl Options {
    /// # Errors
    /// When there is no such checkpoint, when it is damaged, or when the file exists or cannot be written.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        if !self.force && self.to.exists() {
            return Err(file::exists(&self.to));
        }
        let mut client = global.connect().await?;
        let answer = client.rpc.list_checkpoints(v1::RunRequest { run: self.run }).await?;
        let checkpoints = client::parse::<Checkpoints>(answer)?;
        let checkpoint = choose(&checkpoints, self.epoch)?;
        let bytes = client.get_bytes(checkpoint.manifest, MAX_MANIFEST_BYTES).await?;
        let manifest = Manifest::from_bytes(&bytes).map_err(|error| Failure::infrastructure(error.to_string()))?;
        let (frozen, trained) = parts(global, &mut client, &manifest).await?;
        let file = checkpoint_file::merge(&manifest, &frozen, &trained)
            .map_err(|error| Failure::infrastructure(error.to_string()))?;
        file::write(&self.to, &file, self.force)?;
        global.note(format!(
            "wrote {} ({}): {} seed {} after epoch {}; outputs are {}",
            self.to.display(),
            output::bytes(file.len() as u64),
            checkpoints.arm,
            checkpoints.seed,
            manifest.epoch,
            manifest.classes.join(", ")
        ));
        let told = render::Fetched {
            run: checkpoints.run,
            epoch: manifest.epoch,
            lineage: manifest.key,
            classes: manifest.classes,
            file: self.to,
            bytes: file.len() as u64,
        };
        output::print(&told, global.output)
    }
}

fn choose(checkpoints: &Checkpoints, epoch: Option<u32>) -> Result<&Checkpoint, Failure> {
    let run = checkpoints.run.short();
    let Some(last) = checkpoints.epochs.last() else {
        return Err(Failure::usage(format!("run {run} has no committed epoch yet"))
            .help(format!("`ceteris explain {run}` says what it waits for")));
    };
    let Some(epoch) = epoch else { return Ok(last) };
    checkpoints.epochs.iter().find(|checkpoint| checkpoint.epoch.0 == epoch).ok_or_else(|| {
        Failure::usage(format!("run {run} has no checkpoint of epoch {epoch}; its last is {}", last.epoch))
            .help(format!("`ceteris checkpoint ls {run}` lists them"))
    })
}

/// The frozen and the trained part; the optimizer's state is of no use elsewhere.
async fn parts(global: &Global, client: &mut Client, manifest: &Manifest) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let wanted = |role| manifest.parts.iter().find(|part| part.role == role);
    let (Some(frozen), Some(trained)) = (wanted(Role::Frozen), wanted(Role::Trained)) else {
        return Err(Failure::infrastructure("the checkpoint's manifest lacks a part"));
    };
    let progress = Progress::new(global, "fetching", Unit::Bytes, frozen.bytes.saturating_add(trained.bytes));
    let mut fetched = Vec::new();
    for part in [frozen, trained] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let counting = progress.clone();
        let limit = part.bytes.min(MAX_PART_BYTES);
        client.get_blob(part.digest, limit, &mut bytes, Arc::new(move |more| counting.add(more))).await?;
        fetched.push(bytes.into_inner());
    }
    progress.finish();
    let trained = fetched.pop().unwrap_or_default();
    Ok((fetched.pop().unwrap_or_default(), trained))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn the_last_epoch_is_the_default_and_others_are_found() {
        let checkpoints = fixtures::checkpoints();
        assert_eq!(choose(&checkpoints, None).map(|c| c.epoch.0), Ok(2));
        assert_eq!(choose(&checkpoints, Some(1)).map(|c| c.epoch.0), Ok(1));
        insta::assert_snapshot!(choose(&checkpoints, Some(9)).unwrap_err());
        insta::assert_snapshot!(choose(&Checkpoints { epochs: Vec::new(), ..checkpoints.clone() }, None).unwrap_err());
    }
}
