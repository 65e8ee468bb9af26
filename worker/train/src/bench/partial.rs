//! Epochs of one arm that trains `denseblock4`, `norm5` and the classifier.
//!
//! They are epochs of one execution, which waits between them as it waits for an agent that does not read: in its
//! report of an epoch's last step. So a unit is the evaluation and the checkpoint of the epoch before, and all steps of
//! the next one.

use std::time::Instant;

use anyhow::{Result, bail};
use ceteris_shared::{architecture::Part, ids::Attempt, trainer::Report};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    Machine,
    executions::{Arms, Given},
    print, told,
};
use crate::engine::{Control, Meter, Outcome, train_metered};

/// Epochs of the execution; more than anyone waits for.
const EPOCHS: u32 = 10_000;
/// Epochs whose order is told.
const ORDERS: usize = 16;

/// `bench partial`
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    given: Given,
    /// Learning rate
    #[arg(long, value_name = "X")]
    lr: f64,
    /// Seed
    #[arg(long, value_name = "N")]
    seed: u64,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let machine = &options.machine;
    let opened = machine.open()?;
    let arms = Arms { train: "denseblock4", lrs: &[options.lr], seeds: &[options.seed], epochs: EPOCHS };
    let Some(mut work) = options.given.works(machine, &arms)?.pop() else { bail!("one arm with one seed is no run") };
    let executions = options.given.prepare(Part::Block4)?;
    executions.forget_features()?;
    let mut first = machine.facts(&opened);
    let epochs = work.epochs.split_off(ORDERS);
    let orders = executions.orders(&work);
    work.epochs.extend(epochs);
    let images = orders.first().map_or(0, Vec::len);
    first.insert("orders".to_owned(), json!(orders));

    let request = executions.request("arm", work)?;
    let (control, meter) = (Control::alone(), Meter::default());
    let mut turns = Turns {
        attempt: request.attempt,
        control: &control,
        meter: &meter,
        images,
        first: Some(first),
        left: machine.warm_up,
        losses: Vec::new(),
        began: Instant::now(),
        passed: 0,
        failed: None,
    };
    let outcome = train_metered(&request, &opened, &control, &meter, &mut |report| turns.hear(&report))?;
    match (turns.failed, outcome) {
        (Some(error), _) => Err(error),
        (None, Outcome::Stopped) => Ok(()),
        (None, Outcome::Finished) => bail!("all {EPOCHS} epochs are trained"),
    }
}

/// Lines from stdin, taken between epochs.
struct Turns<'a> {
    attempt: Attempt,
    control: &'a Control,
    meter: &'a Meter,
    /// Of an epoch.
    images: usize,
    /// The first line, until it is printed.
    first: Option<Map<String, Value>>,
    /// Epochs until the next line.
    left: u32,
    /// Of the epochs since the last line.
    losses: Vec<f64>,
    began: Instant,
    /// Samples through the frozen part before the last line.
    passed: u64,
    failed: Option<anyhow::Error>,
}

impl Turns<'_> {
    fn hear(&mut self, report: &Report) {
        match report {
            Report::Started { .. } => {
                self.began = Instant::now();
                if self.left == 0 {
                    self.turn();
                }
            }
            Report::Progress { step, steps, loss, .. } if step == steps && self.left > 0 => {
                self.losses.push(*loss);
                if let Some(first) = &mut self.first {
                    let seconds = self.began.elapsed().as_secs_f64();
                    first.entry("first_epoch_seconds").or_insert(json!(seconds));
                }
                self.left -= 1;
                if self.left == 0 {
                    self.turn();
                }
            }
            _ => {}
        }
    }

    /// Says what was done, and hears how much is to be done next.
    fn turn(&mut self) {
        match self.say().and_then(|()| told()) {
            Ok(Some(units)) => self.left = units,
            Ok(None) => self.left = 0,
            Err(error) => self.failed = Some(error),
        }
        if self.left == 0 || self.failed.is_some() {
            self.control.request(self.attempt, true);
        }
        self.passed = self.meter.frozen_samples();
        self.losses.clear();
        self.began = Instant::now();
    }

    fn say(&mut self) -> Result<()> {
        let seconds = self.began.elapsed().as_secs_f64();
        if let Some(mut first) = self.first.take() {
            first.insert("losses".to_owned(), json!(self.losses));
            return print(&Value::Object(first));
        }
        print(&json!({
            "seconds": seconds,
            "images": self.losses.len() * self.images,
            "losses": self.losses,
            "backbone_samples": self.meter.frozen_samples() - self.passed,
        }))
    }
}
