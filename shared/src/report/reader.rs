//! What is kept of a run's predictions after one epoch: little where it is for curves, more of the epoch that the comparison reads.

use std::{collections::BTreeMap, sync::Arc};

use super::{shapes, subgroups};
use crate::{
    compare::{self, DataSets, Predicted, Reading},
    dataset::Split,
    document::Metrics,
    ids::Epoch,
    spec::{ExperimentSpec, Metric},
    stats::Influence,
};

/// What was read of a run after an epoch.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub(super) reading: Reading,
    /// The primary score on val.
    pub(super) value: Option<f64>,
    /// What each patient of val contributes to it.
    pub(super) val: Option<Influence>,
    /// The same on test and on external data, at the last epoch.
    pub(super) test: Option<Influence>,
    pub(super) external: BTreeMap<String, Influence>,
    pub(super) shapes: Vec<shapes::RunShapes>,
    /// The primary score in each group of samples.
    pub(super) groups: Vec<Option<(f64, Influence)>>,
    /// For ensembles.
    pub(super) predicted: Option<Predicted>,
}

/// How much is kept of a run after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// What curves and contrasts on val need.
    Curve,
    /// Everything that is told of the epoch that the comparison reads.
    Last,
    /// The predictions too, for ensembles.
    Predictions,
}

/// Reads runs after one epoch. Cloning it is cheap, and it can be used in any thread.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) at: Epoch,
    pub(super) depth: Depth,
    pub(super) groups: Arc<Vec<subgroups::Group>>,
}

impl Reader {
    /// What is kept of a run's predictions.
    pub fn read(&self, predicted: Predicted, data: &DataSets, spec: &ExperimentSpec) -> Facts {
        let (rule, score) = (spec.endpoint.threshold, spec.endpoint.metric.score);
        let influence = |split| predicted.influence(&data.patients, rule, Metric { split, score });
        let last = self.depth != Depth::Curve;
        let reading = if last {
            Reading::of(&predicted, data, spec, self.at)
        } else {
            Reading { metrics: compare::score(&predicted, rule), influence: None }
        };
        let external = || predicted.external_influences(&data.patients, rule, score);
        Facts {
            value: reading.metrics.val.as_ref().and_then(|scores| scores.get(score)),
            val: influence(Split::Val),
            test: if last { influence(Split::Test) } else { None },
            external: if last { external() } else { BTreeMap::new() },
            shapes: if last { shapes::RunShapes::of(&predicted, rule) } else { Vec::new() },
            groups: if last { subgroups::of_run(&self.groups, &predicted, spec) } else { Vec::new() },
            reading,
            predicted: (self.depth == Depth::Predictions).then_some(predicted),
        }
    }
}

impl Facts {
    /// Its scores.
    pub fn metrics(&self) -> &Metrics {
        &self.reading.metrics
    }
}
