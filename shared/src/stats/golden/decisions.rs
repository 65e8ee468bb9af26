//! Matrices of decisions, the thresholds that they are made at, and McNemar's test of two models' decisions.

use super::*;

#[test]
fn confusion_matrices() {
    let mut checks = Checks::default();
    let cases = cases();
    for (index, case) in cases.binary.iter().enumerate() {
        let found = Confusion::at_threshold(&case.labelled(), case.threshold).expect("two classes");
        checks.same("two classes", index, found.counts(), &case.confusion);
    }
    for (index, case) in cases.rows.iter().enumerate() {
        let labelled = case.labelled();
        let at_half = Confusion::at_threshold(&labelled, 0.5);
        checks.same("whether there is a threshold", index, at_half.is_some(), case.classes == 2);
        let found = at_half.unwrap_or_else(|| Confusion::most_probable(&labelled));
        checks.same("several classes", index, found.counts(), &case.confusion);
    }
    checks.finish(300 + 2 * 80);
}

/// To the bit: a threshold is one of the scores.
#[test]
fn thresholds() {
    let mut checks = Checks::default();
    for (index, case) in cases().binary.iter().enumerate() {
        let labelled = case.labelled();
        checks.same("Youden's threshold", index, choose(Threshold::Youden, &labelled), case.youden);
        checks.same("F1's threshold", index, choose(Threshold::F1, &labelled), case.f1);
    }
    checks.finish(300 * 2);
}

#[test]
fn mcnemar_exactly() {
    let mut checks = Checks::default();
    let cases = cases();
    for (index, case) in cases.binary.iter().enumerate() {
        let right = |score: f64, label: u32| (score >= case.threshold) == (label == 1);
        let (mut first_only, mut second_only) = (0, 0);
        for ((&first, &second), &label) in case.scores.iter().zip(&case.second).zip(&case.labels) {
            match (right(first, label), right(second, label)) {
                (true, false) => first_only += 1,
                (false, true) => second_only += 1,
                _ => {}
            }
        }
        let (expected_first, expected_second, p) = case.mcnemar;
        checks.same("what one alone has right", index, (first_only, second_only), (expected_first, expected_second));
        checks.near("p", index, Some(mcnemar(Discordance { first_only, second_only })), Some(p), 0.0);
    }
    for (index, &(first_only, second_only, p)) in cases.mcnemar.iter().enumerate() {
        checks.near("p of many", index, Some(mcnemar(Discordance { first_only, second_only })), Some(p), 0.0);
    }
    checks.finish(300 * 2 + 60);
}
