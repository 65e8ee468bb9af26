//! The variance of areas under ROC curves, and the test of two areas on the same samples (DeLong, DeLong and Clarke-Pearson,
//! "Comparing the areas under two or more correlated receiver operating characteristic curves", Biometrics 1988), by
//! midranks (Sun and Xu, IEEE Signal Processing Letters 2014); for samples of clusters as in Obuchowski, "Nonparametric
//! analysis of clustered ROC curve data", Biometrics 1997.

use super::{Clusters, Influence, influence::area, student};

/// Two areas on the same samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AreaTest {
    /// The second area minus the first.
    pub difference: f64,
    /// Its variance over samples.
    pub variance: f64,
    /// The difference in standard errors; undefined where there is no variance and a difference.
    pub z: Option<f64>,
    /// Two-sided p-value of `z`.
    pub p: Option<f64>,
}

/// The area and its variance. Undefined with fewer than two clusters with positives or with negatives.
pub fn area_variance(scores: &[(f64, bool)], clusters: &Clusters) -> Option<(f64, f64)> {
    let (value, influence) = area(scores, clusters)?;
    Some((value, influence.variance()))
}

/// Tests whether two models have the same area. Both score the same samples in the same order.
/// Undefined as [`area_variance`] is.
pub fn area_test(first: &[(f64, bool)], second: &[(f64, bool)], clusters: &Clusters) -> Option<AreaTest> {
    let ((first, of_first), (second, of_second)) = (area(first, clusters)?, area(second, clusters)?);
    let difference = second - first;
    let influence: Influence = of_second.minus(&of_first);
    let variance = influence.variance();
    let z = match (variance > 0.0, difference == 0.0) {
        (true, _) => Some(difference / variance.sqrt()),
        (false, true) => Some(0.0),
        (false, false) => None,
    };
    Some(AreaTest { difference, variance, z, p: z.map(|z| student::two_sided(z, f64::INFINITY)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_and_itself_do_not_differ() {
        let scores = [(0.1, false), (0.4, false), (0.35, true), (0.8, true)];
        let test = area_test(&scores, &scores, &Clusters::singletons(4)).expect("defined");
        assert_eq!((test.difference, test.variance, test.p), (0.0, 0.0, Some(1.0)));
    }

    #[test]
    fn one_sample_of_a_class_has_no_variance() {
        let scores = [(0.1, false), (0.4, false), (0.35, true)];
        assert_eq!(area_variance(&scores, &Clusters::singletons(3)), None);
    }

    #[test]
    fn certain_and_different_is_undefined() {
        let (constant, perfect) = (
            [(0.5, false), (0.5, false), (0.5, true), (0.5, true)],
            [(0.1, false), (0.2, false), (0.8, true), (0.9, true)],
        );
        let test = area_test(&constant, &perfect, &Clusters::singletons(4)).expect("areas are defined");
        assert_eq!((test.difference, test.variance, test.z, test.p), (0.5, 0.0, None, None));
    }

    #[test]
    fn twice_the_same_patients_are_not_more_patients() {
        let once: Vec<(f64, bool)> = (0..20).map(|i| (f64::from(i * 7 % 13) / 13.0, i % 2 == 0)).collect();
        let twice: Vec<(f64, bool)> = once.iter().chain(&once).copied().collect();
        let patients = Clusters::named((0..40).map(|index| Some(index % 20)));
        let (_, of_once) = area_variance(&once, &Clusters::singletons(20)).expect("defined");
        let (_, of_twice) = area_variance(&twice, &patients).expect("defined");
        assert!((of_twice / of_once - 1.0).abs() < 1e-12);
        let (_, naive) = area_variance(&twice, &Clusters::singletons(40)).expect("defined");
        assert!(naive < 0.6 * of_once);
    }
}
