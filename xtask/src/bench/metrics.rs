//! `bench metrics`: how many measured values a second a coordinator's database takes in, against MLflow's.

use std::ffi::OsStr;

use anyhow::Result;

use super::{
    checks::Required::{AtLeast, AtMost},
    machine,
    process::Launch,
    report::{Report, Table},
    rounds::{interleave, rates, values},
    spread::{Spread, ratios},
    text,
};
use crate::{command, programs, setup, workspace::Workspace};

const ABOUT: &str = "Metric points per second that are durable in a SQLite file on disk: events of 1,000 points, 990 training losses and \
                     10 scores, from 16 workers whose sessions hand them over eight at a time, through the coordinator's own append path with \
                     sequence numbers, while a reader reads series; against MLflow's `log_batch` of 1,000 metrics on its own SQLite \
                     store, called in its process without a server. Both have what they send in memory before the time begins.";
const OURS: &str = "ceteris";
const PEER: &str = "MLflow";
const SETTING: &str = "metrics";

/// Runs the benchmark; builds no more than what it measures.
pub fn run(workspace: &Workspace, quick: bool) -> Result<Report> {
    let program = programs::example(workspace, "ceteris-coordinator", "bench_metrics")?;
    let python = setup::mlflow::ensure(workspace)?;
    let mut report =
        Report { name: "bench metrics", file: "metrics", about: ABOUT, machine: machine::facts(), ..Report::default() };
    // A round of ours is so many events of each worker; one of the peer so many batches.
    let (rounds, events, batches) = if quick { (2, 8, 2) } else { (7, 24, 10) };
    let work = workspace.root.join(".ceteris/bench/metrics");
    command::empty_folder(&work)?;
    let script = workspace.root.join("xtask/src/bench/peers/log_metrics.py");
    let ours = Launch::new(OURS, &[program.as_os_str()]).flag("--scratch", &work);
    let peer = Launch::new(PEER, &[python.as_os_str(), OsStr::new("-B"), script.as_os_str()]).flag("--scratch", &work);
    let mut turns = [(ours.start()?, events), (peer.start()?, batches)];
    for (process, _) in &turns {
        let program = process.ready()["program"].as_str().unwrap_or_default().to_owned();
        report.machine.push((if process.label() == OURS { "ceteris" } else { "peer" }, program));
    }
    let rows = interleave(SETTING, &mut turns, rounds)?;
    for (process, _) in turns {
        process.end()?;
    }
    let right = rows.iter().all(|row| row.answer.line["right"] == true);
    let [ours, theirs] = [OURS, PEER].map(|label| rates(&rows, SETTING, label));
    let number = |name: &str| Spread::of(&values(&rows, SETTING, OURS, |row| row.answer.number(name)));
    let log = number("log_bytes").high / 1e6;
    let mut table = Table { heading: "Rates".to_owned(), head: vec!["what", "per second"], rows: Vec::new() };
    for (what, rate) in [
        ("points, ceteris", Spread::of(&ours)),
        ("points, MLflow", Spread::of(&theirs)),
        ("blocks written and synchronised (fdatasync), beside it", number("fdatasync_per_second")),
    ] {
        table.rows.push(vec![what.to_owned(), text::spread(rate)]);
    }
    report.tables.push(table);
    report.checks.require("durable points/s", AtLeast(200_000.0), Spread::of(&ours), right);
    report.checks.require("points/s against MLflow", AtLeast(100.0), Spread::of(&ratios(&ours, &theirs)), right);
    report.checks.require("largest write-ahead log in MB, with a reader", AtMost(64.0), Spread::one(log), right);
    report.notes.extend([
        "After each round everything of it is sent once more, with the same sequence numbers, and then all is read: every point once, with its \
         value to the bit. MLflow's is read and compared too."
            .to_owned(),
        format!("A reader read series meanwhile, {} times a round.", text::spread(number("reads"))),
        "MLflow commits each batch in a transaction of its own; SQLite's defaults are its journal and a synchronisation of each.".to_owned(),
    ]);
    report.keep(&rows);
    Ok(report)
}
