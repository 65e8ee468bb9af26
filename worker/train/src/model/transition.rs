//! A transition between dense blocks: half the channels, half the resolution.

use burn::{
    module::Module,
    nn::conv::{Conv2d, Conv2dConfig},
    tensor::{Device, Tensor, activation::relu, module::avg_pool2d, ops::AvgPoolOptions},
};

use super::{BatchNorm, Mode};

/// BN, ReLU, 1×1 convolution, 2×2 average pooling.
#[derive(Module, Debug)]
pub struct Transition {
    norm: BatchNorm,
    conv: Conv2d,
}

impl Transition {
    /// A transition that reads `channels` channels and gives half as many.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            norm: BatchNorm::new(channels, device),
            conv: Conv2dConfig::new([channels, channels / 2], [1, 1]).with_bias(false).init(device),
        }
    }

    /// `[batch, channels, height, width]` to `[batch, channels / 2, height / 2, width / 2]`.
    pub fn forward(&self, input: Tensor<4>, mode: Mode) -> Tensor<4> {
        let x = self.conv.forward(relu(self.norm.forward(input, mode)));
        avg_pool2d(x, AvgPoolOptions::new([2, 2]).with_stride([2, 2]))
    }
}
