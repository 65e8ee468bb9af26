//! DenseNet-121 (Huang et al., "Densely Connected Convolutional Networks", CVPR 2017) with torchvision's structure and
//! names, one file per level: layer, block, transition, network.
//!
//! Nothing here knows a device library or a file format. A network runs in two pieces: what is frozen, on plain tensors
//! and without a tape, then what is trained.

mod batch_norm;
mod block;
mod init;
mod layer;
mod network;
mod state;
mod transition;

use ceteris_shared::spec::Trainable;

pub use batch_norm::BatchNorm;
pub use block::DenseBlock;
pub use init::{head, random};
pub use layer::DenseLayer;
pub use network::DenseNet121;
pub use state::{Entry, Path, layout, split};
pub use transition::Transition;

/// Smallest height and width for which every map still has a pixel; torchvision's `min_size`.
pub const MIN_IMAGE_SIZE: u32 = 29;

/// Whether layers behave as in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// BatchNorm normalises by the batch and updates its running statistics.
    Training,
    /// BatchNorm normalises by its running statistics and leaves them alone.
    Inference,
}

/// A stretch of the network that is frozen or trained as a whole, in forward order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `conv0` and `norm0`.
    Stem,
    /// `denseblock1` and `transition1`.
    Block1,
    /// `denseblock2` and `transition2`.
    Block2,
    /// `denseblock3` and `transition3`.
    Block3,
    /// `denseblock4` and `norm5`.
    Block4,
    /// `classifier`.
    Head,
}

impl Part {
    /// What computes features: all parts but the head, in forward order.
    pub const FEATURES: [Self; 5] = [Self::Stem, Self::Block1, Self::Block2, Self::Block3, Self::Block4];

    /// The first part that is trained.
    pub fn first_trained(trainable: Trainable) -> Self {
        match trainable {
            Trainable::All => Self::Stem,
            Trainable::Denseblock1 => Self::Block1,
            Trainable::Denseblock2 => Self::Block2,
            Trainable::Denseblock3 => Self::Block3,
            Trainable::Denseblock4 => Self::Block4,
            Trainable::Head => Self::Head,
        }
    }
}

/// Height and width of the last block's maps for square images of `image_size` pixels.
pub fn last_map_size(image_size: u32) -> u32 {
    // conv0 and pool0 halve upwards (padded), the three transitions downwards.
    image_size.div_ceil(2).div_ceil(2) / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_image_still_has_a_map() {
        assert_eq!(last_map_size(MIN_IMAGE_SIZE), 1);
        assert_eq!(last_map_size(MIN_IMAGE_SIZE - 1), 0);
        assert_eq!(last_map_size(224), 7);
    }
}
