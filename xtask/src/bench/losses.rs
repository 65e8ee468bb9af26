//! Whether training computes what PyTorch's does: the losses of twenty steps from equal weights on equal images.
//!
//! In f64 they are equal. In fp32 sums come out differently in their last bits wherever they are summed in another
//! order, and training makes such differences grow, PyTorch's own between two numbers of threads too; that is the
//! measure.

use anyhow::Result;
use serde_json::json;

use super::{
    Bench,
    checks::Required::AtMost,
    material::Images,
    process::{Launch, numbers},
    report::{Report, Table},
    spread::{Spread, largest_difference},
    text,
};

const STEPS: u32 = 20;
const BATCH: u32 = 4;
const SIZE: u32 = 64;

/// Compares and adds to the report.
pub fn compare(bench: &Bench, report: &mut Report) -> Result<()> {
    let seeds = if bench.quick { 0..1 } else { 0..5 };
    let mut rows = Vec::new();
    let (mut ours_fp32, mut torch_fp32, mut fp64) = (Vec::new(), Vec::new(), Vec::new());
    for seed in seeds {
        let [exact, ours_exact, torch, torch_alone, ours] = runs(bench, seed, report)?;
        fp64.push(largest_difference(&ours_exact, &exact));
        ours_fp32.push(largest_difference(&ours, &torch));
        torch_fp32.push(largest_difference(&torch_alone, &torch));
        let last = [&fp64, &ours_fp32, &torch_fp32].map(|list| list.last().copied().unwrap_or(f64::NAN));
        rows.push([vec![seed.to_string()], last.map(text::number).to_vec()].concat());
    }
    report.tables.push(Table {
        heading: "Losses of 20 steps, largest relative difference".to_owned(),
        head: vec!["seed", "f64: ceteris to PyTorch", "fp32: ceteris to PyTorch", "fp32: PyTorch, 1 to 2 threads"],
        rows,
    });
    let worst = Spread::one(Spread::of(&fp64).high);
    report.checks.require("losses of 20 steps in f64, relative difference from PyTorch", AtMost(1e-9), worst, true);
    let spread = Spread::of(&torch_fp32).high;
    let share = Spread::of(&ours_fp32).median / spread;
    let figure = "losses of 20 steps in fp32, difference from PyTorch against PyTorch's own between 1 and 2 threads";
    report.checks.require(figure, AtMost(1.0), Spread::one(share), true);
    report.notes.push(format!(
        "Losses: batch {BATCH} of {SIZE} × {SIZE} pixels, Adam with learning rate 1e-3. In fp32 the median over seeds of \
         ceteris's difference is set against the largest that PyTorch shows."
    ));
    Ok(())
}

/// PyTorch in f64, ceteris in f64, PyTorch in fp32 with two threads and with one, ceteris in fp32.
fn runs(bench: &Bench, seed: u32, report: &mut Report) -> Result<[Vec<f64>; 5]> {
    let peer = || bench.peer("PyTorch", "train_step.py");
    let ours = || bench.ours("ceteris", "train-step");
    let mut losses = |launch, precision, threads| losses(bench, launch, precision, threads, seed, report);
    Ok([
        losses(peer(), "fp64", 2)?,
        losses(ours(), "fp64", 2)?,
        losses(peer(), "fp32", 2)?,
        losses(peer(), "fp32", 1)?,
        losses(ours(), "fp32", 2)?,
    ])
}

fn losses(
    bench: &Bench,
    launch: Launch,
    precision: &str,
    threads: u32,
    seed: u32,
    report: &mut Report,
) -> Result<Vec<f64>> {
    let images = bench.images(Images { seed, count: BATCH, size: SIZE })?;
    let launch = launch.flag("--weights", bench.weights(seed)?).flag("--images", images);
    let launch = launch.flag("--batch", BATCH.to_string()).flag("--precision", precision).threads(threads);
    let once = launch.once(STEPS)?;
    let losses = &once.answer.line["losses"];
    let program = once.ready["program"].as_str().unwrap_or_default();
    let setting = format!("losses, seed {seed}, {precision}, {threads} threads");
    report.keep_fact(&setting, program, json!({ "losses": losses }));
    Ok(numbers(losses))
}
