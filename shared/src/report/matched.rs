//! Contrasts where something else than epochs is made equal. Runs are read at epochs that were evaluated, never between them: at the last
//! one by which a run had spent no more than the amount.

use super::Facts;
use crate::{
    document::{EvidenceRun, Matched, MatchedSays, Uncertainty},
    ids::Epoch,
    spec::Metric,
    stats::{Influence, crossed},
    trainer::Spent,
};

/// What can be made equal besides epochs.
pub(super) const AXES: [Axis; 4] = [Axis::Steps, Axis::Samples, Axis::Flops, Axis::Seconds];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Axis {
    Steps,
    Samples,
    Flops,
    Seconds,
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Samples => "samples",
            Self::Flops => "flops",
            Self::Seconds => "seconds",
        }
    }

    /// What an epoch spent, whose samples cost so many operations each.
    fn of(self, spent: &Spent, flops: f64) -> f64 {
        match self {
            Self::Steps => spent.steps as f64,
            Self::Samples => spent.samples as f64,
            Self::Flops => spent.samples as f64 * flops,
            Self::Seconds => spent.seconds,
        }
    }
}

/// A run, and the operations that a sample costs in each of its epochs.
#[derive(Clone, Copy)]
pub(super) struct Costed<'a> {
    pub(super) run: &'a EvidenceRun,
    pub(super) flops: &'a [f64],
}

impl Costed<'_> {
    /// What it had spent after each epoch.
    fn course(self, axis: Axis) -> impl Iterator<Item = (Epoch, f64)> {
        let epochs = (1..).map(Epoch).zip(&self.run.epochs).zip(self.flops);
        epochs.scan(0.0, move |sum, ((epoch, known), flops)| {
            *sum += axis.of(&known.spent, *flops);
            Some((epoch, *sum))
        })
    }
}

/// At which epochs the two runs of a seed are read, and what both may have spent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Match {
    pub(super) amount: f64,
    pub(super) baseline: Option<Epoch>,
    pub(super) arm: Option<Epoch>,
}

impl Match {
    /// Of what was spent up to epoch `at`.
    pub(super) fn of(axis: Axis, baseline: Costed<'_>, arm: Costed<'_>, at: Epoch) -> Self {
        let course = |run: Costed<'_>| run.course(axis).take_while(|(epoch, _)| *epoch <= at).collect::<Vec<_>>();
        let (baseline, arm) = (course(baseline), course(arm));
        let all = |course: &[(Epoch, f64)]| course.last().map_or(0.0, |(_, sum)| *sum);
        let amount = all(&baseline).min(all(&arm));
        // Sums in another order than the amount's must not lose the last epoch.
        let within = amount * (1.0 + 1e-12);
        let last = |course: &[(Epoch, f64)]| {
            course.iter().take_while(|(_, sum)| *sum <= within).last().map(|(epoch, _)| *epoch)
        };
        Self { amount, baseline: last(&baseline), arm: last(&arm) }
    }
}

/// The contrast on an axis. `pairs` are the matches of each seed with what was read there.
pub(super) fn matched(
    metric: Metric,
    alpha: f64,
    axis: Axis,
    names: (&str, &str),
    pairs: &[(Match, Option<(&Facts, &Facts)>)],
    at_equal_epochs: Option<[f64; 2]>,
    untreated: bool,
) -> Option<Matched> {
    let range = |epoch: fn(&Match) -> Option<Epoch>| {
        let epochs: Vec<Epoch> = pairs.iter().map(|(found, _)| epoch(found).unwrap_or_default()).collect();
        Some([*epochs.iter().min()?, *epochs.iter().max()?])
    };
    let differences: Option<Vec<f64>> =
        pairs.iter().map(|(_, read)| read.and_then(|(baseline, arm)| Some(arm.value? - baseline.value?))).collect();
    let influences: Option<Vec<Influence>> = pairs
        .iter()
        .map(|(_, read)| read.and_then(|(baseline, arm)| Some(arm.val.as_ref()?.minus(baseline.val.as_ref()?))))
        .collect();
    let patients = influences.as_ref().and_then(|all| all.first()).map_or(0, Influence::clusters);
    let estimate = differences.as_ref().zip(influences.as_ref()).and_then(|(d, i)| crossed(d, i));
    let estimate = estimate.filter(|estimate| estimate.standard_error > 0.0);
    let uncertainty = estimate.as_ref().map(|estimate| Uncertainty::of(estimate, alpha, patients as u64));
    let side = |[low, high]: [f64; 2]| if low > 0.0 { 1 } else { -i32::from(high < 0.0) };
    let says = match (uncertainty.as_ref().map(|known| side(known.interval)), at_equal_epochs.map(side)) {
        _ if untreated => MatchedSays::NotTreated,
        (Some(here), Some(there)) if here == there => MatchedSays::Same,
        (Some(here), Some(there)) if here * there < 0 => MatchedSays::Opposite,
        (Some(0), Some(_)) => MatchedSays::NotShown,
        (Some(_), Some(_)) => MatchedSays::ShownHere,
        (None, _) | (_, None) => MatchedSays::Unknown,
    };
    Some(Matched {
        axis: axis.name().to_owned(),
        baseline: names.0.to_owned(),
        arm: names.1.to_owned(),
        metric,
        amount: pairs.iter().map(|(found, _)| found.amount).sum::<f64>() / pairs.len() as f64,
        baseline_epochs: range(|found| found.baseline)?,
        arm_epochs: range(|found| found.arm)?,
        difference: differences.map(|all| all.iter().sum::<f64>() / all.len() as f64),
        uncertainty,
        says,
    })
}
