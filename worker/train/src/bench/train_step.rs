//! Steps of training everything: forward, loss, backward, update.

use std::{path::PathBuf, thread, time::Instant};

use anyhow::{Result, bail};
use burn::tensor::Tensor;
use ceteris_shared::{architecture::Part, dataset::Split, ids::Epoch, spec::optimization::Optimization};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{
    Machine,
    input::FLIPS,
    material::{self, in_float},
    serve, synchronise,
};
use crate::{
    backend::{Compute, Opened, Ways, allocator},
    data::{Dataset, Plan, load},
    engine::{self, Step},
    local,
    loss::{CrossEntropy, Targets},
    optimizer::Optimizer,
};

/// Of the order of images and their flips, with `--data`.
const SEED: u64 = 0;

/// `bench train-step`
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    machine: Machine,
    /// safetensors with torchvision's names
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// safetensors with `images` and `labels`; the first ones are resident
    #[arg(long, value_name = "FILE", required_unless_present = "data", conflicts_with = "data")]
    images: Option<PathBuf>,
    /// A packed data set, of which full batches are read, flipped in half of the cases
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Images in a step
    #[arg(long, value_name = "N")]
    batch: usize,
    /// What is kept from forward for backward
    #[arg(long, value_name = "M", default_value = "normal")]
    memory: Memory,
    /// Learning rate
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    lr: f64,
    /// Of the engine's own ways, those not to go
    #[arg(long, value_name = "WAY")]
    without: Vec<Way>,
}

/// What makes a step fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// The network as one operation on libtorch's autograd
    OneOperation,
    /// Normalisation, ReLU and convolution in one pass
    FusedNorm,
    /// Adam in one pass
    OnePassAdam,
}

impl Options {
    fn compute(&self) -> Compute {
        let compute = self.machine.compute(self.memory == Memory::Low);
        let goes = |way| !self.without.contains(&way);
        let ways = Ways { one_operation: goes(Way::OneOperation), fused_norm: goes(Way::FusedNorm) };
        Compute { ways, ..compute }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Memory {
    Normal,
    Low,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let machine = &options.machine;
    let opened = machine.open()?;
    let device = &opened.device;
    let compute = options.compute();
    allocator::suit(compute);
    match (&options.images, &options.data) {
        (Some(file), _) => {
            let batch = material::images(file, options.batch, compute, device)?;
            steps(options, &opened, || (batch.images.clone(), batch.labels.clone()))
        }
        (None, Some(folder)) => {
            let dataset = Dataset::open(&local::dataset(folder)?)?;
            let train = dataset.split(Split::Train);
            if train.len() < options.batch {
                bail!("{} has {} training images, and --batch is {}", folder.display(), train.len(), options.batch);
            }
            thread::scope(|scope| {
                let mut batches = (1..).flat_map(|epoch| {
                    let mut plan = Plan::of_epoch(&train, options.batch, FLIPS, SEED, Epoch(epoch));
                    plan.batches.retain(|batch| batch.len() == options.batch);
                    load(scope, &dataset, plan)
                });
                steps(options, &opened, || {
                    let batch = batches.next().expect("epoch follows epoch, each of a batch or more");
                    (in_float(engine::images(&batch, device), compute), batch.labels.clone())
                })
            })
        }
        (None, None) => bail!("neither --images nor --data says what to train on"),
    }
}

/// Steps on what `next` gives, as stdin asks for them.
fn steps(options: &Options, opened: &Opened, mut next: impl FnMut() -> (Tensor<4>, Vec<u32>)) -> Result<()> {
    let (machine, device) = (&options.machine, &opened.device);
    let compute = options.compute();
    let mut network = material::network(&options.weights, Part::Stem, compute, device)?;
    let settings = Optimization::default();
    let optimizer = Optimizer::new(&settings, &network.trained_parameters());
    let mut optimizer =
        if options.without.contains(&Way::OnePassAdam) { optimizer.in_single_operations() } else { optimizer };
    let loss = CrossEntropy::new(&settings, &[1; material::CLASSES]);
    let mut steps = |count: u32| -> Vec<f64> {
        let step = Step { loss: &loss, accumulate: 1, lr: options.lr };
        let mut make = || {
            let (images, labels) = next();
            step.make(&mut network, &mut optimizer, images, &Targets::new(&labels))
        };
        (0..count).map(|_| make()).collect()
    };
    let mut first = machine.facts(opened);
    first.insert("losses".to_owned(), json!(steps(machine.warm_up)));
    serve(first, |count| {
        let began = Instant::now();
        let losses = steps(count);
        synchronise(device)?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(json!({ "seconds": seconds, "images": count as usize * options.batch, "losses": losses }))
    })
}
