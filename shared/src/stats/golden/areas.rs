//! Variances: of areas under ROC curves and of their differences, and of every score by what its clusters contribute.

use super::*;

/// The variance of the first model's area, and the test of the second's against it.
#[derive(Deserialize)]
pub(super) struct Expected {
    of_first: f64,
    difference: f64,
    variance: f64,
    z: Option<f64>,
    p: Option<f64>,
}

fn check(checks: &mut Checks, index: usize, case: &Binary, clusters: &Clusters, expected: Option<&Expected>) {
    let with = |scores: &[f64]| -> Vec<(f64, bool)> {
        scores.iter().zip(&case.labels).map(|(score, label)| (*score, *label == 1)).collect()
    };
    let (first, second) = (with(&case.scores), with(&case.second));
    let variance = area_variance(&first, clusters).map(|(_, variance)| variance);
    checks.near("variance of an area", index, variance, expected.map(|expected| expected.of_first), ROUNDING);
    let found = area_test(&first, &second, clusters);
    checks.same("whether there is a test", index, found.is_some(), expected.is_some());
    if let (Some(found), Some(expected)) = (found, expected) {
        checks.near("difference", index, Some(found.difference), Some(expected.difference), ROUNDING);
        checks.near("variance", index, Some(found.variance), Some(expected.variance), ROUNDING);
        checks.near("z", index, found.z, expected.z, 0.0);
        checks.near("p", index, found.p, expected.p, 0.0);
    }
}

#[test]
fn delong_of_samples() {
    let mut checks = Checks::default();
    for (index, case) in cases().binary.iter().enumerate() {
        check(&mut checks, index, case, &Clusters::singletons(case.labels.len()), case.delong.as_ref());
    }
    checks.finish(300 * 2 + 150 * 4);
}

#[test]
fn obuchowski_of_clusters() {
    let mut checks = Checks::default();
    for (index, case) in cases().binary.iter().enumerate() {
        check(&mut checks, index, case, &case.clusters(), case.clustered.as_ref());
    }
    checks.finish(300 * 2 + 150 * 4);
}

#[test]
fn variances_of_every_score() {
    let mut checks = Checks::default();
    let mut check = |index, labelled: &Labelled, threshold, clusters: &Clusters, variances: &ByScore| {
        assert_eq!(variances.len(), Score::ALL.len());
        for (&score, &expected) in variances {
            let found = influence(score, labelled, Some(threshold), clusters).map(|(_, found)| found.variance());
            checks.near(score.name(), index, found, expected, ROUNDING);
        }
    };
    let cases = cases();
    for (index, case) in cases.binary.iter().enumerate() {
        check(index, &case.labelled(), case.threshold, &case.clusters(), &case.variances);
    }
    for (index, case) in cases.rows.iter().enumerate() {
        check(index, &case.labelled(), 0.5, &of(&case.clusters), &case.variances);
    }
    checks.finish(380 * 11);
}
