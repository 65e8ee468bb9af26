//! Contrasts: an arm against its baseline, paired by seed, and what can be said about the difference.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    ArmPair, Input, confounded::Treated, difference::difference, metric_to_read, runs_of, treatment, verdict::judge,
};
use crate::{
    document::{ComparisonArm, Contrast, Pair, PlanContrast, Reason, Refusal, RefusedField, Verdict},
    ids::Epoch,
    spec::{Compare, Correction, ExperimentSpec, Metric, ResolvedArm},
    stats::{Influence, pairs_needed, smallest_p},
};

/// The factor of a grid that stands for the arm as it is written.
const ARM: &str = "arm";

/// Which arms are contrasted: every arm with the baseline arm at the same levels of the grid. Where there is only one
/// arm, its levels are.
pub(crate) fn arm_pairs(spec: &ExperimentSpec, arms: &[ResolvedArm]) -> Vec<ArmPair> {
    if spec.arm.len() == 1 {
        return level_pairs(spec, arms);
    }
    let baseline_name = spec.compare.baseline.as_deref().or(spec.arm.first().map(|arm| arm.name.as_str()));
    let is_baseline = |arm: &ResolvedArm| arm.levels.get(ARM).map(String::as_str) == baseline_name;
    let grid_levels = |arm: &ResolvedArm| arm.levels.iter().filter(|(factor, _)| *factor != ARM).map(owned).collect();
    let baselines: BTreeMap<Vec<(String, String)>, usize> = arms
        .iter()
        .enumerate()
        .filter(|(_, arm)| is_baseline(arm))
        .map(|(index, arm)| (grid_levels(arm), index))
        .collect();
    arms.iter()
        .enumerate()
        .filter(|(_, arm)| !is_baseline(arm))
        .filter_map(|(arm, resolved)| Some(ArmPair { baseline: *baselines.get(&grid_levels(resolved))?, arm }))
        .collect()
}

/// Each level of a factor against the factor's first, at equal levels of all others, so that one factor differs at a time.
/// Where some of the factors are the declared treatment, the others are what it is tried at, and not contrasted.
fn level_pairs(spec: &ExperimentSpec, arms: &[ResolvedArm]) -> Vec<ArmPair> {
    let Some(first) = arms.first() else { return Vec::new() };
    let declared = spec.compare.treatment.as_deref().unwrap_or_default();
    let is_declared = |factor: &str| declared.iter().any(|declared| declared.name() == factor);
    let grid = || first.levels.iter().filter(|(factor, _)| *factor != ARM);
    let some_are = grid().any(|(factor, _)| is_declared(factor));
    let contrasted: Vec<_> = grid().filter(|(factor, _)| !some_are || is_declared(factor)).collect();
    let by_levels: BTreeMap<&BTreeMap<String, String>, usize> =
        arms.iter().enumerate().map(|(index, arm)| (&arm.levels, index)).collect();
    let mut pairs = Vec::new();
    for (arm, ResolvedArm { levels, .. }) in arms.iter().enumerate() {
        let elsewhere = contrasted.iter().filter(|(factor, level)| levels.get(*factor) != Some(level));
        let baselines = elsewhere.filter_map(|(factor, level)| {
            let mut levels = levels.clone();
            levels.insert((*factor).clone(), (*level).clone());
            by_levels.get(&levels).copied()
        });
        let mut baselines: Vec<usize> = baselines.collect();
        baselines.sort_unstable();
        pairs.extend(baselines.into_iter().map(|baseline| ArmPair { baseline, arm }));
    }
    pairs
}

fn owned((factor, level): (&String, &String)) -> (String, String) {
    (factor.clone(), level.clone())
}

/// The contrasts of a plan, and whether this many seeds can show anything.
pub fn planned_contrasts(spec: &ExperimentSpec, arms: &[ResolvedArm]) -> Vec<PlanContrast> {
    let seeds = spec.seeds.list().len();
    let pairs = arm_pairs(spec, arms);
    let family = pairs.len();
    let can_be_significant = best_p(&spec.compare, smallest_p(seeds), family) <= spec.compare.alpha;
    let because = if can_be_significant {
        format!(
            "{seeds} seeds can give p = {} in the exact sign-flip test {}",
            number(smallest_p(seeds)),
            corrected_over(&spec.compare, family)
        )
    } else {
        too_few(&spec.compare, seeds, family)
    };
    let contrast = |pair: ArmPair| {
        let treated = Treated::of(spec, arms, pair, spec.endpoint.metric);
        PlanContrast {
            baseline: arms[pair.baseline].name.clone(),
            arm: arms[pair.arm].name.clone(),
            treatment: treatment(&arms[pair.baseline], &arms[pair.arm]),
            smallest_p: smallest_p(seeds),
            can_be_significant,
            because: because.clone(),
            factors: treated.names(),
            single_factor: treated.factors.len() == 1,
            bundle: treated.bundle,
            refused: treated.refused,
        }
    };
    pairs.into_iter().map(contrast).collect()
}

/// The fewest seeds with which a contrast in a family of `contrasts` can be significant; `None` where none are enough.
pub fn pairs_for_significance(compare: &Compare, contrasts: usize) -> Option<usize> {
    match compare.correct {
        Correction::Holm => pairs_needed(compare.alpha / contrasts.max(1) as f64),
        Correction::None => pairs_needed(compare.alpha),
    }
}

/// What the correction makes of `p` where every contrast of the family has it.
fn best_p(compare: &Compare, p: f64, family: usize) -> f64 {
    match compare.correct {
        Correction::Holm => (p * family.max(1) as f64).min(1.0),
        Correction::None => p,
    }
}

fn corrected_over(compare: &Compare, family: usize) -> String {
    match (compare.correct, family) {
        (Correction::None, _) => "without correction".to_owned(),
        (Correction::Holm, 1) => "with one contrast to correct for".to_owned(),
        (Correction::Holm, family) => format!("before Holm's correction over {family} contrasts"),
    }
}

fn too_few(compare: &Compare, seeds: usize, family: usize) -> String {
    let needed = match pairs_for_significance(compare, family) {
        Some(needed) => format!("at least {needed} are needed"),
        None => "no number of seeds is enough for so small an alpha".to_owned(),
    };
    let correction = match (compare.correct, family) {
        (Correction::Holm, 2..) => format!(" after Holm's correction over {family} contrasts"),
        (Correction::Holm | Correction::None, _) => String::new(),
    };
    format!(
        "{seeds} {} cannot give p below {} in the exact sign-flip test{correction}; {needed} for alpha {}",
        if seeds == 1 { "seed" } else { "seeds" },
        number(best_p(compare, smallest_p(seeds), family)),
        number(compare.alpha),
    )
}

/// Three significant digits, without trailing zeros.
pub(crate) fn number(value: f64) -> String {
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    rounded.to_string()
}

/// Contrasts that could be made, and refusals of those whose metric is undefined.
pub(super) struct Contrasts {
    pub(super) made: Vec<Contrast>,
    pub(super) undefined: Vec<Refusal>,
}

pub(super) fn contrasts(
    input: &Input<'_>,
    pairs: &[ArmPair],
    arms: &[ComparisonArm],
    refused: &[Refusal],
    at: Epoch,
) -> Contrasts {
    let metric = metric_to_read(input.spec, at);
    let mut contrasts = Contrasts { made: Vec::new(), undefined: Vec::new() };
    let refused: HashSet<&[String]> = refused.iter().map(|refusal| refusal.arms.as_slice()).collect();
    for &pair in pairs {
        let (baseline, arm) = (&arms[pair.baseline], &arms[pair.arm]);
        // A refusal of one arm concerns all its contrasts; one of a pair only that pair's.
        let both = [baseline.name.clone(), arm.name.clone()];
        let comparable = ![&both[..1], &both[1..], &both[..]].iter().any(|arms| refused.contains(*arms));
        if !comparable && !input.exploratory {
            continue;
        }
        let paired = paired(baseline, arm, metric);
        if paired.pairs.is_empty() || (comparable && !paired.undefined.is_empty()) {
            if comparable {
                contrasts.undefined.push(metric_undefined(baseline, arm, metric, &paired.undefined));
            }
            continue;
        }
        contrasts.made.push(contrast(input, pair, at, pairs.len(), paired.pairs, comparable));
    }
    judge(input, &mut contrasts.made, pairs.len(), at);
    contrasts
}

struct Paired {
    pairs: Vec<Pair>,
    /// Seeds for which a side is undefined.
    undefined: Vec<u64>,
}

fn paired(baseline: &ComparisonArm, arm: &ComparisonArm, metric: Metric) -> Paired {
    let values = |arm: &ComparisonArm| -> BTreeMap<u64, Option<f64>> {
        let value = |run: &crate::document::ComparisonRun| {
            run.metrics.on(metric.split).and_then(|scores| scores.get(metric.score))
        };
        arm.runs.iter().map(|run| (run.seed, value(run))).collect()
    };
    let (baseline, arm) = (values(baseline), values(arm));
    let mut paired = Paired { pairs: Vec::new(), undefined: Vec::new() };
    for &seed in baseline.keys().chain(arm.keys()).collect::<BTreeSet<_>>() {
        match (baseline.get(&seed).copied().flatten(), arm.get(&seed).copied().flatten()) {
            (Some(baseline), Some(arm)) => paired.pairs.push(Pair { seed, baseline, arm, difference: arm - baseline }),
            _ => paired.undefined.push(seed),
        }
    }
    paired
}

fn metric_undefined(baseline: &ComparisonArm, arm: &ComparisonArm, metric: Metric, seeds: &[u64]) -> Refusal {
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    Refusal {
        arms: vec![baseline.name.clone(), arm.name.clone()],
        reason: Reason::MetricUndefined,
        message: format!(
            "{metric} is undefined for seeds {} of {:?} or {:?}: it needs samples of every class, and precision and F1 \
             need a sample that is called positive; choose another endpoint metric",
            seeds.join(", "),
            baseline.name,
            arm.name
        ),
        fields: vec![RefusedField {
            field: metric.to_string(),
            values: [baseline, arm].map(|arm| (arm.name.clone(), values_of(arm, metric))).into(),
        }],
    }
}

/// The metric of each run of an arm, as JSON.
fn values_of(arm: &ComparisonArm, metric: Metric) -> serde_json::Value {
    arm.runs.iter().map(|run| run.metrics.on(metric.split)?.get(metric.score)).collect()
}

/// A contrast without its verdict, which needs the whole family.
fn contrast(
    input: &Input<'_>,
    pair: ArmPair,
    at: Epoch,
    family: usize,
    pairs: Vec<Pair>,
    comparable: bool,
) -> Contrast {
    let influences = if comparable { influences(input, pair, &pairs) } else { None };
    let mut difference = difference(pairs, influences.as_deref(), &input.spec.compare, family);
    if !comparable {
        difference.sign_flip_p = None;
    }
    let (arms, metric) = (&input.plan.arms, metric_to_read(input.spec, at));
    let treated = Treated::of(input.spec, arms, pair, metric);
    Contrast {
        baseline: input.arm_name(pair.baseline).to_owned(),
        arm: input.arm_name(pair.arm).to_owned(),
        metric,
        treatment: treatment(&arms[pair.baseline], &arms[pair.arm]),
        factors: treated.names(),
        single_factor: treated.factors.len() == 1,
        bundle: treated.bundle,
        difference,
        verdict: Verdict::NotComparable,
        because: String::new(),
    }
}

/// What patients contribute to the difference of each pair; none where it is undefined for one of them.
fn influences(input: &Input<'_>, pair: ArmPair, pairs: &[Pair]) -> Option<Vec<Influence>> {
    let influence = |arm: usize, seed: u64| {
        let run = runs_of(input.plan, arm).iter().find(|run| run.seed == seed)?;
        input.runs.get(&run.id)?.influence.as_ref()
    };
    let of_pair = |known: &Pair| Some(influence(pair.arm, known.seed)?.minus(influence(pair.baseline, known.seed)?));
    pairs.iter().map(of_pair).collect()
}
