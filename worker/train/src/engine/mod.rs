//! One execution of a segment: from where its weights come from, epoch by epoch, to files and reports.
//!
//! The calling thread trains; batches are made ready and checkpoints written on others. Nothing here depends on a
//! process-global generator, on what the process trained before, or on the clock, which only says how long things took
//! and whether features are worth keeping: kept or not, they are the same.

mod control;
mod epoch;
mod evaluate;
mod feed;
mod frozen;
mod inputs;
mod meter;
mod step;
mod writer;

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use burn::tensor::Device;
use ceteris_shared::{
    architecture::Part,
    dataset::Split,
    ids::Epoch,
    plan::EpochWork,
    predictions::Predictions,
    spec::Precision,
    stats::{Confusion, Labelled, auc_one_vs_rest, log_loss},
    trainer::{FailureCause, MetricPoint, Report, Scored, Spent, Train},
};

pub use control::{Control, Wish};
pub(crate) use epoch::images;
pub use evaluate::predict;
pub use meter::Meter;
pub use step::Step;

use crate::{
    backend::{self, Opened},
    checkpoint::{Progress, ProgressError},
    data, files,
    model::Network,
    optimizer::Optimizer,
    tensors,
};
use epoch::Steps;
use frozen::Frozen;
use inputs::{Inputs, State};
use writer::{Job, Reporter, Snapshot, Writer, tell};

/// The shortest time between two progress reports.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Points of `step_loss` in an epoch at most; longer epochs report every k-th step.
const STEP_POINTS: usize = 1000;

/// The threshold of the accuracy that is watched while training; the endpoint's is chosen when arms are compared.
const EVEN: f64 = 0.5;

/// How an execution ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are trained.
    Finished,
    /// A wish to stop was obeyed.
    Stopped,
}

/// Why training cannot go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("data set {name}: {source}")]
    Data { name: String, source: data::Error },
    #[error("{0}")]
    Unfit(String),
    #[error("initial weights: {0}")]
    Weights(tensors::Error),
    #[error("checkpoint: {0}")]
    Checkpoint(tensors::Error),
    #[error("checkpoint: {0}")]
    Progress(#[from] ProgressError),
    #[error("epoch {epoch}: {source}")]
    Write { epoch: Epoch, source: files::Error },
    #[error(transparent)]
    Backend(#[from] backend::Error),
    #[error("epoch {epoch}: {what}; the last good checkpoint is {good}. A lower learning rate or clip_norm may help")]
    Diverged { epoch: Epoch, what: String, good: String },
}

impl Error {
    /// Who must act.
    pub fn cause(&self) -> FailureCause {
        let disk = |io: bool| if io { FailureCause::Infrastructure } else { FailureCause::User };
        match self {
            Self::Data { source: data::Error::File(error), .. } => disk(error.io().is_some()),
            Self::Data { source: data::Error::Manifest { .. }, .. } | Self::Unfit(_) => FailureCause::User,
            Self::Weights(error) => disk(error.io().is_some()),
            // These files were made by this program and named by digest: if they are wrong, a machine is.
            Self::Data { .. } | Self::Checkpoint(_) | Self::Progress(_) | Self::Write { .. } | Self::Backend(_) => {
                FailureCause::Infrastructure
            }
            Self::Diverged { .. } => FailureCause::Diverged,
        }
    }
}

/// What an execution works on; one for each [`train`].
struct Execution<'a> {
    request: &'a Train,
    device: &'a Device,
    control: &'a Control,
    reporter: &'a Reporter<'a>,
    meter: &'a Meter,
    inputs: Inputs,
    frozen: Frozen<'a>,
    /// The stage whose frozen part is with the writer.
    written: std::cell::Cell<Option<Part>>,
}

/// Executes `request` where `opened` computes. Reports go to `report`, from `Started` to the last `Epoch`, those of checkpoints in
/// their order; how it ended is the return value.
///
/// # Errors
/// When inputs are missing or do not fit, the disk refuses, or the loss is no longer finite. What was reported before
/// stands.
pub fn train(
    request: &Train,
    opened: &Opened,
    control: &Control,
    report: &mut (dyn FnMut(Report) + Send),
) -> Result<Outcome, Error> {
    train_metered(request, opened, control, &Meter::default(), report)
}

/// As [`train`]; what it costs is added to `meter`.
///
/// # Errors
/// As [`train`].
pub fn train_metered(
    request: &Train,
    opened: &Opened,
    control: &Control,
    meter: &Meter,
    report: &mut (dyn FnMut(Report) + Send),
) -> Result<Outcome, Error> {
    let device = &opened.device;
    backend::allocator::suit(inputs::compute(&request.work));
    backend::configure(true, request.work.precision == Precision::Tf32)?;
    let inputs = Inputs::open(request)?;
    let state = inputs::start(request, inputs.classes(), device)?;
    let reporter: Reporter<'_> = Mutex::new(report);
    tell(&reporter, Report::Started { attempt: request.attempt });
    let frozen = Frozen::new(request, opened, control, &reporter, meter);
    let classes = inputs.dataset.manifest().classes.clone();
    let written = std::cell::Cell::new(None);
    let mut execution = Execution { request, device, control, reporter: &reporter, meter, inputs, frozen, written };
    thread::scope(|scope| {
        let writer = Writer::start(scope, request.attempt, &request.directory, classes, &reporter);
        let outcome = execution.epochs(state, &writer);
        // What was handed over is written whatever happened; a disk that refused is the first thing to tell.
        writer.finish()?;
        outcome
    })
}

impl Execution<'_> {
    fn epochs(&mut self, state: State, writer: &Writer<'_>) -> Result<Outcome, Error> {
        let State { mut network, optimizer: mut carried, mut progress } = state;
        let (request, attempt, meter) = (self.request, self.request.attempt, self.meter);
        let mut count = request.work.epochs.len();
        for work in &request.work.epochs {
            count -= 1;
            network = network.trained_from(work.train.part());
            let resumed = progress.step > 0;
            let mut optimizer = match carried.take() {
                Some(optimizer) if resumed || !work.optimizer_starts => optimizer,
                _ => Optimizer::new(&request.work.optimization, &network.trained_parameters()),
            };
            let begun = std::mem::take(&mut progress);
            let last = count == 0;
            if !meter.time_epoch(|| self.epoch(work, last, &mut network, &mut optimizer, begun, writer))? {
                return Ok(Outcome::Stopped);
            }
            carried = Some(optimizer);
            if count > 0 && self.control.wish(attempt) != Wish::GoOn {
                return Ok(Outcome::Stopped);
            }
        }
        Ok(Outcome::Finished)
    }

    /// Trains, evaluates and hands over one epoch. False where a wish to stop at once was obeyed.
    fn epoch(
        &mut self,
        work: &EpochWork,
        last: bool,
        network: &mut Network,
        optimizer: &mut Optimizer,
        begun: Progress,
        writer: &Writer<'_>,
    ) -> Result<bool, Error> {
        let began = Instant::now();
        let Steps::Done(progress) = self.train_epoch(work, network, optimizer, begun, writer)? else {
            return Ok(false);
        };
        let predictions = match optimizer.averaged() {
            Some(average) => {
                let mut averaged = network.clone();
                averaged.set_parameters(average);
                self.predictions(work, last, &averaged)?
            }
            None => self.predictions(work, last, network)?,
        };
        let Some(predictions) = predictions else {
            // All steps are made: what remains of the epoch is its evaluation.
            self.hand_over_step(work, network, optimizer, &progress, writer);
            return Ok(false);
        };
        let mean = Self::mean_loss(work, &progress);
        let mut metrics = progress.points;
        metrics.push(mean);
        for (scored, predictions) in &predictions {
            if *scored == Scored::Split(Split::Val) {
                metrics.extend(self.points(work.epoch, progress.step, Split::Val, predictions)?);
            }
        }
        let snapshot = self.meter.time_checkpoint(|| self.snapshot(work, network, optimizer));
        if let Some((name, _)) = snapshot.trained.0.iter().find(|(_, t)| t.values.iter().any(|v| !v.is_finite())) {
            return Err(self.diverged(work, format!("{name} is no longer finite")));
        }
        let spent = Spent {
            steps: u64::from(progress.step),
            samples: progress.samples,
            seconds: began.elapsed().as_secs_f64(),
        };
        Ok(self.meter.time_checkpoint(|| writer.hand_over(Job::Epoch { snapshot, metrics, predictions, spent })))
    }

    /// The state, copied off the device; what is frozen only once in a stage.
    fn snapshot(&self, work: &EpochWork, network: &Network, optimizer: &Optimizer) -> Snapshot {
        let first = network.first();
        let known = self.written.replace(Some(first)) == Some(first);
        Snapshot {
            epoch: work.epoch,
            key: work.key,
            first,
            frozen: (!known).then(|| network.frozen_state()),
            trained: network.trained_state(),
            optimizer: optimizer.state(),
        }
    }

    fn diverged(&self, work: &EpochWork, what: String) -> Error {
        let good = match work.epoch.0.saturating_sub(1) {
            0 => "the initial weights".to_owned(),
            epoch => format!("that of epoch {epoch}"),
        };
        Error::Diverged { epoch: work.epoch, what, good }
    }

    /// The scores of a split at an epoch's end, as points. What is undefined has none.
    fn points(
        &self,
        epoch: Epoch,
        step: u32,
        split: Split,
        predictions: &Predictions,
    ) -> Result<Vec<MetricPoint>, Error> {
        let labels = predictions.samples.iter().map(|sample| self.inputs.dataset.label(*sample)).collect();
        let labelled = Labelled::new(predictions.classes, labels, predictions.probabilities.clone())
            .map_err(|error| Error::Unfit(error.to_string()))?;
        let decisions = Confusion::at_threshold(&labelled, EVEN).unwrap_or_else(|| Confusion::most_probable(&labelled));
        let named =
            [("loss", log_loss(&labelled)), ("accuracy", decisions.accuracy()), ("auc", auc_one_vs_rest(&labelled))];
        let point = |(name, value): (&str, Option<f64>)| {
            value.map(|value| MetricPoint { epoch, step, split, name: name.to_owned(), value })
        };
        Ok(named.into_iter().filter_map(point).collect())
    }
}
