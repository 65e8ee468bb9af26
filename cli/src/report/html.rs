//! The page: one file, nothing fetched, no script run. The first screen is the answer.

use ceteris_shared::document::{Declared, FieldClass, Report};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    EMBEDDED, embedded,
    figures::{self, scored},
    tables::{self, Grid},
};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let comparison = &report.comparison;
    let parts = scored(report);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (report.name) " · ceteris report" }
                style { (PreEscaped(STYLE)) }
            }
            body class=(if comparison.exploratory { "exploratory" } else { "" }) {
                main {
                    (head(report))
                    (answer(report))
                    (learning(report))
                    (sweep(report))
                    (decisions(report, &parts))
                    (thresholds(report, &parts))
                    (calibration(report, &parts))
                    (external(report))
                    (subgroups(report))
                    (ensembles(report))
                    (cost(report))
                    (comparability(report))
                    (checklist(report))
                    (verify(report))
                }
                (PreEscaped(EMBEDDED.0)) (PreEscaped(embedded(report))) (PreEscaped(EMBEDDED.1))
            }
        }
    };
    page.into_string()
}

fn head(report: &Report) -> Markup {
    let comparison = &report.comparison;
    let declared = match report.declared {
        Declared::BeforeTraining => ("declared", "endpoint declared before training"),
        Declared::AfterSomeTraining => ("partly", "endpoint declared at submission, after some of the training"),
        Declared::PostHoc => ("post-hoc", "post hoc: not the declared endpoint"),
        Declared::Exploratory => ("post-hoc", "exploratory"),
    };
    html! {
        @if comparison.exploratory {
            p.watermark { "EXPLORATORY: what is not comparable is shown next to each other. This is evidence of nothing." }
        }
        header {
            h1 { (report.name) }
            p.meta {
                span class=(format!("badge {}", declared.0)) { (declared.1) }
                @if comparison.truncated { " " span.badge.post-hoc { "read at epoch " (comparison.at) " of " (comparison.budget) } }
                " judged on " b { (comparison.endpoint.metric) }
                @if let Some(positive) = &comparison.positive_class { ", positive class " b { (positive) } }
                ", submitted " (report.submitted_at.to_string().get(..10).unwrap_or_default())
            }
        }
    }
}

fn answer(report: &Report) -> Markup {
    let (grid, verdicts) = tables::verdicts(report);
    let because = grid.header.len() - 1;
    html! {
        section.answer {
            @for (index, sentence) in report.answer.iter().enumerate() {
                p class=(if index == 0 { "lead" } else { "" }) { (sentence) }
            }
            @if !grid.rows.is_empty() {
                div.scroll { table {
                    thead { tr { @for name in &grid.header[..because] { th { (name) } } } }
                    tbody {
                        @for (row, verdict) in grid.rows.iter().zip(verdicts) {
                            tr { @for (index, cell) in row[..because].iter().enumerate() {
                                td class=(class(cell)) { @if index == 1 { (figures::verdict(verdict)) } @else { (cell) } }
                            } }
                        }
                    }
                } }
                (figures::forest(report))
                details open { summary { "Why" } ul { @for row in &grid.rows { li { b { (row[0]) } ": " (row[because]) } } } }
            }
            @if !report.comparison.refused.is_empty() {
                h3 { "Refused as not comparable" }
                (table(&tables::refusals(report)))
            }
            @if !report.caveats.is_empty() {
                h3 { "Before it is believed" }
                ul.caveats { @for caveat in &report.caveats { li { (caveat) } } }
            }
        }
    }
}

fn section(title: &str, body: Markup) -> Markup {
    let text = body.into_string();
    html! { @if !text.is_empty() { section { h2 { (title) } (PreEscaped(text)) } } }
}

fn learning(report: &Report) -> Markup {
    let plateaus = tables::plateaus(report);
    section(
        "Learning curves",
        html! {
            (grid_of(figures::learning_curves(report)))
            @if !plateaus.rows.is_empty() { h3 { "At the end of the budget" } (table(&plateaus)) }
        },
    )
}

fn sweep(report: &Report) -> Markup {
    let matched = tables::matched(report);
    section(
        "If the budget had been another",
        html! {
            (grid_of(figures::sweeps(report)))
            @if !matched.rows.is_empty() {
                h3 { "If something else were equal" }
                p.note {
                    "On val. Runs are read at evaluated epochs, never between them: at the last one by which neither has spent more than the one "
                    "that spent less in all. Operations (flops) are counted as if nothing had been kept; seconds are those of the machines "
                    "that trained, where what is frozen was computed once."
                }
                (table(&matched))
            }
        },
    )
}

fn decisions(report: &Report, parts: &[&str]) -> Markup {
    let more = if report.arms.len() > figures::DRAWN {
        format!("The first {} arms are drawn; the tables have all.", figures::DRAWN)
    } else {
        String::new()
    };
    section(
        "Scores",
        html! {
            @if !more.is_empty() { p.note { (more) } }
            @for part in all_parts(report, parts) {
                @let scores = tables::scores(report, &part);
                @if !scores.rows.is_empty() {
                    h3 { "On " (part) }
                    p.note { "Mean over seeds, with the range in parentheses; in brackets the interval over seeds and patients." }
                    (table(&scores))
                    (grid_of(vec![figures::curves_of_decisions(report, &part)]))
                    (figures::confusions(report, &part))
                }
            }
        },
    )
}

/// Also those without curves, such as all parts where there are more than two classes.
fn all_parts(report: &Report, parts: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
    let external = report.data.iter().filter(|data| data.external).map(|data| data.name.clone());
    for part in ["test".to_owned()].into_iter().chain(external).chain(["val".to_owned()]) {
        if !all.contains(&part) {
            all.push(part);
        }
    }
    all
}

fn thresholds(report: &Report, parts: &[&str]) -> Markup {
    let arms = report.arms.len().min(figures::DRAWN);
    let rule = serde_json::to_string(&report.comparison.endpoint.threshold).unwrap_or_default();
    section(
        "Thresholds",
        html! {
            @if !parts.is_empty() {
                p.note { "Rule: " (rule.trim_matches('"')) ", applied on val for each run, then to everything else." }
                @for part in parts {
                    (grid_of((0..arms).map(|arm| figures::thresholds(report, arm, part)).collect()))
                }
            }
        },
    )
}

fn calibration(report: &Report, parts: &[&str]) -> Markup {
    section("Calibration", grid_of(parts.iter().map(|part| figures::calibration(report, part)).collect()))
}

fn external(report: &Report) -> Markup {
    let grid = tables::external(report);
    section(
        "On data from elsewhere",
        html! {
            @if !grid.rows.is_empty() {
                p.note { "The interval is over seeds and over the patients of both places." }
                (table(&grid))
            }
        },
    )
}

fn subgroups(report: &Report) -> Markup {
    let grid = tables::subgroups(report);
    section(
        "Subgroups",
        html! {
            @if !grid.rows.is_empty() {
                p.note {
                    "Looks at parts of the data after the fact: intervals are not corrected for how many there are, and there is no verdict. "
                    "Groups with fewer than 10 images of a class are left out."
                }
                (table(&grid))
            }
        },
    )
}

fn ensembles(report: &Report) -> Markup {
    let grid = tables::ensembles(report);
    section(
        "Ensembles",
        html! {
            @if !grid.rows.is_empty() {
                p.note {
                    "Predictions put together. An ensemble is charged the sum of its members' epochs, so it is no treatment at the same "
                    "budget. Intervals are over patients: they are about this very ensemble."
                }
                (table(&grid))
            }
        },
    )
}

fn cost(report: &Report) -> Markup {
    section(
        "What was spent",
        html! {
            (table(&tables::spent(report)))
            (figures::tree(report))
            h3 { "Ledger" }
            (table(&tables::ledger(report)))
        },
    )
}

fn comparability(report: &Report) -> Markup {
    section(
        "What was equal, and what was not",
        html! {
            @for class in [FieldClass::Treatment, FieldClass::Controlled, FieldClass::Incidental] {
                @let grid = tables::fields(report, class);
                @if !grid.rows.is_empty() {
                    h3 { (class.name()) }
                    (table(&grid))
                }
            }
            h3 { "Data" }
            (table(&tables::data(report)))
            h3 { "Environment" }
            ul { @for environment in &report.environments { li { (environment) } } }
        },
    )
}

fn checklist(report: &Report) -> Markup {
    section(
        "For CLAIM and TRIPOD+AI",
        html! {
            p.note { "What the experiment itself answers. The rest is for its authors." }
            (table(&tables::checklist(report)))
        },
    )
}

fn verify(report: &Report) -> Markup {
    html! {
        section.verify {
            h2 { "To check every number" }
            p { code { "ceteris verify " (report.experiment) " --report FILE" } " computes all of them again from stored predictions. The numbers are in this file as JSON." }
            p.meta { "experiment " (report.experiment) " · evidence " (report.evidence) " · ceteris " (report.version) }
        }
    }
}

fn grid_of(figures: Vec<Markup>) -> Markup {
    let text: String = figures.into_iter().map(Markup::into_string).collect();
    html! { @if !text.is_empty() { div.figures { (PreEscaped(text)) } } }
}

fn table(grid: &Grid) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { @for name in &grid.header { th { (name) } } } }
            tbody { @for row in &grid.rows { tr { @for cell in row { td class=(class(cell)) { (cell) } } } } }
        } }
    }
}

/// Numbers stand under each other; long texts may break.
fn class(cell: &str) -> &'static str {
    let begins = cell.trim_start_matches(['+', '-', '<']).starts_with(|c: char| c.is_ascii_digit());
    match (begins, cell.len()) {
        (true, ..=44) => "number",
        (_, 60..) => "long",
        _ => "",
    }
}
