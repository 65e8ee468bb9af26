//! `bench simulation`: many seeds of the simulated fleet, none of which may break a rule.

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

const ABOUT: &str = "Worlds of a coordinator and its fleet: the real scheduler, driver, sessions, worker protocol and spool, in \
                     simulated time, under faults that each seed draws: coordinators killed, replaced, fenced off and standing \
                     still, commits refused or made and reported as failed, streams broken and late, workers killed, cut off, \
                     standing still and lying, checkpoints damaged, users who pause, cancel, retry, drain and give up \
                     checkpoints. After each event the oracle looks for a rule that is broken \
                     (`tests/simulation/src/oracle`); at the end everything has to have ended, with the weights that undisturbed \
                     training has. One seed in ten runs a second time, in another order, and has to come out as the same world.";
const SEEDS: u64 = 10_000;
/// Seconds of wall time on two cores.
const LIMIT: f64 = 600.0;

/// Runs the benchmark; builds no more than what it runs.
pub fn run(workspace: &Workspace, quick: bool, threads: u32) -> Result<Report> {
    let program = programs::simulation(workspace)?;
    headline("Simulating (some minutes)");
    let seeds = if quick { 100 } else { SEEDS };
    let mut simulate = Command::new(&program);
    simulate.args(["--json", "--repeat", "10", "--seeds", &seeds.to_string(), "--threads", &threads.to_string()]);
    let text = command::output(&mut simulate)?;
    let rows: Vec<Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("not JSON lines")?;
    let (total, parts) = rows.split_last().context("the simulation printed nothing")?;
    ensure!(total["seeds"] == seeds, "{} seeds were asked for, and {} ran", seeds, total["seeds"]);
    let columns =
        ["seeds", "events", "lives", "attempts", "epochs", "simulated_hours", "seconds", "violations", "differing"];
    let head = vec![
        "seeds",
        "events",
        "lives of coordinators",
        "attempts",
        "epochs",
        "simulated hours",
        "seconds",
        "rules broken",
        "repeated otherwise",
    ];
    let cells = |row: &Value| -> Result<Vec<String>> {
        let cell = |name: &&str| {
            let figure = row[*name].as_f64().with_context(|| format!("{name} is missing"))?;
            Ok(if figure.fract() == 0.0 { format!("{figure}") } else { format!("{figure:.1}") })
        };
        columns.iter().map(cell).collect()
    };
    let rows = parts.iter().chain([total]).map(cells).collect::<Result<_>>()?;
    let mut report = Report {
        name: "bench simulation",
        file: "simulation",
        about: ABOUT,
        machine: machine::facts(),
        ..Report::default()
    };
    report.tables.push(Table { heading: format!("{seeds} seeds, a thousand a row, and all of them"), head, rows });
    for (what, name, limit) in [
        ("rules broken", "violations", 0.0),
        ("seeds that came out otherwise the second time", "differing", 0.0),
        ("seconds of wall time", "seconds", LIMIT),
    ] {
        let figure = total[name].as_f64().with_context(|| format!("{name} is missing"))?;
        report.checks.require(&format!("{what}, {seeds} seeds"), AtMost(limit), Spread::one(figure), true);
    }
    for (index, row) in parts.iter().enumerate() {
        report.keep_fact(&format!("part {}", index + 1), "ceteris", row.clone());
    }
    report.keep_fact("all", "ceteris", total.clone());
    Ok(report)
}
