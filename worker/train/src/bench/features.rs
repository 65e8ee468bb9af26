//! Batches through the backbone in inference mode.

use std::{path::PathBuf, time::Instant};

use anyhow::Result;
use burn::tensor::DType;
use ceteris_shared::architecture::Part;
use clap::Args;
use serde_json::json;

use super::{Machine, material, serve, synchronise};

/// `bench features`
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    machine: Machine,
    /// safetensors with torchvision's names
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// safetensors with `images` and `labels`
    #[arg(long, value_name = "FILE")]
    images: PathBuf,
    /// Images in a batch
    #[arg(long, value_name = "N")]
    batch: usize,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let machine = &options.machine;
    let opened = machine.open()?;
    let device = &opened.device;
    let compute = machine.compute(false);
    let network = material::network(&options.weights, Part::Head, compute, device)?;
    let batch = material::images(&options.images, options.batch, compute, device)?;
    let pass = || network.features(batch.images.clone());
    for _ in 1..machine.warm_up {
        pass();
    }
    let pooled: Vec<f32> = pass().slice(0..1).cast(DType::F32).into_data().try_into_vec()?;
    let mut first = machine.facts(&opened);
    first.insert("features".to_owned(), json!(pooled));
    serve(first, |count| {
        let began = Instant::now();
        for _ in 0..count {
            pass();
        }
        synchronise(device)?;
        Ok(json!({ "seconds": began.elapsed().as_secs_f64(), "images": count as usize * options.batch }))
    })
}
