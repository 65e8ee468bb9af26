//! `cargo xtask soak`: faults at random on a fleet of real processes, none of which may cost anything that was shown.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;

use super::{
    checks::Required::AtMost,
    concludes, machine, pages,
    report::{Report, Table},
    spread::Spread,
    text,
};
use crate::{
    command::headline,
    programs,
    setup::{faketime, postgres, seaweedfs},
    workspace::Workspace,
};

const ABOUT: &str = "Two coordinators on PostgreSQL, of which one leads, SeaweedFS as the object store, and two workers that train DenseNet121 on \
                     libtorch, on one machine. One fault after the other, drawn from a seed: processes are ended with `kill -9` and \
                     started again, stopped past their leases and woken up, connections, to the database too, are cut or lose one \
                     direction, clocks jump by up to five minutes. After each, \
                     training has to go on. What `ceteris` shows of every experiment is remembered and compared each time it is \
                     looked at; in the end a fleet that nobody disturbs trains the same experiments, and checkpoints, by the digests \
                     of their bytes, and measured values have to be the same.";
const NOTES: [&str; 2] = [
    "Seconds are those from a fault to the first epoch that is committed after everything was started again: the fault itself \
     (some last longer than a lease of 3 s), and what is left of an epoch, are in them.",
    "There is no peer.",
];

/// What `cargo xtask soak` is told.
#[derive(Args, Debug)]
pub struct Options {
    /// Faults, one after the other; each takes some seconds
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    cycles: u32,
    /// Decides which faults, of whom, and when
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where the page and the raw rows are written; docs/benchmarks unless told
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Runs it, and shows its figures last. Whether all of them hold.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let program = programs::fleet(workspace, "soak")?;
    let weed = seaweedfs::ensure(workspace)?;
    let faketime = faketime::ensure()?;
    let server = postgres::Server::start(&postgres::ensure()?, true)?;
    headline("Disturbing (some seconds for each fault)");
    let mut soak = Command::new(program);
    soak.args(["--cycles", &options.cycles.to_string(), "--seed", &options.seed.to_string()]);
    soak.env("CETERIS_TEST_POSTGRES", server.url())
        .env("CETERIS_TEST_WEED", weed)
        .env("CETERIS_TEST_FAKETIME", faketime);
    // What it says meanwhile is shown.
    let output = soak.stderr(std::process::Stdio::inherit()).output().context("the soak does not start")?;
    let text = String::from_utf8(output.stdout).context("the soak does not print UTF-8")?;
    anyhow::ensure!(output.status.success(), "the soak ended with {}: what it says above broke it", output.status);
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>().context("not JSON lines")?;
    let report = report(lines)?;
    report.write(&pages(workspace, options.output.as_deref()))?;
    Ok(concludes(&report))
}

fn number(line: &Value, name: &str) -> Result<f64> {
    line[name].as_f64().with_context(|| format!("{name} is missing in {line}"))
}

fn report(mut lines: Vec<Value>) -> Result<Report> {
    let end = lines.pop().context("the soak printed nothing")?;
    let mut report = Report {
        name: "soak",
        file: "soak",
        about: ABOUT,
        machine: machine::facts(),
        notes: NOTES.map(str::to_owned).into(),
        ..Report::default()
    };
    let mut kinds: Vec<(&str, Vec<f64>)> = Vec::new();
    for line in &lines {
        let (fault, seconds) = (line["fault"].as_str().context("a line has no fault")?, number(line, "seconds")?);
        match kinds.iter_mut().find(|(known, _)| *known == fault) {
            Some((_, all)) => all.push(seconds),
            None => kinds.push((fault, vec![seconds])),
        }
    }
    kinds.sort_by_key(|(_, all)| std::cmp::Reverse(all.len()));
    let row = |(fault, all): &(&str, Vec<f64>)| {
        vec![(*fault).to_owned(), all.len().to_string(), text::spread(Spread::of(all))]
    };
    let rows = kinds.iter().map(row).collect();
    let heading = format!("{} faults", lines.len());
    report.tables.push(Table { heading, head: vec!["fault", "times", "seconds to the next epoch"], rows });
    let [experiments, epochs, values] = ["experiments", "epochs", "values"].map(|name| end[name].to_string());
    report.tables.push(Table {
        heading: "What was trained meanwhile".to_owned(),
        head: vec!["experiments", "epochs", "measured values"],
        rows: vec![vec![experiments, epochs, values]],
    });
    let trained = number(&end, "epochs")? >= lines.len() as f64;
    for (what, name) in [
        ("checkpoints and values lost that had been shown", "lost"),
        ("checkpoints and values there twice", "doubled"),
        ("experiments whose weights or values differ from undisturbed ones", "differing"),
    ] {
        report.checks.require(what, AtMost(0.0), Spread::one(number(&end, name)?), trained);
    }
    lines.into_iter().for_each(|line| report.keep_fact("fault", "ceteris", line));
    report.keep_fact("end", "ceteris", end);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_lost_or_other_value_is_enough_to_fail_and_so_is_a_fault_without_an_epoch() {
        let failed = |epochs: u32, lost: u32, differing: u32| {
            let cycle = |seconds: f64| json!({ "cycle": 1, "fault": "kill -9 of an agent", "seconds": seconds });
            let end = json!({
                "experiments": 1, "epochs": epochs, "values": 9, "lost": lost, "doubled": 0, "differing": differing,
            });
            report(vec![cycle(1.0), cycle(2.0), end]).expect("it is complete").checks.failed()
        };
        assert_eq!([failed(2, 0, 0), failed(2, 1, 0), failed(2, 0, 1), failed(1, 0, 0)], [0, 1, 1, 3]);
        assert!(report(vec![]).is_err() && report(vec![json!({})]).is_err());
    }
}
