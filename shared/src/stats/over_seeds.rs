//! Summaries over seeds that one odd run does not decide (Agarwal et al., "Deep reinforcement learning at the edge of the
//! statistical precipice", NeurIPS 2021).

/// Mean of the middle half: a quarter of the values, rounded down, is left out at either end. Undefined without values.
pub fn interquartile_mean(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 4;
    let middle = &sorted[cut..sorted.len() - cut];
    (!middle.is_empty()).then(|| middle.iter().sum::<f64>() / middle.len() as f64)
}

/// The share of all (arm, baseline) pairs of runs in which the arm has more, ties counting half. Undefined without runs.
pub fn probability_of_improvement(baseline: &[f64], arm: &[f64]) -> Option<f64> {
    let won = |(arm, baseline): (f64, f64)| if arm > baseline { 2u64 } else { u64::from(arm == baseline) };
    let pairs = arm.iter().flat_map(|&arm| baseline.iter().map(move |&baseline| (arm, baseline)));
    let all = 2 * baseline.len() * arm.len();
    (all > 0).then(|| pairs.map(won).sum::<u64>() as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(interquartile_mean(&[9.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(interquartile_mean(&[1.0, 2.0, 6.0]), Some(3.0));
        assert_eq!(interquartile_mean(&[]), None);
        assert_eq!(probability_of_improvement(&[1.0, 2.0], &[2.0, 3.0]), Some(0.875));
        assert_eq!(probability_of_improvement(&[], &[1.0]), None);
    }
}
