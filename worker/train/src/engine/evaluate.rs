//! Predictions of whole splits, in inference mode.
//!
//! libtorch's results depend on the size of a batch in the last bits, though not on a sample's neighbours: batches of one
//! fixed size, the last one padded, make a sample's prediction a function of the sample and the weights alone.

use std::thread;

use burn::tensor::Device;
use ceteris_shared::{augment::Policy, dataset::Split, ids::Epoch, predictions::Predictions, trainer::Scored};

use super::{Error, Execution, Wish, epoch::images};
use crate::{
    data::{Dataset, Plan, load},
    model::DenseNet121,
    tensors::HostTensor,
};

/// Images in every batch of an evaluation.
pub const EVALUATION_BATCH: usize = 16;

impl Execution<'_> {
    /// The predictions that are due after `epoch`: of val, and at the endpoint of test and all external data. Empty
    /// splits have none. None where a wish to stop at once was obeyed.
    pub(super) fn predictions(
        &self,
        epoch: Epoch,
        last: bool,
        network: &DenseNet121,
    ) -> Result<Option<Vec<(Scored, Predictions)>>, Error> {
        let own = &self.inputs.dataset;
        let mut due = vec![(Scored::Split(Split::Val), own, own.split(Split::Val))];
        if last && self.request.work.endpoint {
            due.push((Scored::Split(Split::Test), own, own.split(Split::Test)));
            let external = self.inputs.external.iter();
            due.extend(external.map(|(name, data)| (Scored::External(name.clone()), data, data.all())));
        }
        let mut made = Vec::new();
        for (scored, dataset, samples) in due.into_iter().filter(|(_, _, samples)| !samples.is_empty()) {
            let go_on = || self.stop.wish(self.request.attempt) != Wish::Now;
            let Some(predictions) = predict(network, dataset, &samples, self.device, go_on) else { return Ok(None) };
            if predictions.probabilities.iter().any(|probability| !probability.is_finite()) {
                return Err(Error::Diverged { epoch, what: "a prediction is no longer a finite number".to_owned() });
            }
            made.push((scored, predictions));
        }
        Ok(Some(made))
    }
}

/// The predictions of `network`, which is off the training device, for `samples`, which are ascending. None where
/// `go_on` said no between two batches.
pub fn predict(
    network: &DenseNet121,
    dataset: &Dataset,
    samples: &[u32],
    device: &Device,
    go_on: impl Fn() -> bool,
) -> Option<Predictions> {
    let plan = Plan {
        samples: samples.to_vec(),
        batches: (0..samples.len())
            .step_by(EVALUATION_BATCH)
            .map(|start| start..samples.len().min(start + EVALUATION_BATCH))
            .collect(),
        rows: EVALUATION_BATCH,
        augment: Policy::NONE,
        partners: Vec::new(),
        seed: 0,
        epoch: Epoch(0),
        threads: 1,
    };
    let classes = dataset.manifest().classes.len();
    let mut probabilities = Vec::with_capacity(samples.len() * classes);
    thread::scope(|scope| {
        for batch in load(scope, dataset, plan) {
            if !go_on() {
                return None;
            }
            let logits = HostTensor::of(network.forward(images(&batch, device)));
            let rows = logits.values.chunks_exact(classes).take(batch.samples.len());
            probabilities.extend(rows.flat_map(softmax));
        }
        Some(())
    })?;
    Some(Predictions { samples: samples.to_vec(), probabilities, classes })
}

/// Probabilities of one row of logits, in double precision until the end.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (f64::from(*logit) - f64::from(largest)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_whatever_the_logits() {
        assert_eq!(softmax(&[1000.0, 1000.0]), [0.5, 0.5]);
        assert_eq!(softmax(&[-1e30, 1e30]), [0.0, 1.0]);
        assert!(softmax(&[f32::NAN, 1.0]).iter().all(|p| p.is_nan()));
        assert!(softmax(&[f32::INFINITY, 1.0]).iter().any(|p| p.is_nan()));
    }
}
