//! Frozen means free: what lies below the freeze boundary is a pure function of weights, sample and draw, so it is
//! computed once, kept in a folder as a set of features ([`ceteris_shared::features`]), and read from there.
//!
//! Whether keeping a set is worth its bytes is decided by cost ([`decide`]), and said. Sets are computed in batches of
//! one fixed size, as features that are not kept are: so a result does not depend on what was kept.

mod decide;
mod set;

pub use decide::{Decision, Estimate, decide};
pub use set::{Error, FeatureSet, Maker, Rows};

use burn::tensor::Tensor;
use ceteris_shared::architecture::Part;

use crate::model::Network;

/// Images in every batch of a frozen part, and of every evaluation: libtorch's results depend on the size of a batch in
/// the last bits, though not on a sample's neighbours or place.
pub const CANONICAL_BATCH: usize = 16;

/// The input of the first trained part for a training batch `images` `[rows, 3, height, width]`, computed in canonical
/// batches, the last one padded.
pub fn compute(network: &Network, images: Tensor<4>) -> Tensor<4> {
    if network.first() == Part::Stem {
        return images;
    }
    let [rows, channels, height, width] = images.dims();
    let pieces = (0..rows).step_by(CANONICAL_BATCH).map(|start| {
        let count = CANONICAL_BATCH.min(rows - start);
        let piece = images.clone().slice(start..start + count);
        let padded = if count == CANONICAL_BATCH {
            piece
        } else {
            let missing = CANONICAL_BATCH - count;
            Tensor::cat(vec![piece, Tensor::zeros([missing, channels, height, width], &images.device())], 0)
        };
        network.features(padded).slice(0..count)
    });
    Tensor::cat(pieces.collect(), 0)
}
