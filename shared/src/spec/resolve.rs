//! From what was written to what it means: arms crossed with the grid, every default filled in.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    Arm, Augment, ExperimentSpec, Grid, Memory, Optimization, Overrides, Precision, Schedule, Stage, Trainable, number,
};

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
    /// How weights move.
    pub optimization: Optimization,
    /// Arithmetic.
    pub precision: Precision,
    /// What is kept from forward for backward.
    pub memory: Memory,
    /// How it spends the budget.
    pub stages: Vec<ResolvedStage>,
}

/// One stage with every setting decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// `5 denseblock4 lr=1e-5 schedule=cosine`; what is not told is the default.
impl fmt::Display for ResolvedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epochs, train, lr, schedule, augment } = self;
        write!(f, "{epochs} {} lr={lr:e}", train.name())?;
        if *schedule != Schedule::default() {
            write!(f, " schedule={schedule}")?;
        }
        if *augment == Augment::NONE { Ok(()) } else { write!(f, " augment={augment}") }
    }
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
    let points = cross(points, &grid.schedule, |point, level| point.schedule = Some(level));
    let points = cross(points, &grid.augment, |point, level| point.augment = Some(level));
    let points = cross(points, &grid.weight_decay, |point, level| point.weight_decay = Some(level));
    let points = cross(points, &grid.label_smoothing, |point, level| point.label_smoothing = Some(level));
    cross(points, &grid.precision, |point, level| point.precision = Some(level))
}

impl Overrides {
    /// Each factor that is set, with its level as text.
    fn levels(&self) -> BTreeMap<String, String> {
        let Self { batch_size, lr, schedule, augment, weight_decay, label_smoothing, precision } = self;
        let levels = [
            ("batch_size", batch_size.map(|level| level.to_string())),
            ("lr", lr.map(|level| format!("{level:e}"))),
            ("schedule", schedule.map(|level| level.to_string())),
            ("augment", augment.as_ref().map(Augment::to_string)),
            ("weight_decay", weight_decay.map(number)),
            ("label_smoothing", label_smoothing.map(number)),
            ("precision", precision.map(|level| level.name().to_owned())),
        ];
        levels.into_iter().filter_map(|(factor, level)| Some((factor.to_owned(), level?))).collect()
    }
}

fn resolve_arm(spec: &ExperimentSpec, arm: &Arm, point: &Overrides) -> ResolvedArm {
    let controls = &spec.controls;
    let mut levels = point.levels();
    let suffix: String = levels.iter().map(|(factor, level)| format!(" {factor}={level}")).collect();
    levels.insert("arm".to_owned(), arm.name.clone());
    let lr = point.lr.or(arm.lr).unwrap_or(controls.lr);
    let schedule = point.schedule.or(arm.schedule).unwrap_or(controls.schedule);
    let augment = point.augment.as_ref().or(arm.augment.as_ref()).unwrap_or(&controls.augment);
    let stage = |stage: &Stage| ResolvedStage {
        epochs: stage.epochs,
        train: stage.train,
        lr: stage.lr.unwrap_or(lr),
        schedule: stage.schedule.unwrap_or(schedule),
        augment: stage.augment.as_ref().unwrap_or(augment).clone(),
    };
    ResolvedArm {
        name: format!("{}{suffix}", arm.name),
        levels,
        batch_size: point.batch_size.or(arm.batch_size).unwrap_or(controls.batch_size),
        optimization: optimization(spec, arm, point),
        precision: point.precision.or(arm.precision).unwrap_or(controls.precision),
        memory: arm.memory.unwrap_or(controls.memory),
        stages: arm.stages.iter().map(stage).collect(),
    }
}

fn optimization(spec: &ExperimentSpec, arm: &Arm, point: &Overrides) -> Optimization {
    let controls = &spec.controls;
    let optimizer = arm.optimizer.unwrap_or(controls.optimizer);
    let (rule, weight_decay, decay_norms_and_biases) = optimizer.resolve(point.weight_decay);
    // 0 is how an arm says that it does not do what `[controls]` does.
    let unless_0 = |value: Option<f64>| value.filter(|value| *value != 0.0);
    Optimization {
        rule,
        weight_decay,
        decay_norms_and_biases,
        clip_norm: unless_0(arm.clip_norm.or(controls.clip_norm)),
        label_smoothing: point.label_smoothing.or(arm.label_smoothing).unwrap_or(controls.label_smoothing),
        class_weights: arm.class_weights.as_ref().unwrap_or(&controls.class_weights).clone(),
        lr_decay_per_block: arm.lr_decay_per_block.unwrap_or(controls.lr_decay_per_block),
        accumulate: arm.accumulate.unwrap_or(controls.accumulate),
        average: unless_0(arm.average.or(controls.average)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ClassWeighting, ClassWeights, Format, UpdateRule, parse};

    #[test]
    fn stages_override_the_grid_the_grid_arms_and_arms_the_controls() {
        let text = r#"
            name = "x"
            data.dataset = "d"
            model.init = "random"
            budget.epochs = 2
            seeds.count = 1
            [controls]
            optimizer = { name = "sgd", momentum = 0.9 }
            schedule = { name = "step", every = 3 }
            clip_norm = 1.0
            average = 0.99
            class_weights = "balanced"
            [[arm]]
            name = "a"
            stages = [{ epochs = 1, train = "head", schedule = "constant" }, { epochs = 1, train = "all" }]
            clip_norm = 0.0
            class_weights = [1.0, 3.0]
            memory = "low"
            [[arm]]
            name = "b"
            stages = [{ epochs = 2, train = "all", augment = "none" }]
            augment = { flip = 0.5 }
            optimizer = { name = "adamw" }
            [grid]
            weight_decay = [0.0, 1e-4]
            precision = ["bf16"]
        "#;
        let arms = resolve(&parse(text, Format::Toml).expect("a well-formed spec"));
        let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
        assert_eq!(names[..2], ["a precision=bf16 weight_decay=0", "a precision=bf16 weight_decay=1e-4"]);
        assert_eq!(arms[1].levels["weight_decay"], "1e-4");
        let [a, b] = [&arms[1], &arms[2]];
        let step = Schedule::Step { every: 3, factor: 0.1, warm_up: 0 };
        assert_eq!(a.stages.iter().map(|stage| stage.schedule).collect::<Vec<_>>(), [Schedule::default(), step]);
        assert_eq!((a.memory, a.precision), (Memory::Low, Precision::Bf16));
        assert_eq!((a.optimization.clip_norm, a.optimization.average), (None, Some(0.99)));
        assert_eq!(a.optimization.class_weights, ClassWeights::Listed(vec![1.0, 3.0]));
        assert_eq!(a.optimization.weight_decay, 1e-4);
        assert_eq!(b.optimization.clip_norm, Some(1.0));
        assert_eq!(b.optimization.class_weights, ClassWeights::Named(ClassWeighting::Balanced));
        assert!(matches!(b.optimization.rule, UpdateRule::Adamw { .. }) && b.optimization.weight_decay == 0.0);
        assert_eq!(b.stages[0].augment, Augment::NONE);
    }
}
