//! `bench checkpoint`: what writing costs training, how large it is, and how fast it is read again.

use anyhow::Result;
use xtask::radiographs;

use super::{
    Bench,
    checks::Required::{AtLeast, AtMost},
    machine,
    material::Images,
    process::{Launch, Process, numbers},
    report::{Report, Table},
    rounds::{interleave, unit_seconds, values},
    spread::{Spread, largest_difference, ratios},
    text,
};

const ABOUT: &str = "A checkpoint at the end of every epoch: how long training stands still for it, how many bytes it \
                     writes, and how fast model and optimizer are loaded again, against torch.load of the same state \
                     saved by torch.save.";
const ALL: &str = "ceteris, everything trained";
const HEAD: &str = "ceteris, head trained";
const OURS: &str = "ceteris";
const PEER: &str = "torch.load";
/// Norms after one step in fp32, in which the gradient of BatchNorm in training mode is good to three digits.
const NORMS: f64 = 1e-2;

/// Runs the benchmark.
pub fn run(bench: &Bench) -> Result<Report> {
    let mut report = Report {
        name: "bench checkpoint",
        file: "checkpoint",
        about: ABOUT,
        machine: machine::facts(),
        ..Report::default()
    };
    write(bench, &mut report)?;
    load(bench, &mut report)?;
    Ok(report)
}

fn write(bench: &Bench, report: &mut Report) -> Result<()> {
    let (size, count, rounds) = if bench.quick { (64, 16, 1) } else { (224, 208, 3) };
    let plan = radiographs::Plan { size, per_class: [count, 16, 16], ..radiographs::Plan::demo() };
    let data = bench.packed(&bench.radiographs(&plan)?, size)?;
    let mut turns = Vec::new();
    for (label, trainable) in [(ALL, "all"), (HEAD, "head")] {
        let launch = bench.ours(label, "checkpoint").flag("--weights", bench.weights(0)?).flag("--data", &data);
        let launch = launch.flag("--batch", "16").flag("--trainable", trainable).threads(bench.threads);
        turns.push((launch.flag("--scratch", bench.scratch(&format!("checkpoint-{trainable}"))?).start()?, 1));
    }
    let rows = interleave("write", &mut turns, rounds)?;
    for (process, _) in turns {
        process.end()?;
    }
    let spread = |label: &str, name: &'static str| {
        Spread::of(&values(&rows, "write", label, move |row| row.answer.number(name)))
    };
    let cells = |label: &str| {
        let numbers = ["seconds", "stall_seconds", "bytes"].map(|name| text::spread(spread(label, name)));
        [vec![label.to_owned()], numbers.to_vec()].concat()
    };
    report.tables.push(Table {
        heading: "Writing".to_owned(),
        head: vec!["program", "epoch, seconds", "stall, seconds", "bytes"],
        rows: vec![cells(ALL), cells(HEAD)],
    });
    let shares = values(&rows, "write", ALL, |row| row.answer.number("stall_seconds") / row.answer.seconds);
    // A checkpoint of everything holds at least the weights.
    let whole = spread(ALL, "bytes").low > 28e6;
    report.checks.require(
        "stall as a share of an epoch, everything trained",
        AtMost(0.005),
        Spread::of(&shares),
        whole,
    );
    let bytes = spread(HEAD, "bytes");
    // A head with both of Adam's moments is 24,600 bytes.
    let holds_head = bytes.low >= 24_600.0;
    report.checks.require("bytes of a head-only checkpoint with its optimizer", AtMost(64_000.0), bytes, holds_head);
    report.keep(&rows);
    Ok(())
}

fn load(bench: &Bench, report: &mut Report) -> Result<()> {
    let (rounds, loads) = if bench.quick { (2, 1) } else { (9, 5) };
    let images = bench.images(Images { seed: 0, count: 4, size: 64 })?;
    let start = |launch: Launch, scratch: &str| {
        let launch = launch.flag("--weights", bench.weights(0)?).flag("--images", &images).flag("--batch", "4");
        let launch = launch.flag("--scratch", bench.scratch(scratch)?).flag("--warm-up", "2");
        launch.threads(bench.threads).start()
    };
    let ours = start(bench.ours(OURS, "load"), "load-ceteris")?;
    let peer = start(bench.peer(PEER, "load.py"), "load-torch")?;
    report.machine.extend(machine::sides(&ours, &peer)?);
    let norms = |process: &Process| numbers(&process.ready()["norm"]);
    let right = norms(&peer).len() == 2 && largest_difference(&norms(&ours), &norms(&peer)) <= NORMS;
    let bytes = [&ours, &peer].map(|process| process.ready()["bytes"].as_f64().unwrap_or(f64::NAN));
    let mut turns = [(ours, loads), (peer, loads)];
    let rows = interleave("load", &mut turns, rounds)?;
    for (process, _) in turns {
        process.end()?;
    }
    let [ours, theirs] = [OURS, PEER].map(|label| unit_seconds(&rows, "load", label));
    let cells = |label: &str, seconds: &[f64], bytes: f64| {
        vec![label.to_owned(), text::spread(Spread::of(seconds)), text::number(bytes)]
    };
    report.tables.push(Table {
        heading: "Loading".to_owned(),
        head: vec!["program", "seconds", "bytes"],
        rows: vec![cells(OURS, &ours, bytes[0]), cells(PEER, &theirs, bytes[1])],
    });
    let speed = Spread::of(&ratios(&theirs, &ours));
    report.checks.require("time of torch.load against ceteris's loading", AtLeast(5.0), speed, right);
    report.keep(&rows);
    Ok(())
}
