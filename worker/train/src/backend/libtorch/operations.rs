//! The networks' operations on libtorch's own tensors, in the float type and memory layout that were asked for.
//!
//! Master weights are given in fp32 (or fp64) and cast where they are used, so gradients come back in the masters' type.
//! A batch normalisation in training mode updates the running statistics that it is given in place.

use tch::{Kind, Tensor};

use super::norm_relu::norm_relu_convolution;
use crate::{
    backend::{Compute, Float},
    model::{EPSILON, MOMENTUM, Mode, Norm, Operations},
};

/// Whether a unit is computed for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Running statistics are updated here.
    First,
    /// Computed again for its gradient: nothing that lasts may change.
    Replay,
}

/// How operations are computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Libtorch {
    pub compute: Compute,
    pub mode: Mode,
    pub pass: Pass,
}

impl Libtorch {
    /// Maps in the float type and layout of activations.
    pub fn input(&self, input: &Tensor) -> Tensor {
        let laid_out = self.weight(input);
        let (batch, channels, height, width) = laid_out.size4().expect("maps have four dimensions");
        let strides = if self.compute.channels_last {
            [channels * height * width, 1, channels * width, channels]
        } else {
            [channels * height * width, height * width, width, 1]
        };
        // Where a map is a single pixel, values lie in both layouts at once; libtorch chooses kernels by the strides.
        laid_out.as_strided([batch, channels, height, width], strides, None::<i64>)
    }

    /// Whether the operation of our own computes: on the processor, where channels lie next to each other.
    fn fuses(&self, inputs: &[&Tensor]) -> bool {
        self.compute.ways.fused_norm
            && self.compute.channels_last
            && inputs.iter().all(|input| input.device() == tch::Device::Cpu)
    }

    /// A convolution's weight in the float type and layout of activations.
    fn weight(&self, weight: &Tensor) -> Tensor {
        let weight = weight.to_kind(kind(self.compute.float));
        if self.compute.channels_last {
            weight.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
        } else {
            weight.contiguous()
        }
    }
}

fn concatenate(inputs: &[&Tensor]) -> Tensor {
    match inputs {
        [one] => one.shallow_clone(),
        many => Tensor::cat(many, 1),
    }
}

/// libtorch's name for a float type.
pub(super) fn kind(float: Float) -> Kind {
    match float {
        Float::Fp64 => Kind::Double,
        Float::Fp32 => Kind::Float,
        Float::Bf16 => Kind::BFloat16,
    }
}

impl Operations for Libtorch {
    type Tensor = Tensor;

    fn convolution(&self, input: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Tensor {
        let weight = self.weight(weight);
        let (stride, padding) = (stride as i64, padding as i64);
        input.conv2d(&weight, None::<&Tensor>, [stride, stride], [padding, padding], [1, 1], 1)
    }

    fn norm(&self, input: &Tensor, norm: Norm<'_, Tensor>) -> Tensor {
        let training = self.mode == Mode::Training;
        let kept = !(training && self.pass == Pass::Replay);
        let (mean, variance) = (kept.then_some(norm.mean), kept.then_some(norm.variance));
        input.batch_norm(Some(norm.weight), Some(norm.bias), mean, variance, training, MOMENTUM, EPSILON, true)
    }

    fn norm_relu(&self, inputs: &[&Tensor], norm: Norm<'_, Tensor>) -> Tensor {
        if self.fuses(inputs) {
            return norm_relu_convolution(self, inputs, norm, None);
        }
        // In place: the normalisation keeps its input for backward, not its output.
        self.norm(&concatenate(inputs), norm).relu_()
    }

    fn norm_relu_convolution(
        &self,
        inputs: &[&Tensor],
        norm: Norm<'_, Tensor>,
        weight: &Tensor,
        padding: usize,
    ) -> Tensor {
        if self.fuses(inputs) {
            return norm_relu_convolution(self, inputs, norm, Some((weight, padding)));
        }
        self.convolution(&self.norm_relu(inputs, norm), weight, 1, padding)
    }

    fn add_relu(&self, one: Tensor, other: &Tensor) -> Tensor {
        (one + other).relu_()
    }

    fn max_pool(&self, input: &Tensor) -> Tensor {
        input.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)
    }

    fn average_pool(&self, input: &Tensor) -> Tensor {
        input.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)
    }

    fn global_pool(&self, input: &Tensor) -> Tensor {
        let float = if self.compute.float == Float::Fp64 { Kind::Double } else { Kind::Float };
        input.adaptive_avg_pool2d([1, 1]).to_kind(float)
    }

    fn linear(&self, input: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        input.flatten(1, 3).linear(weight, Some(bias))
    }
}
