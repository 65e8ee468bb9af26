//! The report as Markdown: the answer and the tables, for documents of others.

use ceteris_shared::document::{FieldClass, Report};

use super::tables::{self, Grid};

pub(super) fn text(report: &Report) -> String {
    let comparison = &report.comparison;
    let mut text = format!("# {}\n\n", cell(&report.name));
    if comparison.exploratory {
        text += "**EXPLORATORY: what is not comparable is shown next to each other. This is evidence of nothing.**\n\n";
    }
    text += &report.answer.iter().map(|line| cell(line)).collect::<Vec<_>>().join("\n\n");
    text += "\n";
    let watermark = if comparison.exploratory { " (exploratory)" } else { "" };
    let mut part = |title: &str, grid: &Grid| {
        if !grid.rows.is_empty() {
            text += &format!("\n## {title}{watermark}\n\n{}", table(grid));
        }
    };
    part("Verdicts", &tables::verdicts(report).0);
    part("Refused as not comparable", &tables::refusals(report));
    if !report.caveats.is_empty() {
        let caveats: Vec<String> = report.caveats.iter().map(|caveat| format!("- {}\n", cell(caveat))).collect();
        text += &format!("\n## Before it is believed\n\n{}", caveats.concat());
    }
    let mut part = |title: &str, grid: &Grid| {
        if !grid.rows.is_empty() {
            text += &format!("\n## {title}{watermark}\n\n{}", table(grid));
        }
    };
    let external = report.data.iter().filter(|data| data.external).map(|data| data.name.as_str());
    for scored in ["test"].into_iter().chain(external).chain(["val"]) {
        part(&format!("Scores on {scored}: mean (range over seeds), or [interval]"), &tables::scores(report, scored));
    }
    part("On data from elsewhere", &tables::external(report));
    part("Subgroups, looked at after the fact", &tables::subgroups(report));
    part("Ensembles, charged the sum of their members", &tables::ensembles(report));
    part("At the end of the budget", &tables::plateaus(report));
    part("If something else were equal, on val", &tables::matched(report));
    part("What was spent", &tables::spent(report));
    part("Ledger", &tables::ledger(report));
    for class in [FieldClass::Treatment, FieldClass::Controlled, FieldClass::Incidental] {
        part(&format!("Settings: {}", class.name()), &tables::fields(report, class));
    }
    part("Data", &tables::data(report));
    part("For CLAIM and TRIPOD+AI", &tables::checklist(report));
    text += &format!(
        "\nExperiment {}, evidence {}, ceteris {}. `ceteris verify` computes every number again.\n",
        report.experiment, report.evidence, report.version
    );
    text
}

/// What would end a cell or begin markup is escaped.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}

fn table(grid: &Grid) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(grid.header.iter().map(|name| cell(name)).collect());
    text += &line(grid.header.iter().map(|_| "---".to_owned()).collect());
    for row in &grid.rows {
        text += &line(row.iter().map(|text| cell(text)).collect());
    }
    text
}
