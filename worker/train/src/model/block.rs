//! A dense block: layers that each read the outputs of all before them.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

use super::{DenseLayer, Mode, layer::GROWTH};

/// `layers` dense layers over one resolution.
#[derive(Module, Debug)]
pub struct DenseBlock {
    layers: Vec<DenseLayer>,
}

impl DenseBlock {
    /// A block of `layers` layers that reads `channels` channels.
    pub fn new(layers: usize, channels: usize, device: &Device) -> Self {
        Self { layers: (0..layers).map(|index| DenseLayer::new(channels + index * GROWTH, device)).collect() }
    }

    /// `[batch, channels, height, width]` to `[batch, channels + layers × GROWTH, height, width]`.
    pub fn forward(&self, input: Tensor<4>, mode: Mode) -> Tensor<4> {
        let mut features = vec![input];
        for layer in &self.layers {
            features.push(layer.forward(features.clone(), mode));
        }
        Tensor::cat(features, 1)
    }
}
