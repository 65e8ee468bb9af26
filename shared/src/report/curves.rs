//! How arms learned: scores on val epoch by epoch, and whether they still moved when the budget ended.

use super::{Facts, Told};
use crate::{
    document::{Curve, CurvePoint, Plateau, PlateauState, Scores},
    ids::Epoch,
    spec::{Metric, ResolvedArm, Score},
    stats::{Influence, crossed},
};

/// The scores that are drawn besides the one that arms are judged on.
const DRAWN: [Score; 3] = [Score::Auc, Score::Loss, Score::Accuracy];

/// The scores whose curves are told, the primary one first.
pub(super) fn drawn(primary: Score) -> Vec<Score> {
    let mut scores = vec![primary];
    scores.extend(DRAWN.into_iter().filter(|score| *score != primary));
    scores
}

/// The point of a curve from the runs that have the score.
pub(super) fn point<'a>(epoch: Epoch, score: Score, runs: impl Iterator<Item = &'a Scores>) -> Option<CurvePoint> {
    let values: Vec<f64> = runs.filter_map(|scores| scores.get(score)).collect();
    (!values.is_empty()).then(|| CurvePoint {
        epoch,
        mean: values.iter().sum::<f64>() / values.len() as f64,
        min: values.iter().copied().fold(f64::INFINITY, f64::min),
        max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        runs: values.len() as u64,
    })
}

/// Curves without points are left out.
pub(super) fn curves(scores: &[Score], points: Vec<Vec<CurvePoint>>) -> Vec<Curve> {
    let named = scores.iter().zip(points).filter(|(_, points)| !points.is_empty());
    named.map(|(score, points)| Curve { score: score.name().to_owned(), points }).collect()
}

/// The weights with which scores make a least-squares slope: of the last quarter of the budget, at least three epochs, all in the last
/// stage. None where there are not so many.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    weights: Vec<(Epoch, f64)>,
}

impl Window {
    pub(super) fn of(arm: &ResolvedArm, told: &Told, inherited: u32) -> Option<Self> {
        let last_stage = arm.stages.last()?;
        let all: u32 = inherited + arm.stages.iter().map(|stage| stage.epochs).sum::<u32>();
        let within = all - last_stage.epochs;
        let wanted = told.epochs.len().div_ceil(4).max(3);
        let epochs: Vec<Epoch> = told.epochs.iter().copied().filter(|epoch| epoch.0 > within).collect();
        let epochs = &epochs[epochs.len().saturating_sub(wanted)..];
        if epochs.len() < 3 {
            return None;
        }
        let centre = epochs.iter().map(|epoch| f64::from(epoch.0)).sum::<f64>() / epochs.len() as f64;
        let square: f64 = epochs.iter().map(|epoch| (f64::from(epoch.0) - centre).powi(2)).sum();
        Some(Self { weights: epochs.iter().map(|epoch| (*epoch, (f64::from(epoch.0) - centre) / square)).collect() })
    }

    fn weight(&self, epoch: Epoch) -> Option<f64> {
        self.weights.iter().find(|(known, _)| *known == epoch).map(|(_, weight)| *weight)
    }
}

/// The slope of one run, added up epoch by epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slope {
    epochs: usize,
    value: f64,
    influence: Option<Influence>,
}

impl Slope {
    pub(super) fn add(&mut self, window: &Window, epoch: Epoch, facts: &Facts) {
        let (Some(weight), Some(value)) = (window.weight(epoch), facts.value) else { return };
        self.value += weight * value;
        if let Some(influence) = &facts.val {
            let weighted = influence.times(weight);
            self.influence = Some(self.influence.take().map_or(weighted.clone(), |sum| sum.plus(&weighted)));
            self.epochs += 1;
        }
    }
}

/// What the slopes of an arm's runs say; none where a run lacks an epoch of the window.
pub(super) fn plateau(metric: Metric, window: &Window, slopes: &[&Slope], alpha: f64) -> Option<Plateau> {
    let whole = slopes.iter().all(|slope| slope.epochs == window.weights.len());
    let values: Vec<f64> = slopes.iter().map(|slope| slope.value).collect();
    let influences: Vec<Influence> = slopes.iter().filter_map(|slope| slope.influence.clone()).collect();
    let (first, last) = (window.weights.first()?.0, window.weights.last()?.0);
    let estimate = crossed(&values, &influences).filter(|_| whole)?;
    let interval = (estimate.standard_error > 0.0).then(|| estimate.interval(1.0 - alpha));
    let larger_is_better = metric.score.larger_is_better();
    let state = match interval {
        Some([low, _]) if low > 0.0 && larger_is_better => PlateauState::StillImproving,
        Some([_, high]) if high < 0.0 && !larger_is_better => PlateauState::StillImproving,
        Some([low, high]) if low > 0.0 || high < 0.0 => PlateauState::Worsening,
        _ => PlateauState::NoChangeSeen,
    };
    Some(Plateau { metric, first, last, slope: estimate.mean, interval, state })
}
