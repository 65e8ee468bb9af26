//! Reading a checkpoint of everything: from files to a network and an optimizer that could make the next step.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use burn::tensor::Device;
use ceteris_shared::{
    architecture::{Arch, Part},
    spec::optimization::Optimization,
};
use clap::Args;
use serde_json::json;

use super::{Machine, material, serve, synchronise};
use crate::{
    backend::{Compute, host},
    checkpoint::Parts,
    engine::Step,
    loss::{CrossEntropy, Targets},
    model::Network,
    optimizer::Optimizer,
    tensors::Contents,
};

/// `bench load`
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
    /// Images in the one step
    #[arg(long, value_name = "N")]
    batch: usize,
    /// Its learning rate
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    lr: f64,
    /// An existing folder for the checkpoint
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let machine = &options.machine;
    let opened = machine.open()?;
    let device = &opened.device;
    let compute = machine.compute(false);
    let parts = save(options, compute, device)?;
    let load = || -> Result<(Network, Optimizer)> {
        let (arch, classes) = (Arch::Densenet121, material::CLASSES);
        let network = Network::new(&parts.state()?, arch, classes, Part::Stem, compute, device)?;
        let optimizer = parts.optimizer(&Optimization::default(), arch, Part::Stem, classes, device)?;
        synchronise(device)?;
        Ok((network, optimizer))
    };
    for _ in 0..machine.warm_up {
        load()?;
    }
    let (network, optimizer) = load()?;
    let mut first = machine.facts(&opened);
    let moments = optimizer.state().tensors.0.into_iter().filter(|(name, _)| name.ends_with(".moment1"));
    let norms = [norm(host(&network.parameters())), norm(moments.flat_map(|(_, moment)| moment.values))];
    first.insert("norm".to_owned(), json!(norms));
    first.insert("bytes".to_owned(), json!(bytes(&parts)?));
    drop((network, optimizer));
    serve(first, |loads| {
        let began = Instant::now();
        for _ in 0..loads {
            load()?;
        }
        Ok(json!({ "seconds": began.elapsed().as_secs_f64(), "loads": loads, "images": 0 }))
    })
}

/// Makes one step, and writes what training writes after it.
fn save(options: &Options, compute: Compute, device: &Device) -> Result<Parts> {
    let mut network = material::network(&options.weights, Part::Stem, compute, device)?;
    let batch = material::images(&options.images, options.batch, compute, device)?;
    let settings = Optimization::default();
    let mut optimizer = Optimizer::new(&settings, &network.trained_parameters());
    let loss = CrossEntropy::new(&settings, &[1; material::CLASSES]);
    let step = Step { loss: &loss, accumulate: 1, lr: options.lr };
    step.make(&mut network, &mut optimizer, batch.images, &Targets::new(&batch.labels));
    let parts = Parts::in_folder(&options.scratch);
    Contents { tensors: network.frozen_state(), step: None }.write(&parts.frozen)?;
    Contents { tensors: network.trained_state(), step: None }.write(&parts.trained)?;
    optimizer.state().write(&parts.optimizer)?;
    Ok(parts)
}

fn norm(values: impl IntoIterator<Item = f32>) -> f64 {
    values.into_iter().map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

fn bytes(parts: &Parts) -> Result<u64> {
    let size = |file: &PathBuf| {
        let found = fs::metadata(file).with_context(|| format!("{} cannot be read", file.display()));
        found.map(|found| found.len())
    };
    Ok(size(&parts.frozen)? + size(&parts.trained)? + size(&parts.optimizer)?)
}
