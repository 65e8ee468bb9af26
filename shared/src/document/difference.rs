//! The difference between two arms in one score, over paired seeds: what is the same in every document that tells one.

use serde::{Deserialize, Serialize};

/// A difference over seeds and patients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// One per seed.
    pub pairs: Vec<Pair>,
    /// Mean of the differences.
    pub mean_difference: f64,
    /// Smallest difference.
    pub min_difference: f64,
    /// Largest difference.
    pub max_difference: f64,
    /// How sure the mean of the differences is, over seeds and patients; null in an exploratory comparison of the incomparable,
    /// where nothing varies, and where there are fewer than two patients of a kind that is needed.
    pub uncertainty: Option<Uncertainty>,
    /// Two-sided p-value of there being no difference, of `uncertainty`. With one seed it says something about these two models, and
    /// nothing about training. Null where nothing varies.
    pub p: Option<f64>,
    /// The same after the correction over all contrasts: the verdict's.
    pub p_corrected: Option<f64>,
    /// The largest difference that does not matter, as declared.
    pub margin: Option<f64>,
    /// The p-value of the difference being `margin` or more (two one-sided tests), after the correction: small means equivalent.
    pub equivalence_p: Option<f64>,
    /// Two-sided p-value of the exact sign-flip test over seeds, which assumes no distribution and takes the patients as given.
    pub sign_flip_p: Option<f64>,
    /// The smallest p-value that this many seeds can give in the sign-flip test.
    pub smallest_p: f64,
    /// The share of pairs of any two runs in which the arm has the larger value.
    pub probability_larger: Option<f64>,
    /// The smallest true difference that this many seeds show with probability 0.8.
    pub minimum_detectable: Option<f64>,
    /// How many seeds would show a true difference of `margin`, or where none is declared of the mean difference, with
    /// probability 0.8; null where no number does, or nothing is known about it.
    pub seeds_needed: Option<u64>,
}

/// How sure a mean over seeds is, measured on a sample of patients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Uncertainty {
    /// Where the true mean lies with confidence 1 - alpha.
    pub interval: [f64; 2],
    /// Of the mean.
    pub standard_error: f64,
    /// Of the t distribution; null where they are infinite.
    pub degrees_of_freedom: Option<f64>,
    /// Variance of one seed's value on these patients; null with one seed.
    pub seed_variance: Option<f64>,
    /// Covariance of two seeds' values over patients.
    pub patient_variance: f64,
    /// Over how many patients; samples, where patients are not known.
    pub patients: u64,
}

/// The two runs of one seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Which seed.
    pub seed: u64,
    /// The metric in the baseline.
    pub baseline: f64,
    /// The metric in the other arm.
    pub arm: f64,
    /// `arm - baseline`.
    pub difference: f64,
}
