//! `bench scheduler`: how long the core thinks about a segment when a million are queued, how much memory that takes, and how many
//! segments a coordinator gives away and takes back in a second, durably, beside HyperQueue.

use std::{ffi::OsStr, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{
    checks::Required::{AtLeast, AtMost},
    machine,
    process::{Launch, Once},
    report::{Report, Table},
    rounds::Row,
    spread::Spread,
    text,
};
use crate::{programs, setup, workspace::Workspace};

const ABOUT: &str = "The core alone: every segment's four reports and a heartbeat, and the choice of the next segment and its worker, in a \
                     process of its own on one core, after all experiments were submitted and all workers connected. Twenty \
                     experiments of runs of one segment share the slots evenly, which is checked in the end, like the scheduler's \
                     invariants at the end and that nothing was started twice. Then a whole coordinator with its SQLite file on disk and 1,000 workers, each on a \
                     gRPC connection of its own, that train nothing: a segment is done when its end is acknowledged, which is when it \
                     is durable; submitting is in the time. HyperQueue, from PyPI, gives away as many processes `/bin/true` to as many slots; it keeps its tasks in \
                     memory (no journal: what is lost when it is killed is everything), and each task of its is a process, which ours is not.";
/// Segments queued, workers, epochs of each segment, segments trained.
const CASES: [(&str, usize, usize, u32, u32); 2] = [
    ("10,000 queued, 1,000 workers", 20_000, 1_000, 10, 10_000),
    ("1,000,000 queued, 10,000 workers", 1_010_000, 10_000, 10, 100_000),
];
/// Slots of both sides.
const SLOTS: &str = "1000";

/// Runs the benchmark; builds no more than what it measures.
pub fn run(workspace: &Workspace, quick: bool) -> Result<Report> {
    let core = programs::example(workspace, "ceteris-scheduler", "bench_scheduler")?;
    let dispatch = programs::example(workspace, "ceteris-coordinator", "bench_dispatch")?;
    let hyperqueue = setup::hyperqueue::ensure(workspace)?;
    let mut report = Report {
        name: "bench scheduler",
        file: "scheduler",
        about: ABOUT,
        machine: machine::facts(),
        ..Report::default()
    };
    let mut rows = deciding(&core, quick, &mut report)?;
    rows.extend(dispatching(&dispatch, &hyperqueue, workspace, quick, &mut report)?);
    report.keep(&rows);
    Ok(report)
}

/// The core alone.
fn deciding(program: &Path, quick: bool, report: &mut Report) -> Result<Vec<Row>> {
    let rounds = if quick { 1 } else { 5 };
    let (mut rows, mut measured) = (Vec::new(), vec![Vec::new(); CASES.len()]);
    for round in 0..rounds {
        for (index, (label, segments, workers, epochs, count)) in CASES.into_iter().enumerate() {
            let scale = if quick { 100 } else { 1 };
            let arguments = [segments / scale, workers / scale, epochs as usize].map(|number| number.to_string());
            let words: Vec<&OsStr> =
                std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsStr::new)).collect();
            let Once { answer, peak_bytes, .. } = Launch::new(label, &words).on_core(0).once(count / scale as u32)?;
            let right = answer.line["once"] == true && answer.number("most") - answer.number("fewest") <= 1.0;
            measured[index].push((answer.seconds / answer.images * 1e6, peak_bytes / 1e6, right));
            rows.push(Row { setting: "core".to_owned(), label: label.to_owned(), round, units: count, answer });
            report.keep_fact("core", label, json!({ "round": round, "peak_bytes": peak_bytes }));
        }
    }
    let head = vec!["the core", "µs for a segment", "peak, MB"];
    let mut table = Table { heading: "Deciding".to_owned(), head, rows: Vec::new() };
    for ((label, ..), measured) in CASES.into_iter().zip(measured) {
        let each = Spread::of(&measured.iter().map(|once| once.0).collect::<Vec<_>>());
        let peak = Spread::of(&measured.iter().map(|once| once.1).collect::<Vec<_>>());
        let right = measured.iter().all(|once| once.2);
        table.rows.push(vec![label.to_owned(), text::spread(each), text::spread(peak)]);
        report.checks.require(&format!("µs of the core for a segment, {label}"), AtMost(20.0), each, right);
        report.checks.require(&format!("peak in MB, {label}"), AtMost(1000.0), peak, right);
    }
    report.tables.push(table);
    Ok(rows)
}

/// A whole coordinator beside HyperQueue, round after round.
fn dispatching(
    program: &Path,
    python: &Path,
    workspace: &Workspace,
    quick: bool,
    report: &mut Report,
) -> Result<Vec<Row>> {
    let (rounds, count) = if quick { (1, 1000) } else { (5, 10_000) };
    let script = workspace.root.join("xtask/src/bench/peers/hyperqueue_tasks.py");
    let (mut rows, mut rates) = (Vec::new(), [Vec::new(), Vec::new()]);
    let mut right = true;
    for round in 0..rounds {
        let folder = workspace.root.join(".ceteris/bench/dispatch");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let ours = Launch::new("ceteris", &[program.as_os_str(), folder.as_os_str(), OsStr::new(SLOTS)]);
        let peer = Launch::new("HyperQueue", &[python.as_os_str(), OsStr::new("-B"), script.as_os_str()]);
        let pair = [("ceteris", ours), ("HyperQueue", peer.flag("--slots", SLOTS))];
        for (index, (label, launch)) in pair.into_iter().enumerate() {
            let Once { answer, .. } = launch.once(count)?;
            right &= index == 1 || answer.number("trained") == f64::from(count);
            rates[index].push(answer.rate());
            rows.push(Row { setting: "dispatch".to_owned(), label: label.to_owned(), round, units: count, answer });
        }
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let ratios: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(ours, theirs)| ours / theirs).collect();
    let head = vec!["1,000 slots", "segments or tasks a second", "durable"];
    let mut table = Table { heading: "Giving away and taking back".to_owned(), head, rows: Vec::new() };
    for (label, rates, durable) in [("ceteris", &rates[0], "each"), ("HyperQueue", &rates[1], "none")] {
        table.rows.push(vec![label.to_owned(), text::spread(Spread::of(rates)), durable.to_owned()]);
    }
    report.tables.push(table);
    report.checks.require("segments/s against HyperQueue's tasks/s", AtLeast(1.0), Spread::of(&ratios), right);
    Ok(rows)
}
