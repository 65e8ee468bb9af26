//! Average precision: the area under the precision-recall curve as a sum of steps, precision at each threshold weighted by the
//! recall that it gains. It does not interpolate, which would be too optimistic (Davis and Goadrich, ICML 2006).

use super::Labelled;

/// Of positives (`true`) and negatives, in O(n log n). Undefined without positives.
pub fn average_precision(scores: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let positives = sorted.iter().filter(|(_, positive)| *positive).count();
    let (mut called, mut right, mut sum) = (0u64, 0u64, 0.0);
    for ties in sorted.chunk_by(|a, b| a.0 == b.0) {
        let gained = ties.iter().filter(|(_, positive)| *positive).count() as u64;
        called += ties.len() as u64;
        right += gained;
        sum += gained as f64 * (right as f64 / called as f64);
    }
    (positives > 0).then(|| sum / positives as f64)
}

/// With two classes that of the positive one; with more, the unweighted mean over classes of each against the rest.
/// Undefined where a class is absent.
pub fn average_precision_one_vs_rest(labelled: &Labelled) -> Option<f64> {
    if let Some(positive) = labelled.positive() {
        return average_precision(&labelled.one_vs_rest(positive));
    }
    let classes = labelled.classes();
    let all: Option<Vec<f64>> = (0..classes).map(|class| average_precision(&labelled.one_vs_rest(class))).collect();
    all.map(|all| all.iter().sum::<f64>() / classes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // scikit-learn's documentation of average_precision_score
        let scores = [(0.1, false), (0.4, false), (0.35, true), (0.8, true)];
        let found = average_precision(&scores).expect("defined");
        assert!((found - 0.833_333_333_333_333_3).abs() < 1e-15, "{found}");
        assert_eq!(average_precision(&[(0.5, false)]), None);
        assert_eq!(average_precision(&[(0.5, true), (0.5, false)]), Some(0.5));
    }
}
