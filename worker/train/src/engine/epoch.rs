//! The optimizer steps of one epoch.

use std::{thread, time::Instant};

use burn::tensor::{Device, Tensor};
use ceteris_shared::{
    augment::Policy,
    dataset::Split,
    plan::EpochWork,
    trainer::{MetricPoint, Report},
};

use super::{
    Error, Execution, PROGRESS_EVERY, STEP_POINTS, Step, Wish,
    feed::Feed,
    writer::{Job, Writer, tell},
};
use crate::{
    backend,
    checkpoint::Progress,
    data::{Batch, Plan},
    model::Network,
    optimizer::Optimizer,
};

/// How an epoch's steps ended.
pub(super) enum Steps {
    /// All are made.
    Done(Progress),
    /// A wish to stop at once was obeyed; what was done is handed to the writer.
    Stopped,
}

impl Execution<'_> {
    /// Makes the steps of an epoch that are not in `progress`.
    pub(super) fn train_epoch(
        &mut self,
        work: &EpochWork,
        network: &mut Network,
        optimizer: &mut Optimizer,
        mut progress: Progress,
        writer: &Writer<'_>,
    ) -> Result<Steps, Error> {
        let set = self.frozen.of_training(network, &self.inputs.dataset, self.inputs.digest, &self.inputs.train, work);
        let plan = self.plan(work);
        let steps = u32::try_from(plan.batches.len()).unwrap_or(u32::MAX);
        let stride = plan.batches.len().div_ceil(STEP_POINTS).max(1);
        let attempt = self.request.attempt;
        let mut told = Instant::now();
        thread::scope(|scope| {
            let plan = plan.from_batch(progress.step as usize);
            let feed = Feed::start(scope, &self.inputs.dataset, &self.inputs.train, set.as_deref(), plan);
            for prepared in feed {
                if self.control.wish(attempt) == Wish::Now {
                    self.hand_over_step(work, network, optimizer, &progress, writer);
                    return Ok(Steps::Stopped);
                }
                let step = Step {
                    loss: &self.inputs.loss,
                    accumulate: self.request.work.optimization.accumulate.max(1) as usize,
                    lr: work.rates.at(work.lr, progress.step, steps),
                };
                let samples = prepared.targets.labels.len();
                let input = prepared.input.tensor(network, self.device, self.meter);
                let loss = step.make(network, optimizer, input, &prepared.targets.borrow());
                progress.step += 1;
                if !loss.is_finite() {
                    return Err(self.diverged(work, format!("the loss of step {} is {loss}", progress.step)));
                }
                progress.loss += loss * samples as f64;
                progress.samples += samples as u64;
                if (progress.step as usize).is_multiple_of(stride) {
                    progress.points.push(point(work, progress.step, "step_loss", loss));
                }
                if told.elapsed() >= PROGRESS_EVERY || progress.step == steps {
                    told = Instant::now();
                    let (step, loss) = (progress.step, progress.mean());
                    tell(self.reporter, Report::Progress { attempt, epoch: work.epoch, step, steps, loss });
                }
                let due = self
                    .request
                    .work
                    .checkpoint_every_steps
                    .is_some_and(|every| progress.step.is_multiple_of(every.max(1)));
                if due && progress.step < steps {
                    self.hand_over_step(work, network, optimizer, &progress, writer);
                }
            }
            Ok(Steps::Done(progress))
        })
    }

    /// The mean loss of an epoch whose steps are all made.
    pub(super) fn mean_loss(work: &EpochWork, progress: &Progress) -> MetricPoint {
        point(work, progress.step, "loss", progress.mean())
    }

    /// Writes a checkpoint within the epoch; at its very beginning there is nothing new to write.
    pub(super) fn hand_over_step(
        &self,
        work: &EpochWork,
        network: &Network,
        optimizer: &Optimizer,
        progress: &Progress,
        writer: &Writer<'_>,
    ) {
        if progress.step > 0 {
            self.meter.time_checkpoint(|| {
                let snapshot = self.snapshot(work, network, optimizer);
                // A writer that has ended is found out at the epoch's end.
                writer.hand_over(Job::Step { snapshot, progress: progress.clone() });
            });
        }
    }

    fn plan(&self, work: &EpochWork) -> Plan {
        let (seed, train) = (self.request.work.seed, &self.inputs.train);
        Plan::of_epoch(train, self.request.work.batch_size as usize, Policy::from(&work.augment), seed, work.epoch)
    }
}

/// A batch's images on `device`, shape `[rows, 3, size, size]`, each pixel's channels next to each other.
pub(crate) fn images(batch: &Batch, device: &Device) -> Tensor<4> {
    backend::upload(&batch.images, [batch.rows, batch.size, batch.size, 3], device).permute([0, 3, 1, 2])
}

impl Progress {
    /// Mean loss over the samples so far.
    fn mean(&self) -> f64 {
        self.loss / self.samples as f64
    }
}

fn point(work: &EpochWork, step: u32, name: &str, value: f64) -> MetricPoint {
    MetricPoint { epoch: work.epoch, step, split: Split::Train, name: name.to_owned(), value }
}
