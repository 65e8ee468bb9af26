//! What an experiment can answer of what reporting guidelines ask: CLAIM (Mongan, Moy and Kahn, Radiology: Artificial Intelligence 2020,
//! updated by Tejani et al. 2024) and TRIPOD+AI (Collins et al., BMJ 2024). The questions are in our words. What only authors can say is
//! listed without an answer, so that nobody takes a filled form for a complete one.

use crate::{
    compare::number,
    document::{ChecklistItem, Evidence, Report},
    spec::{Correction, Init, Threshold},
};

const CLAIM: &str = "CLAIM";
const TRIPOD: &str = "TRIPOD+AI";

/// All items, the answered ones first.
pub(super) fn checklist(report: &Report, evidence: &Evidence) -> Vec<ChecklistItem> {
    let spec = &evidence.spec;
    let comparison = &report.comparison;
    let mut items = vec![
        answered(&[CLAIM, TRIPOD], "Data sources", sources(report)),
        answered(&[CLAIM], "Preprocessing", preprocessing(report)),
        answered(
            &[CLAIM, TRIPOD],
            "How data were assigned to parts, and at which level parts are disjoint",
            parts(report),
        ),
        answered(&[CLAIM, TRIPOD], "Sample sizes", sizes(report)),
        answered(
            &[CLAIM],
            "Model",
            format!("{}, head of {} outputs", spec.model.arch.name(), comparison.classes.len()),
        ),
        answered(&[CLAIM], "Initial parameters", initial(evidence)),
        answered(&[CLAIM, TRIPOD], "Training and hyperparameters", training(report)),
        answered(
            &[CLAIM],
            "Software and hardware",
            format!(
                "ceteris {}; {}",
                report.version,
                report.environments.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            ),
        ),
        answered(&[CLAIM], "How the final model was chosen", chosen_how(report)),
        answered(&[CLAIM, TRIPOD], "Metrics of performance", metrics(report)),
        answered(&[CLAIM, TRIPOD], "Statistical uncertainty and tests", statistics(report)),
        answered(&[CLAIM, TRIPOD], "Decision threshold", threshold(&spec.endpoint.threshold)),
        answered(&[CLAIM, TRIPOD], "Testing on internal and on external data", tested(report)),
        answered(
            &[CLAIM, TRIPOD],
            "Reproducibility",
            format!(
                "experiment {}, evidence {}; `ceteris verify` computes every number again",
                report.experiment, report.evidence
            ),
        ),
    ];
    let authors = [
        (&[CLAIM, TRIPOD][..], "Clinical background, intended use and objectives"),
        (&[CLAIM, TRIPOD][..], "Inclusion and exclusion of patients, and dates"),
        (&[CLAIM][..], "De-identification"),
        (&[CLAIM, TRIPOD][..], "Reference standard: who labelled, how, and how well labellers agree"),
        (&[CLAIM, TRIPOD][..], "Demographics and clinical characteristics of each part"),
        (&[TRIPOD][..], "Fairness across groups of patients"),
        (&[CLAIM, TRIPOD][..], "Limitations, and implications for practice"),
        (&[CLAIM, TRIPOD][..], "Registration, protocol, funding, availability of data and code"),
    ];
    items.extend(authors.into_iter().map(|(guidelines, asks)| item(guidelines, asks, None)));
    items
}

fn item(guidelines: &[&str], asks: &str, answer: Option<String>) -> ChecklistItem {
    let guidelines = guidelines.iter().map(|name| (*name).to_owned()).collect();
    ChecklistItem { guidelines, asks: asks.to_owned(), answer }
}

fn answered(guidelines: &[&str], asks: &str, answer: String) -> ChecklistItem {
    item(guidelines, asks, Some(answer))
}

fn sources(report: &Report) -> String {
    let data = report
        .data
        .iter()
        .map(|data| format!("{}{} (digest {})", data.name, if data.external { ", external" } else { "" }, data.digest));
    data.collect::<Vec<_>>().join("; ")
}

fn preprocessing(report: &Report) -> String {
    let Some(data) = report.data.first() else { return String::new() };
    format!("{0}×{0} pixels, 8-bit grey, resized with antialiasing ({1})", data.image_size, data.transform)
}

fn parts(report: &Report) -> String {
    let Some(data) = report.data.first() else { return String::new() };
    let level = match (data.splits.iter().all(|split| split.patients.is_some()), data.patients_in_two_parts) {
        (true, 0) => "patients, none of whom is in two parts".to_owned(),
        (true, count) => format!("images; {count} patients are in more than one part"),
        (false, _) => "images; patients are not known of all of them".to_owned(),
    };
    format!("fixed at import, part of the data set's digest; disjoint level: {level}")
}

fn sizes(report: &Report) -> String {
    let of = |data: &crate::document::DataSummary| {
        let split = |split: &crate::document::SplitSummary| {
            let counts: Vec<String> =
                data.classes.iter().zip(&split.samples).map(|(class, count)| format!("{count} {class}")).collect();
            let patients = split.patients.map(|count| format!(", {count} patients")).unwrap_or_default();
            format!("{}: {}{patients}", split.split, counts.join(", "))
        };
        format!("{}: {}", data.name, data.splits.iter().map(split).collect::<Vec<_>>().join("; "))
    };
    report.data.iter().map(of).collect::<Vec<_>>().join(". ")
}

fn initial(evidence: &Evidence) -> String {
    let digest = evidence.pins.init.map(|digest| format!(" (digest {digest})")).unwrap_or_default();
    match &evidence.spec.model.init {
        Init::Random => "random, drawn from each seed".to_owned(),
        Init::Weights(name) => format!("weights {name:?}{digest}; the classifier is new, drawn from each seed"),
        init @ Init::Run(_) => format!("the state of {init}"),
    }
}

fn training(report: &Report) -> String {
    let stage = |stage: &crate::spec::ResolvedStage| {
        format!(
            "{} epochs of {} at learning rate {}, schedule {}, augmentation {}",
            stage.epochs,
            stage.train.name(),
            stage.lr,
            stage.schedule,
            stage.augment
        )
    };
    let arm = |arm: &crate::document::ReportArm| {
        format!("{}: {}", arm.name, arm.stages.iter().map(stage).collect::<Vec<_>>().join(", then "))
    };
    let arms = report.arms.iter().map(arm).collect::<Vec<_>>().join(". ");
    let set =
        report.fields.iter().filter(|field| field.field == "batch_size" || field.field.starts_with("optimization."));
    let set: Vec<String> = set.map(|field| format!("{} {}", field.field, field.value)).collect();
    format!("{arms}. {}", set.join(", "))
}

fn metrics(report: &Report) -> String {
    let primary = report.comparison.endpoint.metric;
    format!("primary: {primary}, fixed before training; all others are secondary and are not tested")
}

fn statistics(report: &Report) -> String {
    let comparison = &report.comparison;
    let correction = match comparison.correct {
        Correction::Holm => "Holm's correction over all declared contrasts",
        Correction::None => "no correction",
    };
    format!(
        "arms paired by seed; interval over seeds and patients (Obuchowski and Rockette; Hillis) at confidence {}, {correction}; exact \
         sign-flip test beside it",
        number(1.0 - comparison.alpha)
    )
}

fn threshold(rule: &Threshold) -> String {
    match rule {
        Threshold::Fixed(value) => format!("{value}, fixed before training"),
        rule => format!(
            "rule {}, fixed before training, chosen on val for each run and applied to everything else",
            serde_json::to_string(rule).unwrap_or_default()
        ),
    }
}

fn chosen_how(report: &Report) -> String {
    let comparison = &report.comparison;
    if comparison.truncated {
        format!("read after epoch {} of {}, before the endpoint: post hoc", comparison.at, comparison.budget)
    } else {
        format!("after the last epoch of the budget ({}), fixed at submission; no epoch was chosen", comparison.budget)
    }
}

fn tested(report: &Report) -> String {
    if report.comparison.truncated {
        return "neither: this is a look before the endpoint, on val alone".to_owned();
    }
    let external: Vec<&str> = report.data.iter().filter(|data| data.external).map(|data| data.name.as_str()).collect();
    let external =
        if external.is_empty() { "no external data".to_owned() } else { format!("external: {}", external.join(", ")) };
    format!("internal: test; {external}; both scored after the last epoch alone")
}
