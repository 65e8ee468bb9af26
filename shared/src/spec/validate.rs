//! What no grammar can check: sums, ranges, names against each other. Names that only the coordinator knows (data sets,
//! weights) are checked at submission.

use std::collections::BTreeSet;

use super::{
    Arm, Augment, ClassWeights, Controls, Error, ExperimentSpec, Grid, MAX_EPOCHS, MAX_RUNS, ResolvedArm, Seeds,
    Trainable, number, optimization::check_weight_decay, resolve,
};

/// Checks a spec.
///
/// # Errors
/// The first thing that is wrong, in the order of the spec's tables.
pub fn validate(spec: &ExperimentSpec) -> Result<(), Error> {
    name("name", &spec.name)?;
    name("data.dataset", &spec.data.dataset)?;
    spec.data.external.iter().try_for_each(|external| name("data.external", external))?;
    unique("data.external", spec.data.external.iter().map(String::as_str))?;
    if spec.data.external.contains(&spec.data.dataset) {
        return invalid(
            "data.external",
            format!("{:?} is the experiment's own data set; leave it out", spec.data.dataset),
        );
    }
    if let Some(size) = spec.data.image_size {
        range("data.image_size", size, 32, 1024)?;
    }
    range("budget.epochs", spec.budget.epochs, 1, 100_000)?;
    controls(&spec.controls)?;
    if spec.execution.checkpoint_every_steps == Some(0) {
        return invalid(
            "execution.checkpoint_every_steps",
            "0 is no number of steps; write 1 or more, or leave it out",
        );
    }
    check_sharing(spec.execution.priority, spec.execution.weight, spec.execution.max_concurrent)?;
    if spec.keep.is_some_and(|keep| keep.best == 0 && keep.last == 0) {
        return invalid(
            "keep",
            "of a run that no other one parts from nothing would be left; let `best` or `last` be 1 or more",
        );
    }
    seeds(&spec.seeds)?;
    if spec.arm.is_empty() {
        return invalid("arm", "an experiment needs at least one [[arm]]");
    }
    unique("arm.name", spec.arm.iter().map(|arm| arm.name.as_str()))?;
    spec.arm.iter().try_for_each(|arm| validate_arm(spec, arm))?;
    grid(spec)?;
    resolve(spec).iter().try_for_each(resolved)?;
    compare(spec)
}

/// Checks how an experiment shares the fleet.
///
/// # Errors
/// What is out of range, by its name in a spec.
pub fn check_sharing(priority: i32, weight: u32, max_concurrent: Option<u32>) -> Result<(), Error> {
    if !(-1000..=1000).contains(&priority) {
        return invalid("execution.priority", format!("{priority} is not between -1000 and 1000"));
    }
    range("execution.weight", weight, 1, 1000)?;
    if max_concurrent == Some(0) {
        return invalid(
            "execution.max_concurrent",
            "with 0 nothing would ever be trained; write 1 or more, or `ceteris pause` the experiment",
        );
    }
    Ok(())
}

impl Seeds {
    /// The seeds, in order. Empty where nothing was written; [`validate`] refuses that.
    pub fn list(&self) -> Vec<u64> {
        match (&self.values, self.count) {
            (Some(values), _) => values.clone(),
            (None, count) => (0..u64::from(count.unwrap_or(0))).collect(),
        }
    }
}

fn invalid<T>(place: impl Into<String>, cause: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid { place: place.into(), cause: cause.into() })
}

/// Checks a name of something: names appear in tables, paths and URLs. `place` says where it stands, for the message.
///
/// # Errors
/// When it is empty, long, or has characters that would need quoting somewhere.
pub fn name(place: &str, name: &str) -> Result<(), Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    if name.is_empty()
        || name.len() > 64
        || !name.chars().all(good)
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return invalid(
            place,
            format!(
                "{name:?} is not a name: use 1 to 64 letters, digits, '-', '_', '.' or '+', beginning with a letter or digit"
            ),
        );
    }
    Ok(())
}

fn unique<'a>(place: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return invalid(place, format!("{name:?} appears twice; each needs a name of its own"));
        }
    }
    Ok(())
}

fn range(place: &str, value: u32, low: u32, high: u32) -> Result<(), Error> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        invalid(place, format!("{value} is not between {low} and {high}"))
    }
}

fn learning_rate(place: &str, lr: f64) -> Result<(), Error> {
    if lr > 0.0 && lr <= 100.0 {
        Ok(())
    } else {
        invalid(place, format!("{lr} is not a learning rate above 0 and up to 100"))
    }
}

/// Says where it was that a check refused something.
fn at(place: impl Into<String>, checked: Result<(), String>) -> Result<(), Error> {
    checked.or_else(|cause| invalid(place, cause))
}

fn label_smoothing(place: &str, share: f64) -> Result<(), Error> {
    if (0.0..1.0).contains(&share) { Ok(()) } else { invalid(place, format!("{share} is not in [0, 1)")) }
}

/// What `[controls]` and an arm can both set. Controls are an arm in which everything is set.
fn settings(place: &dyn Fn(&str) -> String, arm: &Arm) -> Result<(), Error> {
    let check = |key: &str, value: Option<f64>, good: fn(f64) -> bool, range: &str| match value {
        Some(value) if !good(value) => invalid(place(key), format!("{value} is not {range}")),
        _ => Ok(()),
    };
    if let Some(batch_size) = arm.batch_size {
        range(&place("batch_size"), batch_size, 1, 4096)?;
    }
    arm.optimizer.iter().try_for_each(|optimizer| at(place("optimizer"), optimizer.check()))?;
    arm.lr.iter().try_for_each(|lr| learning_rate(&place("lr"), *lr))?;
    arm.schedule.iter().try_for_each(|schedule| at(place("schedule"), schedule.check()))?;
    arm.augment.iter().try_for_each(|augment| at(place("augment"), Augment::check(augment)))?;
    let finite = |value: f64| (0.0..=1e12).contains(&value);
    check("clip_norm", arm.clip_norm, finite, "a norm above 0, or 0 for no clipping")?;
    arm.label_smoothing.iter().try_for_each(|share| label_smoothing(&place("label_smoothing"), *share))?;
    arm.class_weights.iter().try_for_each(|weights| at(place("class_weights"), ClassWeights::check(weights)))?;
    let decay = |value: f64| value > 0.0 && value <= 1.0;
    check("lr_decay_per_block", arm.lr_decay_per_block, decay, "above 0 and up to 1")?;
    if let Some(accumulate) = arm.accumulate {
        range(&place("accumulate"), accumulate, 1, 4096)?;
    }
    check("average", arm.average, |value| (0.0..1.0).contains(&value), "a decay in [0, 1), 0 for no average")
}

fn controls(controls: &Controls) -> Result<(), Error> {
    let Controls {
        batch_size,
        optimizer,
        lr,
        schedule,
        augment,
        clip_norm,
        label_smoothing,
        class_weights,
        lr_decay_per_block,
        accumulate,
        average,
        precision: _,
        memory: _,
        environment: _,
    } = controls.clone();
    let all = Arm {
        batch_size: Some(batch_size),
        optimizer: Some(optimizer),
        lr: Some(lr),
        schedule: Some(schedule),
        augment: Some(augment),
        clip_norm,
        label_smoothing: Some(label_smoothing),
        class_weights: Some(class_weights),
        lr_decay_per_block: Some(lr_decay_per_block),
        accumulate: Some(accumulate),
        average,
        ..Arm::default()
    };
    settings(&|key| format!("controls.{key}"), &all)
}

/// What can be checked only when it is known which settings come together.
fn resolved(arm: &ResolvedArm) -> Result<(), Error> {
    let accumulate = arm.optimization.accumulate;
    if !arm.batch_size.is_multiple_of(accumulate) {
        let cause = format!(
            "a batch of {} cannot be cut into {accumulate} equal parts; write a divisor of the batch size",
            arm.batch_size
        );
        return invalid(format!("arm {:?}: accumulate", arm.name), cause);
    }
    arm.stages.iter().enumerate().try_for_each(|(index, stage)| {
        let checked = stage.schedule.check_stage(stage.lr, stage.epochs);
        at(format!("arm {:?}: schedule of stages[{index}]", arm.name), checked)
    })
}

/// Whether the network has the parts that the arm's stages train.
fn parts(spec: &ExperimentSpec, arm: &Arm) -> Result<(), Error> {
    let arch = spec.model.arch;
    let Some((index, stage)) = arm.stages.iter().enumerate().find(|(_, stage)| !stage.train.fits(arch)) else {
        return Ok(());
    };
    let names: Vec<&str> = Trainable::ALL.iter().filter(|part| part.fits(arch)).map(|part| part.name()).collect();
    let cause = format!(
        "{} has no part {:?}; write one of {}, or change `model.arch`",
        arch.name(),
        stage.train.name(),
        names.join(", ")
    );
    invalid(format!("arm {:?}: train of stages[{index}]", arm.name), cause)
}

fn seeds(seeds: &Seeds) -> Result<(), Error> {
    match (&seeds.count, &seeds.values) {
        (Some(_), Some(_)) => invalid("seeds", "`count` and `values` say the same thing; write one of them"),
        (None, None) => invalid("seeds", "write `count = 5`, or `values = [0, 1, …]`"),
        (Some(count), None) => range("seeds.count", *count, 1, 10_000),
        (None, Some(values)) => {
            if values.is_empty() {
                return invalid("seeds.values", "the list is empty; give at least one seed");
            }
            let texts: Vec<String> = values.iter().map(u64::to_string).collect();
            unique("seeds.values", texts.iter().map(String::as_str))
        }
    }
}

fn validate_arm(spec: &ExperimentSpec, arm: &Arm) -> Result<(), Error> {
    let place = |key: &str| format!("arm {:?}: {key}", arm.name);
    name("arm.name", &arm.name)?;
    settings(&place, arm)?;
    for (index, stage) in arm.stages.iter().enumerate() {
        let place = |key: &str| place(&format!("{key} of stages[{index}]"));
        stage.lr.iter().try_for_each(|lr| learning_rate(&place("lr"), *lr))?;
        stage.schedule.iter().try_for_each(|schedule| at(place("schedule"), schedule.check()))?;
        stage.augment.iter().try_for_each(|augment| at(place("augment"), augment.check()))?;
    }
    parts(spec, arm)?;
    if arm.stages.is_empty() || arm.stages.iter().any(|stage| stage.epochs == 0) {
        return invalid(place("stages"), "needs at least one stage, and each stage at least one epoch");
    }
    let inherited = spec.model.init.inherited_epochs();
    let stages: u64 = arm.stages.iter().map(|stage| u64::from(stage.epochs)).sum();
    let sum = stages + u64::from(inherited);
    if sum != u64::from(spec.budget.epochs) {
        let inherited = (inherited > 0).then(|| format!("{inherited} inherited"));
        let terms = arm.stages.iter().map(|stage| stage.epochs.to_string());
        let terms = inherited.into_iter().chain(terms).collect::<Vec<_>>().join(" + ");
        return Err(Error::StagesMissBudget { arm: arm.name.clone(), terms, sum, budget: spec.budget.epochs });
    }
    Ok(())
}

/// A factor of the grid that is written in the spec.
struct GridFactor {
    name: &'static str,
    levels: Vec<String>,
    /// Whether an arm decides the factor in all its stages.
    decided_by: fn(&Arm) -> bool,
}

fn factors(spec: &ExperimentSpec) -> Vec<GridFactor> {
    fn factor<T>(
        name: &'static str,
        levels: &Option<Vec<T>>,
        text: impl Fn(&T) -> String,
        decided_by: fn(&Arm) -> bool,
    ) -> Option<GridFactor> {
        let levels = levels.as_ref()?.iter().map(text).collect();
        Some(GridFactor { name, levels, decided_by })
    }
    let grid = &spec.grid;
    let factors = [
        factor("batch_size", &grid.batch_size, u32::to_string, |arm| arm.batch_size.is_some()),
        factor(
            "lr",
            &grid.lr,
            |lr| format!("{lr:e}"),
            |arm| arm.lr.is_some() || arm.stages.iter().all(|stage| stage.lr.is_some()),
        ),
        factor("schedule", &grid.schedule, ToString::to_string, |arm| {
            arm.schedule.is_some() || arm.stages.iter().all(|stage| stage.schedule.is_some())
        }),
        factor("augment", &grid.augment, ToString::to_string, |arm| {
            arm.augment.is_some() || arm.stages.iter().all(|stage| stage.augment.is_some())
        }),
        factor(
            "weight_decay",
            &grid.weight_decay,
            |level| number(*level),
            |arm| arm.optimizer.is_some_and(|optimizer| optimizer.weight_decay.is_some()),
        ),
        factor("label_smoothing", &grid.label_smoothing, |level| number(*level), |arm| arm.label_smoothing.is_some()),
        factor("precision", &grid.precision, |level| level.name().to_owned(), |arm| arm.precision.is_some()),
    ];
    factors.into_iter().flatten().collect()
}

fn grid(spec: &ExperimentSpec) -> Result<(), Error> {
    let mut runs = spec.arm.len() as u128 * spec.seeds.list().len() as u128;
    for GridFactor { name, levels, decided_by } in factors(spec) {
        let place = format!("grid.{name}");
        if levels.is_empty() {
            return invalid(
                place,
                "the list of levels is empty, so the grid expands to nothing; give levels or remove the key",
            );
        }
        unique(&place, levels.iter().map(String::as_str))?;
        if let Some(arm) = spec.arm.iter().find(|arm| decided_by(arm)) {
            let cause = format!(
                "arm {:?} sets `{name}` itself, so the grid's levels would change nothing; remove one of the two",
                arm.name
            );
            return invalid(place, cause);
        }
        runs *= levels.len() as u128;
    }
    levels(&spec.grid)?;
    if runs > MAX_RUNS as u128 {
        return Err(Error::TooManyRuns { runs });
    }
    let (budget, epochs) = (spec.budget.epochs, runs * u128::from(spec.budget.epochs));
    if epochs > u128::from(MAX_EPOCHS) { Err(Error::TooManyEpochs { runs, budget, epochs }) } else { Ok(()) }
}

/// Checks the grid's levels one by one.
fn levels(grid: &Grid) -> Result<(), Error> {
    grid.batch_size.iter().flatten().try_for_each(|size| range("grid.batch_size", *size, 1, 4096))?;
    grid.lr.iter().flatten().try_for_each(|lr| learning_rate("grid.lr", *lr))?;
    grid.schedule.iter().flatten().try_for_each(|schedule| at("grid.schedule", schedule.check()))?;
    grid.augment.iter().flatten().try_for_each(|augment| at("grid.augment", augment.check()))?;
    grid.weight_decay.iter().flatten().try_for_each(|decay| at("grid.weight_decay", check_weight_decay(*decay)))?;
    grid.label_smoothing.iter().flatten().try_for_each(|share| label_smoothing("grid.label_smoothing", *share))
}

fn compare(spec: &ExperimentSpec) -> Result<(), Error> {
    if let Some(baseline) = &spec.compare.baseline
        && !spec.arm.iter().any(|arm| arm.name == *baseline)
    {
        let names = spec.arm.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>().join(", ");
        return invalid("compare.baseline", format!("{baseline:?} is not an arm; arms are {names}"));
    }
    if let Some(treatment) = &spec.compare.treatment {
        if treatment.is_empty() {
            let cause = "the list is empty, so nothing may differ; name what the arms differ in, or leave the key out for any one setting";
            return invalid("compare.treatment", cause);
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = treatment.iter().find(|factor| !seen.insert(**factor)) {
            return invalid("compare.treatment", format!("{:?} appears twice; write it once", twice.name()));
        }
    }
    if !(spec.compare.alpha > 0.0 && spec.compare.alpha < 1.0) {
        return invalid("compare.alpha", format!("{} is not between 0 and 1", spec.compare.alpha));
    }
    match spec.compare.margin {
        Some(margin) if !(margin > 0.0 && margin.is_finite()) => {
            invalid("compare.margin", format!("{margin} is not above 0"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
