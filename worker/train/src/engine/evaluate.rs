//! Predictions of whole splits, in inference mode.
//!
//! libtorch's results depend on the size of a batch in the last bits, though not on a sample's neighbours: batches of one
//! fixed size, the last one padded, make a sample's prediction a function of the sample and the weights alone.

use std::thread;

use burn::tensor::Device;
use ceteris_shared::{
    augment::Policy, dataset::Split, digest::Digest, ids::Epoch, plan::EpochWork, predictions::Predictions,
    spec::Augment, trainer::Scored,
};

use super::{Error, Execution, Meter, Wish, feed::Feed, frozen::Wanted};
use crate::{
    data::{Dataset, Plan},
    features::FeatureSet,
    model::Network,
    tensors::HostTensor,
};

impl Execution<'_> {
    /// The predictions that are due after an epoch: of val, and at the endpoint of test and all external data. Empty
    /// splits have none. None where a wish to stop at once was obeyed.
    pub(super) fn predictions(
        &mut self,
        work: &EpochWork,
        last: bool,
        network: &Network,
    ) -> Result<Option<Vec<(Scored, Predictions)>>, Error> {
        let inputs = &self.inputs;
        let own = (&inputs.dataset, inputs.digest);
        let mut due: Vec<(Scored, (&Dataset, Digest), Option<Split>)> =
            vec![(Scored::Split(Split::Val), own, Some(Split::Val))];
        if last && self.request.work.endpoint {
            due.push((Scored::Split(Split::Test), own, Some(Split::Test)));
            let external = inputs.external.iter();
            due.extend(external.map(|(name, data, digest)| (Scored::External(name.clone()), (data, *digest), None)));
        }
        let mut made = Vec::new();
        for (scored, (dataset, digest), split) in due {
            let samples = split.map_or_else(|| dataset.all(), |split| dataset.split(split));
            if samples.is_empty() {
                continue;
            }
            let wanted = Wanted { dataset, digest, split, samples: &samples, augment: &Augment::NONE, epoch: Epoch(0) };
            let set = self.frozen.set(network, &wanted);
            let go_on = || self.control.wish(self.request.attempt) != Wish::Now;
            let predictions = predict(network, dataset, &samples, set.as_deref(), self.device, self.meter, go_on);
            let Some(predictions) = predictions else { return Ok(None) };
            if predictions.probabilities.iter().any(|probability| !probability.is_finite()) {
                return Err(self.diverged(work, "a prediction is no longer a finite number".to_owned()));
            }
            made.push((scored, predictions));
        }
        Ok(Some(made))
    }
}

/// The predictions of `network` for `samples`, which are ascending, from their features in `set` if there is one. None
/// where `go_on` said no between two batches. What it costs is added to `meter`.
pub fn predict(
    network: &Network,
    dataset: &Dataset,
    samples: &[u32],
    set: Option<&FeatureSet>,
    device: &Device,
    meter: &Meter,
    go_on: impl Fn() -> bool,
) -> Option<Predictions> {
    let classes = dataset.manifest().classes.len();
    let plan = Plan::canonical(samples, Policy::NONE, 0, Epoch(0));
    let mut probabilities = Vec::with_capacity(samples.len() * classes);
    thread::scope(|scope| {
        for prepared in Feed::start(scope, dataset, samples, set, plan) {
            if !go_on() {
                return None;
            }
            let count = prepared.targets.labels.len();
            let logits = HostTensor::of(network.logits_of_features(prepared.input.tensor(network, device, meter)));
            probabilities.extend(logits.values.chunks_exact(classes).take(count).flat_map(softmax));
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
