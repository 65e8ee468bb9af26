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

/// Draws of an interval, if nothing else is asked for.
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

/// Draws `seeds` seeds and `patients` clusters again and again, `draws` times. `values` is asked for the scores of a seed, all patients
/// counting as often as their weight says; it gives as many each time. Of each score, undefined where half of the draws or more are.
pub fn bootstrap(
    seeds: usize,
    patients: usize,
    draws: u32,
    confidence: f64,
    values: impl Fn(usize, &[u32]) -> Vec<Option<f64>>,
) -> Vec<Option<Bootstrapped>> {
    let once: Vec<u32> = vec![1; patients];
    let unchanged: Vec<Vec<Option<f64>>> = (0..seeds).map(|seed| values(seed, &once)).collect();
    let Some(first) = unchanged.first().filter(|_| patients > 0) else { return Vec::new() };
    let mut all: Vec<Drawn> = vec![Drawn::default(); first.len()];
    for index in 0..draws {
        let mut random = draw(0, Epoch(0), u64::from(index), Purpose::Resample);
        let drawn: Vec<usize> = (0..seeds).map(|_| random.below(seeds as u64) as usize).collect();
        let mut weights = vec![0; patients];
        (0..patients).for_each(|_| weights[random.below(patients as u64) as usize] += 1);
        let here: Vec<Vec<Option<f64>>> = (0..seeds).map(|seed| values(seed, &weights)).collect();
        for (score, of) in all.iter_mut().enumerate() {
            of.both.extend(mean(drawn.iter().map(|&seed| here[seed][score])));
            of.seeds.extend(mean(drawn.iter().map(|&seed| unchanged[seed][score])));
            of.patients.extend(mean(here.iter().map(|values| values[score])));
        }
    }
    all.into_iter().map(|drawn| drawn.summary(draws, confidence)).collect()
}

/// What one score was in each draw in which it was defined.
#[derive(Clone, Default)]
struct Drawn {
    both: Vec<f64>,
    seeds: Vec<f64>,
    patients: Vec<f64>,
}

impl Drawn {
    fn summary(mut self, draws: u32, confidence: f64) -> Option<Bootstrapped> {
        self.both.sort_by(f64::total_cmp);
        if self.both.is_empty() || self.both.len() <= draws as usize / 2 {
            return None;
        }
        let tail = (1.0 - confidence) / 2.0;
        Some(Bootstrapped {
            interval: [percentile(&self.both, tail), percentile(&self.both, 1.0 - tail)],
            deviation: deviation(&self.both),
            seed_deviation: deviation(&self.seeds),
            patient_deviation: deviation(&self.patients),
            undefined: draws - self.both.len() as u32,
        })
    }
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
        let one = || bootstrap(4, 100, BOOTSTRAP_DRAWS, 0.95, |seed, weights| vec![value(seed, weights)])[0];
        let found = one().expect("defined");
        assert!((found.seed_deviation - 0.5).abs() < 0.02, "{found:?}");
        assert!((found.patient_deviation - 0.2).abs() < 0.01, "{found:?}");
        assert!((found.deviation - 0.29f64.sqrt()).abs() < 0.02, "{found:?}");
        assert!(found.interval[0] < -0.9 && found.interval[1] > 0.9, "{found:?}");
        assert_eq!(one(), Some(found), "the same whenever it is asked");
    }

    #[test]
    fn what_is_mostly_undefined_has_no_interval() {
        let one = |value: fn(&[u32]) -> Option<f64>| bootstrap(1, 10, 2000, 0.95, |_, weights| vec![value(weights)])[0];
        assert_eq!(one(|_| None), None);
        assert_eq!(bootstrap(0, 10, 2000, 0.95, |_, _| vec![Some(1.0)]), []);
        assert_eq!(bootstrap(1, 10, 0, 0.95, |_, _| vec![Some(1.0)]), [None]);
        let found = one(|weights| (weights[0] > 0).then_some(1.0)).expect("mostly defined");
        assert!((500..900).contains(&found.undefined), "{found:?}");
        assert_eq!((found.interval, found.deviation), ([1.0; 2], 0.0));
    }

    #[test]
    fn percentiles_are_numpys() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!((percentile(&sorted, 0.5), percentile(&sorted, 0.1), percentile(&sorted, 1.0)), (3.0, 1.3, 8.0));
    }
}
