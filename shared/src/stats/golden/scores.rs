//! Scores of probabilities and decisions, of two to four classes, once and with samples that count several times.

use super::*;

/// Every score, by the function that has it alone.
fn directly(score: Score, labelled: &Labelled, threshold: f64) -> Option<f64> {
    let confusion = Confusion::at_threshold(labelled, threshold).unwrap_or_else(|| Confusion::most_probable(labelled));
    match score {
        Score::Auc => auc_one_vs_rest(labelled),
        Score::PrAuc => average_precision_one_vs_rest(labelled),
        Score::Brier => brier(labelled),
        Score::Ece => expected_calibration_error(labelled),
        Score::Loss => log_loss(labelled),
        decided => confusion.score(decided),
    }
}

#[test]
fn two_classes() {
    let mut checks = Checks::default();
    for (index, case) in cases().binary.iter().enumerate() {
        let labelled = case.labelled();
        assert_eq!(case.expected.len(), Score::ALL.len());
        for (&score, &expected) in &case.expected {
            checks.near(score.name(), index, directly(score, &labelled, case.threshold), expected, ROUNDING);
        }
    }
    checks.finish(300 * 11);
}

#[test]
fn several_classes() {
    let mut checks = Checks::default();
    for (index, case) in cases().rows.iter().enumerate() {
        let labelled = case.labelled();
        assert_eq!(case.expected.len(), Score::ALL.len());
        for (&score, &expected) in &case.expected {
            checks.near(score.name(), index, directly(score, &labelled, 0.5), expected, ROUNDING);
        }
    }
    checks.finish(80 * 11);
}

#[test]
fn weighted_by_cluster() {
    let mut checks = Checks::default();
    for (index, case) in cases().binary.iter().enumerate() {
        let (labelled, clusters) = (case.labelled(), case.clusters());
        let weighted = Weighted::new(&labelled, Some(case.threshold), &clusters);
        let once = vec![1; clusters.count()];
        assert_eq!(case.weighted.len(), Score::ALL.len());
        for (&score, &expected) in &case.weighted {
            checks.near(score.name(), index, weighted.score(score, &case.weights), expected, ROUNDING);
            checks.near(score.name(), index, weighted.score(score, &once), case.expected[&score], ROUNDING);
        }
    }
    for (index, case) in cases().rows.iter().enumerate() {
        let (labelled, clusters) = (case.labelled(), of(&case.clusters));
        let (weighted, once) = (Weighted::new(&labelled, Some(0.5), &clusters), vec![1; clusters.count()]);
        for (&score, &expected) in &case.expected {
            checks.near(score.name(), index, weighted.score(score, &once), expected, ROUNDING);
        }
    }
    checks.finish(300 * 22 + 80 * 11);
}
