//! The answer in words, and what has to be known before it is believed.

use std::collections::BTreeMap;

use crate::{
    compare::number,
    document::{Contrast, Declared, Evidence, MatchedSays, PlateauState, Refusal, Report, ReportArm, Verdict},
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

/// A sentence for each axis on which contrasts look otherwise than at equal epochs.
fn other_axes(report: &Report) -> Vec<String> {
    let mut by_axis: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for matched in &report.matched {
        let said = match matched.says {
            MatchedSays::Opposite => "the difference on val is on the other side than at equal epochs",
            MatchedSays::NotShown => "no difference is shown on val",
            MatchedSays::ShownHere => "a difference is shown on val that is not shown at equal epochs",
            MatchedSays::NotTreated => "arms are read on val before they do anything else than their baseline",
            MatchedSays::Same | MatchedSays::Unknown => continue,
        };
        let told = matched.difference.map_or_else(|| "undefined".to_owned(), signed);
        let contrast = format!("{} against {} ({} {told})", matched.arm, matched.baseline, matched.metric);
        by_axis.entry((&matched.axis, said)).or_default().push(contrast);
    }
    let sentence = |((axis, said), mut told): ((&str, &str), Vec<String>)| {
        let more = told.len().saturating_sub(MOST_TOLD);
        told.truncate(MOST_TOLD);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let machines = if axis == "seconds" { " of the machines that trained" } else { "" };
        let told = told.join(", ");
        format!("At equal {axis}{machines} instead of equal epochs {said}: {told}{more}.")
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
    let seeds = if seeds == 1 { "one seed".to_owned() } else { format!("{seeds} seeds") };
    let declared = match report.declared {
        Declared::BeforeTraining => "the endpoint was fixed before anything was trained".to_owned(),
        Declared::AfterSomeTraining => match report.ledger.reused.epochs {
            0 => "the endpoint was fixed at submission, when other experiments had been looked at".to_owned(),
            reused => format!(
                "the endpoint was fixed at submission, when {reused} of the epochs had been trained by earlier experiments"
            ),
        },
        Declared::PostHoc => "this is an earlier epoch than the endpoint that was fixed, so it is post hoc".to_owned(),
        Declared::Exploratory => {
            return format!(
                "That rests on {seeds} a side{patients}; what else differs is listed below, so none of it is evidence."
            );
        }
    };
    format!(
        "That rests on {seeds} a side{patients}{family}; all arms spent the same epochs on the same data, paired by seed, and {declared}."
    )
}

/// External data on which arms are not shown to rank better than chance, where they are judged on the area under the ROC curve.
fn at_chance(report: &Report) -> Vec<String> {
    let mut by_data: BTreeMap<(&str, bool), Vec<String>> = BTreeMap::new();
    for arm in &report.arms {
        for drop in arm.external.iter().filter(|drop| drop.score == Score::Auc.name()) {
            let Some([low, high]) = drop.external_interval.filter(|[low, _]| *low <= 0.5) else { continue };
            let told = format!("{} {}, interval {} to {}", arm.name, number(drop.external), number(low), number(high));
            by_data.entry((&drop.name, high < 0.5)).or_default().push(told);
        }
    }
    let told = |((data, worse), arms): ((&str, bool), Vec<String>)| {
        let said = if worse { "worse than chance" } else { "not shown to be better than chance" };
        format!("On {data} the area under the ROC curve is {said}: {}.", arms.join("; "))
    };
    by_data.into_iter().map(told).collect()
}

/// What was learned from where it should not have been.
fn leaks(report: &Report) -> Vec<String> {
    let mut told = Vec::new();
    for data in &report.data {
        if data.patients_in_two_parts > 0 {
            told.push(format!(
                "{} of the patients of {} are in more than one of its parts, so what is measured on one part may have been learned by \
                 heart from another.",
                data.patients_in_two_parts, data.name
            ));
        }
        if data.pixels_in_two_parts > 0 {
            told.push(format!(
                "{} of the images of {} that are scored have the same pixels as one in another part.",
                data.pixels_in_two_parts, data.name
            ));
        }
    }
    told
}

/// Arms that still moved where they are read, and arms of which that cannot be told.
fn still_moving(report: &Report) -> Vec<String> {
    let names = |of: &dyn Fn(&ReportArm) -> bool| -> Vec<&str> {
        report.arms.iter().filter(|arm| of(arm)).map(|arm| arm.name.as_str()).collect()
    };
    let when = match report.comparison.truncated {
        true => format!("at epoch {}, where they are read", report.comparison.at),
        false => "when the budget ended".to_owned(),
    };
    let improving = |arm: &ReportArm| arm.plateau.is_some_and(|plateau| plateau.state == PlateauState::StillImproving);
    let moving = names(&improving);
    let unknown = names(&|arm| arm.plateau.is_none() && !arm.curves.is_empty());
    let mut told = Vec::new();
    if !moving.is_empty() {
        told.push(format!(
            "Still improving on val {when}: {}. With more epochs the ranking may change.",
            moving.join(", ")
        ));
    }
    if !unknown.is_empty() {
        told.push(format!(
            "Whether these were still improving {when} cannot be told, because their last stage has fewer than three epochs: {}.",
            unknown.join(", ")
        ));
    }
    told
}

/// What qualifies the answer.
pub(super) fn caveats(report: &Report, evidence: &Evidence) -> Vec<String> {
    let mut caveats = still_moving(report);
    caveats.extend(leaks(report));
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
            "A run that is read before its end is not a shorter run here, because arms have several stages or a schedule that depends on \
             the horizon: curves and contrasts of earlier epochs show training under way, not what a smaller budget would have given."
                .to_owned(),
        );
    }
    if !evidence.pins.inherited.is_empty() {
        caveats.push(
            "All runs go on from one trained state, so what would have varied before it is in no interval.".to_owned(),
        );
    }
    if report.environments.len() > 1 {
        caveats.push(format!("Epochs were trained in {} environment classes.", report.environments.len()));
    }
    caveats
}
