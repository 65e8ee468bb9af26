//! The update rules: the change of all parameters from their gradient, in PyTorch's order of operations
//! (`torch.optim`, the single-tensor implementations).
//!
//! Each line is one operation over all parameters, so what a step costs is their number. libtorch's operations reuse
//! the memory of an operand that nobody else holds; the order here lets them, and one step of Adam allocates three
//! tensors.

use burn::tensor::Tensor;
use ceteris_shared::spec::optimization::UpdateRule;

/// What a rule remembers from step to step, each `[parameters]`.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // An optimizer has one.
pub(super) enum Memory {
    /// SGD without momentum.
    None,
    Momentum(Tensor<1>),
    /// Running means of the gradient and of its square.
    Moments {
        first: Tensor<1>,
        second: Tensor<1>,
    },
}

/// What is taken off the parameters at step `step` (from 1), once multiplied by [`step_size`]; and the new memory.
/// `memory` is absent before the first step.
pub(super) fn direction(
    rule: &UpdateRule,
    step: u64,
    memory: Option<Memory>,
    gradient: Tensor<1>,
) -> (Tensor<1>, Memory) {
    match *rule {
        UpdateRule::Adam { betas, epsilon } | UpdateRule::Adamw { betas, epsilon } => {
            let moments = match memory {
                Some(Memory::Moments { first, second }) => [first, second],
                _ => [gradient.zeros_like(), gradient.zeros_like()],
            };
            adam(betas, epsilon, step, moments, gradient)
        }
        UpdateRule::Sgd { momentum: 0.0, .. } => (gradient, Memory::None),
        UpdateRule::Sgd { momentum, dampening, nesterov } => {
            let buffer = match memory {
                Some(Memory::Momentum(buffer)) => {
                    buffer.mul_scalar(momentum).add(undampened(gradient.clone(), dampening))
                }
                _ => gradient.clone(),
            };
            let direction = if nesterov { buffer.clone().mul_scalar(momentum).add(gradient) } else { buffer.clone() };
            (direction, Memory::Momentum(buffer))
        }
    }
}

/// How far the parameters go along the [`direction`] at learning rate `lr`.
pub(super) fn step_size(rule: &UpdateRule, step: u64, lr: f64) -> f64 {
    match *rule {
        UpdateRule::Adam { betas: [beta1, _], .. } | UpdateRule::Adamw { betas: [beta1, _], .. } => {
            lr / correction(beta1, step)
        }
        UpdateRule::Sgd { .. } => lr,
    }
}

/// Kingma and Ba, algorithm 1, with the denominator of `torch.optim.Adam`.
fn adam(
    [beta1, beta2]: [f64; 2],
    epsilon: f64,
    step: u64,
    [first, second]: [Tensor<1>; 2],
    gradient: Tensor<1>,
) -> (Tensor<1>, Memory) {
    let square = gradient.clone().mul_scalar(1.0 - beta2).mul(gradient.clone());
    let second = second.mul_scalar(beta2).add(square);
    let first = lerp(first, gradient, 1.0 - beta1);
    let root = second.clone().sqrt().div_scalar(correction(beta2, step).sqrt());
    (first.clone().div(root.add_scalar(epsilon)), Memory::Moments { first, second })
}

/// What a running mean that began at 0 falls short by after `step` steps.
fn correction(beta: f64, step: u64) -> f64 {
    1.0 - beta.powf(step as f64)
}

/// `start` moved by `weight` of the way to `end` (`torch.lerp`, which is exact at both ends).
pub(super) fn lerp(start: Tensor<1>, end: Tensor<1>, weight: f64) -> Tensor<1> {
    if weight < 0.5 {
        let change = end.sub(start.clone()).mul_scalar(weight);
        start.add(change)
    } else {
        let change = end.clone().sub(start).mul_scalar(1.0 - weight);
        end.sub(change)
    }
}

fn undampened(gradient: Tensor<1>, dampening: f64) -> Tensor<1> {
    if dampening == 0.0 { gradient } else { gradient.mul_scalar(1.0 - dampening) }
}
