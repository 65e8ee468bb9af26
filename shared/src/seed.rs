//! Counter-based randomness: every draw is a pure function of (seed, epoch, sample, purpose), so two arms with the same
//! seed see the same data order and the same augmentation whatever worker, thread or restart they run on, and no
//! generator has a state that a checkpoint would have to keep.
//!
//! Each tuple is the key of its own ChaCha8 stream (D. J. Bernstein, "ChaCha, a variant of Salsa20", 2008). How bits
//! become numbers is written here and not taken from a library, because a change of it would change every result.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::ids::Epoch;

/// What a draw is for. Streams of different purposes are independent. The discriminants are part of every lineage:
/// never renumber them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The order of training samples in an epoch; the sample is 0.
    Order = 1,
    /// The augmentation of one sample in one epoch.
    Augment = 2,
    /// Initial values of one parameter tensor; the epoch is 0 and the sample is the tensor's index.
    Init = 3,
    /// The order in which patients are dealt to splits on import; epoch and sample are 0.
    Split = 4,
    /// The signs of one random pattern of a sign-flip test; the sample is the pattern's index.
    SignFlip = 5,
    /// The elastic displacement field of one sample in one epoch.
    Elastic = 6,
    /// The noise on one sample in one epoch.
    Noise = 7,
    /// The partner and the weight of one sample's blend in one epoch.
    Mixup = 8,
    /// The seeds and patients of one draw of a bootstrap; the sample is the draw's index.
    Resample = 9,
}

/// The stream of numbers that belongs to one (seed, epoch, sample, purpose).
#[derive(Clone, Debug)]
pub struct Draws(ChaCha8Rng);

/// Opens the stream of (`seed`, `epoch`, `sample`, `purpose`).
pub fn draw(seed: u64, epoch: Epoch, sample: u64, purpose: Purpose) -> Draws {
    let mut key = [0; 32];
    for (slot, value) in key.chunks_exact_mut(8).zip([seed, u64::from(epoch.0), sample, purpose as u64]) {
        slot.copy_from_slice(&value.to_le_bytes());
    }
    Draws(ChaCha8Rng::from_seed(key))
}

impl Draws {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [`low`, `high`).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Uniform in 0..`bound` without bias (Lemire, "Fast Random Integer Generation in an Interval", 2019).
    ///
    /// A `bound` of 0 gives 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.0.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Standard normal, by the Box-Muller transform (two uniforms a call; the second value is not kept).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// The order in which `count` training samples are visited in `epoch`: a permutation of 0..`count`
/// (Fisher-Yates shuffle).
pub fn order(seed: u64, epoch: Epoch, count: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut draws = draw(seed, epoch, 0, Purpose::Order);
    for last in (1..order.len()).rev() {
        let other = draws.below(last as u64 + 1) as usize;
        order.swap(last, other);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_values_never_change() {
        let mut draws = draw(7, Epoch(3), 11, Purpose::Augment);
        let got: Vec<u64> = (0..3).map(|_| draws.below(1_000_000)).collect();
        assert_eq!(got, GOLDEN_BELOW);
        assert_eq!(order(7, Epoch(1), 8), GOLDEN_ORDER);
    }

    const GOLDEN_BELOW: [u64; 3] = [74640, 164432, 805651];
    const GOLDEN_ORDER: [u32; 8] = [3, 5, 1, 2, 4, 6, 7, 0];

    proptest::proptest! {
        #[test]
        fn an_order_is_a_permutation(seed: u64, epoch in 1u32..1000, count in 0u32..300) {
            let mut order = order(seed, Epoch(epoch), count);
            order.sort_unstable();
            proptest::prop_assert_eq!(order, (0..count).collect::<Vec<_>>());
        }

        #[test]
        fn a_bound_holds(seed: u64, bound in 1u64..) {
            proptest::prop_assert!(draw(seed, Epoch(1), 0, Purpose::Order).below(bound) < bound);
        }
    }

    #[test]
    fn streams_differ_in_every_coordinate() {
        let first = |seed, epoch, sample, purpose| draw(seed, Epoch(epoch), sample, purpose).uniform();
        let base = first(1, 1, 1, Purpose::Order);
        let others = [
            first(2, 1, 1, Purpose::Order),
            first(1, 2, 1, Purpose::Order),
            first(1, 1, 2, Purpose::Order),
            first(1, 1, 1, Purpose::Augment),
        ];
        assert!(others.iter().all(|other| *other != base));
    }

    #[test]
    fn normals_have_the_right_moments() {
        let mut draws = draw(0, Epoch(0), 0, Purpose::Init);
        let values: Vec<f64> = (0..20_000).map(|_| draws.normal()).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.03, "mean {mean}, variance {variance}");
    }
}
