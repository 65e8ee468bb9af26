//! Heads on a frozen backbone, one execution for each learning rate and seed, with no features kept before.

use std::time::Instant;

use anyhow::{Result, bail};
use ceteris_shared::{architecture::Part, plan::Work, trainer::Report};
use clap::Args;
use serde_json::{Value, json};

use super::{
    Machine,
    executions::{Arms, Executions, Given, training_loss},
    serve,
};
use crate::{
    backend::Opened,
    engine::{Control, Meter, Outcome, train_metered},
};

/// `bench frozen-sweep`
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    given: Given,
    /// Learning rates
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', required = true)]
    lrs: Vec<f64>,
    /// Seeds
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', required = true)]
    seeds: Vec<u64>,
    /// Epochs of each arm
    #[arg(long, value_name = "N")]
    epochs: u32,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let machine = &options.machine;
    let opened = machine.open()?;
    let arms = Arms { train: "head", lrs: &options.lrs, seeds: &options.seeds, epochs: options.epochs };
    let works = options.given.works(machine, &arms)?;
    let executions = options.given.prepare(Part::Head)?;
    for _ in 0..machine.warm_up {
        sweep(&executions, &works, &opened)?;
    }
    let mut first = machine.facts(&opened);
    first.insert("orders".to_owned(), json!(works.first().map(|work| executions.orders(work))));
    serve(first, |sweeps| {
        let began = Instant::now();
        let mut answer = Value::Null;
        for _ in 0..sweeps {
            answer = sweep(&executions, &works, &opened)?;
        }
        answer["seconds"] = json!(began.elapsed().as_secs_f64());
        Ok(answer)
    })
}

/// Trains all arms. What it tells is of this sweep.
fn sweep(executions: &Executions, works: &[Work], opened: &Opened) -> Result<Value> {
    executions.forget_features()?;
    let meter = Meter::default();
    let (mut losses, mut heads, mut seen) = (Vec::new(), 0, 0);
    for (index, work) in works.iter().enumerate() {
        let request = executions.request("arm", work.clone())?;
        let outcome = train_metered(&request, opened, &Control::alone(), &meter, &mut |report| {
            if let Report::Epoch(report) = report {
                seen += report.spent.samples;
                losses.extend(training_loss(&report.metrics).filter(|_| index == 0));
            }
        })?;
        if outcome != Outcome::Finished {
            bail!("arm {index} was stopped, and nobody asked for it");
        }
        heads += 1;
    }
    let samples = executions.dataset.all().len();
    Ok(json!({
        "images": seen, "samples": samples, "backbone_samples": meter.frozen_samples(), "heads": heads, "losses": losses,
    }))
}
