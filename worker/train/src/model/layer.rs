//! One dense layer: BN, ReLU, 1×1 convolution, BN, ReLU, 3×3 convolution.

use burn::{
    module::Module,
    nn::{
        PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor, activation::relu},
};

use super::{BatchNorm, Mode};

/// Channels that each layer adds.
pub(super) const GROWTH: usize = 32;
/// Channels between the two convolutions.
const BOTTLENECK: usize = 4 * GROWTH;

/// Computes [`GROWTH`] new channels from all channels so far.
#[derive(Module, Debug)]
pub struct DenseLayer {
    norm1: BatchNorm,
    conv1: Conv2d,
    norm2: BatchNorm,
    conv2: Conv2d,
}

impl DenseLayer {
    /// A layer that reads `channels` channels.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            norm1: BatchNorm::new(channels, device),
            conv1: Conv2dConfig::new([channels, BOTTLENECK], [1, 1]).with_bias(false).init(device),
            norm2: BatchNorm::new(BOTTLENECK, device),
            conv2: Conv2dConfig::new([BOTTLENECK, GROWTH], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(false)
                .init(device),
        }
    }

    /// `features`, concatenated `[batch, channels, height, width]`, to `[batch, GROWTH, height, width]`.
    pub fn forward(&self, features: Vec<Tensor<4>>, mode: Mode) -> Tensor<4> {
        let x = relu(self.norm1.forward(Tensor::cat(features, 1), mode));
        let x = relu(self.norm2.forward(self.conv1.forward(x), mode));
        self.conv2.forward(x)
    }
}
