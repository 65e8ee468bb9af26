//! Batch normalisation (Ioffe and Szegedy, ICML 2015) with PyTorch's arithmetic.
//!
//! burn's own layer feeds the biased batch variance to the running variance, PyTorch the unbiased one; and it keeps the
//! last update aside until the next step, where a checkpoint would miss it. Here an update is complete when `forward`
//! returns.

use burn::{
    module::{Module, Param, RunningState},
    tensor::{Device, Tensor, module::batch_norm_train},
};

use super::Mode;

/// PyTorch's default.
const EPSILON: f64 = 1e-5;
/// Weight of the newest batch in the running statistics; PyTorch's default.
const MOMENTUM: f64 = 0.1;

/// Normalises each channel of `[batch, channels, height, width]`.
#[derive(Module, Debug)]
pub struct BatchNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    running_mean: RunningState<Tensor<1>>,
    running_var: RunningState<Tensor<1>>,
}

impl BatchNorm {
    /// Scale 1, shift 0, running mean 0 and variance 1.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
        }
    }

    /// `[batch, channels, height, width]` to the same.
    ///
    /// In [`Mode::Training`] a channel needs more than one value; the engine refuses work where it would have one.
    pub fn forward(&self, input: Tensor<4>, mode: Mode) -> Tensor<4> {
        match mode {
            Mode::Training => self.by_batch(input),
            Mode::Inference => self.by_running(input),
        }
    }

    fn by_batch(&self, input: Tensor<4>) -> Tensor<4> {
        let [batch, _, height, width] = input.dims();
        let values = (batch * height * width) as f64;
        let result = batch_norm_train(input, self.weight.val(), self.bias.val(), EPSILON);
        let unbiased = result.variance.mul_scalar(values / (values - 1.0));
        for (running, new) in [(&self.running_mean, result.mean), (&self.running_var, unbiased)] {
            let old = running.value_sync();
            running.update(old.mul_scalar(1.0 - MOMENTUM).add(new.mul_scalar(MOMENTUM)).detach());
            running.value_sync();
        }
        result.output
    }

    /// One multiplication and one addition a value, as PyTorch does it.
    fn by_running(&self, input: Tensor<4>) -> Tensor<4> {
        let per_channel = |values: Tensor<1>| {
            let channels = values.dims()[0];
            values.reshape([1, channels, 1, 1])
        };
        let deviation = self.running_var.value().add_scalar(EPSILON).sqrt();
        let scale = self.weight.val().div(deviation);
        let shift = self.bias.val().sub(self.running_mean.value().mul(scale.clone()));
        input.mul(per_channel(scale)).add(per_channel(shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{DeviceName, open},
        tensors::HostTensor,
    };

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        HostTensor::of(tensor).values
    }

    #[test]
    fn the_running_variance_is_fed_the_unbiased_variance_at_once() {
        let device = open(DeviceName::Cpu, 1).expect("the processor is always there");
        let norm = BatchNorm::new(1, &device).train();
        let input = Tensor::<4>::from_data([[[[1.0]]], [[[3.0]]]], &device.clone().autodiff());
        norm.forward(input, Mode::Training);
        // mean 2, biased variance 1, unbiased 2: 0.9 * 0 + 0.1 * 2 and 0.9 * 1 + 0.1 * 2
        let norm = norm.valid();
        assert_eq!(values(norm.running_mean.value()), [0.2]);
        assert!((values(norm.running_var.value())[0] - 1.1).abs() < 1e-6);
    }

    #[test]
    fn inference_uses_the_running_statistics_and_leaves_them() {
        let device = open(DeviceName::Cpu, 1).expect("the processor is always there");
        let norm = BatchNorm::new(2, &device);
        let output = norm.forward(Tensor::<4>::from_data([[[[3.0]], [[-5.0]]]], &device), Mode::Inference);
        let expected = [3.0 / 1.00001f32.sqrt(), -5.0 / 1.00001f32.sqrt()];
        assert!(values(output).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!(values(norm.running_mean.value()), [0.0, 0.0]);
        assert_eq!(values(norm.running_var.value()), [1.0, 1.0]);
    }
}
