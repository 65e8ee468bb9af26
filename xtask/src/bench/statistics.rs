//! `bench statistics`: how often verdicts on made-up studies are wrong. Not a matter of time: the same numbers come out on every
//! machine.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    checks::Required::AtMost,
    machine,
    report::{Report, Table},
    spread::Spread,
};
use crate::{command, command::headline, programs, workspace::Workspace};

const ABOUT: &str = "Made-up studies with two arms, paired seeds, and 150 patients with one to four images each, the same patients for \
                     every seed. How often a difference is called where there is none (5 % are wanted), and how often the 95 % \
                     interval holds the true difference where there is one. The exact sign-flip test over seeds is shown beside: it \
                     takes the patients as given, so where they are what varies it is wrong far more often, and few seeds never \
                     reach 5 %. `shared/examples/bench_statistics.rs` says what a study is made of.";
/// Studies of each kind; with so many, chance alone moves a share of 5 % by 0.3 points.
const STUDIES: u32 = 5000;
/// How far a share may be from the one that is wanted.
const TOLERANCE: f64 = 0.015;
/// For these numbers of seeds it is required; it is shown for others too.
const REQUIRED: [u64; 3] = [3, 5, 8];

/// Runs the benchmark; builds no more than what it runs.
pub fn run(workspace: &Workspace, quick: bool) -> Result<Report> {
    let program = programs::example(workspace, "ceteris-shared", "bench_statistics")?;
    headline("Making up studies (some minutes)");
    let studies = if quick { 50 } else { STUDIES };
    let text = command::output(Command::new(&program).arg(studies.to_string()))?;
    let rows: Vec<Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("not JSON lines")?;
    ensure!(!rows.is_empty(), "{} printed nothing", program.display());
    let mut report = Report {
        name: "bench statistics",
        file: "statistics",
        about: ABOUT,
        machine: machine::facts(),
        ..Report::default()
    };
    let head = vec![
        "what varies",
        "score",
        "seeds",
        "false alarms",
        "of the sign-flip test",
        "coverage",
        "mean width",
        "difference",
        "found",
    ];
    let mut table = Table { heading: format!("{studies} studies of each kind"), head, rows: Vec::new() };
    for row in rows {
        let word = |name: &str| row[name].as_str().map(str::to_owned).with_context(|| format!("{name} is missing"));
        let figure = |name: &str| row[name].as_f64().with_context(|| format!("{name} is missing"));
        let (kind, score, seeds) = (word("kind")?, word("score")?, row["seeds"].as_u64().context("seeds are missing")?);
        let (alarms, coverage) = (figure("false_alarms")?, figure("coverage")?);
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        table.rows.push(vec![
            kind.clone(),
            score.clone(),
            seeds.to_string(),
            percent(alarms),
            percent(figure("false_alarms_sign_flip")?),
            percent(coverage),
            format!("{:.3}", figure("mean_width")?),
            format!("{:.3}", figure("true_difference")?),
            percent(figure("power")?),
        ]);
        if REQUIRED.contains(&seeds) {
            for (what, share, wanted) in [("false alarms", alarms, 0.05), ("coverage", coverage, 0.95)] {
                let figure = format!("{what}, how far from {}: {kind}, {score}, {seeds} seeds", percent(wanted));
                report.checks.require(&figure, AtMost(TOLERANCE), Spread::one((share - wanted).abs()), true);
            }
        }
        report.keep_fact(&format!("{kind}, {score}, {seeds} seeds"), "ceteris", row);
    }
    report.tables.push(table);
    Ok(report)
}
