//! What comes into the trained part, batch by batch, made ready off the training thread: images, or kept features.

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread::Scope,
};

use burn::tensor::{Device, Tensor};
use ceteris_shared::architecture::Part;

use super::{Meter, epoch::images};
use crate::{
    data::{Batch, Batches, Dataset, Plan, load},
    features::{self, FeatureSet, Rows},
    loss::{Mixed, Targets},
    model::Network,
};

/// Batches of features that wait ready.
const PREFETCH: usize = 2;

/// The batches of an epoch, in order.
pub(super) enum Feed {
    Images(Batches),
    Features(Receiver<Prepared>),
}

/// One batch, ready.
pub(super) struct Prepared {
    pub input: Input,
    pub targets: OwnTargets,
}

/// What the trained part reads, or what it is made of.
pub(super) enum Input {
    Images(Batch),
    Features(Rows),
}

/// What samples should be classified as.
pub(super) struct OwnTargets {
    pub labels: Vec<u32>,
    pub mixed: Option<(Vec<u32>, Vec<f64>)>,
}

impl Feed {
    /// Starts making batches ready. `of` are the samples that `set` is of, in its order.
    pub fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        dataset: &'env Dataset,
        of: &'env [u32],
        set: Option<&'env FeatureSet>,
        plan: Plan,
    ) -> Self {
        let Some(set) = set else { return Self::Images(load(scope, dataset, plan)) };
        let (sender, receiver) = sync_channel(PREFETCH);
        scope.spawn(move || {
            for batch in &plan.batches {
                let samples = &plan.samples[batch.clone()];
                let positions = samples.iter().filter_map(|sample| of.binary_search(sample).ok());
                let positions: Vec<usize> = positions.collect();
                let input = Input::Features(set.rows(positions.into_iter(), plan.rows));
                let labels = samples.iter().map(|sample| dataset.label(*sample)).collect();
                if sender.send(Prepared { input, targets: OwnTargets { labels, mixed: None } }).is_err() {
                    return;
                }
            }
        });
        Self::Features(receiver)
    }
}

impl Iterator for Feed {
    type Item = Prepared;

    fn next(&mut self) -> Option<Prepared> {
        match self {
            Self::Images(batches) => batches.next().map(Prepared::of_images),
            Self::Features(batches) => batches.recv().ok(),
        }
    }
}

impl Prepared {
    fn of_images(batch: Batch) -> Self {
        let mixed = batch
            .mixed
            .as_ref()
            .map(|mixed| (mixed.labels.clone(), mixed.weights.iter().copied().map(f64::from).collect()));
        let targets = OwnTargets { labels: batch.labels.clone(), mixed };
        Self { input: Input::Images(batch), targets }
    }
}

impl Input {
    /// The input of the first trained part, on `device`.
    pub fn tensor(self, network: &Network, device: &Device, meter: &Meter) -> Tensor<4> {
        match self {
            Self::Images(batch) => {
                if network.first() != Part::Stem {
                    meter.count_frozen(batch.samples.len());
                }
                features::compute(network, images(&batch, device))
            }
            Self::Features(rows) => rows.tensor(device),
        }
    }
}

impl OwnTargets {
    pub fn borrow(&self) -> Targets<'_> {
        let mixed = self.mixed.as_ref().map(|(labels, shares)| Mixed { labels, shares });
        Targets { labels: &self.labels, mixed }
    }
}
