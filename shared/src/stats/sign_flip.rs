//! The sign-flip (randomisation) test of paired differences (Fisher, "The Design of Experiments", 1935, section 21).
//!
//! If the treatment does nothing, the sign of each pair's difference is a coin toss. The two-sided p-value is the part
//! of all sign patterns whose sum is at least as far from zero as the observed one. It assumes no distribution, and it
//! is honest about few pairs: `n` pairs cannot give less than `2 / 2^n`.

use crate::{
    ids::Epoch,
    seed::{Purpose, draw},
};

/// Up to this many pairs all patterns are counted; above it, [`MONTE_CARLO_DRAWS`] random ones.
pub const EXACT_LIMIT: usize = 20;
/// Random patterns, the observed one not counted.
pub const MONTE_CARLO_DRAWS: u32 = 99_999;
/// Sums that differ by less than this part of the sum of absolute differences are equal: rounding in sums of what
/// mathematically ties must not make a result look rarer than it is.
const RELATIVE_TIE: f64 = 1e-12;

/// The two-sided p-value of `differences`. Undefined without any, or where one is not finite.
pub fn sign_flip(differences: &[f64]) -> Option<f64> {
    if differences.is_empty() || differences.iter().any(|difference| !difference.is_finite()) {
        return None;
    }
    let observed = differences.iter().sum::<f64>().abs();
    let bound = observed - RELATIVE_TIE * differences.iter().map(|d| d.abs()).sum::<f64>();
    if differences.len() <= EXACT_LIMIT {
        // A pattern and its mirror image are equally far from zero, so the first sign is fixed.
        let extreme = count_extreme(differences[0], &differences[1..], bound);
        Some(extreme as f64 / (1u64 << (differences.len() - 1)) as f64)
    } else {
        let extreme = (0..MONTE_CARLO_DRAWS).filter(|&index| random_sum(differences, index).abs() >= bound).count();
        Some((extreme + 1) as f64 / (f64::from(MONTE_CARLO_DRAWS) + 1.0))
    }
}

fn count_extreme(sum: f64, rest: &[f64], bound: f64) -> u64 {
    match rest {
        [] => u64::from(sum.abs() >= bound),
        [next, rest @ ..] => count_extreme(sum + next, rest, bound) + count_extreme(sum - next, rest, bound),
    }
}

/// The sum under the `index`-th random pattern: the same patterns whenever the test is repeated.
fn random_sum(differences: &[f64], index: u32) -> f64 {
    const BITS: usize = 32;
    let mut draws = draw(0, Epoch(0), u64::from(index), Purpose::SignFlip);
    let mut sum = 0.0;
    for chunk in differences.chunks(BITS) {
        let signs = draws.below(1 << BITS);
        sum += (0..).zip(chunk).map(|(bit, d)| if signs >> bit & 1 == 0 { *d } else { -d }).sum::<f64>();
    }
    sum
}

/// The smallest p-value that `pairs` can give; 1 without any.
pub fn smallest_p(pairs: usize) -> f64 {
    match pairs {
        0 => 1.0,
        1..=EXACT_LIMIT => 1.0 / (1u64 << (pairs - 1)) as f64,
        _ => 1.0 / (f64::from(MONTE_CARLO_DRAWS) + 1.0),
    }
}

/// The fewest pairs whose [`smallest_p`] is at most `alpha`; `None` where no number of them is enough.
pub fn pairs_needed(alpha: f64) -> Option<usize> {
    (1..=EXACT_LIMIT + 1).find(|&pairs| smallest_p(pairs) <= alpha)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(sign_flip(&[]), None);
        assert_eq!(sign_flip(&[f64::NAN]), None);
        assert_eq!(sign_flip(&[0.3]), Some(1.0));
        assert_eq!(sign_flip(&[0.1, 0.2]), Some(0.5));
        // |1 + 2 - 3| = 0: every pattern is at least as far from zero.
        assert_eq!(sign_flip(&[1.0, 2.0, -3.0]), Some(1.0));
        // The sum is 5. As far from zero: all signs equal (7), or one of the two ones flipped (5); each also mirrored.
        assert_eq!(sign_flip(&[1.0, 2.0, 3.0, -1.0]), Some(6.0 / 16.0));
        assert_eq!(sign_flip(&[0.0; 5]), Some(1.0));
    }

    #[test]
    fn rounding_does_not_break_a_tie() {
        // 0.1 + 0.2 - 0.3 is 5.6e-17 in floating point and 0 in truth.
        assert_eq!(sign_flip(&[0.1, 0.2, -0.3]), Some(1.0));
    }

    #[test]
    fn five_pairs_cannot_reach_five_per_cent_and_six_can() {
        assert_eq!((smallest_p(5), smallest_p(6)), (0.0625, 0.03125));
        assert_eq!(pairs_needed(0.05), Some(6));
        assert_eq!(pairs_needed(1e-9), None);
    }

    #[test]
    fn many_pairs_are_sampled_and_agree_with_what_is_known() {
        assert_eq!(sign_flip(&[1.0; 30]), Some(smallest_p(30)), "2 of 2^30 patterns are never drawn");
        // 30 equal pairs of which 20 are positive: P(|heads - 15| >= 5) for 30 coins is 0.0987.
        let differences: Vec<f64> = (0..30).map(|index| if index < 20 { 1.0 } else { -1.0 }).collect();
        let p = sign_flip(&differences).expect("defined");
        assert!((p - 0.0987).abs() < 0.004, "{p}");
    }

    proptest! {
        #[test]
        fn never_below_what_is_reachable(differences in proptest::collection::vec(-1.0f64..1.0, 1..10)) {
            let p = sign_flip(&differences).expect("defined");
            prop_assert!(p >= smallest_p(differences.len()) && p <= 1.0);
        }

        #[test]
        fn neither_order_nor_direction_matters(differences in proptest::collection::vec(-8i8..8, 1..9)) {
            let values: Vec<f64> = differences.iter().map(|d| f64::from(*d) / 8.0).collect();
            let mirrored: Vec<f64> = values.iter().rev().map(|d| -d).collect();
            prop_assert_eq!(sign_flip(&values), sign_flip(&mirrored));
        }

        #[test]
        fn one_sign_is_the_rarest_pattern(differences in proptest::collection::vec(0.001f64..1.0, 1..12)) {
            prop_assert_eq!(sign_flip(&differences), Some(smallest_p(differences.len())));
        }
    }
}
