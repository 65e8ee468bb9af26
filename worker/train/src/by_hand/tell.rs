//! What a person sees of a run: a line for each report on stderr, and a JSON line for each epoch on stdout.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};
use ceteris_shared::trainer::{EpochReport, Report, Train};
use serde_json::{Map, Value, json};

use crate::files;

/// The line of an epoch, in its folder: written last, so that an epoch with it is complete.
pub const METRICS: &str = "metrics.json";

/// Tells what training reports.
#[derive(Debug)]
pub struct Teller<'a> {
    arm: &'a str,
    train: &'a Train,
    /// The first time that telling failed.
    pub failed: Option<anyhow::Error>,
}

impl<'a> Teller<'a> {
    /// For the training of `train`.
    pub fn new(arm: &'a str, train: &'a Train) -> Self {
        Self { arm, train, failed: None }
    }

    /// Tells one report.
    ///
    /// # Errors
    /// When an epoch's line cannot be written, to its folder or to stdout.
    pub fn tell(&mut self, report: Report) -> Result<()> {
        let line = match report {
            Report::Started { .. } => {
                let work = &self.train.work;
                let (first, last) = (work.start().next(), work.last_epoch());
                format!("arm {}, seed {}: epochs {first} to {last}", self.arm, work.seed)
            }
            Report::Progress { epoch, step, steps, loss, .. } => {
                format!("epoch {epoch}: step {step} of {steps}, loss {loss:.4}")
            }
            Report::Step(step) => format!("epoch {}: checkpoint after step {}", step.epoch, step.step),
            Report::Epoch(epoch) => {
                self.tell_epoch(&epoch)?;
                format!("epoch {}: done in {:.1} s", epoch.epoch, epoch.spent.seconds)
            }
            Report::FeaturesWanted { key, .. } => format!("features {key} are looked for"),
            Report::FeaturesMade { key, .. } => format!("features {key} are kept"),
            // These are the return value of training, and not told to the one who called it.
            Report::Ready { .. } | Report::Finished { .. } | Report::Stopped { .. } | Report::Failed { .. } => {
                return Ok(());
            }
        };
        eprintln!("{line}");
        Ok(())
    }

    fn tell_epoch(&self, epoch: &EpochReport) -> Result<()> {
        let mut line = line(epoch).to_string();
        line.push('\n');
        let folder = epoch.trained.parent().unwrap_or(Path::new(""));
        files::write(&folder.join(METRICS), line.as_bytes())?;
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("stdout cannot be written")
    }
}

/// An epoch's figures, without those of single steps.
fn line(epoch: &EpochReport) -> Value {
    let mut splits: Map<String, Value> = Map::new();
    for point in epoch.metrics.iter().filter(|point| point.name != "step_loss") {
        let split = splits.entry(point.split.to_string()).or_insert_with(|| json!({}));
        split[&point.name] = json!(point.value);
    }
    json!({
        "epoch": epoch.epoch,
        "key": epoch.key,
        "metrics": splits,
        "steps": epoch.spent.steps,
        "samples": epoch.spent.samples,
        "seconds": epoch.spent.seconds,
    })
}
