//! Families of tests, the power of a study, and the law of Student that both rest on.

use super::*;

/// Absolute, of probabilities that are sums over many steps: both sides integrate.
const INTEGRAL: f64 = 1e-9;

#[derive(Deserialize)]
pub(super) struct Family {
    p: Vec<f64>,
    corrected: Vec<f64>,
}

#[derive(Deserialize)]
pub(super) struct Study {
    seeds: usize,
    alpha: f64,
    seed_variance: f64,
    difference: f64,
    /// Without patients, as the three that follow.
    power: f64,
    smallest: Option<f64>,
    needed: usize,
    patient_variance: f64,
    crossed_power: f64,
}

#[derive(Deserialize)]
pub(super) struct Tail {
    df: f64,
    t: f64,
    cdf: f64,
    p: f64,
    quantile: f64,
    /// `P(T <= |t|)` with this noncentrality.
    delta: f64,
    noncentral: f64,
}

#[test]
fn holm_of_families() {
    let mut checks = Checks::default();
    for (index, case) in cases().holm.iter().enumerate() {
        let found = holm(&case.p);
        checks.same("size", index, found.len(), case.corrected.len());
        for (found, &expected) in found.into_iter().zip(&case.corrected) {
            checks.near("p", index, Some(found), Some(expected), 0.0);
        }
    }
    checks.finish(48 + 48 * 6);
}

#[test]
fn power_of_studies() {
    let mut checks = Checks::default();
    for (index, case) in cases().power.iter().enumerate() {
        let alone = Design { seed_variance: case.seed_variance, patient_variance: 0.0, alpha: case.alpha };
        let together = Design { patient_variance: case.patient_variance, ..alone };
        checks.near("power", index, power(&alone, case.seeds, case.difference), Some(case.power), INTEGRAL);
        let found = power(&together, case.seeds, case.difference);
        checks.near("power with patients", index, found, Some(case.crossed_power), INTEGRAL);
        if case.smallest.is_some() {
            let found = minimum_detectable(&alone, case.seeds, 0.8);
            checks.near("smallest difference", index, found, case.smallest, 0.0);
        }
        checks.same("seeds needed", index, seeds_needed(&alone, case.difference, 0.8), Some(case.needed));
    }
    checks.finish(87 * 3 + 14);
}

#[test]
fn students_law() {
    let mut checks = Checks::default();
    for (index, case) in cases().student.iter().enumerate() {
        checks.near("cdf", index, Some(student::cdf(case.t, case.df)), Some(case.cdf), 0.0);
        checks.near("quantile", index, Some(student::quantile(case.p, case.df)), Some(case.quantile), 0.0);
        let found = student::noncentral_cdf(case.t.abs(), case.df, case.delta);
        checks.near("noncentral cdf", index, Some(found), Some(case.noncentral), INTEGRAL);
    }
    checks.finish(160 * 3);
}
