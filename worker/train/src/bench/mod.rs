//! `ceteris-train bench SUBJECT`: the engine's parts as programs that a benchmark drives.
//!
//! Each reads what its flags name, does its warm-up, prints one line of JSON, and then does as many units of work as each
//! line `go N` on stdin says and answers with a line. What is measured is what training calls, not a copy of it.
//! `cargo xtask bench` documents the protocol, and sets these beside PyTorch.

mod checkpoint;
mod executions;
mod features;
mod frozen_sweep;
mod input;
mod load;
mod material;
mod partial;
mod train_step;

use std::io::{self, BufRead, Write};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::backend::{self, Compute, DeviceName, Float, Opened};

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub enum Subject {
    /// Steps of training everything
    TrainStep(train_step::Options),
    /// Batches through the backbone in inference mode
    Features(features::Options),
    /// Many heads on a frozen backbone
    FrozenSweep(frozen_sweep::Options),
    /// Epochs of an arm that trains the last dense block
    Partial(partial::Options),
    /// Epochs that end in a checkpoint
    Checkpoint(checkpoint::Options),
    /// Passes over a packed data set, as batches
    Input(input::Options),
    /// Reading a checkpoint of everything
    Load(load::Options),
}

/// How a subject computes.
#[derive(Clone, Debug, Args)]
pub struct Machine {
    /// Threads within an operation
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: u32,
    /// `cpu`, `cuda:0` for the first GPU, `auto` or `flex`
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceName,
    /// Arithmetic
    #[arg(long, value_name = "P", default_value = "fp32")]
    precision: Precision,
    /// Order of an activation's numbers in memory
    #[arg(long, value_name = "L", default_value = "auto")]
    layout: Layout,
    /// Deterministic algorithms, which only differ on GPUs
    #[arg(long)]
    deterministic: bool,
    /// Units of work before the first line
    #[arg(long, value_name = "N", default_value_t = 0)]
    warm_up: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Precision {
    Fp64,
    Fp32,
    Tf32,
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layout {
    Auto,
    #[value(name = "contiguous")]
    Contiguous,
    #[value(name = "channels_last")]
    ChannelsLast,
}

impl Machine {
    fn open(&self) -> Result<Opened> {
        let opened = backend::open(self.device, self.threads)?;
        backend::configure(self.deterministic, self.precision == Precision::Tf32)?;
        Ok(opened)
    }

    fn compute(&self, low_memory: bool) -> Compute {
        let float = match self.precision {
            Precision::Fp64 => Float::Fp64,
            Precision::Fp32 | Precision::Tf32 => Float::Fp32,
            Precision::Bf16 => Float::Bf16,
        };
        Compute { channels_last: self.layout != Layout::Contiguous, low_memory, ..Compute::new(float) }
    }

    /// What the first line says of every subject.
    fn facts(&self, opened: &Opened) -> Map<String, Value> {
        let layout = if self.layout == Layout::Contiguous { "contiguous" } else { "channels_last" };
        let precision = self.precision.to_possible_value().map(|value| value.get_name().to_owned());
        let facts = json!({
            "ready": true,
            "program": concat!("ceteris-train ", env!("CARGO_PKG_VERSION")),
            "libtorch": opened.environment.libtorch,
            "threads": opened.environment.threads,
            "device": opened.environment.device,
            "precision": precision,
            "layout": layout,
        });
        match facts {
            Value::Object(facts) => facts,
            _ => Map::new(),
        }
    }
}

/// Runs a subject until stdin ends.
///
/// # Errors
/// When its inputs cannot be read, or it cannot do its work.
pub fn run(subject: &Subject) -> Result<()> {
    match subject {
        Subject::TrainStep(options) => train_step::run(options),
        Subject::Features(options) => features::run(options),
        Subject::FrozenSweep(options) => frozen_sweep::run(options),
        Subject::Partial(options) => partial::run(options),
        Subject::Checkpoint(options) => checkpoint::run(options),
        Subject::Input(options) => input::run(options),
        Subject::Load(options) => load::run(options),
    }
}

/// Prints the first line, then answers each `go N`.
fn serve(first: Map<String, Value>, mut go: impl FnMut(u32) -> Result<Value>) -> Result<()> {
    print(&Value::Object(first))?;
    while let Some(units) = told()? {
        print(&go(units)?)?;
    }
    Ok(())
}

/// Waits for the next `go N`. None at the end of stdin.
fn told() -> Result<Option<u32>> {
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line).context("stdin cannot be read")? == 0 {
        return Ok(None);
    }
    let units = line.strip_prefix("go ").and_then(|count| count.trim().parse().ok());
    let Some(units) = units else { bail!("{line:?} is not `go N`") };
    Ok(Some(units))
}

fn print(line: &Value) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("stdout cannot be written")
}

/// Waits until `device` has done what it was given.
fn synchronise(device: &Device) -> Result<()> {
    device.sync().map_err(|error| anyhow::anyhow!("the device does not answer: {error:?}"))
}
