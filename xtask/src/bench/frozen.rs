//! `bench frozen-sweep` and `bench partial`: what is frozen is computed once.
//!
//! The plain PyTorch script's images are already decoded and in memory, which favours it; it sees them in ceteris's own
//! order, so that its losses can be compared.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use xtask::radiographs;

use super::{
    Bench,
    checks::Required::{AtLeast, AtMost},
    machine,
    process::{Launch, numbers},
    report::{Report, Table},
    rounds::{Row, interleave, unit_seconds, values},
    spread::{Spread, largest_difference, ratios},
    text,
};

const OURS: &str = "ceteris";
const PEER: &str = "PyTorch";
const BATCH: &str = "16";
const LEARNING_RATES: &str = "0.01,0.003,0.001,0.0003";
const SEEDS: &str = "0,1,2,3";
const ARMS: u32 = 16;
/// Losses of a head: a sum over a thousand features in fp32, with the features' own differences between batch sizes.
const HEAD_LOSS: f64 = 1e-3;
/// Mean loss of an epoch in which BatchNorm learns; see [`super::losses`] for how such differences grow.
const PARTIAL_LOSS: f64 = 2e-2;

const ABOUT_SWEEP: &str = "Sixteen linear heads (4 learning rates × 4 seeds) for 15 epochs each on a frozen DenseNet121, \
                           without augmentation, from nothing cached to the last head, against a plain PyTorch script \
                           that trains one head after the other.";
const ABOUT_PARTIAL: &str = "An arm that trains denseblock4 and the classifier on frozen blocks below: an epoch after \
                             the first, against a plain PyTorch loop.";

struct Material {
    weights: PathBuf,
    data: PathBuf,
}

fn material(bench: &Bench) -> Result<Material> {
    // The number of training images is a multiple of the batch size.
    let (size, per_class) = if bench.quick { (64, [16, 1, 1]) } else { (224, [208, 16, 16]) };
    let images = bench.radiographs(&radiographs::Plan { size, per_class, ..radiographs::Plan::demo() })?;
    Ok(Material { weights: bench.weights(0)?, data: bench.packed(&images, size)? })
}

fn common(launch: Launch, bench: &Bench, material: &Material) -> Launch {
    let launch = launch.flag("--weights", &material.weights).flag("--data", &material.data).flag("--batch", BATCH);
    launch.threads(bench.threads)
}

/// The peer, which trains in the order that ours told.
fn peer(bench: &Bench, material: &Material, told: &Value, trainable: &str, lr: &str) -> Result<Launch> {
    let orders = &told["orders"];
    orders.as_array().context("ceteris told no orders of samples")?;
    let path = bench.scratch("orders")?.join("orders.json");
    fs::write(&path, orders.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    let launch = common(bench.peer(PEER, "frozen.py"), bench, material).flag("--orders", path);
    Ok(launch.flag("--trainable", trainable).flag("--lr", lr))
}

/// Runs `bench frozen-sweep`.
pub fn sweep(bench: &Bench) -> Result<Report> {
    let (rounds, epochs) = if bench.quick { (1, 2) } else { (3, 15) };
    let material = material(bench)?;
    let launch = common(bench.ours(OURS, "frozen-sweep"), bench, &material).flag("--lrs", LEARNING_RATES);
    let launch = launch.flag("--seeds", SEEDS).flag("--epochs", epochs.to_string());
    let ours = launch.flag("--scratch", bench.scratch("frozen-sweep")?).start()?;
    let first = LEARNING_RATES.split(',').next().unwrap_or_default();
    let peer = peer(bench, &material, ours.ready(), "head", first)?.start()?;

    let mut report = Report {
        name: "bench frozen-sweep",
        file: "frozen-sweep",
        about: ABOUT_SWEEP,
        machine: machine::facts(),
        ..Report::default()
    };
    report.machine.extend(machine::sides(&ours, &peer)?);
    let mut turns = [(ours, 1), (peer, 1)];
    let rows = interleave("sweep", &mut turns, rounds)?;
    for (process, _) in turns {
        process.end()?;
    }
    judge_sweep(&rows, epochs, &mut report);
    report.keep(&rows);
    report.notes.push(format!(
        "PyTorch is measured for {rounds} epochs of one head; {ARMS} heads × {epochs} epochs are extrapolated as as many \
         times its time per epoch, which does not depend on the head."
    ));
    Ok(report)
}

fn judge_sweep(rows: &[Row], epochs: u32, report: &mut Report) {
    let ours = unit_seconds(rows, "sweep", OURS);
    let whole = f64::from(ARMS * epochs);
    let theirs: Vec<f64> = unit_seconds(rows, "sweep", PEER).iter().map(|seconds| seconds * whole).collect();
    let of = |name: &'static str| values(rows, "sweep", OURS, move |row| row.answer.number(name));
    let trained_all = of("heads").iter().all(|heads| *heads == f64::from(ARMS));
    let measured: Vec<f64> = losses(rows, PEER);
    let right = trained_all
        && of_first_arm(rows).iter().all(|ours| {
            // The peer's epochs are the first ones of the arm.
            let compared = measured.len().min(ours.len());
            largest_difference(&ours[..compared], &measured[..compared]) <= HEAD_LOSS
        });
    let passes = Spread::of(&ratios(&of("backbone_samples"), &of("samples")));
    let speed = Spread::of(&ratios(&theirs, &ours));
    let row = |label: &str, seconds: &[f64]| vec![label.to_owned(), text::spread(Spread::of(seconds))];
    report.tables.push(Table {
        heading: "Wall time of the sweep".to_owned(),
        head: vec!["program", "seconds"],
        rows: vec![row(OURS, &ours), row("PyTorch, extrapolated", &theirs)],
    });
    report.checks.require("wall time of PyTorch's script against ceteris's sweep", AtLeast(50.0), speed, right);
    report.checks.require("passes through the backbone for each sample", AtMost(1.0), passes, right);
}

/// The losses that one program told in all its rounds, epoch after epoch.
fn losses(rows: &[Row], label: &str) -> Vec<f64> {
    let of_label = rows.iter().filter(|row| row.label == label);
    of_label.flat_map(|row| numbers(&row.answer.line["losses"])).collect()
}

/// The losses of the first arm in each of our sweeps.
fn of_first_arm(rows: &[Row]) -> Vec<Vec<f64>> {
    rows.iter().filter(|row| row.label == OURS).map(|row| numbers(&row.answer.line["losses"])).collect()
}

/// Runs `bench partial`.
pub fn partial(bench: &Bench) -> Result<Report> {
    const LR: &str = "0.0001";
    let rounds = if bench.quick { 1 } else { 5 };
    let material = material(bench)?;
    let launch = common(bench.ours(OURS, "partial"), bench, &material).flag("--lr", LR).flag("--seed", "0");
    let ours = launch.flag("--warm-up", "1").flag("--scratch", bench.scratch("partial")?).start()?;
    let peer = peer(bench, &material, ours.ready(), "denseblock4", LR)?.flag("--warm-up", "1").start()?;

    let mut report = Report {
        name: "bench partial",
        file: "partial",
        about: ABOUT_PARTIAL,
        machine: machine::facts(),
        ..Report::default()
    };
    report.machine.extend(machine::sides(&ours, &peer)?);
    let first = [ours.ready(), peer.ready()].map(|ready| numbers(&ready["losses"]));
    let first_seconds = ours.ready()["first_epoch_seconds"].as_f64().unwrap_or(f64::NAN);
    let mut turns = [(ours, 1), (peer, 1)];
    let rows = interleave("epoch", &mut turns, rounds)?;
    for (process, _) in turns {
        process.end()?;
    }
    let [ours_first, peer_first] = first;
    let all = |first: Vec<f64>, label: &str| [first, losses(&rows, label)].concat();
    let right = largest_difference(&all(ours_first, OURS), &all(peer_first, PEER)) <= PARTIAL_LOSS;
    let [ours, theirs] = [OURS, PEER].map(|label| unit_seconds(&rows, "epoch", label));
    let speed = Spread::of(&ratios(&theirs, &ours));
    let row = |label: &str, seconds: &[f64]| vec![label.to_owned(), text::spread(Spread::of(seconds))];
    report.tables.push(Table {
        heading: "Wall time of an epoch".to_owned(),
        head: vec!["program", "seconds"],
        rows: vec![row("ceteris, the first", &[first_seconds]), row("ceteris, later", &ours), row(PEER, &theirs)],
    });
    report.checks.require("time of PyTorch's epoch against ceteris's after the first", AtLeast(5.0), speed, right);
    report.keep(&rows);
    Ok(report)
}
