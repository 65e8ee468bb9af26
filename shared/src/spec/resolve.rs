//! From what was written to what it means: arms crossed with the grid, every default filled in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Arm, Augment, ExperimentSpec, Grid, Optimizer, Overrides, Precision, Schedule, Trainable};

/// One arm with every setting decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolvedArm {
    /// The arm's name; with a grid, followed by its levels: `frozen augment=light`.
    pub name: String,
    /// The factors that the grid varies and this arm's level of each, as text; `arm` is always one of them.
    pub levels: BTreeMap<String, String>,
    /// Samples in an optimizer step.
    pub batch_size: u32,
    /// The update rule.
    pub optimizer: Optimizer,
    /// Arithmetic.
    pub precision: Precision,
    /// How it spends the budget.
    pub stages: Vec<ResolvedStage>,
}

/// One stage with every setting decided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolvedStage {
    /// How many epochs.
    pub epochs: u32,
    /// What is trainable.
    pub train: Trainable,
    /// Learning rate.
    pub lr: f64,
    /// How it moves within the stage.
    pub schedule: Schedule,
    /// Augmentation policy.
    pub augment: Augment,
}

/// All arms in their stable order: as written, and for each the grid's levels, the last factor fastest.
pub fn resolve(spec: &ExperimentSpec) -> Vec<ResolvedArm> {
    let points = points(&spec.grid);
    spec.arm.iter().flat_map(|arm| points.iter().map(|point| resolve_arm(spec, arm, point))).collect()
}

fn points(grid: &Grid) -> Vec<Overrides> {
    fn cross<T: Clone>(points: Vec<Overrides>, levels: &Option<Vec<T>>, set: fn(&mut Overrides, T)) -> Vec<Overrides> {
        let Some(levels) = levels else { return points };
        let at = |point: &Overrides, level: &T| {
            let mut point = point.clone();
            set(&mut point, level.clone());
            point
        };
        points.iter().flat_map(|point| levels.iter().map(move |level| at(point, level))).collect()
    }
    let points = vec![Overrides::default()];
    let points = cross(points, &grid.batch_size, |point, level| point.batch_size = Some(level));
    let points = cross(points, &grid.lr, |point, level| point.lr = Some(level));
    cross(points, &grid.augment, |point, level| point.augment = Some(level))
}

fn resolve_arm(spec: &ExperimentSpec, arm: &Arm, point: &Overrides) -> ResolvedArm {
    let controls = &spec.controls;
    let mut levels = BTreeMap::from([("arm".to_owned(), arm.name.clone())]);
    levels.extend(point.batch_size.map(|level| ("batch_size".to_owned(), level.to_string())));
    levels.extend(point.lr.map(|level| ("lr".to_owned(), format!("{level:e}"))));
    levels.extend(point.augment.map(|level| ("augment".to_owned(), level.name().to_owned())));
    let suffix: String =
        levels.iter().filter(|(factor, _)| *factor != "arm").map(|(f, l)| format!(" {f}={l}")).collect();
    let lr = point.lr.or(arm.lr).unwrap_or(controls.lr);
    let augment = point.augment.or(arm.augment).unwrap_or(controls.augment);
    let stage = |stage: &super::Stage| ResolvedStage {
        epochs: stage.epochs,
        train: stage.train,
        lr: stage.lr.unwrap_or(lr),
        schedule: controls.schedule,
        augment: stage.augment.unwrap_or(augment),
    };
    ResolvedArm {
        name: format!("{}{suffix}", arm.name),
        levels,
        batch_size: point.batch_size.or(arm.batch_size).unwrap_or(controls.batch_size),
        optimizer: arm.optimizer.unwrap_or(controls.optimizer),
        precision: controls.precision,
        stages: arm.stages.iter().map(stage).collect(),
    }
}

impl Augment {
    /// The name in specs.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Light => "light",
        }
    }

    /// The name with its version, as in the lineage.
    pub fn versioned(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Light => "light@1",
        }
    }
}
