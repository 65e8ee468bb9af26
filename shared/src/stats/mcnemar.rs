//! McNemar's exact test of two models' decisions on the same samples (McNemar, Psychometrika 1947): of the samples that only one
//! of them calls right, each is a coin toss if the models are equally good.

/// Samples that exactly one of two models calls right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discordance {
    /// By the first.
    pub first_only: u64,
    /// By the second.
    pub second_only: u64,
}

/// The exact two-sided p-value: twice the binomial tail, at most 1.
pub fn mcnemar(discordance: Discordance) -> f64 {
    let Discordance { first_only, second_only } = discordance;
    let (fewer, all) = (first_only.min(second_only), first_only + second_only);
    (2.0 * half_tail(fewer, all)).min(1.0)
}

/// `P(X <= k)` for `n` tosses of a coin. Terms and sum are kept as a number times a power of two, so that nothing underflows
/// before the end.
fn half_tail(k: u64, n: u64) -> f64 {
    const BITS: i32 = 512;
    let large = 2f64.powi(BITS);
    let (mut term, mut sum, mut exponent) = (1.0f64, 1.0f64, 0u64);
    for index in 0..k {
        term *= (n - index) as f64 / (index + 1) as f64;
        sum += term;
        if sum > large {
            (term, sum, exponent) = (term / large, sum / large, exponent + BITS as u64);
        }
    }
    // sum · 2^(exponent - n), in steps that stay in range.
    let mut left = n.saturating_sub(exponent);
    while left > 0 && sum > 0.0 {
        let step = left.min(1000);
        sum *= 0.5f64.powi(step as i32);
        left -= step;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(first_only: u64, second_only: u64) -> f64 {
        mcnemar(Discordance { first_only, second_only })
    }

    #[test]
    fn by_hand() {
        assert_eq!((p(0, 0), p(3, 3), p(0, 1)), (1.0, 1.0, 1.0));
        assert_eq!(p(0, 6), 2.0 / 64.0);
        assert_eq!(p(1, 7), 2.0 * 9.0 / 256.0);
        assert_eq!(p(1, 7), p(7, 1));
    }

    #[test]
    fn many_samples_neither_underflow_nor_take_long() {
        // scipy.stats.binomtest(k, n, 0.5).pvalue
        for ((first, second), expected) in [
            ((400, 500), 0.0009564441369189373),
            ((1200, 1500), 8.412086328628609e-9),
            ((49_000, 51_000), 2.5887160383468943e-10),
        ] {
            let found = p(first, second);
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
        }
        assert_eq!(p(0, 5000), 0.0, "smaller than any number");
    }
}
