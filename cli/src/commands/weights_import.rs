//! `ceteris weights import`

use std::{path::PathBuf, sync::Arc};

use ceteris::weights_file::{self, Converted};
use ceteris_proto::v1;
use ceteris_shared::{architecture::Arch, document::Weights, spec::validate_name};
use clap::Args;

use crate::{
    client::{self, Source},
    context::Global,
    failure::Failure,
    output,
    progress::{Progress, Unit},
};

/// Import initial weights under a name that specs use as `init`.
///
/// Reads torchvision's .pth files (of old and new key styles, without executing what is in them) and safetensors, finds
/// out by every name and shape which network they are of (densenet121, densenet169, densenet201 or resnet50), and stores
/// them as fp32 safetensors. The classifier is not used: each run gets a new one for its data set's classes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris weights import densenet121-a639ec97.pth --name imagenet
  ceteris weights import densenet121-distilled.safetensors --name distilled
then, in a spec:
  [model]
  init = \"imagenet\"")]
pub struct Options {
    /// The file: .pth, .pt or .safetensors.
    pub file: PathBuf,
    /// What specs call it; a name always means the same weights.
    #[arg(long)]
    pub name: String,
}

impl Options {
    /// # Errors
    /// When the file is refused, when the name is taken, or when the coordinator cannot be reached.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        validate_name("--name", &self.name).map_err(|error| Failure::usage(error.to_string()))?;
        let mut client = global.connect().await?;
        let folder = tempfile::tempdir().map_err(|error| Failure::io("make a temporary folder", &error))?;
        let (input, converted) = (self.file.clone(), folder.path().join("weights.safetensors"));
        let written = converted.clone();
        let file: Converted = tokio::task::spawn_blocking(move || weights_file::convert(&input, &written))
            .await
            .map_err(|error| Failure::infrastructure(format!("reading the weights ended: {error}")))?
            .map_err(|error| refused(&self.file, &error))?;
        let progress = Progress::new(global, "uploading", Unit::Bytes, file.bytes);
        let counting = progress.clone();
        let on = Arc::new(move |more| counting.add(more));
        let existed = client.put_blob(file.digest, file.bytes, Source::File(converted), on).await?;
        progress.finish();
        let request = v1::RegisterWeightsRequest {
            name: self.name.clone(),
            digest: file.digest.to_string(),
            arch: file.arch.name().to_owned(),
        };
        let weights = client::parse::<Weights>(client.rpc.register_weights(request).await?)?;
        let head = file.classes.map(|classes| format!(", their {classes}-class head is not used")).unwrap_or_default();
        let stored = if existed { "; they were stored already" } else { "" };
        let arch = file.arch.name();
        global.note(format!("{arch}: {} tensors, {}{head}{stored}", file.tensors, output::bytes(file.bytes)));
        output::print(&weights, global.output)
    }
}

fn refused(path: &std::path::Path, error: &weights_file::Error) -> Failure {
    match error {
        weights_file::Error::Read { path, source } => Failure::io(format!("read {}", path.display()), source),
        weights_file::Error::Write { path, source } => Failure::io(format!("write {}", path.display()), source)
            .help("the temporary folder is full or read-only: name another one with the variable TMPDIR"),
        error => Failure::usage(format!("{}: {error}", path.display())).help(format!(
            "give weights of torchvision's {}: a .pth of torch.save(model.state_dict()) or safetensors",
            Arch::ALL.map(Arch::name).join(", ")
        )),
    }
}
