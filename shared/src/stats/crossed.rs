//! A mean over seeds, measured on a sample of patients: both could have been others.
//!
//! Every seed is scored on the same patients, so this is the design of studies with several readers who read the same cases, where
//! readers and cases are drawn: seeds are the readers. The variance of the mean is `S²/n + max(C, 0)`: `S²` is the variance over
//! seeds on these patients, and `C` the covariance that two seeds have through the patients they share (Obuchowski and Rockette,
//! Communications in Statistics 1995). The degrees of freedom are those of Hillis, Statistics in Medicine 2007: `n - 1`
//! where seeds are all the variance, and more as patients are.
//!
//! One seed's value varies through the patients it does not share in its errors with other seeds, and so by at least that much;
//! how much this is, the influences say. Where `S²`, of a few seeds, is smaller by chance, it is taken half way towards it:
//! without that three seeds give 7 % false alarms and not 5, with all of the way 3 (`cargo xtask bench statistics`). With n = 1 the seed is taken as given, so what is said is
//! about that model and not about training.

use super::{Influence, student};

/// Values that lie within this part of the largest one, or of 1, are equal: rounding in what mathematically ties must not become a
/// variance so small that the mean looks certain. Scores are of the order of 1, and differences of them are rounded like they are.
const RELATIVE_TIE: f64 = 1e-12;

/// A mean over seeds with its uncertainty over seeds and patients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Mean over seeds.
    pub mean: f64,
    /// How many seeds.
    pub seeds: usize,
    /// Variance of one seed's value, on these patients; undefined with one seed.
    pub seed_variance: Option<f64>,
    /// The same, half way towards what patients alone make of it where it is smaller: what the standard error is made of.
    pub raised_seed_variance: Option<f64>,
    /// Covariance of two seeds' values over patients, at least 0; with one seed the variance of its value.
    pub patient_variance: f64,
    /// Of the mean.
    pub standard_error: f64,
    /// Of the t distribution; infinite where seeds bring no variance.
    pub degrees_of_freedom: f64,
}

/// The mean of `values`, one a seed, each with its influence; all on the same clusters. Undefined without values.
pub fn crossed(values: &[f64], influences: &[Influence]) -> Option<Estimate> {
    crossed_over(values, &[influences])
}

/// The mean of `values`, one a seed, measured on several sets of clusters that were drawn independently, such as the patients of two
/// hospitals: `sets` has for each the influences of all seeds. Undefined without values.
pub fn crossed_over(values: &[f64], sets: &[&[Influence]]) -> Option<Estimate> {
    if values.is_empty() || sets.is_empty() || sets.iter().any(|influences| influences.len() != values.len()) {
        return None;
    }
    let seeds = values.len();
    let n = seeds as f64;
    let mean = values.iter().sum::<f64>() / n;
    let own: f64 = sets.iter().copied().flatten().map(Influence::variance).sum();
    let largest = values.iter().fold(1.0, |largest: f64, value| largest.max(value.abs()));
    let unless_rounding = |variance: f64| if variance > (RELATIVE_TIE * largest).powi(2) { variance } else { 0.0 };
    if seeds == 1 {
        let patient_variance = unless_rounding(own);
        let standard_error = patient_variance.sqrt();
        let degrees_of_freedom = f64::INFINITY;
        return Some(Estimate {
            mean,
            seeds,
            seed_variance: None,
            raised_seed_variance: None,
            patient_variance,
            standard_error,
            degrees_of_freedom,
        });
    }
    let summed = |influences: &&[Influence]| {
        let (first, rest) = influences.split_first()?;
        Some(rest.iter().fold(first.clone(), |sum, influence| sum.plus(influence)).variance())
    };
    let all: f64 = sets.iter().filter_map(summed).sum();
    let patient_variance = unless_rounding((all - own) / (n * (n - 1.0)));
    let varies = values.iter().any(|value| (value - mean).abs() > RELATIVE_TIE * largest);
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    let seed_variance = if varies { squares / (n - 1.0) } else { 0.0 };
    let degrees_of_freedom = match seed_variance / n {
        of_seeds if of_seeds > 0.0 => (n - 1.0) * ((of_seeds + patient_variance) / of_seeds).powi(2),
        _ => f64::INFINITY,
    };
    let least = own / n - patient_variance;
    let raised_seed_variance = unless_rounding(seed_variance.max(f64::midpoint(seed_variance, least)));
    let variance = raised_seed_variance / n + patient_variance;
    Some(Estimate {
        mean,
        seeds,
        seed_variance: Some(seed_variance),
        raised_seed_variance: Some(raised_seed_variance),
        patient_variance,
        standard_error: variance.sqrt(),
        degrees_of_freedom,
    })
}

impl Estimate {
    /// The interval in which the mean lies with this `confidence`, such as 0.95.
    pub fn interval(&self, confidence: f64) -> [f64; 2] {
        let reach = -student::quantile((1.0 - confidence) / 2.0, self.degrees_of_freedom) * self.standard_error;
        // A reach of 0 · ∞ cannot be: the quantile is finite.
        [self.mean - reach, self.mean + reach]
    }

    /// Two-sided p-value of the mean being 0. Undefined where nothing varies and the mean is not 0: certainty from no variation is
    /// none.
    pub fn p(&self) -> Option<f64> {
        match (self.standard_error > 0.0, self.mean == 0.0) {
            (true, _) => Some(student::two_sided(self.mean / self.standard_error, self.degrees_of_freedom)),
            (false, true) => Some(1.0),
            (false, false) => None,
        }
    }

    /// The p-value of two one-sided tests (Schuirmann, 1987) that the mean is `margin` or more away from 0: small where it is closer.
    /// Undefined where nothing varies.
    pub fn equivalence_p(&self, margin: f64) -> Option<f64> {
        let tail = |distance: f64| student::cdf(-distance / self.standard_error, self.degrees_of_freedom);
        (self.standard_error > 0.0).then(|| tail(self.mean + margin).max(tail(margin - self.mean)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        spec::Score,
        stats::{self, Clusters, Labelled, influence},
    };

    /// Values that no patient has a part in.
    fn of_seeds(values: &[f64]) -> Estimate {
        let labelled = Labelled::of_scores(vec![0, 1], &[0.2, 0.8]).expect("well-formed");
        let (_, flat) = influence(Score::Accuracy, &labelled, Some(0.5), &Clusters::singletons(2)).expect("defined");
        crossed(values, &vec![flat; values.len()]).expect("defined")
    }

    #[test]
    fn without_patients_it_is_the_t_interval() {
        // scipy.stats.ttest_1samp([0.01, 0.03, 0.02, 0.05], 0), with .confidence_interval(0.95)
        let estimate = of_seeds(&[0.01, 0.03, 0.02, 0.05]);
        assert!((estimate.degrees_of_freedom - 3.0).abs() < 1e-12);
        let [low, high] = estimate.interval(0.95);
        assert!(
            (estimate.p().expect("it varies") / 0.048_566_856_559_801_044 - 1.0).abs() < 1e-9,
            "{:?}",
            estimate.p()
        );
        assert!((low / 0.000_324_691_162_039_845_3 - 1.0).abs() < 1e-9, "{low}");
        assert!((high / 0.054_675_308_837_960_15 - 1.0).abs() < 1e-9, "{high}");
    }

    #[test]
    fn seeds_that_agree_are_as_uncertain_as_the_patients() {
        let labels = (0..200).map(|index| index % 2).collect();
        let scores: Vec<f64> = (0..200).map(|index| f64::from(index * 37 % 200) / 200.0).collect();
        let labelled = Labelled::of_scores(labels, &scores).expect("well-formed");
        let (value, one) = influence(Score::Auc, &labelled, None, &Clusters::singletons(200)).expect("defined");
        let estimate = crossed(&[value; 5], &vec![one.clone(); 5]).expect("defined");
        assert!((estimate.patient_variance / one.variance() - 1.0).abs() < 1e-12);
        assert_eq!((estimate.seed_variance, estimate.degrees_of_freedom), (Some(0.0), f64::INFINITY));
        let single = crossed(&[value], &[one]).expect("defined");
        assert_eq!((single.seed_variance, single.degrees_of_freedom), (None, f64::INFINITY));
    }

    #[test]
    fn rounding_is_no_variance() {
        // Of each patient's samples two of three are called right, so no patient moves the share.
        let labels = (0..30).map(|index| u32::from(index % 3 > 0)).collect();
        let labelled = Labelled::of_scores(labels, &[0.9; 30]).expect("well-formed");
        let patients = Clusters::named((0..30).map(|index| Some(index / 3)));
        let (value, influence) = influence(Score::Accuracy, &labelled, Some(0.5), &patients).expect("defined");
        let estimate = crossed(&[value], &[influence]).expect("defined");
        assert_eq!((estimate.standard_error, estimate.p()), (0.0, None));
        assert_eq!(of_seeds(&[0.8 - 0.7, 0.3 - 0.2, 0.1]).p(), None);
        let (_, rounded) = stats::influence(Score::Accuracy, &labelled, Some(0.5), &patients).expect("defined");
        assert_eq!(crossed(&[0.1; 3], &[rounded.clone(), rounded.clone(), rounded]).and_then(|of| of.p()), None);
    }

    #[test]
    fn what_does_not_vary_proves_nothing() {
        let estimate = of_seeds(&[0.5, 0.5]);
        assert_eq!((estimate.standard_error, estimate.p(), estimate.equivalence_p(0.6)), (0.0, None, None));
        assert_eq!((of_seeds(&[0.0; 3]).p(), of_seeds(&[0.0; 3]).interval(0.95)), (Some(1.0), [0.0, 0.0]));
    }

    proptest! {
        #[test]
        fn interval_and_tests_agree(values in proptest::collection::vec(-1.0f64..1.0, 2..10), margin in 0.01f64..1.0) {
            let estimate = of_seeds(&values);
            prop_assume!(estimate.standard_error > 1e-9);
            let [low, high] = estimate.interval(0.95);
            let p = estimate.p().expect("it varies");
            prop_assume!((p - 0.05).abs() > 1e-9);
            prop_assert_eq!(p < 0.05, low > 0.0 || high < 0.0);
            let [low, high] = estimate.interval(0.9);
            let p = estimate.equivalence_p(margin).expect("it varies");
            prop_assume!((p - 0.05).abs() > 1e-9);
            prop_assert_eq!(p < 0.05, low > -margin && high < margin);
        }
    }
}
