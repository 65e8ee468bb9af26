//! The optimizer steps of one epoch.

use std::{thread, time::Instant};

use burn::{
    optim::GradientsParams,
    tensor::{Device, Int, Tensor, TensorData, activation::log_softmax},
};
use ceteris_shared::{
    dataset::Split,
    plan::EpochWork,
    seed,
    spec::Schedule,
    trainer::{MetricPoint, Report},
};

use super::{Error, Execution, PROGRESS_EVERY, STEP_POINTS, Wish};
use crate::{
    adam::Adam,
    data::{Batch, Plan, batches, load},
    model::{DenseNet121, Part},
};

/// An epoch's steps, all made.
pub(super) struct Steps {
    pub network: DenseNet121,
    pub points: Vec<MetricPoint>,
    pub steps: u32,
    pub samples: u64,
}

impl Execution<'_> {
    /// Makes all steps of an epoch. None where a wish to stop at once was obeyed.
    pub(super) fn train_epoch(
        &mut self,
        work: &EpochWork,
        network: DenseNet121,
        adam: &mut Adam,
    ) -> Result<Option<Steps>, Error> {
        let Schedule::Constant = work.schedule;
        let plan = self.plan(work);
        let steps = u32::try_from(plan.batches.len()).unwrap_or(u32::MAX);
        let stride = plan.batches.len().div_ceil(STEP_POINTS).max(1);
        let first = Part::first_trained(work.train);
        let (device, stop, attempt) = (self.device, self.stop, self.request.attempt);
        let (dataset, report) = (&self.inputs.dataset, &mut *self.report);
        let mut points = Vec::new();
        let mut tally = Tally::default();
        let mut told = Instant::now();

        let trained = thread::scope(|scope| {
            let mut network = network;
            for (step, batch) in (1..).zip(load(scope, dataset, plan)) {
                if stop.wish(attempt) == Wish::Now {
                    return Ok(None);
                }
                let (loss, trained) = self::step(network, adam, work.lr, first, &batch, device);
                if !loss.is_finite() {
                    return Err(Error::Diverged {
                        epoch: work.epoch,
                        what: format!("the loss of step {step} is {loss}"),
                    });
                }
                network = trained;
                tally.add(loss, batch.samples.len());
                if (step as usize).is_multiple_of(stride) {
                    points.push(point(work, step, "step_loss", loss));
                }
                if told.elapsed() >= PROGRESS_EVERY || step == steps {
                    told = Instant::now();
                    report(Report::Progress { attempt, epoch: work.epoch, step, steps, loss: tally.mean() });
                }
            }
            Ok(Some(network))
        })?;
        let Some(network) = trained else { return Ok(None) };
        points.push(point(work, steps, "loss", tally.mean()));
        Ok(Some(Steps { network, points, steps, samples: tally.samples }))
    }

    fn plan(&self, work: &EpochWork) -> Plan {
        let (seed, train) = (self.request.work.seed, &self.inputs.train);
        let count = u32::try_from(train.len()).unwrap_or(u32::MAX);
        let order = seed::order(seed, work.epoch, count);
        Plan {
            samples: order.into_iter().map(|index| train[index as usize]).collect(),
            batches: batches(train.len(), self.request.work.batch_size as usize),
            rows: 0,
            augment: work.augment.into(),
            partners: train.clone(),
            seed,
            epoch: work.epoch,
            threads: 1,
        }
    }
}

/// One step: the batch's mean loss before it, and the network after it.
fn step(
    network: DenseNet121,
    adam: &mut Adam,
    lr: f64,
    first: Part,
    batch: &Batch,
    device: &Device,
) -> (f64, DenseNet121) {
    let logits = network.forward_training(images(batch, device), first);
    let loss = cross_entropy(logits, &batch.labels);
    let value = f64::from(loss.clone().into_scalar::<f32>());
    if !value.is_finite() {
        return (value, network);
    }
    let gradients = GradientsParams::from_grads(loss.backward(), &network);
    (value, adam.step(lr, network, gradients))
}

/// A batch's images on `device`.
pub(super) fn images(batch: &Batch, device: &Device) -> Tensor<4> {
    let shape = [batch.rows, 3, batch.size, batch.size];
    Tensor::from_data(TensorData::new(batch.images.to_vec(), shape), device)
}

/// Mean cross-entropy of `logits` `[batch, classes]` against `labels`.
pub fn cross_entropy(logits: Tensor<2>, labels: &[u32]) -> Tensor<1> {
    let own: Vec<i64> = labels.iter().copied().map(i64::from).collect();
    let own = Tensor::<2, Int>::from_data(TensorData::new(own, [labels.len(), 1]), &logits.device());
    log_softmax(logits, 1).gather(1, own).mean().neg()
}

/// A mean over samples, from means over batches.
#[derive(Default)]
struct Tally {
    sum: f64,
    samples: u64,
}

impl Tally {
    fn add(&mut self, mean: f64, samples: usize) {
        self.sum += mean * samples as f64;
        self.samples += samples as u64;
    }

    fn mean(&self) -> f64 {
        self.sum / self.samples as f64
    }
}

fn point(work: &EpochWork, step: u32, name: &str, value: f64) -> MetricPoint {
    MetricPoint { epoch: work.epoch, step, split: Split::Train, name: name.to_owned(), value }
}
