//! What is not comparable, and why.
//!
//! First each arm on its own: are all its runs there? Then each pair of arms that would be contrasted: one treatment, same
//! seeds, same epochs, same environment, no schedule cut short. Every reason is reported, not only the first.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{ArmPair, Input, Outcome, confounded::Treated, frozen, metric_to_read, one_or_list};
use crate::{
    checkpoint::Environment,
    document::{Reason, Refusal, RefusedField},
    ids::{Epoch, RunId},
    spec::ResolvedStage,
    trainer::FailureCause,
};

/// All refusals at the epoch `at`, arms in the order of the plan and then pairs.
pub(super) fn refusals(input: &Input<'_>, pairs: &[ArmPair], at: Epoch) -> Vec<Refusal> {
    let of_arm = |arm| incomplete(input, arm, at).into_iter().chain(frozen::moved(input, arm, at));
    let arms = (0..input.plan.arms.len()).flat_map(of_arm);
    let pairs = pairs.iter().flat_map(|&pair| {
        [
            confounded(input, pair, at),
            seeds_missing(input, pair),
            unequal_epochs(input, pair, at),
            other_environment(input, pair, at),
            truncated(input, pair, at),
        ]
    });
    arms.chain(pairs.flatten()).collect()
}

/// Runs of an arm, with their seeds.
fn runs<'a>(input: &Input<'a>, arm: usize) -> impl Iterator<Item = (u64, RunId)> + use<'a> {
    super::runs_of(input.plan, arm).iter().map(|run| (run.seed, run.id))
}

/// A run that did not get to the epoch that is read.
struct Short<'a> {
    seed: u64,
    trained: u32,
    outcome: &'a Outcome,
}

fn reason(outcome: &Outcome) -> Reason {
    match outcome {
        Outcome::Unfinished | Outcome::Done => Reason::Unfinished,
        Outcome::Failed { cause: FailureCause::Diverged, .. } => Reason::Diverged,
        Outcome::Failed {
            cause:
                FailureCause::User | FailureCause::Infrastructure | FailureCause::Store | FailureCause::Irreproducible,
            ..
        } => Reason::Failed,
        Outcome::Cancelled => Reason::Cancelled,
    }
}

fn incomplete(input: &Input<'_>, arm: usize, at: Epoch) -> Vec<Refusal> {
    let mut by_reason: BTreeMap<Reason, Vec<Short<'_>>> = BTreeMap::new();
    for (seed, run) in runs(input, arm) {
        let trained = input.epochs_trained(run, at);
        let outcome = input.runs.get(&run).map_or(&Outcome::Unfinished, |facts| &facts.outcome);
        if trained < at.0 {
            by_reason.entry(reason(outcome)).or_default().push(Short { seed, trained, outcome });
        }
    }
    let refusal = |(reason, short): (Reason, Vec<Short<'_>>)| Refusal {
        arms: vec![input.arm_name(arm).to_owned()],
        reason,
        message: incomplete_message(input, arm, at, reason, &short),
        fields: vec![epochs_field(input, &[arm], at)],
    };
    by_reason.into_iter().map(refusal).collect()
}

fn incomplete_message(input: &Input<'_>, arm: usize, at: Epoch, reason: Reason, short: &[Short<'_>]) -> String {
    let name = input.arm_name(arm);
    let what = match reason {
        Reason::Failed => "failed",
        Reason::Diverged => "diverged (the loss was no longer finite)",
        Reason::Cancelled => "was cancelled",
        Reason::Unfinished
        | Reason::UnequalBudgets
        | Reason::SeedsMissing
        | Reason::Environment
        | Reason::FrozenMoved
        | Reason::MetricUndefined
        | Reason::Confounded
        | Reason::Truncated => "is",
    };
    let each = |run: &Short<'_>| {
        let cause = match run.outcome {
            Outcome::Failed { message, .. } => format!(": {}", message.trim_end_matches('.')),
            Outcome::Unfinished | Outcome::Done | Outcome::Cancelled => String::new(),
        };
        format!("seed {} {what} at epoch {} of {at}{cause}", run.seed, run.trained)
    };
    const SHOWN: usize = 3;
    let mut seeds: Vec<String> = short.iter().take(SHOWN).map(each).collect();
    if short.len() > SHOWN {
        seeds.push(format!("and {} more", short.len() - SHOWN));
    }
    let way_out = match (reason, last_readable(input, &[arm])) {
        (Reason::Unfinished, 0) => "; wait until it is done (ceteris watch)".to_owned(),
        (Reason::Unfinished, epoch) => {
            format!("; wait until it is done (ceteris watch), or read an earlier epoch with --at {epoch} or less")
        }
        (_, 0) => "; submit the experiment again, or look without a verdict with --exploratory".to_owned(),
        (_, epoch) => format!(
            "; read an earlier epoch with --at {epoch} or less, submit the experiment again, or look without a verdict with --exploratory"
        ),
    };
    format!("arm {name:?} is incomplete: {}{way_out}", seeds.join("; "))
}

/// The last epoch that all runs of these arms have and that none of them is cut short at; 0 where there is none.
fn last_readable(input: &Input<'_>, arms: &[usize]) -> u32 {
    let everything = Epoch(u32::MAX);
    let trained = arms
        .iter()
        .flat_map(|arm| runs(input, *arm).map(|(_, run)| input.epochs_trained(run, everything)))
        .min()
        .unwrap_or(0);
    let readable = |at: &u32| arms.iter().all(|arm| cut_short(input, *arm, Epoch(*at)).is_none());
    (0..=trained).rev().find(readable).unwrap_or(0)
}

fn names(input: &Input<'_>, pair: ArmPair) -> Vec<String> {
    [pair.baseline, pair.arm].map(|arm| input.arm_name(arm).to_owned()).to_vec()
}

fn confounded(input: &Input<'_>, pair: ArmPair, at: Epoch) -> Option<Refusal> {
    let mut refusal = Treated::of(input.spec, &input.plan.arms, pair, metric_to_read(input.spec, at)).refused?;
    refusal.message +=
        "; then submit it again (what is trained already is taken), or look without a verdict with --exploratory";
    Some(refusal)
}

fn seeds_missing(input: &Input<'_>, pair: ArmPair) -> Option<Refusal> {
    let seeds = |arm| runs(input, arm).map(|(seed, _)| seed).collect::<BTreeSet<_>>();
    let (baseline, arm) = (seeds(pair.baseline), seeds(pair.arm));
    let lacks = |lacking: usize, having: usize, seeds: Vec<&u64>| {
        let seeds: Vec<String> = seeds.into_iter().map(u64::to_string).collect();
        let (lacking, having) = (input.arm_name(lacking), input.arm_name(having));
        (!seeds.is_empty()).then(|| format!("arm {lacking:?} lacks seeds {} of {having:?}", seeds.join(", ")))
    };
    let lacking: Vec<String> = [
        lacks(pair.baseline, pair.arm, arm.difference(&baseline).collect()),
        lacks(pair.arm, pair.baseline, baseline.difference(&arm).collect()),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!lacking.is_empty()).then(|| Refusal {
        arms: names(input, pair),
        reason: Reason::SeedsMissing,
        message: format!(
            "{}, so the pairs are broken; submit an experiment in which every arm has the same seeds",
            lacking.join(" and ")
        ),
        fields: vec![RefusedField {
            field: "seeds".to_owned(),
            values: [(pair.baseline, baseline), (pair.arm, arm)]
                .map(|(arm, seeds)| (input.arm_name(arm).to_owned(), Value::from_iter(seeds)))
                .into(),
        }],
    })
}

/// Epochs trained by each arm: a number, or a list where its runs differ.
fn epochs_field(input: &Input<'_>, arms: &[usize], at: Epoch) -> RefusedField {
    let values = |arm: &usize| {
        let epochs = runs(input, *arm).map(|(_, run)| Value::from(input.epochs_trained(run, at)));
        (input.arm_name(*arm).to_owned(), one_or_list(epochs.collect()))
    };
    RefusedField { field: "epochs_trained".to_owned(), values: arms.iter().map(values).collect() }
}

fn unequal_epochs(input: &Input<'_>, pair: ArmPair, at: Epoch) -> Option<Refusal> {
    let trained = |arm| runs(input, arm).map(|(_, run)| input.epochs_trained(run, at)).collect::<BTreeSet<_>>();
    let (baseline, arm) = (trained(pair.baseline), trained(pair.arm));
    if baseline == arm && baseline.len() <= 1 {
        return None;
    }
    let told = |epochs: &BTreeSet<u32>| match (epochs.first(), epochs.last()) {
        (Some(1), Some(1)) => "1 epoch".to_owned(),
        (Some(least), Some(most)) if least == most => format!("{least} epochs"),
        (Some(least), Some(most)) => format!("{least} to {most} epochs (depending on the seed)"),
        _ => "no run".to_owned(),
    };
    let way_out = match last_readable(input, &[pair.baseline, pair.arm]) {
        0 => format!("wait until all their runs are at epoch {at}"),
        epoch => format!("read both at an epoch that all runs have, with --at {epoch} or less"),
    };
    Some(Refusal {
        arms: names(input, pair),
        reason: Reason::UnequalBudgets,
        message: format!(
            "{:?} was trained for {} and {:?} for {}, so a difference could be one of training time; {way_out}, or look \
             without a verdict with --exploratory",
            input.arm_name(pair.baseline),
            told(&baseline),
            input.arm_name(pair.arm),
            told(&arm),
        ),
        fields: vec![epochs_field(input, &[pair.baseline, pair.arm], at)],
    })
}

/// A run that is read in the middle of a schedule with a horizon is not the run that so many epochs would have given.
fn truncated(input: &Input<'_>, pair: ArmPair, at: Epoch) -> Option<Refusal> {
    let arms = [pair.baseline, pair.arm];
    let stages = |arm: usize| input.plan.arms[arm].stages.as_slice();
    let cut: Vec<(usize, usize)> = arms.into_iter().filter_map(|arm| Some((arm, cut_short(input, arm, at)?))).collect();
    if cut.is_empty() {
        return None;
    }
    let told = cut.iter().map(|&(arm, index)| {
        let ResolvedStage { schedule, epochs, .. } = &stages(arm)[index];
        format!("{schedule} over the {epochs} epochs of stages[{index}] in {:?}", input.arm_name(arm))
    });
    let told: Vec<String> = told.collect();
    let field = |index: usize| {
        let schedule = |arm: usize| {
            let schedule = stages(arm).get(index).map(|stage| stage.schedule.to_string());
            (input.arm_name(arm).to_owned(), Value::from(schedule))
        };
        RefusedField { field: format!("stages[{index}].schedule"), values: arms.map(schedule).into() }
    };
    let indices: BTreeSet<usize> = cut.iter().map(|(_, index)| *index).collect();
    Some(Refusal {
        arms: names(input, pair),
        reason: Reason::Truncated,
        message: format!(
            "epoch {at} is in the middle of a schedule that depends on how long its stage is ({}), so what is read there is \
             not what a budget of {at} would have given; read the endpoint (without --at), use a horizon-free schedule \
             (constant, step, exponential), submit the experiment with a budget of {at}, or look without a verdict with \
             --exploratory",
            told.join("; ")
        ),
        fields: indices.into_iter().map(field).collect(),
    })
}

/// The stage that an arm is in the middle of at the epoch `at`, where a shorter one would have had other rates up to there.
/// While the rate warms up it would not.
fn cut_short(input: &Input<'_>, arm: usize, at: Epoch) -> Option<usize> {
    let mut read = at.0.saturating_sub(input.spec.model.init.inherited_epochs());
    for (index, stage) in input.plan.arms[arm].stages.iter().enumerate() {
        if read < stage.epochs {
            let has_a_horizon = !stage.schedule.is_horizon_free() && read > stage.schedule.warm_up();
            return has_a_horizon.then_some(index);
        }
        read -= stage.epochs;
    }
    None
}

/// The fields of an environment by name.
fn environment_fields(environment: &Environment) -> [(&'static str, Value); 6] {
    let Environment { engine, libtorch, device, instructions, threads, determinism } = environment;
    [
        ("environment.engine", Value::from(engine.as_str())),
        ("environment.libtorch", Value::from(libtorch.as_str())),
        ("environment.device", Value::from(device.as_str())),
        ("environment.instructions", Value::from(instructions.as_str())),
        ("environment.threads", Value::from(*threads)),
        ("environment.determinism", Value::from(determinism.as_str())),
    ]
}

/// The environments of the epochs that both runs of a pair have must be the same, epoch by epoch. Between pairs they
/// may differ: that is a difference between seeds, equal in both arms.
fn other_environment(input: &Input<'_>, pair: ArmPair, at: Epoch) -> Option<Refusal> {
    let of_arm: BTreeMap<u64, RunId> = runs(input, pair.arm).collect();
    let environments = |run: RunId| input.runs.get(&run).map_or(&[][..], |facts| &facts.environments);
    let mut fields: BTreeMap<&'static str, [BTreeSet<String>; 2]> = BTreeMap::new();
    let mut seeds = BTreeSet::new();
    for (seed, baseline) in runs(input, pair.baseline) {
        let Some(&arm) = of_arm.get(&seed) else { continue };
        let both = environments(baseline).iter().zip(environments(arm)).take(at.0 as usize);
        for (ours, theirs) in both.filter(|(ours, theirs)| ours != theirs) {
            seeds.insert(seed);
            for ((field, ours), (_, theirs)) in environment_fields(ours).into_iter().zip(environment_fields(theirs)) {
                if ours != theirs {
                    let [in_baseline, in_arm] = fields.entry(field).or_default();
                    in_baseline.insert(ours.to_string());
                    in_arm.insert(theirs.to_string());
                }
            }
        }
    }
    if fields.is_empty() {
        return None;
    }
    let told: Vec<String> = fields
        .iter()
        .map(|(field, [ours, theirs])| format!("{field} is {} and {}", list(ours), list(theirs)))
        .collect();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    Some(Refusal {
        arms: names(input, pair),
        reason: Reason::Environment,
        message: format!(
            "{:?} and {:?} were computed in different environments (seeds {}): {}; what a run depends on besides the \
             treatment must be equal, so submit the experiment again to workers of one kind, or look without a verdict \
             with --exploratory",
            input.arm_name(pair.baseline),
            input.arm_name(pair.arm),
            seeds.join(", "),
            told.join("; "),
        ),
        fields: fields.into_iter().map(|(field, sides)| refused_field(input, pair, field, sides)).collect(),
    })
}

/// Values here are JSON texts: sets of them need an order.
fn refused_field(input: &Input<'_>, pair: ArmPair, field: &str, sides: [BTreeSet<String>; 2]) -> RefusedField {
    let read = |texts: BTreeSet<String>| {
        one_or_list(texts.iter().map(|text| serde_json::from_str(text).unwrap_or(Value::Null)).collect())
    };
    let [in_baseline, in_arm] = sides.map(read);
    let values = [(pair.baseline, in_baseline), (pair.arm, in_arm)];
    RefusedField {
        field: field.to_owned(),
        values: values.map(|(arm, value)| (input.arm_name(arm).to_owned(), value)).into(),
    }
}

fn list(values: &BTreeSet<String>) -> String {
    values.iter().map(String::as_str).collect::<Vec<_>>().join(" or ")
}
