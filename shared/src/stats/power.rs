//! How large a difference a study can see, and how many seeds it would take.
//!
//! Seeds average out only their own variance. What two seeds share through the patients stays, so from some point on more seeds
//! do not help and more patients do.

use super::{Estimate, student};

/// What a study's uncertainty is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Design {
    /// Variance of one seed's difference, on the same patients.
    pub seed_variance: f64,
    /// Covariance of two seeds' differences over patients.
    pub patient_variance: f64,
    /// False-alarm rate of the two-sided test.
    pub alpha: f64,
}

/// Most seeds that are thought about.
const MOST_SEEDS: usize = 100_000;

impl Design {
    /// As a pilot has measured it. Undefined with one seed.
    pub fn of(pilot: &Estimate, alpha: f64) -> Option<Self> {
        Some(Self { seed_variance: pilot.raised_seed_variance?, patient_variance: pilot.patient_variance, alpha })
    }

    /// Standard error and degrees of freedom with so many seeds.
    fn with(&self, seeds: usize) -> (f64, f64) {
        let n = seeds as f64;
        let of_seeds = self.seed_variance / n;
        let variance = of_seeds + self.patient_variance;
        let df = if of_seeds > 0.0 { variance.powi(2) * (n - 1.0) / of_seeds.powi(2) } else { f64::INFINITY };
        (variance.sqrt(), df)
    }
}

/// The probability that `seeds` seeds show a true `difference`. Undefined with fewer than two, and where nothing varies.
pub fn power(design: &Design, seeds: usize, difference: f64) -> Option<f64> {
    let (standard_error, df) = design.with(seeds);
    if seeds < 2 || standard_error.is_nan() || standard_error <= 0.0 {
        return None;
    }
    let delta = difference.abs() / standard_error;
    let critical = -student::quantile(design.alpha / 2.0, df);
    let above = 1.0 - student::noncentral_cdf(critical, df, delta);
    Some((above + student::noncentral_cdf(-critical, df, delta)).clamp(0.0, 1.0))
}

/// The smallest true difference that `seeds` seeds show with probability `wanted`. Undefined as [`power`] is.
pub fn minimum_detectable(design: &Design, seeds: usize, wanted: f64) -> Option<f64> {
    let (standard_error, _) = design.with(seeds);
    power(design, seeds, 0.0)?;
    let (mut low, mut high) = (0.0, standard_error);
    while power(design, seeds, high)? < wanted {
        high *= 2.0;
        if high > 1e6 * standard_error {
            return None;
        }
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if power(design, seeds, middle)? < wanted { low = middle } else { high = middle }
    }
    Some(f64::midpoint(low, high))
}

/// The fewest seeds that show a true `difference` with probability `wanted`; `None` where no number of seeds does, because
/// the patients are too few.
pub fn seeds_needed(design: &Design, difference: f64, wanted: f64) -> Option<usize> {
    let enough = |seeds: usize| power(design, seeds, difference).is_some_and(|power| power >= wanted);
    let mut high = 2;
    while !enough(high) {
        high *= 2;
        if high > MOST_SEEDS {
            return None;
        }
    }
    let mut low = high / 2;
    while high - low > 1 && high > 2 {
        let middle = usize::midpoint(low, high);
        if enough(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn design(seed_variance: f64, patient_variance: f64) -> Design {
        Design { seed_variance, patient_variance, alpha: 0.05 }
    }

    #[test]
    fn without_patients_it_is_that_of_the_t_test() {
        // statsmodels.stats.power.TTestPower().power(effect_size=1, nobs=n, alpha=0.05)
        for (seeds, expected) in [(3, 0.1792553937765517), (5, 0.4013899173717948), (10, 0.8030968566327218)] {
            let found = power(&design(1.0, 0.0), seeds, 1.0).expect("it varies");
            assert!((found / expected - 1.0).abs() < 1e-7, "{seeds}: {found} is not {expected}");
        }
        let smallest = minimum_detectable(&design(4.0, 0.0), 8, 0.8).expect("there is one");
        assert!((power(&design(4.0, 0.0), 8, smallest).expect("it varies") - 0.8).abs() < 1e-9);
    }

    #[test]
    fn seeds_help_only_as_far_as_patients_let_them() {
        assert_eq!(seeds_needed(&design(1.0, 0.0), 1.0, 0.8), Some(10));
        assert_eq!(seeds_needed(&design(1.0, 0.2), 1.0, 0.8), None);
        let with_patients = seeds_needed(&design(1.0, 0.05), 1.0, 0.8).expect("there are enough");
        assert!(with_patients > 10, "{with_patients}");
        assert_eq!(seeds_needed(&design(1e-6, 0.0), 1.0, 0.8), Some(2));
    }

    #[test]
    fn nothing_that_varies_and_one_seed_have_no_power() {
        assert_eq!(power(&design(0.0, 0.0), 5, 1.0), None);
        assert_eq!(power(&design(1.0, 0.0), 1, 1.0), None);
        assert_eq!(seeds_needed(&design(0.0, 0.0), 1.0, 0.8), None);
    }
}
