//! `bench gpu`: training, feature extraction, the cost of determinism and how long the GPU waits for input, beside
//! PyTorch as it is, with mixed precision and compiled.
//!
//! Nothing is required of these figures yet: they are measured wherever a GPU is at hand. Contestants run in small
//! groups, because each keeps the memory of the GPU that it once had.

use std::path::Path;

use anyhow::Result;
use serde_json::json;
use xtask::radiographs;

use super::{
    Bench, machine,
    material::Images,
    process::{Launch, Process, numbers},
    report::{Report, Table},
    rounds::{Row, Turn, interleave, rates},
    spread::{Spread, largest_difference, ratios},
    text,
};

const ABOUT: &str = "DenseNet121 on a GPU, 224 × 224 pixels, beside the PyTorch that is installed there.";

/// A way of computing.
#[derive(Clone, Copy, Debug)]
struct Cell {
    label: &'static str,
    ours: bool,
    precision: &'static str,
    layout: &'static str,
    /// `--deterministic` or `--compile`.
    switch: Option<&'static str>,
}

const fn ours(label: &'static str, precision: &'static str, layout: &'static str) -> Cell {
    Cell { label, ours: true, precision, layout, switch: None }
}

const fn peer(label: &'static str, precision: &'static str, layout: &'static str) -> Cell {
    Cell { label, ours: false, precision, layout, switch: None }
}

const EAGER: Cell = peer("PyTorch eager fp32", "fp32", "contiguous");
const EAGER_TF32: Cell = peer("PyTorch eager tf32", "tf32", "contiguous");
const AMP: Cell = peer("PyTorch AMP bf16 channels_last", "bf16", "channels_last");
const COMPILED: Cell = Cell {
    label: "PyTorch torch.compile bf16 channels_last",
    switch: Some("--compile"),
    ..peer("", "bf16", "channels_last")
};
const DETERMINISTIC_PEER: Cell =
    Cell { label: "PyTorch eager tf32 deterministic", switch: Some("--deterministic"), ..EAGER_TF32 };
const OURS: Cell = ours("ceteris fp32", "fp32", "auto");
const OURS_TF32: Cell = ours("ceteris tf32", "tf32", "auto");
const OURS_BF16: Cell = ours("ceteris bf16 channels_last", "bf16", "channels_last");
const DETERMINISTIC: Cell = Cell { label: "ceteris tf32 deterministic", switch: Some("--deterministic"), ..OURS_TF32 };

/// Which cells are set against each other; the first of a group is what the others are compared with.
const TRAINING: [&[Cell]; 3] =
    [&[EAGER, OURS], &[EAGER_TF32, OURS_TF32, DETERMINISTIC_PEER, DETERMINISTIC], &[AMP, COMPILED, OURS_BF16]];
const FEATURES: [&[Cell]; 2] = [&[EAGER, OURS], &[AMP, COMPILED, OURS_BF16]];

struct Plan {
    batch: u32,
    rounds: u32,
    /// Batches in a round.
    units: u32,
}

/// Height and width of images in pixels.
const SIZE: u32 = 224;

/// Runs the benchmark; `data` is the kit's packed data set.
pub fn run(bench: &Bench, data: &Path) -> Result<Report> {
    let plan =
        if bench.quick { Plan { batch: 4, rounds: 2, units: 2 } } else { Plan { batch: 64, rounds: 5, units: 10 } };
    let mut report =
        Report { name: "bench gpu", file: "gpu-results", about: ABOUT, machine: machine::facts(), ..Report::default() };
    for (heading, subject, groups) in
        [("Training", "train-step", &TRAINING[..]), ("Feature extraction", "features", &FEATURES[..])]
    {
        let mut rows = Vec::new();
        for (number, cells) in groups.iter().enumerate() {
            rows.extend(group(bench, &plan, subject, &format!("{subject} {}", number + 1), cells, &mut report)?);
        }
        report.tables.push(Table {
            heading: format!("{heading}, batch {}", plan.batch),
            head: vec!["program", "images/s", "against the first of its group", "results"],
            rows,
        });
    }
    idle(bench, &plan, data, &mut report)?;
    report.notes.push(
        "Wait for input: the part of a step's time with images from the input pipeline that goes beyond its time with \
         one batch resident on the GPU."
            .to_owned(),
    );
    Ok(report)
}

fn launch(bench: &Bench, cell: Cell, subject: &str, batch: u32) -> Result<Launch> {
    let launch = if cell.ours {
        bench.ours(cell.label, subject)
    } else {
        bench.peer(cell.label, &format!("{}.py", subject.replace('-', "_")))
    };
    let launch = launch.flag("--device", "cuda:0").flag("--precision", cell.precision).flag("--layout", cell.layout);
    let launch = launch.flag("--weights", bench.weights(0)?).flag("--batch", batch.to_string());
    let launch = launch.flag("--warm-up", "5").threads(bench.threads);
    Ok(match cell.switch {
        // cuBLAS sums in one order only with a workspace of fixed size.
        Some("--deterministic") => launch.switch("--deterministic").variable("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
        Some(switch) => launch.switch(switch),
        None => launch,
    })
}

/// Measures one group and gives its rows of the table.
fn group(
    bench: &Bench,
    plan: &Plan,
    subject: &str,
    setting: &str,
    cells: &[Cell],
    report: &mut Report,
) -> Result<Vec<Vec<String>>> {
    let images = bench.images(Images { seed: 0, count: plan.batch, size: SIZE })?;
    let mut turns: Vec<Turn> = Vec::new();
    for cell in cells {
        match launch(bench, *cell, subject, plan.batch)?.flag("--images", &images).start() {
            Ok(process) => turns.push((process, plan.units)),
            // torch.compile needs a compiler, which a machine may not have.
            Err(error) if cell.switch == Some("--compile") => {
                report.notes.push(format!("{} could not be measured: {error:#}", cell.label));
            }
            Err(error) => return Err(error),
        }
    }
    describe(&turns, report)?;
    let rows = interleave(setting, &mut turns, plan.rounds)?;
    let first = &turns[0].0;
    let baseline = first.label().to_owned();
    let table = turns.iter().map(|(process, _)| {
        let right = right(process, first);
        report.keep_fact(setting, process.label(), json!({ "right": right, "ready": summary(process) }));
        row(&rows, setting, process.label(), &baseline, right)
    });
    let table = table.collect();
    for (process, _) in turns {
        process.end()?;
    }
    report.keep(&rows);
    Ok(table)
}

/// What both sides run on, once.
fn describe(turns: &[Turn], report: &mut Report) -> Result<()> {
    if report.machine.iter().any(|(name, _)| *name == "libtorch") {
        return Ok(());
    }
    let ours = turns.iter().find(|(process, _)| process.label().starts_with("ceteris"));
    if let (Some((ours, _)), Some((peer, _))) = (ours, turns.first()) {
        report.machine.extend(machine::sides(ours, peer)?);
    }
    Ok(())
}

/// What a first line says, without the long lists.
fn summary(process: &Process) -> serde_json::Value {
    let names = ["program", "libtorch", "threads", "device", "precision", "layout"];
    names.into_iter().map(|name| (name.to_owned(), process.ready()[name].clone())).collect()
}

/// Whether a first loss, or the features of an image, are those of the group's first.
fn right(process: &Process, first: &Process) -> bool {
    let tolerance = if process.ready()["precision"] == "fp32" { 1e-3 } else { 3e-2 };
    let result = |process: &Process| {
        let losses = numbers(&process.ready()["losses"]);
        let features = numbers(&process.ready()["features"]);
        let norm = features.iter().map(|feature| feature * feature).sum::<f64>().sqrt();
        if features.is_empty() { losses.first().copied().unwrap_or(f64::NAN) } else { norm }
    };
    largest_difference(&[result(process)], &[result(first)]) <= tolerance
}

fn row(rows: &[Row], setting: &str, label: &str, baseline: &str, right: bool) -> Vec<String> {
    let [rate, reference] = [label, baseline].map(|label| rates(rows, setting, label));
    let against = Spread::of(&ratios(&rate, &reference));
    let verdict = if right { "agree" } else { "**wrong**" };
    vec![label.to_owned(), text::spread(Spread::of(&rate)), text::spread(against), verdict.to_owned()]
}

/// Steps on images from disk against steps on a resident batch, on both sides.
fn idle(bench: &Bench, plan: &Plan, data: &Path, report: &mut Report) -> Result<()> {
    let setting = "input";
    let images = bench.images(Images { seed: 0, count: plan.batch, size: SIZE })?;
    let drawn = bench.radiographs(&kit_plan())?;
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get().min(8)).to_string();
    let mut turns: Vec<Turn> = Vec::new();
    for cell in [OURS_BF16, AMP] {
        let resident = launch(bench, cell, "train-step", plan.batch)?.flag("--images", &images);
        turns.push((resident.start()?, plan.units));
        let read = Cell { label: if cell.ours { "ceteris, packed data" } else { "PyTorch, ImageFolder" }, ..cell };
        let read = launch(bench, read, "train-step", plan.batch)?;
        let read = if cell.ours {
            read.flag("--data", data)
        } else {
            read.flag("--folder", drawn.join("train")).flag("--workers", &workers)
        };
        turns.push((read.start()?, plan.units));
    }
    let rows = interleave(setting, &mut turns, plan.rounds)?;
    let labels: Vec<String> = turns.iter().map(|(process, _)| process.label().to_owned()).collect();
    for (process, _) in turns {
        process.end()?;
    }
    let table = labels.chunks(2).map(|pair| {
        let [resident, read] = [&pair[0], &pair[1]].map(|label| rates(&rows, setting, label));
        let waits: Vec<f64> = ratios(&read, &resident).iter().map(|share| (1.0 - share).max(0.0)).collect();
        let cells = [Spread::of(&resident), Spread::of(&read), Spread::of(&waits)].map(text::spread);
        [vec![pair[1].clone()], cells.to_vec()].concat()
    });
    report.tables.push(Table {
        heading: "Wait for input".to_owned(),
        head: vec!["input", "images/s, resident batch", "images/s, read", "share of time that the GPU waits"],
        rows: table.collect(),
    });
    report.keep(&rows);
    Ok(())
}

/// The radiographs that a kit has packed, and that are drawn again as PNG files where it is run.
pub fn kit_plan() -> radiographs::Plan {
    radiographs::Plan { size: SIZE, per_class: [128, 1, 1], ..radiographs::Plan::demo() }
}
