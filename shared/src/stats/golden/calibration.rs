//! Recalibration by logistic regression, with and without weights. (The calibration error is among the scores.)

use super::*;

/// Absolute, because an intercept or a slope can be near 0: a maximum of the likelihood is flat, and both sides stop once a step
/// moves them by less than 1e-12 or so.
const FLAT: f64 = 1e-9;

#[test]
fn intercept_and_slope() {
    let mut checks = Checks::default();
    let cases = cases();
    let binary = cases.binary.iter().map(|case| (case.labelled(), case.recalibration));
    let rows = cases.rows.iter().map(|case| (case.labelled(), case.recalibration));
    let mut defined = 0;
    for (index, (labelled, expected)) in binary.chain(rows).enumerate() {
        let found = recalibration(&labelled);
        let [intercept, slope] = [0, 1].map(|part| expected.map(|expected| expected[part]));
        checks.near("intercept", index, found.map(|found| found.intercept), intercept, FLAT);
        checks.near("slope", index, found.map(|found| found.slope), slope, FLAT);
        defined += usize::from(expected.is_some());
    }
    assert!(defined >= 150, "only {defined} are defined");
    checks.finish(380 * 2);
}

#[test]
fn slope_with_weights() {
    let mut checks = Checks::default();
    for (index, case) in cases().binary.iter().enumerate() {
        let (labelled, clusters) = (case.labelled(), case.clusters());
        if let Some(whole) = recalibration(&labelled) {
            let found = Weighted::new(&labelled, None, &clusters).slope(&case.weights, whole);
            checks.near("slope", index, found, case.weighted_slope, FLAT);
        }
    }
    checks.finish(150);
}
