//! `bench recovery`: how soon a standby coordinator goes on where the leader was, whether anything that was acknowledged is
//! lost or there twice, whether anything is taken from who no longer leads, and what an idle coordinator takes.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    checks::Required::AtMost,
    machine,
    report::{Report, Table},
    spread::Spread,
    text,
};
use crate::{command, command::headline, programs, setup::postgres, workspace::Workspace};

const ABOUT: &str = "Two coordinators on one PostgreSQL database, as processes, and a worker that trains nothing but commits an epoch \
                     every 200 ms and connects as `ceteris-worker` does. The one that leads is ended with `kill -9` or stopped with \
                     SIGSTOP, in turn; what counts is the time from the fault to the first acknowledgement of an event that the \
                     worker made after it. A leader that was stopped is woken up again and has to end by itself. In the end the \
                     database is held, row by row, against everything that the worker saw acknowledged. There is no peer.";
const NOTES: [&str; 4] = [
    "A stopped leader is given up after 5 s without a sign of life: that is most of the time after SIGSTOP. After `kill -9` the \
     server sees at once that its connection is gone.",
    "All processes and the server are on one machine, with fsync on. A partition is not a fault of this benchmark; the test of a leader \
     that gives no sign of life is the closest to it.",
    "Stale commits are of all kinds that write: half by a store that another one took over from, half as epochs of an attempt that \
     another one took the place of.",
    "Idle: SQLite, a new folder each time, release build; ready is when the health service says SERVING; memory is VmRSS after two \
     seconds.",
];
const HAND_OVERS: u32 = 100;
const STALE: u32 = 1000;
const STARTS: u32 = 15;
/// Seconds from any fault to the first newly acknowledged event.
const SOON: f64 = 10.0;

/// Runs the benchmark; builds no more than what it measures.
pub fn run(workspace: &Workspace, quick: bool) -> Result<Report> {
    let (ceteris, driver) = programs::ceteris_and_example(workspace, "bench_recovery")?;
    let server = postgres::Server::start(&postgres::ensure()?, true)?;
    let (hand_overs, stale, starts) = if quick { (4, 40, 3) } else { (HAND_OVERS, STALE, STARTS) };
    let measure = |subject: &str, times: u32| lines(&driver, &ceteris, subject, times, server.url());
    let mut report = Report {
        name: "bench recovery",
        file: "recovery",
        about: ABOUT,
        machine: machine::facts(),
        notes: NOTES.map(str::to_owned).into(),
        ..Report::default()
    };
    headline("Starting idle coordinators");
    idle(&mut report, measure("idle", starts)?)?;
    headline("Committing what is stale");
    stale_commits(&mut report, measure("stale", stale)?)?;
    headline("Killing and stopping leaders (about 10 s each)");
    hand_over(&mut report, measure("hand-over", hand_overs)?)?;
    Ok(report)
}

/// What the driver measures of one subject.
fn lines(driver: &Path, ceteris: &Path, subject: &str, times: u32, server: &str) -> Result<Vec<Value>> {
    let mut command = Command::new(driver);
    command.arg(subject).arg("--ceteris").arg(ceteris).args(["--times", &times.to_string(), "--postgres", server]);
    let text = command::output(&mut command)?;
    let lines: Vec<Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("not JSON lines")?;
    ensure!(!lines.is_empty(), "{} printed nothing", driver.display());
    Ok(lines)
}

fn number(line: &Value, name: &str) -> Result<f64> {
    line[name].as_f64().with_context(|| format!("{name} is missing in {line}"))
}

fn numbers(lines: &[Value], name: &str) -> Result<Vec<f64>> {
    lines.iter().map(|line| number(line, name)).collect()
}

/// The largest of these counts, as the one that is required.
fn largest(spread: Spread) -> Spread {
    Spread { median: spread.high, ..spread }
}

fn hand_over(report: &mut Report, mut lines: Vec<Value>) -> Result<()> {
    let end = lines.pop().context("no line")?;
    let (epochs, metrics) = (number(&end, "epochs")?, number(&end, "metrics")?);
    let (lost, doubled) = (number(&end, "lost")?, number(&end, "doubled")?);
    let mut rows = Vec::new();
    for fault in ["kill -9", "SIGSTOP"] {
        let of: Vec<Value> = lines.iter().filter(|line| line["fault"] == fault).cloned().collect();
        let seconds = Spread::of(&numbers(&of, "seconds")?);
        // A killed one has no exit code; one that wakes up as no longer the leader fails.
        let ended = |line: &&Value| if fault == "kill -9" { line["exit"].is_null() } else { line["exit"] == 5 };
        let ended = of.iter().filter(ended).count();
        let right = ended == of.len() && lost + doubled == 0.0 && epochs > 0.0;
        let figure = format!("seconds to the first new acknowledgement after {fault}, the longest");
        report.checks.require(&figure, AtMost(SOON), largest(seconds), right);
        rows.push(vec![fault.to_owned(), of.len().to_string(), text::spread(seconds), ended.to_string()]);
    }
    report.tables.push(Table {
        heading: "Hand-over".to_owned(),
        head: vec!["fault", "times", "seconds", "ended as they should"],
        rows,
    });
    let heading = format!("Acknowledged meanwhile: {epochs} epochs and {metrics} values of theirs");
    let row = vec![lost.to_string(), doubled.to_string()];
    report.tables.push(Table { heading, head: vec!["lost", "there twice or unasked"], rows: vec![row] });
    report.checks.require("acknowledged epochs and values lost", AtMost(0.0), Spread::one(lost), epochs > 0.0);
    report.checks.require("epochs and values there twice", AtMost(0.0), Spread::one(doubled), epochs > 0.0);
    lines.into_iter().for_each(|line| report.keep_fact("hand-over", "ceteris", line));
    report.keep_fact("hand-over", "ceteris", end);
    Ok(())
}

fn stale_commits(report: &mut Report, lines: Vec<Value>) -> Result<()> {
    let mut rows = Vec::new();
    for line in &lines {
        let of = line["of"].as_str().context("of is missing")?;
        let (tried, refused, accepted) = (number(line, "tried")?, number(line, "refused")?, number(line, "accepted")?);
        let figure = format!("stale commits accepted: {of}");
        report.checks.require(&figure, AtMost(0.0), Spread::one(accepted), refused == tried);
        rows.push(vec![of.to_owned(), tried.to_string(), refused.to_string(), accepted.to_string()]);
    }
    let head = vec!["by", "tried", "refused by name", "accepted"];
    report.tables.push(Table { heading: "Stale commits".to_owned(), head, rows });
    lines.into_iter().for_each(|line| report.keep_fact("stale", "ceteris", line));
    Ok(())
}

fn idle(report: &mut Report, lines: Vec<Value>) -> Result<()> {
    let ready: Vec<f64> = numbers(&lines, "ready_seconds")?.into_iter().map(|seconds| 1e3 * seconds).collect();
    let resident: Vec<f64> = numbers(&lines, "resident_bytes")?.into_iter().map(|bytes| bytes / 1e6).collect();
    let (ready, resident) = (Spread::of(&ready), Spread::of(&resident));
    let row = vec![lines.len().to_string(), text::spread(ready), text::spread(resident)];
    let head = vec!["starts", "ms until ready", "resident MB"];
    report.tables.push(Table { heading: "An idle coordinator on SQLite".to_owned(), head, rows: vec![row] });
    report.checks.require("ms from start to ready, idle on SQLite", AtMost(100.0), ready, true);
    report.checks.require("resident MB, idle on SQLite", AtMost(30.0), resident, true);
    lines.into_iter().for_each(|line| report.keep_fact("idle", "ceteris", line));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn handed_over(exit: Value, seconds: f64, lost: u32) -> usize {
        let lines = vec![
            json!({ "round": 0, "fault": "kill -9", "seconds": 1.0, "exit": null }),
            json!({ "round": 1, "fault": "SIGSTOP", "seconds": seconds, "exit": exit }),
            json!({ "epochs": 10, "metrics": 30, "lost": lost, "doubled": 0 }),
        ];
        let mut report = Report::default();
        hand_over(&mut report, lines).expect("they are complete");
        report.checks.failed()
    }

    #[test]
    fn one_slow_hand_over_one_lost_epoch_or_one_leader_that_goes_on_is_enough_to_fail() {
        assert_eq!(handed_over(json!(5), 9.0, 0), 0);
        assert_eq!(handed_over(json!(5), 10.5, 0), 1);
        assert_eq!(handed_over(json!(0), 9.0, 0), 1, "a leader that was stopped ended as if it had been told to");
        assert_eq!(handed_over(json!(5), 9.0, 1), 3, "times of hand-overs that lose something count for nothing");
    }

    #[test]
    fn a_stale_commit_that_is_not_refused_by_name_counts() {
        let stale = |refused: u32, accepted: u32| {
            let mut report = Report::default();
            let line = json!({ "of": "deposed leaders", "tried": 4, "refused": refused, "accepted": accepted });
            stale_commits(&mut report, vec![line]).expect("it is complete");
            report.checks.failed()
        };
        assert_eq!((stale(4, 0), stale(3, 0), stale(4, 1)), (0, 1, 1));
    }
}
