//! Which other sample is blended into a sample, and by how much.

use std::f64::consts::TAU;

use crate::{
    ids::Epoch,
    seed::{Draws, Purpose, draw},
};

use super::Policy;

/// A blend of a sample with a partner, after Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. Image
/// and label are both `weight` times the sample's own plus `1 - weight` times the partner's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// An index into the samples that partners are chosen from; it may be the sample itself.
    pub partner: usize,
    /// The sample's own share, in [0, 1].
    pub weight: f32,
}

impl Mix {
    /// The blend of `sample` in `epoch` with one of `candidates` samples. None where the policy has no mixup, or nothing
    /// to choose from.
    pub fn draw(policy: &Policy, seed: u64, epoch: Epoch, sample: u32, candidates: usize) -> Option<Self> {
        if policy.mixup <= 0.0 || candidates == 0 {
            return None;
        }
        let mut draws = draw(seed, epoch, u64::from(sample), Purpose::Mixup);
        let weight = symmetric_beta(&mut draws, policy.mixup) as f32;
        Some(Self { weight, partner: draws.below(candidates as u64) as usize })
    }

    /// Blends the partner's image into the sample's own, `shown`.
    pub fn blend(&self, shown: &mut [f32], partner: &[f32]) {
        let (own, other) = (self.weight, 1.0 - self.weight);
        for (shown, partner) in shown.iter_mut().zip(partner) {
            *shown = *shown * own + partner * other;
        }
    }
}

/// Beta(alpha, alpha) from two uniforms: with T of Student's distribution with 2·alpha degrees of freedom,
/// (1 + T / √(2·alpha + T²)) / 2 has it, and T is √(2·alpha · (U^(-1/alpha) − 1)) · cos(2πV) (R. W. Bailey, "Polar
/// generation of random variates with the t-distribution", Mathematics of Computation 62, 1994).
fn symmetric_beta(draws: &mut Draws, alpha: f64) -> f64 {
    let radius = (1.0 - draws.uniform()).powf(-1.0 / alpha) - 1.0;
    let cosine = (TAU * draws.uniform()).cos();
    let part = 1.0 / (1.0 + 1.0 / (radius * cosine * cosine)).sqrt();
    0.5 + 0.5 * part.copysign(cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_moments_of_a_beta_distribution() {
        for alpha in [0.05, 0.2, 1.0, 8.0] {
            let policy = Policy { mixup: alpha, ..Policy::NONE };
            let weight = |sample| f64::from(Mix::draw(&policy, 1, Epoch(1), sample, 2).unwrap().weight);
            let weights: Vec<f64> = (0..20_000).map(weight).collect();
            assert!(weights.iter().all(|weight| (0.0..=1.0).contains(weight)));
            let mean = weights.iter().sum::<f64>() / weights.len() as f64;
            let variance = weights.iter().map(|weight| (weight - 0.5).powi(2)).sum::<f64>() / weights.len() as f64;
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!(
                (mean - 0.5).abs() < 0.01 && (variance / expected - 1.0).abs() < 0.05,
                "{alpha}: {mean} {variance}"
            );
        }
    }

    #[test]
    fn partners_are_chosen_among_all_candidates_and_only_with_mixup() {
        let partners: Vec<usize> =
            (0..200).map(|sample| Mix::draw(&Policy::MIXUP, 1, Epoch(1), sample, 5).unwrap().partner).collect();
        assert!((0..5).all(|candidate| partners.contains(&candidate)) && partners.iter().all(|partner| *partner < 5));
        assert_eq!(Mix::draw(&Policy::STRONG, 1, Epoch(1), 0, 5), None);
        assert_eq!(Mix::draw(&Policy::MIXUP, 1, Epoch(1), 0, 0), None);
    }

    #[test]
    fn a_blend_is_the_weighted_sum() {
        let mut shown = [1.0, 0.0, 0.5];
        Mix { partner: 0, weight: 0.75 }.blend(&mut shown, &[0.0, 1.0, 0.5]);
        assert_eq!(shown, [0.75, 0.25, 0.5]);
    }
}
