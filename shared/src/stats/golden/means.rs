//! What is said of values over seeds: with and without patients, by signs, by ranks and by drawing again.

use super::*;

/// Models of several seeds on the same samples.
#[derive(Deserialize)]
pub(super) struct Crossed {
    score: Score,
    labels: Vec<u32>,
    models: Vec<Vec<f64>>,
    clusters: Vec<u32>,
    mean: f64,
    seed_variance: Option<f64>,
    patient_variance: f64,
    /// `None` is infinite.
    df: Option<f64>,
    confidence: f64,
    interval: [f64; 2],
    p: f64,
    margin: f64,
    equivalence: f64,
}

#[derive(Deserialize)]
pub(super) struct TTest {
    values: Vec<f64>,
    confidence: f64,
    interval: [f64; 2],
    p: f64,
    margin: f64,
    equivalence: f64,
}

#[derive(Deserialize)]
pub(super) struct SignFlip {
    differences: Vec<f64>,
    p: f64,
}

#[derive(Deserialize)]
pub(super) struct OverSeeds {
    arm: Vec<f64>,
    baseline: Vec<f64>,
    iqm: f64,
    improvement: f64,
}

/// Values of patients, a row a seed.
#[derive(Deserialize)]
pub(super) struct Resampled {
    values: Vec<Vec<f64>>,
    interval: [f64; 2],
    deviation: f64,
    seed_deviation: f64,
    patient_deviation: f64,
}

#[test]
fn over_seeds_and_patients() {
    let mut checks = Checks::default();
    for (index, case) in cases().crossed.iter().enumerate() {
        let influences = case.models.iter().map(|model| {
            let labelled = Labelled::of_scores(case.labels.clone(), model).expect("well-formed");
            influence(case.score, &labelled, None, &of(&case.clusters)).expect("both classes are present")
        });
        let (values, influences): (Vec<f64>, Vec<Influence>) = influences.unzip();
        let found = crossed(&values, &influences).expect("there are seeds");
        checks.same("seeds", index, found.seeds, case.models.len());
        checks.near("mean", index, Some(found.mean), Some(case.mean), 0.0);
        checks.near("variance of seeds", index, found.seed_variance, case.seed_variance, ROUNDING);
        checks.near("variance of patients", index, Some(found.patient_variance), Some(case.patient_variance), ROUNDING);
        let df = Some(found.degrees_of_freedom).filter(|df| df.is_finite());
        // Where seeds hardly differ, rounding is more of their difference.
        let rounding = case.seed_variance.map_or(0.0, |variance| 16.0 * f64::EPSILON * case.mean / variance.sqrt());
        checks.near("degrees of freedom", index, df, case.df, rounding * case.df.unwrap_or_default());
        let [low, high] = found.interval(case.confidence);
        checks.near("low end", index, Some(low), Some(case.interval[0]), ROUNDING);
        checks.near("high end", index, Some(high), Some(case.interval[1]), ROUNDING);
        checks.near("p", index, found.p(), Some(case.p), 0.0);
        checks.near("p of equivalence", index, found.equivalence_p(case.margin), Some(case.equivalence), 0.0);
    }
    checks.finish(48 * 9);
}

/// An influence that no patient has a part in.
fn no_patients() -> Influence {
    let labelled = Labelled::of_scores(vec![0, 1], &[0.2, 0.8]).expect("well-formed");
    influence(Score::Accuracy, &labelled, Some(0.5), &Clusters::singletons(2)).expect("defined").1
}

#[test]
fn without_patients_the_t_tests() {
    let mut checks = Checks::default();
    for (index, case) in cases().t.iter().enumerate() {
        let found = crossed(&case.values, &vec![no_patients(); case.values.len()]).expect("there are values");
        let [low, high] = found.interval(case.confidence);
        // An end near 0 is a difference of larger numbers.
        let scale = case.interval[1] - case.interval[0];
        checks.near("low end", index, Some(low), Some(case.interval[0]), ROUNDING * scale);
        checks.near("high end", index, Some(high), Some(case.interval[1]), ROUNDING * scale);
        checks.near("p", index, found.p(), Some(case.p), 0.0);
        checks.near("p of equivalence", index, found.equivalence_p(case.margin), Some(case.equivalence), 0.0);
    }
    checks.finish(66 * 4);
}

/// SciPy's t-test of equal values has no p-value, or that of an infinite t. Rounding must not make them differ: 0.1 + 0.1 + 0.1 is
/// not 3 times 0.1, and 0.8 - 0.7 is not 0.3 - 0.2.
#[test]
fn equal_values_prove_nothing() {
    let mut checks = Checks::default();
    let mut check = |index, values: &[f64]| {
        let found = crossed(values, &vec![no_patients(); values.len()]).expect("there are values");
        checks.same("variance of seeds", index, found.seed_variance, Some(0.0));
        checks.same("p", index, (found.p(), found.equivalence_p(1.0)), (None, None));
    };
    for (index, value) in [0.1, 0.3, 1.0 / 3.0, -0.7, 0.0123].into_iter().enumerate() {
        (2..=12).for_each(|seeds| check(index, &vec![value; seeds]));
    }
    check(5, &[0.8 - 0.7, 0.3 - 0.2, 0.9 - 0.8]);
    checks.finish((5 * 11 + 1) * 2);
}

#[test]
fn sign_flips() {
    let mut checks = Checks::default();
    let cases = cases();
    for (index, case) in cases.sign_flip.iter().enumerate() {
        let patterns = f64::from(1u32 << (case.differences.len() - 1));
        let found = sign_flip(&case.differences).expect("there are differences");
        checks.near("p", index, Some(found), Some(case.p), 0.0);
        checks.same("p is a share of the patterns", index, found, (case.p * patterns).round() / patterns);
    }
    for (index, case) in cases.many_sign_flips.iter().enumerate() {
        // Drawn at random: within five standard errors.
        let error = (case.p * (1.0 - case.p) / f64::from(MONTE_CARLO_DRAWS)).sqrt();
        let tolerance = 5.0 * error + 1.0 / f64::from(MONTE_CARLO_DRAWS);
        checks.near("p of many", index, sign_flip(&case.differences), Some(case.p), tolerance);
    }
    checks.finish(60 * 2 + 10);
}

#[test]
fn middles_and_ranks() {
    let mut checks = Checks::default();
    for (index, case) in cases().over_seeds.iter().enumerate() {
        checks.near("interquartile mean", index, interquartile_mean(&case.arm), Some(case.iqm), ROUNDING);
        let share = probability_of_improvement(&case.baseline, &case.arm);
        checks.near("probability of improvement", index, share, Some(case.improvement), 0.0);
    }
    checks.finish(60 * 2);
}

/// Both sides are drawn at random, ours 2000 times: what is left of chance is 2% of a deviation (once its standard error), and
/// at an end of the interval 6% of one.
#[test]
fn drawn_again() {
    let mut checks = Checks::default();
    for (index, case) in cases().bootstrap.iter().enumerate() {
        let patients = case.values[0].len();
        let mean = |seed: usize, weights: &[u32]| {
            let sum: f64 =
                case.values[seed].iter().zip(weights).map(|(value, &weight)| value * f64::from(weight)).sum();
            Some(sum / patients as f64)
        };
        let found =
            bootstrap(case.values.len(), patients, BOOTSTRAP_DRAWS, 0.95, |seed, weights| vec![mean(seed, weights)])[0]
                .expect("defined");
        checks.same("draws without a value", index, found.undefined, 0);
        for (what, found, expected) in [
            ("deviation", found.deviation, case.deviation),
            ("deviation of seeds", found.seed_deviation, case.seed_deviation),
            ("deviation of patients", found.patient_deviation, case.patient_deviation),
        ] {
            checks.near(what, index, Some(found), Some(expected), 0.08 * expected);
        }
        for (found, expected) in found.interval.into_iter().zip(case.interval) {
            checks.near("interval", index, Some(found), Some(expected), 0.25 * case.deviation);
        }
    }
    checks.finish(6 * 6);
}
