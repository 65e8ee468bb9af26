//! What a network is computed with: the few operations that the architectures need, on whatever tensors a backend has.

/// Tensor operations with PyTorch's semantics. Activations are `[batch, channels, height, width]`.
pub trait Operations {
    /// A tensor of any rank.
    type Tensor;

    /// Two-dimensional convolution without bias; `weight` is `[out, in, kernel, kernel]`.
    fn convolution(&self, input: &Self::Tensor, weight: &Self::Tensor, stride: usize, padding: usize) -> Self::Tensor;

    /// Batch normalisation over each channel (Ioffe and Szegedy, ICML 2015), by the batch or by the running statistics
    /// as the backend was told.
    fn norm(&self, input: &Self::Tensor, norm: Norm<'_, Self::Tensor>) -> Self::Tensor;

    /// [`Self::norm`] of the channels of all `inputs`, one after the other, then ReLU.
    fn norm_relu(&self, inputs: &[&Self::Tensor], norm: Norm<'_, Self::Tensor>) -> Self::Tensor;

    /// [`Self::norm_relu`], then a [`Self::convolution`] of stride 1. One operation, because what lies between is large
    /// and cheap to make again.
    fn norm_relu_convolution(
        &self,
        inputs: &[&Self::Tensor],
        norm: Norm<'_, Self::Tensor>,
        weight: &Self::Tensor,
        padding: usize,
    ) -> Self::Tensor {
        self.convolution(&self.norm_relu(inputs, norm), weight, 1, padding)
    }

    /// The sum of two activations, then ReLU.
    fn add_relu(&self, one: Self::Tensor, other: &Self::Tensor) -> Self::Tensor;

    /// Maximum over 3×3 windows, stride 2, padding 1.
    fn max_pool(&self, input: &Self::Tensor) -> Self::Tensor;

    /// Mean over 2×2 windows, stride 2.
    fn average_pool(&self, input: &Self::Tensor) -> Self::Tensor;

    /// Mean over height and width, in the parameters' float type: `[batch, channels, 1, 1]`.
    fn global_pool(&self, input: &Self::Tensor) -> Self::Tensor;

    /// `[batch, channels, 1, 1]` to `[batch, out]`; `weight` is `[out, channels]`.
    fn linear(&self, input: &Self::Tensor, weight: &Self::Tensor, bias: &Self::Tensor) -> Self::Tensor;
}

/// The four tensors of a BatchNorm, each `[channels]`.
#[derive(Debug)]
pub struct Norm<'a, T> {
    /// Scale.
    pub weight: &'a T,
    /// Shift.
    pub bias: &'a T,
    /// Running mean.
    pub mean: &'a T,
    /// Running variance, fed with the batch's unbiased one.
    pub variance: &'a T,
}

/// BatchNorm's epsilon; PyTorch's default.
pub const EPSILON: f64 = 1e-5;
/// Weight of the newest batch in the running statistics; PyTorch's default.
pub const MOMENTUM: f64 = 0.1;

/// Whether layers behave as in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// BatchNorm normalises by the batch and updates its running statistics.
    Training,
    /// BatchNorm normalises by its running statistics and leaves them alone.
    Inference,
}
