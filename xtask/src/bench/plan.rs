//! `bench plan`: how long planning takes and how much memory, for as many runs as one experiment may have.

use std::ffi::OsStr;

use anyhow::Result;
use serde_json::json;

use super::{
    checks::Required::AtMost,
    machine,
    process::{Launch, Once},
    report::{Report, Table},
    rounds::Row,
    spread::Spread,
    text,
};
use crate::{programs, workspace::Workspace};

const ABOUT: &str = "From a spec to runs, lineage keys and segments: 100,000 runs of 100 epochs on one core, each time in a process of \
                     its own. Arms that share nothing have 10,000,000 keys; arms that share the first half of their epochs, half \
                     of that and a little more. There is no peer: nothing else plans by lineage.";
/// Label, shape, arms, seeds, and epochs that are left to train.
const CASES: [(&str, &str, u32, u32, f64); 3] = [
    ("1,000 arms × 100 seeds, nothing shared", "distinct", 1000, 100, 10_000_000.0),
    ("5,000 arms × 20 seeds, nothing shared", "distinct", 5000, 20, 10_000_000.0),
    ("1,000 arms × 100 seeds, half shared", "shared", 1000, 100, 5_005_000.0),
];

/// Runs the benchmark; builds no more than what it measures.
pub fn run(workspace: &Workspace, quick: bool) -> Result<Report> {
    let program = programs::example(workspace, "ceteris-shared", "bench_plan")?;
    let mut report =
        Report { name: "bench plan", file: "plan", about: ABOUT, machine: machine::facts(), ..Report::default() };
    let (rounds, epochs) = if quick { (1, 2) } else { (5, 100) };
    let mut measured = vec![Vec::new(); CASES.len()];
    let mut rows = Vec::new();
    for round in 0..rounds {
        for (index, (label, shape, arms, seeds, _)) in CASES.into_iter().enumerate() {
            let arguments = [shape.to_owned(), arms.to_string(), seeds.to_string(), epochs.to_string()];
            let words: Vec<&OsStr> =
                std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsStr::new)).collect();
            let once = Launch::new(label, &words).on_core(0).once(1)?;
            let Once { answer, peak_bytes, .. } = once;
            measured[index].push((answer.seconds, peak_bytes, answer.number("epochs_to_train")));
            rows.push(Row { setting: "plan".to_owned(), label: label.to_owned(), round, units: 1, answer });
            report.keep_fact("plan", label, json!({ "round": round, "peak_bytes": peak_bytes }));
        }
    }
    let mut table =
        Table { heading: "Planning".to_owned(), head: vec!["runs", "seconds", "peak, MB"], rows: Vec::new() };
    for ((label, _, arms, seeds, left), measured) in CASES.into_iter().zip(measured) {
        let seconds = Spread::of(&measured.iter().map(|once| once.0).collect::<Vec<_>>());
        let peak = Spread::of(&measured.iter().map(|once| once.1 / 1e6).collect::<Vec<_>>());
        let runs = f64::from(arms) * f64::from(seeds);
        let right = quick || measured.iter().all(|once| once.2 == left) && runs == 100_000.0;
        table.rows.push(vec![label.to_owned(), text::spread(seconds), text::spread(peak)]);
        report.checks.require(&format!("seconds, {label}"), AtMost(2.0), seconds, right);
        report.checks.require(&format!("peak in MB, {label}"), AtMost(1000.0), peak, right);
    }
    report.tables.push(table);
    report.keep(&rows);
    Ok(report)
}
