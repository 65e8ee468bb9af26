//! Arms next to each other: what each scored over its seeds, what can be said about their differences, what is refused.
//!
//! In an exploratory comparison the same line of warning stands over every table, so that no part can be cut out and
//! pass for evidence.

use std::collections::{BTreeMap, BTreeSet};

use ceteris_shared::{
    document::{Comparison, ComparisonArm, Contrast, Difference, Metrics, Pair, Refusal, Scores, Spread, Summary},
    spec::{self, Threshold},
};

use super::{
    difference, number,
    plan::{treatment, value},
    score,
};
use crate::output::{Column, ReadOut, Table};

/// Stands over every table of a comparison of what is not comparable.
const WATERMARK: &str = "EXPLORATORY, NOT EVIDENCE: what is listed under \"not comparable\" was compared all the same";

/// The scores of the tables, in their order: how JSON calls them.
const SCORES: [&str; 6] = ["accuracy", "precision", "recall", "f1", "auc", "loss"];

impl ReadOut for Comparison {
    fn text(&self) -> String {
        let mut text = head(self);
        for scored in scored(self) {
            text += &section(self, &format!("{scored}, over seeds: mean (min–max)"), &over_seeds(self, &scored));
            text += &section(self, &format!("{scored}, each run"), &each_run(self, &scored));
            text += &section(self, &format!("{scored}, confusion, all seeds added up"), &confusion(self, &scored));
        }
        if !self.contrasts.is_empty() {
            text += &title(self, "contrasts");
            text.extend(self.contrasts.iter().map(contrast));
        }
        if !self.refused.is_empty() {
            text += &title(self, "not comparable");
            text.extend(self.refused.iter().map(refusal));
        }
        text
    }

    fn csv(&self) -> Table {
        let mut table = Table::new([
            "experiment",
            "at",
            "exploratory",
            "truncated",
            "arm",
            "seed",
            "run",
            "epochs trained",
            "scored",
            "samples",
            "accuracy",
            "precision",
            "recall",
            "f1",
            "auc",
            "loss",
            "specificity",
            "threshold",
            "confusion",
            "balanced_accuracy",
            "pr_auc",
            "brier",
            "ece",
            "calibration_slope",
            "calibration_intercept",
        ]);
        for (arm, run) in self.arms.iter().flat_map(|arm| arm.runs.iter().map(move |run| (arm, run))) {
            for scored in scored(self) {
                let Some(scores) = scored.of(&run.metrics) else { continue };
                table.row([
                    self.experiment.to_string(),
                    self.at.to_string(),
                    self.exploratory.to_string(),
                    self.truncated.to_string(),
                    arm.name.clone(),
                    run.seed.to_string(),
                    run.run.to_string(),
                    run.epochs_trained.to_string(),
                    scored.to_string(),
                    scores.samples.to_string(),
                    number(scores.accuracy),
                    number(scores.precision),
                    number(scores.recall),
                    number(scores.f1),
                    number(scores.auc),
                    number(scores.loss),
                    number(scores.specificity),
                    number(scores.threshold),
                    serde_json::to_string(&scores.confusion).expect("numbers"),
                    number(scores.balanced_accuracy),
                    number(scores.pr_auc),
                    number(scores.brier),
                    number(scores.ece),
                    number(scores.calibration_slope),
                    number(scores.calibration_intercept),
                ]);
            }
        }
        table
    }
}

/// What predictions are of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scored {
    Val,
    Test,
    External(String),
}

impl std::fmt::Display for Scored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Val => f.write_str("val"),
            Self::Test => f.write_str("test"),
            Self::External(name) => write!(f, "external {name}"),
        }
    }
}

impl Scored {
    fn of<'a>(&self, metrics: &'a Metrics) -> Option<&'a Scores> {
        match self {
            Self::Val => metrics.val.as_ref(),
            Self::Test => metrics.test.as_ref(),
            Self::External(name) => metrics.external.get(name),
        }
    }

    fn summary<'a>(&self, summary: &'a Summary) -> Option<&'a BTreeMap<String, Spread>> {
        match self {
            Self::Val => Some(&summary.val),
            Self::Test => Some(&summary.test),
            Self::External(name) => summary.external.get(name),
        }
    }
}

/// What any run has scores of.
fn scored(comparison: &Comparison) -> Vec<Scored> {
    let metrics = || comparison.arms.iter().flat_map(|arm| &arm.runs).map(|run| &run.metrics);
    let external: BTreeSet<&String> = metrics().flat_map(|metrics| metrics.external.keys()).collect();
    let mut all = vec![Scored::Val, Scored::Test];
    all.extend(external.into_iter().cloned().map(Scored::External));
    all.retain(|scored| metrics().any(|metrics| scored.of(metrics).is_some()));
    all
}

fn head(comparison: &Comparison) -> String {
    let mut text = format!("{} ({})\n", comparison.name, comparison.experiment);
    let threshold = threshold(comparison.endpoint.threshold);
    text += &format!(
        "read at epoch {} of {}, judged on {}, {threshold}\n",
        comparison.at, comparison.budget, comparison.endpoint.metric
    );
    if let Some(positive) = &comparison.positive_class {
        text += &format!("positive class {positive}\n");
    }
    if comparison.truncated {
        text += &format!(
            "TRUNCATED: epoch {} is before the endpoint: a look at unfinished training, on val alone\n",
            comparison.at
        );
    }
    text
}

/// The rule by which a probability becomes a decision.
fn threshold(rule: Threshold) -> String {
    match rule {
        Threshold::Fixed(value) => format!("threshold {value}"),
        Threshold::Youden => "threshold by Youden's index on val".to_owned(),
        Threshold::F1 => "threshold by F1 on val".to_owned(),
        Threshold::Sensitivity(least) => format!("threshold by sensitivity >= {least} on val"),
        Threshold::Specificity(least) => format!("threshold by specificity >= {least} on val"),
        Threshold::Cost(cost) => {
            format!("threshold by least cost on val, a missed positive being {} false alarms", spec::number(cost))
        }
    }
}

fn title(comparison: &Comparison, title: &str) -> String {
    let watermark = if comparison.exploratory { format!("{WATERMARK}\n") } else { String::new() };
    format!("\n{title}\n{watermark}")
}

fn section(comparison: &Comparison, name: &str, table: &Table) -> String {
    title(comparison, name) + &table.text()
}

fn over_seeds(comparison: &Comparison, scored: &Scored) -> Table {
    let mut table = Table::new(["arm", ">runs", ">epochs", "accuracy", "precision", "recall", "f1", "auc", "loss"]);
    for arm in &comparison.arms {
        let summary = scored.summary(&arm.summary);
        let of = |each: &Spread| spread(each, arm.runs.len() as u64);
        let cell = |name: &str| summary.and_then(|summary| summary.get(name)).map_or_else(|| "-".to_owned(), of);
        let [accuracy, precision, recall, f1, auc, loss] = SCORES.map(cell);
        let runs = arm.runs.len().to_string();
        table.row([arm.name.clone(), runs, epochs_trained(arm), accuracy, precision, recall, f1, auc, loss]);
    }
    table
}

/// One number where all runs of the arm agree, as they must to be comparable.
fn epochs_trained(arm: &ComparisonArm) -> String {
    let epochs = arm.runs.iter().map(|run| run.epochs_trained);
    match (epochs.clone().min(), epochs.max()) {
        (Some(min), Some(max)) if min != max => format!("{min}–{max}"),
        (Some(min), _) => min.to_string(),
        _ => "-".to_owned(),
    }
}

/// Says over how many runs it is where it is undefined for some.
fn spread(spread: &Spread, runs: u64) -> String {
    let range = match spread.runs {
        1 => format!("{:.4}", spread.mean),
        _ => format!("{:.4} ({:.4}–{:.4})", spread.mean, spread.min, spread.max),
    };
    let range = match spread.interval {
        Some([low, high]) => format!("{range}, true mean {low:.4} to {high:.4}"),
        None => range,
    };
    if spread.runs < runs { format!("{range} [{} of {runs} runs]", spread.runs) } else { range }
}

fn each_run(comparison: &Comparison, scored: &Scored) -> Table {
    let mut table = Table::new([
        "arm",
        ">seed",
        "run",
        ">epochs",
        ">accuracy",
        ">precision",
        ">recall",
        ">f1",
        ">auc",
        ">loss",
        ">threshold",
    ]);
    for (arm, run) in comparison.arms.iter().flat_map(|arm| arm.runs.iter().map(move |run| (arm, run))) {
        let scores = scored.of(&run.metrics);
        let cell = |pick: fn(&Scores) -> Option<f64>| score(scores.and_then(pick));
        table.row([
            arm.name.clone(),
            run.seed.to_string(),
            run.run.short(),
            run.epochs_trained.to_string(),
            cell(|scores| scores.accuracy),
            cell(|scores| scores.precision),
            cell(|scores| scores.recall),
            cell(|scores| scores.f1),
            cell(|scores| scores.auc),
            cell(|scores| scores.loss),
            cell(|scores| scores.threshold),
        ]);
    }
    table
}

/// A row for each arm and true class: how often each class was called, the seeds added up.
fn confusion(comparison: &Comparison, scored: &Scored) -> Table {
    let called = comparison.classes.iter().map(|class| Column::of_class("called ", class));
    let mut table = Table::new(["arm".into(), "truly".into()].into_iter().chain(called));
    for arm in &comparison.arms {
        let matrices: Vec<_> = arm.runs.iter().filter_map(|run| Some(&scored.of(&run.metrics)?.confusion)).collect();
        if matrices.is_empty() {
            continue;
        }
        for (row, class) in comparison.classes.iter().enumerate() {
            let sum = |column: usize| {
                let counts = matrices.iter().filter_map(|matrix| matrix.get(row)?.get(column));
                counts.fold(0_u64, |sum, count| sum.saturating_add(*count)).to_string()
            };
            let sums = (0..comparison.classes.len()).map(sum);
            table.row([arm.name.clone(), class.clone()].into_iter().chain(sums));
        }
    }
    table
}

fn contrast(contrast: &Contrast) -> String {
    let verdict = contrast.verdict.name();
    let mut text = format!("{} against {}, {}: {verdict}\n", contrast.arm, contrast.baseline, contrast.metric);
    text += &format!("  {}\n", contrast.because);
    text += &format!("  treatment: {}\n", treatment(&contrast.treatment));
    text += &several(&contrast.factors, contrast.bundle);
    text + &details(&contrast.difference)
}

/// Whose a difference is, where arms differ in several settings.
pub(super) fn several(factors: &[String], bundle: bool) -> String {
    let names = factors.join(", ");
    match (factors, bundle) {
        (_, true) => {
            format!(
                "  bundle: {names} differ together, as declared, so a difference is the bundle's and no one setting's\n"
            )
        }
        ([_, _, ..], false) => {
            format!("  confounded: {names} differ at once, so a difference is not any one setting's alone\n")
        }
        _ => String::new(),
    }
}

/// What a difference is made of, in indented lines.
pub(super) fn details(of: &Difference) -> String {
    let mut text = String::new();
    if let Some(uncertainty) = &of.uncertainty {
        let of_seeds = uncertainty.seed_variance.map(|variance| format!("over seeds {:.4}, ", variance.sqrt()));
        text += &format!(
            "  standard deviation: {}over patients {:.4}; of the mean {:.4}\n",
            of_seeds.unwrap_or_default(),
            uncertainty.patient_variance.sqrt(),
            uncertainty.standard_error
        );
    }
    if let Some(smallest) = of.minimum_detectable {
        text += &format!("  so many seeds and patients show a true difference of {smallest:.4} with probability 0.8\n");
    }
    const SHOWN: usize = 20;
    let pair = |pair: &Pair| format!("seed {} {}", pair.seed, difference(pair.difference));
    let mut pairs: Vec<String> = of.pairs.iter().take(SHOWN).map(pair).collect();
    if of.pairs.len() > SHOWN {
        pairs.push(format!("and {} more", of.pairs.len() - SHOWN));
    }
    text + &format!("  pairs: {}\n", pairs.join(", "))
}

fn refusal(refusal: &Refusal) -> String {
    let mut text = format!("{}: {}\n", refusal.arms.join(", "), refusal.message);
    for field in &refusal.fields {
        let values = field.values.iter().map(|(arm, each)| format!("{arm} {}", value(each)));
        text += &format!("  {}: {}\n", field.field, values.collect::<Vec<_>>().join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn two_comparable_arms() {
        insta::assert_snapshot!(fixtures::comparison().text());
        insta::assert_snapshot!(fixtures::comparison().csv().csv());
    }

    #[test]
    fn a_look_before_the_endpoint_says_so() {
        let comparison = Comparison { truncated: true, at: ceteris_shared::ids::Epoch(2), ..fixtures::comparison() };
        insta::assert_snapshot!(head(&comparison));
    }

    #[test]
    fn every_rule_for_a_threshold_has_words() {
        let rules = [
            Threshold::Fixed(0.25),
            Threshold::Youden,
            Threshold::F1,
            Threshold::Sensitivity(0.95),
            Threshold::Specificity(0.9),
            Threshold::Cost(5.0),
        ];
        insta::assert_snapshot!(rules.map(threshold).join("\n"), @"
        threshold 0.25
        threshold by Youden's index on val
        threshold by F1 on val
        threshold by sensitivity >= 0.95 on val
        threshold by specificity >= 0.9 on val
        threshold by least cost on val, a missed positive being 5 false alarms
        ");
    }

    #[test]
    fn what_is_refused_is_told_with_its_fields() {
        insta::assert_snapshot!(fixtures::refused().text());
    }

    #[test]
    fn whose_a_difference_is_is_told_where_several_settings_differ() {
        let told = |bundle, exploratory| {
            let mut comparison = Comparison { exploratory, ..fixtures::comparison() };
            let of = &mut comparison.contrasts[0];
            (of.factors, of.single_factor, of.bundle) = (vec!["lr".to_owned(), "stages".to_owned()], false, bundle);
            contrast(of).lines().nth(3).expect("a line after the treatment").to_owned()
        };
        insta::assert_snapshot!(format!("{}\n{}", told(true, false), told(false, true)));
    }

    #[test]
    fn the_watermark_stands_over_every_table() {
        let comparison = Comparison { exploratory: true, ..fixtures::comparison() };
        let text = comparison.text();
        let tables = text.split("\n\n").skip(1).collect::<Vec<_>>();
        assert!(tables.len() > 3 && tables.iter().all(|table| table.contains(WATERMARK)), "{text}");
    }

    #[test]
    fn more_than_two_classes_have_no_threshold() {
        insta::assert_snapshot!(confusion(&fixtures::three_classes(), &Scored::Test).text());
    }
}
