//! The answer in words, and what has to be known before it is believed.

use std::collections::BTreeMap;

use crate::{
    compare::number,
    document::{Contrast, Evidence, PlateauState, Refusal, Report, Verdict},
    spec::{Correction, Score},
};

/// The most contrasts that are told one by one.
const MOST_TOLD: usize = 4;

/// A sentence on what was found, one on what it rests on, and where another axis says something else one on that.
pub(super) fn answer(report: &Report) -> Vec<String> {
    let comparison = &report.comparison;
    let mut sentences = Vec::new();
    if comparison.exploratory {
        sentences.push(
            "This is exploratory: it shows what is not comparable next to each other, and is evidence of nothing."
                .to_owned(),
        );
    }
    sentences.push(found(report));
    if !comparison.refused.is_empty() {
        sentences.push(refused(&comparison.refused));
    }
    if !comparison.contrasts.is_empty() {
        sentences.push(rests_on(report));
    }
    sentences.extend(other_axes(report));
    sentences
}

/// A sentence for each axis on which a contrast looks otherwise than at equal epochs.
fn other_axes(report: &Report) -> Vec<String> {
    let mut by_axis: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for matched in report.matched.iter().filter(|matched| matched.agrees == Some(false)) {
        let sweep =
            report.sweeps.iter().find(|sweep| (&sweep.baseline, &sweep.arm) == (&matched.baseline, &matched.arm));
        let at_equal_epochs = sweep.and_then(|sweep| sweep.points.last()?.difference);
        let told = |difference: Option<f64>| difference.map_or_else(|| "undefined".to_owned(), signed);
        by_axis.entry(&matched.axis).or_default().push(format!(
            "{} against {} ({} {} instead of {})",
            matched.arm,
            matched.baseline,
            matched.metric,
            told(matched.difference),
            told(at_equal_epochs)
        ));
    }
    let sentence = |(axis, mut told): (&str, Vec<String>)| {
        let more = told.len().saturating_sub(MOST_TOLD);
        told.truncate(MOST_TOLD);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let machines = if axis == "seconds" { " of the machines that trained" } else { "" };
        let told = told.join(", ");
        format!(
            "Equal {axis}{machines} say otherwise than equal epochs about {told}{more}: what is held equal decides."
        )
    };
    by_axis.into_iter().map(sentence).collect()
}

fn found(report: &Report) -> String {
    let comparison = &report.comparison;
    let (at, budget) = (comparison.at, comparison.budget);
    let read = if comparison.truncated {
        format!("Read after epoch {at} of {budget}, before the endpoint")
    } else if budget == 1 {
        "With one epoch each".to_owned()
    } else {
        format!("With {budget} epochs each")
    };
    match comparison.contrasts.as_slice() {
        [] => format!("{read}, nothing can be said about any arm."),
        contrasts if contrasts.len() <= MOST_TOLD => {
            let told: Vec<String> = contrasts.iter().map(|contrast| one(contrast, comparison.alpha)).collect();
            format!("{read}, {}.", told.join("; "))
        }
        contrasts => {
            let mut counts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for contrast in contrasts {
                counts.entry(contrast.verdict.name()).or_default().push(&contrast.arm);
            }
            let told: Vec<String> = counts
                .iter()
                .map(|(verdict, arms)| match arms.as_slice() {
                    arms if arms.len() <= MOST_TOLD && *verdict != Verdict::Inconclusive.name() => {
                        format!("{} {verdict} ({})", arms.len(), arms.join(", "))
                    }
                    arms => format!("{} {verdict}", arms.len()),
                })
                .collect();
            format!("{read}, of {} contrasts against their baseline: {}.", contrasts.len(), told.join(", "))
        }
    }
}

fn one(contrast: &Contrast, alpha: f64) -> String {
    let Contrast { baseline, arm, metric, difference, verdict, .. } = contrast;
    let said = match verdict {
        Verdict::Better => format!("{arm} is better than {baseline}"),
        Verdict::Worse => format!("{arm} is worse than {baseline}"),
        Verdict::Equivalent => format!("{arm} and {baseline} are equivalent"),
        Verdict::Inconclusive => format!("it is not known whether {arm} is better or worse than {baseline}"),
        Verdict::NotComparable => format!("{arm} and {baseline} are not comparable"),
    };
    let interval = difference.uncertainty.as_ref().map(|known| {
        let [low, high] = known.interval;
        format!(", {} % interval {} to {}", number(100.0 * (1.0 - alpha)), signed(low), signed(high))
    });
    format!("{said} ({metric} {}{})", signed(difference.mean_difference), interval.unwrap_or_default())
}

fn signed(value: f64) -> String {
    let text = number(value);
    if value > 0.0 { format!("+{text}") } else { text }
}

fn refused(refused: &[Refusal]) -> String {
    let mut arms: Vec<&str> = refused.iter().flat_map(|refusal| &refusal.arms).map(String::as_str).collect();
    arms.sort_unstable();
    arms.dedup();
    let first = refused.first().map(|refusal| refusal.message.as_str()).unwrap_or_default();
    let more = match refused.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    format!("Refused as not comparable: {}; {first}{more}.", arms.join(", "))
}

fn rests_on(report: &Report) -> String {
    let comparison = &report.comparison;
    let seeds = comparison.contrasts.iter().map(|contrast| contrast.difference.pairs.len()).min().unwrap_or(0);
    let patients = comparison.contrasts.iter().find_map(|contrast| Some(contrast.difference.uncertainty?.patients));
    let on = comparison.contrasts.first().map_or("val", |contrast| contrast.metric.split.name());
    let known = report.data.first().and_then(|data| data.splits.iter().find(|split| split.split == on));
    let what = if known.is_some_and(|split| split.patients.is_none()) { "images" } else { "patients" };
    let patients = patients.map(|count| format!(" and the {count} {what} of {on}")).unwrap_or_default();
    let family = match (comparison.correct, comparison.contrasts.len() + comparison.refused.len()) {
        (Correction::Holm, 2..) => ", corrected over the contrasts (Holm)",
        (Correction::Holm | Correction::None, _) => "",
    };
    let declared = if report.predeclared {
        "the endpoint was fixed before anything was trained"
    } else {
        "this is not the endpoint that was fixed before training, so it is post hoc"
    };
    format!(
        "That rests on {} a side{patients}{family}; all arms spent the same epochs on the same data, paired by seed, and {declared}.",
        if seeds == 1 { "one seed".to_owned() } else { format!("{seeds} seeds") },
    )
}

/// External data on which arms do not rank better than chance.
fn at_chance(report: &Report) -> Vec<String> {
    let mut by_data: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for arm in &report.arms {
        for drop in arm.external.iter().filter(|drop| drop.score == Score::Auc.name() && drop.external <= 0.5) {
            by_data.entry(&drop.name).or_default().push(format!("{} {}", arm.name, number(drop.external)));
        }
    }
    let told = |(data, arms): (&str, Vec<String>)| {
        format!(
            "On {data} the area under the ROC curve is that of chance or less ({}): what was learned does not carry over.",
            arms.join(", ")
        )
    };
    by_data.into_iter().map(told).collect()
}

/// What qualifies the answer.
pub(super) fn caveats(report: &Report, evidence: &Evidence) -> Vec<String> {
    let mut caveats = Vec::new();
    let moving: Vec<&str> = report
        .arms
        .iter()
        .filter(|arm| arm.plateau.is_some_and(|plateau| plateau.state == PlateauState::StillImproving))
        .map(|arm| arm.name.as_str())
        .collect();
    if !moving.is_empty() {
        let (verb, noun) = if moving.len() == 1 { ("was", "its budget") } else { ("were", "their budget") };
        caveats.push(format!(
            "{} {verb} still improving on val when {noun} ended: with more epochs the ranking may change.",
            moving.join(", ")
        ));
    }
    caveats.extend(at_chance(report));
    match evidence.earlier_looks.len() {
        0 => {}
        1 => caveats.push(
            "The test split had been looked at by one earlier experiment before this one was submitted: what was learned from that \
             look is not in any p-value."
                .to_owned(),
        ),
        looks => caveats.push(format!(
            "The test split had been looked at by {looks} earlier experiments before this one was submitted: what was learned from those \
             looks is not in any p-value."
        )),
    }
    if let Some(data) = report.data.first()
        && data.splits.iter().any(|split| split.patients.is_none() && split.split != "train")
    {
        caveats.push(
            "Patients are not known of all samples, so each image counts as a patient: intervals are too narrow where one patient has \
             several."
                .to_owned(),
        );
    }
    for data in &report.data {
        for split in data.splits.iter().filter(|split| split.split != "train") {
            let fewest = split.samples.iter().min().copied().unwrap_or(0);
            if fewest < 20 {
                caveats.push(format!(
                    "{} of {} has {fewest} samples of one class: one of them is {} points of its rate.",
                    split.split,
                    data.name,
                    number(100.0 / (fewest.max(1) as f64))
                ));
            }
        }
    }
    if report.sweeps.iter().any(|sweep| sweep.truncated) {
        caveats.push(
            "A schedule depends on the horizon, so runs that are read before their end are not shorter runs: the curves and the budget \
             sweep show training under way, not what a smaller budget would have given."
                .to_owned(),
        );
    }
    if report.environments.len() > 1 {
        caveats.push(format!("Epochs were trained in {} environment classes.", report.environments.len()));
    }
    caveats
}
