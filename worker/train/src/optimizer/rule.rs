//! The update rules: the change of all parameters from their gradient, in PyTorch's order of operations
//! (`torch.optim`, the single-tensor implementations).
//!
//! Each line is one operation over all parameters, so what a step costs is their number. libtorch's operations reuse
//! the memory of an operand that nobody else holds; the order here lets them, and one step of Adam allocates three
//! tensors.

use burn::tensor::Tensor;
use ceteris_shared::spec::optimization::UpdateRule;

use crate::backend;

/// What a rule remembers from step to step, each `[parameters]`.
#[derive(Clone, Debug)]
// There are one or two of them, and burn's tensors are hundreds of bytes.
#[allow(clippy::large_enum_variant)]
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
/// `memory` is absent before the first step. `one_pass` says whether Adam may be one pass where there is one.
pub(super) fn direction(
    rule: &UpdateRule,
    step: u64,
    one_pass: bool,
    memory: Option<Memory>,
    gradient: Tensor<1>,
) -> (Tensor<1>, Memory) {
    match *rule {
        UpdateRule::Adam { betas, epsilon } | UpdateRule::Adamw { betas, epsilon } => {
            let moments = match memory {
                Some(Memory::Moments { first, second }) => [first, second],
                _ => [gradient.zeros_like(), gradient.zeros_like()],
            };
            adam(betas, epsilon, step, one_pass, moments, gradient)
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
    one_pass: bool,
    [first, second]: [Tensor<1>; 2],
    gradient: Tensor<1>,
) -> (Tensor<1>, Memory) {
    let shortfall = correction(beta2, step).sqrt();
    // The one pass moves by less than half of the way, as `lerp` does for all but the shortest of memories.
    let ([first, second], gradient) = if one_pass && 1.0 - beta1 < 0.5 {
        let moved = backend::adam([first, second], gradient, [beta1, beta2], epsilon, shortfall);
        if moved.done {
            let [first, second] = moved.moments;
            return (moved.gradient, Memory::Moments { first, second });
        }
        (moved.moments, moved.gradient)
    } else {
        ([first, second], gradient)
    };
    let square = gradient.clone().mul_scalar(1.0 - beta2).mul(gradient.clone());
    let second = second.mul_scalar(beta2).add(square);
    let first = lerp(first, gradient, 1.0 - beta1);
    let root = second.clone().sqrt().div_scalar(shortfall);
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

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, TensorData};

    use super::*;
    use crate::backend::{DeviceName, open};

    /// Moments are the same to the bit; libtorch's square root is not always the nearest number, that of the one pass is.
    #[test]
    fn one_pass_does_what_the_operations_do() {
        let device = open(DeviceName::default(), 2).expect("the processor is always there").device;
        let flat = |factor: f64| {
            let values: Vec<f64> = (0..100_003).map(|i| ((i * 7919 % 10_007) as f64 - 5000.0) * factor).collect();
            Tensor::<1>::from_data(TensorData::new(values, [100_003]), (&device, DType::F64))
        };
        for dtype in [DType::F32, DType::F64] {
            let step = |one_pass: bool| {
                let moments = [flat(1e-4), flat(1e-3).abs()].map(|moment| moment.cast(dtype));
                adam([0.9, 0.999], 1e-8, 3, one_pass, moments, flat(-3e-4).cast(dtype))
            };
            let (by_operations, in_one_pass) = (step(false), step(true));
            let tensors = |(direction, memory): (Tensor<1>, Memory)| match memory {
                Memory::Moments { first, second } => [direction, first, second].map(Tensor::into_data),
                other => panic!("{other:?}"),
            };
            let ([a, a1, a2], [b, b1, b2]) = (tensors(by_operations), tensors(in_one_pass));
            assert_eq!([a1, a2], [b1, b2], "{dtype:?}");
            let last_digits = if dtype == DType::F32 { 4.0 * f64::from(f32::EPSILON) } else { 4.0 * f64::EPSILON };
            for (a, b) in a.iter::<f64>().zip(b.iter::<f64>()) {
                assert!((a - b).abs() <= last_digits * a.abs(), "{dtype:?}: {a} and {b}");
            }
        }
    }
}
