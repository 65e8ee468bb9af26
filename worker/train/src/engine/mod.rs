//! One execution of a segment: from where its weights come from, epoch by epoch, to files and reports.
//!
//! Everything runs on the calling thread but the making of batches. Nothing here depends on a process-global generator,
//! on the clock (it is only read to say how long things took) or on what the process trained before.

mod epoch;
mod evaluate;
mod inputs;
mod stop;

use std::{
    fs,
    time::{Duration, Instant},
};

use burn::{module::Module, tensor::Device};
use ceteris_shared::{
    dataset::Split,
    ids::Epoch,
    plan::EpochWork,
    predictions::Predictions,
    stats::{Confusion, Labelled, auc_one_vs_rest, log_loss},
    trainer::{EpochReport, FailureCause, MetricPoint, Report, Scored, Spent, Train},
};

pub use epoch::cross_entropy;
pub use evaluate::{EVALUATION_BATCH, predict};
pub use stop::{Stop, Wish};

use crate::{
    adam::Adam,
    checkpoint::Parts,
    data, files,
    model::{DenseNet121, Part},
    tensors,
};
use inputs::Inputs;

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
    #[error("epoch {epoch}: {source}")]
    Write { epoch: Epoch, source: files::Error },
    #[error("epoch {epoch}: {what}; a lower learning rate may help")]
    Diverged { epoch: Epoch, what: String },
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
            Self::Data { .. } | Self::Checkpoint(_) | Self::Write { .. } => FailureCause::Infrastructure,
            Self::Diverged { .. } => FailureCause::Diverged,
        }
    }
}

/// What an execution works on; one for each [`train`].
struct Execution<'a> {
    request: &'a Train,
    device: &'a Device,
    stop: &'a Stop,
    report: &'a mut dyn FnMut(Report),
    inputs: Inputs,
}

/// Executes `request` on `device`. Reports go to `report` in their order, from `Started` to the last `Epoch`; how it ended
/// is the return value.
///
/// # Errors
/// When inputs are missing or do not fit, the disk refuses, or the loss is no longer finite. What was reported before
/// stands.
pub fn train(request: &Train, device: &Device, stop: &Stop, report: &mut dyn FnMut(Report)) -> Result<Outcome, Error> {
    let inputs = Inputs::open(request)?;
    let (mut network, mut carried) = inputs::start(request, inputs.classes(), device)?;
    report(Report::Started { attempt: request.attempt });
    let mut execution = Execution { request, device, stop, report, inputs };
    let epochs = &request.work.epochs;
    for (index, work) in epochs.iter().enumerate() {
        let adam = match carried.take() {
            Some(adam) if !work.optimizer_starts => adam,
            _ => Adam::new(request.work.optimizer),
        };
        let last = index + 1 == epochs.len();
        let Some((trained, adam)) = execution.epoch(work, last, network, adam)? else { return Ok(Outcome::Stopped) };
        (network, carried) = (trained, Some(adam));
        if !last && stop.wish(request.attempt) != Wish::GoOn {
            return Ok(Outcome::Stopped);
        }
    }
    Ok(Outcome::Finished)
}

impl Execution<'_> {
    /// Trains, evaluates, writes and reports one epoch. None where a wish to stop at once was obeyed.
    fn epoch(
        &mut self,
        work: &EpochWork,
        last: bool,
        network: DenseNet121,
        mut adam: Adam,
    ) -> Result<Option<(DenseNet121, Adam)>, Error> {
        let began = Instant::now();
        let first = Part::first_trained(work.train);
        let Some(steps) = self.train_epoch(work, network.trained_from(first), &mut adam)? else { return Ok(None) };
        let network = steps.network.valid();
        let Some(predictions) = self.predictions(work.epoch, last, &network)? else { return Ok(None) };

        let mut metrics = steps.points;
        for (scored, predictions) in &predictions {
            if *scored == Scored::Split(Split::Val) {
                metrics.extend(self.points(work.epoch, steps.steps, Split::Val, predictions)?);
            }
        }
        let (parts, predictions) = self.write(work, first, &network, &adam, &predictions)?;
        (self.report)(Report::Epoch(Box::new(EpochReport {
            attempt: self.request.attempt,
            epoch: work.epoch,
            key: work.key,
            metrics,
            classes: self.inputs.dataset.manifest().classes.clone(),
            frozen: parts.frozen,
            trained: parts.trained,
            optimizer: parts.optimizer,
            predictions,
            spent: Spent {
                steps: u64::from(steps.steps),
                samples: steps.samples,
                seconds: began.elapsed().as_secs_f64(),
            },
        })));
        Ok(Some((network, adam)))
    }

    /// Writes the epoch's folder, complete and on disk.
    fn write(
        &self,
        work: &EpochWork,
        first: Part,
        network: &DenseNet121,
        adam: &Adam,
        predictions: &[(Scored, Predictions)],
    ) -> Result<(Parts, Vec<(Scored, std::path::PathBuf)>), Error> {
        let epoch = work.epoch;
        let state = network.state();
        if let Some((name, _)) = state.0.iter().find(|(_, tensor)| tensor.values.iter().any(|v| !v.is_finite())) {
            return Err(Error::Diverged { epoch, what: format!("{name} is no longer finite") });
        }
        let failed = |source| Error::Write { epoch, source };
        let folder = self.request.directory.join(format!("epoch-{epoch}"));
        fs::create_dir_all(&folder).map_err(files::at(&folder, "cannot be created")).map_err(failed)?;
        let parts = Parts::in_folder(&folder);
        parts.write(state, first, adam).map_err(failed)?;
        let mut written = Vec::new();
        for (index, (scored, predictions)) in predictions.iter().enumerate() {
            let file = match scored {
                Scored::Split(split) => folder.join(format!("predictions-{split}.safetensors")),
                // Named by position: a data set's name is not to be trusted as part of a path.
                Scored::External(_) => folder.join(format!("predictions-{index}.safetensors")),
            };
            files::write(&file, &predictions.to_bytes()).map_err(failed)?;
            written.push((scored.clone(), file));
        }
        files::sync_folder(&folder).and_then(|()| files::sync_folder(&self.request.directory)).map_err(failed)?;
        Ok((parts, written))
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
