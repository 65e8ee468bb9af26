//! Steps of training everything: forward, loss, backward, update.

use std::{path::PathBuf, time::Instant};

use anyhow::Result;
use ceteris_shared::{architecture::Part, spec::optimization::Optimization};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Machine, material, serve, synchronise};
use crate::{
    backend::allocator,
    engine::Step,
    loss::{CrossEntropy, Targets},
    optimizer::Optimizer,
};

/// `bench train-step`
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
    /// Images in a step
    #[arg(long, value_name = "N")]
    batch: usize,
    /// What is kept from forward for backward
    #[arg(long, value_name = "M", default_value = "normal")]
    memory: Memory,
    /// Learning rate
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    lr: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Memory {
    Normal,
    Low,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let machine = &options.machine;
    allocator::suit(options.memory == Memory::Low);
    let opened = machine.open()?;
    let device = &opened.device;
    let compute = machine.compute(options.memory == Memory::Low);
    let mut network = material::network(&options.weights, Part::Stem, compute, device)?;
    let batch = material::images(&options.images, options.batch, compute, device)?;
    let settings = Optimization::default();
    let mut optimizer = Optimizer::new(&settings, &network.trained_parameters());
    let loss = CrossEntropy::new(&settings, &[1; material::CLASSES]);
    let mut steps = |count: u32| -> Vec<f64> {
        let step = Step { loss: &loss, accumulate: 1, lr: options.lr };
        let targets = Targets::new(&batch.labels);
        (0..count).map(|_| step.make(&mut network, &mut optimizer, batch.images.clone(), &targets)).collect()
    };
    let mut first = machine.facts(&opened);
    first.insert("losses".to_owned(), json!(steps(machine.warm_up)));
    serve(first, |count| {
        let began = Instant::now();
        let losses = steps(count);
        synchronise(device)?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(json!({ "seconds": seconds, "images": count as usize * options.batch, "losses": losses }))
    })
}
