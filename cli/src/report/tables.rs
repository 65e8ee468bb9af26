//! What a report says in rows: the same cells for the page and for Markdown.

use ceteris_shared::document::{
    Combination, ComparisonArm, FieldClass, PlateauState, Report, RunSpent, Spread, Uncertainty, Verdict,
};
use serde_json::Value;

use super::figures::score_name;
use crate::{
    output::count,
    render::{self, duration},
};

/// Rows under a header.
pub(super) struct Grid {
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Grid {
    fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

fn number(value: f64) -> String {
    format!("{value:.4}")
}

fn signed(value: f64) -> String {
    format!("{value:+.4}")
}

fn interval(known: Option<&Uncertainty>) -> String {
    known.map_or_else(|| "-".to_owned(), |known| between(known.interval))
}

fn between([low, high]: [f64; 2]) -> String {
    format!("{} to {}", signed(low), signed(high))
}

/// Each contrast: what differs, how surely, and what can be said.
pub(super) fn verdicts(report: &Report) -> (Grid, Vec<Verdict>) {
    let confidence = format!("{} % interval", render::percent(1.0 - report.comparison.alpha));
    let mut grid =
        Grid::new(&["arm", "verdict", "against", "metric", "difference", &confidence, "p", "seeds", "because"]);
    let mut verdicts = Vec::new();
    for contrast in &report.comparison.contrasts {
        let difference = &contrast.difference;
        grid.row([
            contrast.arm.clone(),
            contrast.verdict.name().to_owned(),
            contrast.baseline.clone(),
            contrast.metric.to_string(),
            signed(difference.mean_difference),
            interval(difference.uncertainty.as_ref()),
            render::p_value(difference.p_corrected),
            difference.pairs.len().to_string(),
            contrast.because.clone(),
        ]);
        verdicts.push(contrast.verdict);
    }
    (grid, verdicts)
}

/// What is refused, field by field.
pub(super) fn refusals(report: &Report) -> Grid {
    let mut grid = Grid::new(&["arms", "what differs", "why, and the way out"]);
    for refusal in &report.comparison.refused {
        let field = |field: &ceteris_shared::document::RefusedField| {
            let values: Vec<String> =
                field.values.iter().map(|(arm, value)| format!("{arm}: {}", plain(value))).collect();
            format!("{} ({})", field.field, values.join(", "))
        };
        let fields: Vec<String> = refusal.fields.iter().map(field).collect();
        grid.row([refusal.arms.join(", "), fields.join("; "), refusal.message.clone()]);
    }
    grid
}

const SUMMARY: [&str; 11] = [
    "auc",
    "pr_auc",
    "accuracy",
    "balanced_accuracy",
    "recall",
    "specificity",
    "precision",
    "f1",
    "loss",
    "brier",
    "ece",
];

/// All scores of each arm on one part of the data: mean and range over seeds.
pub(super) fn scores(report: &Report, scored: &str) -> Grid {
    let spreads = |arm: &ComparisonArm| match scored {
        "val" => arm.summary.val.clone(),
        "test" => arm.summary.test.clone(),
        name => arm.summary.external.get(name).cloned().unwrap_or_default(),
    };
    let arms: Vec<_> = report.comparison.arms.iter().map(|arm| (arm.name.as_str(), spreads(arm))).collect();
    let mut grid = Grid::new(&["score"]);
    grid.header.extend(arms.iter().map(|(name, _)| (*name).to_owned()));
    for score in SUMMARY.into_iter().chain(["calibration_slope", "calibration_intercept"]) {
        if arms.iter().all(|(_, spreads)| !spreads.contains_key(score)) {
            continue;
        }
        let cell = |spread: Option<&Spread>| {
            spread.map_or_else(
                || "-".to_owned(),
                |spread| match spread.interval {
                    Some([low, high]) => format!("{} [{} to {}]", number(spread.mean), number(low), number(high)),
                    None => format!("{} ({} to {})", number(spread.mean), number(spread.min), number(spread.max)),
                },
            )
        };
        let mut row = vec![score_name(score)];
        row.extend(arms.iter().map(|(_, spreads)| cell(spreads.get(score))));
        grid.rows.push(row);
    }
    grid
}

/// What each arm loses on data from elsewhere.
pub(super) fn external(report: &Report) -> Grid {
    let confidence = format!("{} % interval", render::percent(1.0 - report.comparison.alpha));
    let mut grid = Grid::new(&["arm", "data", "score", "test", "there", "difference", &confidence]);
    for (arm, drop) in report.arms.iter().flat_map(|arm| arm.external.iter().map(move |drop| (arm, drop))) {
        grid.row([
            arm.name.clone(),
            drop.name.clone(),
            score_name(&drop.score),
            number(drop.internal),
            number(drop.external),
            signed(drop.difference),
            interval(drop.uncertainty.as_ref()),
        ]);
    }
    grid
}

/// Contrasts within groups of samples.
pub(super) fn subgroups(report: &Report) -> Grid {
    let confidence = format!("{} % interval", render::percent(1.0 - report.comparison.alpha));
    let mut grid = Grid::new(&[
        "on",
        "group",
        "images",
        "patients",
        "arm",
        "against",
        "baseline",
        "arm's",
        "difference",
        &confidence,
    ]);
    for group in &report.subgroups {
        let widened = if group.widened { ", and all of the other class" } else { "" };
        grid.row([
            format!("{} {}", group.scored, score_name(&group.score)),
            format!("{} {}{widened}", group.attribute, group.value),
            group.samples.to_string(),
            group.patients.to_string(),
            group.arm.clone(),
            group.baseline.clone(),
            number(group.of_baseline),
            number(group.of_arm),
            signed(group.difference),
            interval(group.uncertainty.as_ref()),
        ]);
    }
    grid
}

/// Ensembles, with what they are charged.
pub(super) fn ensembles(report: &Report) -> Grid {
    let external = report.data.iter().filter(|data| data.external).map(|data| data.name.as_str());
    let parts: Vec<&str> = ["val", "test"].into_iter().chain(external).collect();
    let mut grid = Grid::new(&["ensemble", "of", "runs", "epochs charged"]);
    let metric = report.comparison.endpoint.metric;
    grid.header.extend(parts.iter().map(|part| format!("{part} {}", score_name(metric.score.name()))));
    for ensemble in &report.ensembles {
        let how = match ensemble.combination {
            Combination::Mean => "probabilities",
            Combination::LogitMean => "logits",
        };
        let (members, epochs) = (ensemble.members.to_string(), ensemble.epochs.to_string());
        let mut row = vec![ensemble.name.clone(), how.to_owned(), members, epochs];
        row.extend(parts.iter().map(|part| {
            let scores = match *part {
                "val" => ensemble.metrics.val.as_ref(),
                "test" => ensemble.metrics.test.as_ref(),
                name => ensemble.metrics.external.get(name),
            };
            let value = scores.and_then(|scores| scores.get(metric.score));
            let interval = ensemble.interval.filter(|_| *part == ensemble.metric.split.name());
            match (value, interval) {
                (None, _) => "-".to_owned(),
                (Some(value), None) => number(value),
                (Some(value), Some([low, high])) => format!("{} [{} to {}]", number(value), number(low), number(high)),
            }
        }));
        grid.rows.push(row);
    }
    grid
}

/// Whether arms were still learning at the end.
pub(super) fn plateaus(report: &Report) -> Grid {
    let confidence = format!("{} % interval", render::percent(1.0 - report.comparison.alpha));
    let mut grid = Grid::new(&["arm", "metric", "epochs", "slope per epoch", &confidence, "so it"]);
    for (arm, plateau) in report.arms.iter().filter_map(|arm| Some((arm, arm.plateau?))) {
        let state = match plateau.state {
            PlateauState::StillImproving => "was still improving: more epochs may change the ranking",
            PlateauState::Worsening => "was getting worse",
            PlateauState::NoChangeSeen => "showed no change",
        };
        let slope = |value: f64| format!("{value:+.5}");
        grid.row([
            arm.name.clone(),
            plateau.metric.to_string(),
            format!("{} to {}", plateau.first, plateau.last),
            slope(plateau.slope),
            plateau.interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("{} to {}", slope(low), slope(high))),
            state.to_owned(),
        ]);
    }
    grid
}

/// What it looks like where something else than epochs is equal.
pub(super) fn matched(report: &Report) -> Grid {
    let confidence = format!("{} % interval", render::percent(1.0 - report.comparison.alpha));
    let mut grid = Grid::new(&[
        "equal",
        "arm",
        "against",
        "each spends",
        "arm read at",
        "baseline read at",
        "difference",
        &confidence,
        "beside equal epochs",
    ]);
    for matched in &report.matched {
        grid.row([
            matched.axis.clone(),
            matched.arm.clone(),
            matched.baseline.clone(),
            render::matched::amount(matched),
            render::matched::epochs(matched.arm_epochs),
            render::matched::epochs(matched.baseline_epochs),
            format!("{} {}", matched.metric, matched.difference.map_or_else(|| "-".to_owned(), signed)),
            interval(matched.uncertainty.as_ref()),
            render::matched::says(matched.says).to_owned(),
        ]);
    }
    grid
}

/// What the runs of each arm spent.
pub(super) fn spent(report: &Report) -> Grid {
    let mut grid = Grid::new(&["arm", "stages", "epochs", "steps", "samples", "time, mean of a run"]);
    for arm in &report.arms {
        let RunSpent { epochs, steps, samples, seconds } = arm.spent;
        grid.row([
            arm.name.clone(),
            render::stages(&arm.stages),
            epochs.to_string(),
            steps.to_string(),
            samples.to_string(),
            duration(seconds),
        ]);
    }
    grid
}

/// What the experiment cost, in columns that are never mixed.
pub(super) fn ledger(report: &Report) -> Grid {
    let ledger = &report.ledger;
    let mut grid = Grid::new(&["what", "epochs", "steps", "samples", "time"]);
    let rows = [
        ("runs are charged, each its whole lineage", ledger.charged),
        ("trained here, shared epochs once", ledger.trained),
        ("taken from earlier experiments", ledger.reused),
        ("trained again because a checkpoint was gone", ledger.replayed),
    ];
    for (what, RunSpent { epochs, steps, samples, seconds }) in rows {
        grid.row([what.to_owned(), epochs.to_string(), steps.to_string(), samples.to_string(), duration(seconds)]);
    }
    grid.row([
        format!("held by {}", count(ledger.attempts, "attempt")),
        "-".to_owned(),
        "-".to_owned(),
        "-".to_owned(),
        duration(ledger.attempt_seconds),
    ]);
    grid
}

/// Every setting and what it is here.
pub(super) fn fields(report: &Report, class: FieldClass) -> Grid {
    let mut grid = Grid::new(&["setting", "value"]);
    for field in report.fields.iter().filter(|field| field.class == class) {
        let value = match &field.value {
            Value::Object(arms) if class == FieldClass::Treatment => {
                arms.iter().map(|(arm, value)| format!("{arm}: {}", plain(value))).collect::<Vec<_>>().join("; ")
            }
            value => plain(value),
        };
        grid.row([field.field.clone(), value]);
    }
    grid
}

/// A value without quotes around texts.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(object) => {
            object.iter().map(|(key, value)| format!("{key} {}", plain(value))).collect::<Vec<_>>().join(", ")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The data sets.
pub(super) fn data(report: &Report) -> Grid {
    let mut grid = Grid::new(&["data set", "part", "images", "patients", "digest"]);
    for (data, split) in report.data.iter().flat_map(|data| data.splits.iter().map(move |split| (data, split))) {
        let counts: Vec<String> =
            data.classes.iter().zip(&split.samples).map(|(class, count)| format!("{count} {class}")).collect();
        grid.row([
            format!("{}{}", data.name, if data.external { " (external)" } else { "" }),
            split.split.clone(),
            counts.join(", "),
            split.patients.map_or_else(|| "not known".to_owned(), |patients| patients.to_string()),
            data.digest.short(),
        ]);
    }
    grid
}

/// What guidelines ask for.
pub(super) fn checklist(report: &Report) -> Grid {
    let mut grid = Grid::new(&["asked by", "what", "answer"]);
    for item in &report.checklist {
        let answer = item.answer.clone().unwrap_or_else(|| "for the authors".to_owned());
        grid.row([item.guidelines.join(", "), item.asks.clone(), answer]);
    }
    grid
}
