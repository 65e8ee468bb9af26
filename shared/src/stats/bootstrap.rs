//! The hierarchical bootstrap (Efron, 1979; for two levels Davison and Hinkley 1997, section 3.8): seeds are drawn again, and
//! patients, the same ones for all seeds and both arms. Draws are a function of their number alone, so an interval can be
//! computed again to the last bit.
//!
//! With a handful of seeds its intervals are too narrow, since the values of few seeds vary less than what they were drawn from; it
//! is for scores that have no closed form, and to see what seeds and patients contribute.

use crate::{
    ids::Epoch,
    seed::{Purpose, draw},
};

/// Draws of an interval.
pub const BOOTSTRAP_DRAWS: u32 = 2000;

/// What the bootstrap found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrapped {
    /// The percentiles that hold the wanted confidence between them.
    pub interval: [f64; 2],
    /// Standard deviation over draws of seeds and patients.
    pub deviation: f64,
    /// The same where patients stay and seeds alone are drawn.
    pub seed_deviation: f64,
    /// The same where seeds stay and patients alone are drawn.
    pub patient_deviation: f64,
    /// Draws in which the score was undefined, such as those without a positive; they are left out.
    pub undefined: u32,
}

/// Draws `seeds` seeds and `patients` clusters again and again. `value` is asked for the value of a seed, all patients counting as
/// often as their weight says. Undefined where half of the draws or more are.
pub fn bootstrap(
    seeds: usize,
    patients: usize,
    confidence: f64,
    value: impl Fn(usize, &[u32]) -> Option<f64>,
) -> Option<Bootstrapped> {
    if seeds == 0 || patients == 0 {
        return None;
    }
    let once: Vec<u32> = vec![1; patients];
    let unchanged: Vec<Option<f64>> = (0..seeds).map(|seed| value(seed, &once)).collect();
    let (mut both, mut of_seeds, mut of_patients) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..BOOTSTRAP_DRAWS {
        let mut draws = draw(0, Epoch(0), u64::from(index), Purpose::Resample);
        let drawn: Vec<usize> = (0..seeds).map(|_| draws.below(seeds as u64) as usize).collect();
        let mut weights = vec![0; patients];
        (0..patients).for_each(|_| weights[draws.below(patients as u64) as usize] += 1);
        let values: Vec<Option<f64>> = (0..seeds).map(|seed| value(seed, &weights)).collect();
        both.extend(mean(drawn.iter().map(|&seed| values[seed])));
        of_seeds.extend(mean(drawn.iter().map(|&seed| unchanged[seed])));
        of_patients.extend(mean(values.iter().copied()));
    }
    both.sort_by(f64::total_cmp);
    if both.len() < BOOTSTRAP_DRAWS as usize / 2 {
        return None;
    }
    let tail = (1.0 - confidence) / 2.0;
    Some(Bootstrapped {
        interval: [percentile(&both, tail), percentile(&both, 1.0 - tail)],
        deviation: deviation(&both),
        seed_deviation: deviation(&of_seeds),
        patient_deviation: deviation(&of_patients),
        undefined: BOOTSTRAP_DRAWS - both.len() as u32,
    })
}

fn mean(values: impl ExactSizeIterator<Item = Option<f64>>) -> Option<f64> {
    let count = values.len() as f64;
    values.sum::<Option<f64>>().map(|sum| sum / count)
}

/// Between the two nearest values, as NumPy's `percentile` has it.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_those_of_a_mean() {
        // Seeds lie at ±1 (deviation of the mean of 4: 1/√4), patients at ±2 (of the mean of 100: 2/√100).
        let value = |seed: usize, weights: &[u32]| {
            let of_seed = if seed.is_multiple_of(2) { 1.0 } else { -1.0 };
            let side = |index: usize| if index.is_multiple_of(2) { 2.0 } else { -2.0 };
            let patients: f64 =
                weights.iter().enumerate().map(|(index, weight)| f64::from(*weight) * side(index)).sum();
            Some(of_seed + patients / 100.0)
        };
        let found = bootstrap(4, 100, 0.95, value).expect("defined");
        assert!((found.seed_deviation - 0.5).abs() < 0.02, "{found:?}");
        assert!((found.patient_deviation - 0.2).abs() < 0.01, "{found:?}");
        assert!((found.deviation - 0.29f64.sqrt()).abs() < 0.02, "{found:?}");
        assert!(found.interval[0] < -0.9 && found.interval[1] > 0.9, "{found:?}");
        assert_eq!(bootstrap(4, 100, 0.95, value), Some(found), "the same whenever it is asked");
    }

    #[test]
    fn what_is_mostly_undefined_has_no_interval() {
        assert_eq!(bootstrap(2, 10, 0.95, |_, _| None), None);
        assert_eq!(bootstrap(0, 10, 0.95, |_, _| Some(1.0)), None);
        let without_first = |_: usize, weights: &[u32]| (weights[0] > 0).then_some(1.0);
        let found = bootstrap(1, 10, 0.95, without_first).expect("mostly defined");
        assert!((500..900).contains(&found.undefined), "{found:?}");
        assert_eq!((found.interval, found.deviation), ([1.0; 2], 0.0));
    }

    #[test]
    fn percentiles_are_numpys() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!((percentile(&sorted, 0.5), percentile(&sorted, 0.1), percentile(&sorted, 1.0)), (3.0, 1.3, 8.0));
    }
}
