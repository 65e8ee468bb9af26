//! A contrast on val after each epoch: what the verdict would have been with a smaller budget, where schedules allow to say so, and from
//! when on the arm was ahead or behind.

use super::Facts;
use crate::{
    document::{Crossing, SweepPoint},
    ids::Epoch,
    seed::{Purpose, draw},
    stats::{Estimate, Influence, crossed},
};

/// Draws of the bootstrap that says how sure a crossing is.
const DRAWS: u32 = 1000;
/// The most numbers that are added up for all crossings of a report; where there are more contrasts, epochs or patients, none is told.
const MOST_WORK: u64 = 4_000_000_000;

/// One contrast, epoch by epoch.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) points: Vec<SweepPoint>,
    /// At which confidence all epochs are told together.
    simultaneous: f64,
    confidence: f64,
    observed: Side,
    first_difference: Option<Epoch>,
    draws: Vec<Side>,
}

/// On which side of 0 a difference is, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Side {
    sign: i8,
    since: Epoch,
}

impl Side {
    fn update(&mut self, epoch: Epoch, difference: f64) {
        let sign = if difference > 0.0 { 1 } else { -i8::from(difference < 0.0) };
        if sign != self.sign {
            *self = Self { sign, since: epoch };
        }
    }
}

/// Whether crossings of so many contrasts can be told in reasonable time.
pub(super) fn worth_drawing(contrasts: usize, epochs: usize, seeds: usize, patients: usize) -> bool {
    [epochs, seeds, patients]
        .iter()
        .fold(contrasts as u64 * u64::from(DRAWS), |work, &more| work.saturating_mul(more as u64))
        <= MOST_WORK
}

impl Course {
    /// `differing` epochs are told in which the two arms are not the same.
    pub(super) fn new(alpha: f64, differing: usize, drawing: bool) -> Self {
        Self {
            points: Vec::new(),
            simultaneous: 1.0 - alpha / differing.max(1) as f64,
            confidence: 1.0 - alpha,
            observed: Side::default(),
            first_difference: None,
            draws: vec![Side::default(); if drawing { DRAWS as usize } else { 0 }],
        }
    }

    /// Adds an epoch: `pairs` are baseline and arm of each seed.
    pub(super) fn add(&mut self, epoch: Epoch, same: bool, pairs: &[(&Facts, &Facts)]) {
        let values: Option<Vec<f64>> = pairs.iter().map(|(baseline, arm)| Some(arm.value? - baseline.value?)).collect();
        let Some(values) = values.filter(|values| !values.is_empty()) else {
            self.points.push(SweepPoint { epoch, same, difference: None, interval: None, simultaneous: None });
            return;
        };
        let influences: Option<Vec<Influence>> =
            pairs.iter().map(|(baseline, arm)| Some(arm.val.as_ref()?.minus(baseline.val.as_ref()?))).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let estimate = influences.as_ref().filter(|_| !same).and_then(|influences| crossed(&values, influences));
        let estimate = estimate.filter(|estimate: &Estimate| estimate.standard_error > 0.0);
        self.points.push(SweepPoint {
            epoch,
            same,
            difference: Some(mean),
            interval: estimate.map(|estimate| estimate.interval(self.confidence)),
            simultaneous: estimate.map(|estimate| estimate.interval(self.simultaneous)),
        });
        if same {
            return;
        }
        self.first_difference.get_or_insert(epoch);
        self.observed.update(epoch, mean);
        match influences {
            Some(influences) => self.draw(epoch, &values, &influences),
            None => self.draws.clear(),
        }
    }

    /// Seeds and patients drawn again, the same ones in every epoch, and the difference that they would have given.
    fn draw(&mut self, epoch: Epoch, values: &[f64], influences: &[Influence]) {
        let patients = influences.first().map_or(0, Influence::clusters);
        let mut weights = vec![0.0; patients];
        let seeds = values.len() as u64;
        for (index, side) in self.draws.iter_mut().enumerate() {
            let mut random = draw(0, Epoch(0), index as u64, Purpose::Resample);
            let drawn: Vec<usize> = values.iter().map(|_| random.below(seeds) as usize).collect();
            weights.fill(-1.0);
            (0..patients).for_each(|_| weights[random.below(patients as u64) as usize] += 1.0);
            let moved =
                |seed: usize| influences[seed].of_clusters().zip(&weights).map(|(part, w)| part * w).sum::<f64>();
            side.update(epoch, drawn.iter().map(|&seed| values[seed] + moved(seed)).sum::<f64>());
        }
    }

    /// Whether it is said how sure a change of sides is.
    pub(super) fn is_drawn(&self) -> bool {
        !self.draws.is_empty() || self.first_difference.is_none()
    }

    /// From when on the arm is on the side on which it ends; none where it was there from the first epoch that differs.
    pub(super) fn crossing(&self) -> Option<Crossing> {
        let Side { sign, since } = self.observed;
        if sign == 0 || self.first_difference.is_none_or(|first| since <= first) || self.draws.is_empty() {
            return None;
        }
        let mut same_side: Vec<Epoch> =
            self.draws.iter().filter(|side| side.sign == sign).map(|side| side.since).collect();
        same_side.sort_unstable();
        let at = |share: f64| {
            let index = (share * (same_side.len() - 1) as f64).round() as usize;
            same_side.get(index).copied()
        };
        let tail = (1.0 - self.confidence) / 2.0;
        let share = same_side.len() as f64 / self.draws.len() as f64;
        (!same_side.is_empty()).then_some(())?;
        Some(Crossing { epoch: since, interval: [at(tail)?, at(1.0 - tail)?], share })
    }
}
