//! Whether probabilities mean what they say.

use super::{Labelled, weighted::Fit};

/// Bins of the expected calibration error, of equal width.
pub const CALIBRATION_BINS: usize = 10;

/// The logistic regression of labels on the logits of the predicted probabilities (Cox, "Two further applications of a model for
/// binary regression", Biometrika 1958). Perfect: intercept 0, slope 1; a slope below 1 is overconfident.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recalibration {
    /// On the scale of logits.
    pub intercept: f64,
    /// Of the logit.
    pub slope: f64,
}

/// The squared error of one sample (Brier, Monthly Weather Review 1950): with two classes that of the positive one's probability, with
/// more the sum over classes.
pub(super) fn squared_error((label, row): (u32, &[f64])) -> f64 {
    match row {
        [_, positive] => (f64::from(label) - positive).powi(2),
        _ => (0u32..).zip(row).map(|(class, p)| (f64::from(u8::from(class == label)) - p).powi(2)).sum(),
    }
}

/// Mean squared error. Undefined without samples.
pub fn brier(labelled: &Labelled) -> Option<f64> {
    let samples = labelled.samples();
    (samples > 0).then(|| labelled.rows().map(squared_error).sum::<f64>() / samples as f64)
}

/// What is held against what in a bin: the probability that is told, and whether it came true. With two classes that of the
/// positive one; with more that of the most probable class (Guo et al., ICML 2017).
pub(super) fn confidence(label: u32, row: &[f64]) -> (f64, bool) {
    match row {
        [_, positive] => (*positive, label == 1),
        _ => {
            let called = (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            (row[called], label as usize == called)
        }
    }
}

/// The bin of a probability: `[0, 0.1)`, …, `[0.9, 1]`.
pub(super) fn bin(probability: f64) -> usize {
    ((probability * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1)
}

/// The mean over samples of how far, in their bin, the mean probability is from the share that came true.
/// Undefined without samples.
pub fn expected_calibration_error(labelled: &Labelled) -> Option<f64> {
    let mut bins = [(0.0, 0u64); CALIBRATION_BINS];
    for (label, row) in labelled.rows() {
        let (told, true_) = confidence(label, row);
        let (told_in_all, true_in_all) = &mut bins[bin(told)];
        *told_in_all += told;
        *true_in_all += u64::from(true_);
    }
    let samples = labelled.samples();
    let gap = |(told, true_): &(f64, u64)| (told - *true_ as f64).abs();
    (samples > 0).then(|| bins.iter().map(gap).sum::<f64>() / samples as f64)
}

/// Intercept and slope, by maximum likelihood. Undefined with more than two classes, with one class present, where all
/// probabilities are equal, and where they separate the classes, so that the slope has no largest value.
pub fn recalibration(labelled: &Labelled) -> Option<Recalibration> {
    labelled.positive()?;
    let points: Vec<(f64, bool)> =
        labelled.rows().map(|(label, row)| (logit(row[1], labelled.floor()), label == 1)).collect();
    Fit::default().maximise(&points, |_| 1.0).map(|fit| Recalibration { intercept: fit.intercept, slope: fit.slope })
}

/// ln(p / (1 - p)), with p at least `floor` away from 0 and 1.
pub(super) fn logit(probability: f64, floor: f64) -> f64 {
    let p = probability.clamp(floor, 1.0 - floor);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(rows: &[(u32, f64)]) -> Labelled {
        let scores: Vec<f64> = rows.iter().map(|row| row.1).collect();
        Labelled::of_scores(rows.iter().map(|row| row.0).collect(), &scores).expect("well-formed")
    }

    #[test]
    fn by_hand() {
        let labelled = binary(&[(0, 0.25), (1, 0.75), (1, 1.0), (0, 0.2)]);
        assert_eq!(brier(&labelled), Some((0.0625 + 0.0625 + 0.0 + 0.04) / 4.0));
        // Bins [0.2, 0.3), [0.7, 0.8), [0.9, 1]: 0.45 against 0, 0.75 against 1, 1 against 1.
        let found = expected_calibration_error(&labelled).expect("defined");
        assert!((found - (0.45 + 0.25) / 4.0).abs() < 1e-15);
        assert_eq!((brier(&binary(&[])), expected_calibration_error(&binary(&[]))), (None, None));
    }

    #[test]
    fn what_is_calibrated_has_slope_1_and_what_is_twice_as_sure_half() {
        // Of 4 with 0.75 three are positive, of 4 with 0.25 one.
        let of = |high: f64, low: f64| {
            binary(&[(1, high), (1, high), (1, high), (0, high), (0, low), (0, low), (0, low), (1, low)])
        };
        let found = recalibration(&of(0.75, 0.25)).expect("defined");
        assert!((found.slope - 1.0).abs() < 1e-12 && found.intercept.abs() < 1e-12, "{found:?}");
        // The logit of 0.9 is twice that of 0.75.
        let found = recalibration(&of(0.9, 0.1)).expect("defined");
        assert!((found.slope - 0.5).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn undefined_where_nothing_has_a_best_slope() {
        for rows in [vec![(1, 0.5), (1, 0.7)], vec![(0, 0.5), (1, 0.5)], vec![(0, 0.2), (0, 0.3), (1, 0.7)], vec![]] {
            assert_eq!(recalibration(&binary(&rows)), None, "{rows:?}");
        }
    }
}
