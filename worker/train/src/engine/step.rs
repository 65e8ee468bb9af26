//! One optimizer step: a batch's loss, its gradient, and the update.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::{
    loss::{CrossEntropy, Targets},
    model::{Mode, Network},
    optimizer::Optimizer,
};

/// What a step is made with.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The loss.
    pub loss: &'a CrossEntropy,
    /// Parts that a batch is cut into; their gradients add up to the batch's.
    pub accumulate: usize,
    /// Learning rate.
    pub lr: f64,
}

impl Step<'_> {
    /// The loss of a batch before the step, which moves the network. A loss that is not finite moves nothing.
    /// `input` is that of the first trained part, `[batch, channels, height, width]`.
    pub fn make(
        &self,
        network: &mut Network,
        optimizer: &mut Optimizer,
        input: Tensor<4>,
        targets: &Targets<'_>,
    ) -> f64 {
        let Some((value, gradient)) = self.gradient(network, input, targets) else { return f64::NAN };
        let parameters = network.take_parameters();
        network.set_parameters(optimizer.step(self.lr, parameters, gradient));
        value
    }

    /// The loss of a batch, and its gradient by the flat parameters; none where the loss is not finite. Running
    /// statistics are updated.
    pub fn gradient(&self, network: &mut Network, input: Tensor<4>, targets: &Targets<'_>) -> Option<(f64, Tensor<1>)> {
        let normaliser = self.loss.normaliser(targets);
        let (mut value, mut gradient): (f64, Option<Tensor<1>>) = (0.0, None);
        for rows in parts(targets.labels.len(), self.accumulate) {
            let piece =
                if rows.len() == targets.labels.len() { input.clone() } else { input.clone().slice([rows.clone()]) };
            let parameters = network.parameters().autodiff().require_grad();
            let logits = network.differentiable_logits(Mode::Training, parameters.clone(), piece);
            let loss = self.loss.loss(logits, &targets.slice(rows), normaliser);
            value += loss.clone().without_autodiff().into_data().iter::<f64>().next().unwrap_or(f64::NAN);
            if !value.is_finite() {
                return None;
            }
            let part = parameters.grad_remove(&mut loss.backward())?;
            gradient = Some(match gradient {
                Some(sum) => sum.add(part),
                None => part,
            });
        }
        gradient.map(|gradient| (value, gradient))
    }
}

/// How a batch of `rows` is cut into `count` parts of equal size, the last ones smaller or absent.
fn parts(rows: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    let size = rows.div_ceil(count.max(1)).max(1);
    (0..rows).step_by(size).map(move |start| start..rows.min(start + size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_equal_and_cover_the_batch() {
        assert_eq!(parts(8, 2).collect::<Vec<_>>(), [0..4, 4..8]);
        assert_eq!(parts(5, 4).collect::<Vec<_>>(), [0..2, 2..4, 4..5]);
        assert!(parts(1, 4).eq(std::iter::once(0..1)));
        assert!(parts(8, 1).eq(std::iter::once(0..8)));
    }
}
