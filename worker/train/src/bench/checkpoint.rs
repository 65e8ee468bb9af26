//! Epochs that end in a checkpoint. Each stretch of them is one execution, which goes on from the last checkpoint.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use ceteris_shared::{
    architecture::Part,
    plan::Work,
    trainer::{EpochReport, Report},
};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    Machine,
    executions::{Arms, Executions, Given, start},
    serve,
};
use crate::{
    backend::Opened,
    checkpoint::Parts,
    engine::{Control, Meter, Outcome, train_metered},
};

/// Epochs of the run; more than anyone waits for.
const EPOCHS: u32 = 10_000;
const LEARNING_RATE: f64 = 1e-3;

/// `bench checkpoint`
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    given: Given,
    /// What is trained
    #[arg(long, value_name = "T")]
    trainable: Trainable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Trainable {
    All,
    Head,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let machine = &options.machine;
    let opened = machine.open()?;
    let (train, first) = match options.trainable {
        Trainable::All => ("all", Part::Stem),
        Trainable::Head => ("head", Part::Head),
    };
    let arms = Arms { train, lrs: &[LEARNING_RATE], seeds: &[0], epochs: EPOCHS };
    let Some(left) = options.given.works(machine, &arms)?.pop() else { bail!("one arm with one seed is no run") };
    let executions = options.given.prepare(first)?;
    executions.forget_features()?;
    let mut run = Run { executions, opened: &opened, left, last: None, folder: 0 };
    if machine.warm_up > 0 {
        run.epochs(machine.warm_up)?;
    }
    serve(machine.facts(&opened), |epochs| run.epochs(epochs))
}

/// A run that is trained in stretches.
struct Run<'a> {
    executions: Executions,
    opened: &'a Opened,
    /// What is not trained yet.
    left: Work,
    last: Option<EpochReport>,
    /// The folder that is written to next: another one than that of the last checkpoint.
    folder: usize,
}

impl Run<'_> {
    fn epochs(&mut self, count: u32) -> Result<Value> {
        let mut work = self.left.clone();
        work.epochs.truncate(count as usize);
        // The run goes on: test data are for its end.
        work.endpoint = false;
        if work.epochs.len() < count as usize || count == 0 {
            bail!("{count} epochs were asked for, and {} are left", self.left.epochs.len());
        }
        self.left.epochs.drain(..count as usize);
        let mut request = self.executions.request(&format!("stretch-{}", self.folder), work)?;
        self.folder = 1 - self.folder;
        if let Some(last) = &self.last {
            let [frozen, trained, optimizer] = [&last.frozen, &last.trained, &last.optimizer].map(PathBuf::clone);
            request.start = start(&Parts { frozen, trained, optimizer });
        }
        let (meter, mut images) = (Meter::default(), 0);
        let outcome = train_metered(&request, self.opened, &Control::alone(), &meter, &mut |report| {
            if let Report::Epoch(report) = report {
                images += report.spent.samples;
                self.last = Some(*report);
            }
        })?;
        let (Outcome::Finished, Some(last)) = (outcome, &self.last) else { bail!("the epochs were not finished") };
        Ok(json!({
            "seconds": meter.epochs().as_secs_f64(),
            "stall_seconds": meter.checkpoints().as_secs_f64(),
            "images": images,
            "bytes": bytes(last)?,
        }))
    }
}

/// What an epoch's checkpoint wrote. What is frozen is written once in a stage, and not counted.
fn bytes(epoch: &EpochReport) -> Result<u64> {
    let size = |file: &PathBuf| {
        let file_size = fs::metadata(file).map(|found| found.len());
        file_size.with_context(|| format!("{} cannot be read", file.display()))
    };
    Ok(size(&epoch.trained)? + size(&epoch.optimizer)?)
}
