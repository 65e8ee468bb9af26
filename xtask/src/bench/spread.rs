//! Medians and spreads. Wall times on shared machines have long tails, so nothing here is a mean.

/// The middle of some values, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub low: f64,
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The largest.
    pub high: f64,
}

impl Spread {
    /// Of one value or more; not a number if there is none, or if one of them is not a number.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        if sorted.is_empty() || sorted.iter().any(|value| value.is_nan()) {
            return Self::one(f64::NAN);
        }
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Self { low: sorted[0], median, high: sorted[sorted.len() - 1] }
    }

    /// A single measurement.
    pub fn one(value: f64) -> Self {
        Self { low: value, median: value, high: value }
    }
}

/// `ours[i] / theirs[i]` for neighbours, the values of one round. Rounds that one side lacks are left out.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// The largest relative difference between two lists; infinite if they are empty, of different length or not finite.
pub fn largest_difference(ours: &[f64], theirs: &[f64]) -> f64 {
    if ours.is_empty() || ours.len() != theirs.len() {
        return f64::INFINITY;
    }
    let difference = |(ours, theirs): (&f64, &f64)| {
        let difference = (ours - theirs).abs() / theirs.abs().max(f64::MIN_POSITIVE);
        if difference.is_finite() { difference } else { f64::INFINITY }
    };
    ours.iter().zip(theirs).map(difference).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_values_lies_between_the_middle_two() {
        assert_eq!(Spread::of(&[4.0, 1.0, 3.0]), Spread { low: 1.0, median: 3.0, high: 4.0 });
        assert_eq!(Spread::of(&[4.0, 1.0, 3.0, 2.0]), Spread { low: 1.0, median: 2.5, high: 4.0 });
    }

    #[test]
    fn nothing_and_not_a_number_have_no_median() {
        assert!(Spread::of(&[]).median.is_nan());
        assert!(Spread::of(&[1.0, f64::NAN]).median.is_nan());
    }

    #[test]
    fn a_ratio_is_one_of_neighbours() {
        // The machine became twice as slow after the first round: the ratio stays.
        assert_eq!(ratios(&[10.0, 5.0], &[5.0, 2.5]), [2.0, 2.0]);
        assert_eq!(ratios(&[10.0, 5.0], &[5.0]), [2.0]);
    }

    #[test]
    fn lists_that_cannot_be_compared_are_infinitely_different() {
        assert_eq!(largest_difference(&[1.0, 2.5], &[1.0, 2.0]), 0.25);
        assert_eq!(largest_difference(&[], &[]), f64::INFINITY);
        assert_eq!(largest_difference(&[1.0], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(largest_difference(&[f64::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(largest_difference(&[f64::INFINITY], &[f64::INFINITY]), f64::INFINITY);
        assert_eq!(largest_difference(&[0.0], &[0.0]), 0.0);
    }
}
