//! The same predictions scored by scikit-learn 1.9: `roc_auc_score`, `log_loss`, `confusion_matrix`, `accuracy_score`,
//! `precision_score`, `recall_score`, `f1_score` (macro averages for three classes), `roc_curve`.

use super::*;
use crate::spec::Threshold;

fn near(found: Option<f64>, expected: f64) {
    assert!(found.is_some_and(|found| (found - expected).abs() < 1e-7), "{found:?} is not {expected}");
}

#[test]
fn two_classes_as_scikit_learn_has_them() {
    let labels = vec![0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0];
    let sixteenths = [3, 10, 1, 8, 15, 6, 13, 4, 11, 2, 9, 0, 7, 14, 5, 12, 3, 10, 1, 8, 15, 6, 13, 4u8];
    let probabilities = sixteenths.iter().map(|p| f32::from(*p) / 16.0).flat_map(|p| [1.0 - p, p]).collect();
    let labelled = Labelled::new(2, labels, probabilities).expect("well-formed");
    near(auc_one_vs_rest(&labelled), 0.8642857142857142);
    near(log_loss(&labelled), 0.48406562209129333);
    near(choose(Threshold::Youden, &labelled), 0.375);
    let confusion = Confusion::at_threshold(&labelled, 0.5).expect("two classes");
    assert_eq!(confusion.counts(), [[10, 4], [2, 8]]);
    near(confusion.accuracy(), 0.75);
    near(confusion.precision(), 0.6666666666666666);
    near(confusion.recall(), 0.8);
    near(confusion.f1(), 0.7272727272727273);
}

#[test]
fn three_classes_as_scikit_learn_has_them() {
    let labels = vec![0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 1, 1];
    let raw: [[u8; 3]; 12] = [
        [1, 6, 11],
        [4, 9, 3],
        [7, 1, 6],
        [10, 4, 9],
        [2, 7, 1],
        [5, 10, 4],
        [8, 2, 7],
        [11, 5, 10],
        [3, 8, 2],
        [6, 11, 5],
        [9, 3, 8],
        [1, 6, 11],
    ];
    let normalised =
        |row: &[u8; 3]| row.map(|value| (f64::from(value) / row.iter().map(|v| f64::from(*v)).sum::<f64>()) as f32);
    let probabilities = raw.iter().flat_map(normalised).collect();
    let labelled = Labelled::new(3, labels, probabilities).expect("well-formed");
    near(auc_one_vs_rest(&labelled), 0.2986166225749559);
    near(log_loss(&labelled), 1.6019649654138777);
    let confusion = Confusion::most_probable(&labelled);
    assert_eq!(confusion.counts(), [[1, 2, 1], [3, 1, 1], [1, 2, 0]]);
    near(confusion.accuracy(), 0.16666666666666666);
    near(confusion.precision(), 0.13333333333333333);
    near(confusion.recall(), 0.15);
    near(confusion.f1(), 0.14074074074074075);
}
