//! `bench ablation`: what each thing that makes a training step fast or small brings, added one after the other.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{
    Bench, machine,
    material::Images,
    process::{Launch, numbers},
    report::{Report, Table},
    rounds::{Turn, interleave, rates},
    spread::{Spread, ratios},
    text,
};

const ABOUT: &str = "Steps of training DenseNet121 with everything trainable, 224 × 224 pixels, batch 16. From row to \
                     row one thing is added, and everything before stays; the last two rows save memory instead. All \
                     programs see equal weights and images and take turns.";

/// A row: its name, the trainer's flags besides those that all have, and whether it adds to the row before it.
struct Row {
    label: &'static str,
    flags: &'static [(&'static str, &'static str)],
    after_the_one_before: bool,
}

const PYTORCH: &str = "PyTorch fp32";
const ONE_OPERATION: (&str, &str) = ("--without", "one-operation");
const FUSED_NORM: (&str, &str) = ("--without", "fused-norm");
const ONE_PASS_ADAM: (&str, &str) = ("--without", "one-pass-adam");
const CONTIGUOUS: (&str, &str) = ("--layout", "contiguous");

const ROWS: [Row; 8] = [
    Row {
        label: "burn's operations and autodiff on libtorch",
        flags: &[ONE_OPERATION, CONTIGUOUS, ONE_PASS_ADAM],
        after_the_one_before: false,
    },
    Row {
        label: "+ one operation on libtorch's autograd",
        flags: &[FUSED_NORM, CONTIGUOUS, ONE_PASS_ADAM],
        after_the_one_before: true,
    },
    Row { label: "+ channels last", flags: &[FUSED_NORM, ONE_PASS_ADAM], after_the_one_before: true },
    Row {
        label: "+ normalisation, ReLU and convolution in one pass",
        flags: &[ONE_PASS_ADAM],
        after_the_one_before: true,
    },
    Row { label: "+ Adam in one pass", flags: &[], after_the_one_before: true },
    Row { label: "+ bf16", flags: &[("--precision", "bf16")], after_the_one_before: true },
    Row { label: "fp32 with memory low", flags: &[("--memory", "low")], after_the_one_before: false },
    Row {
        label: "bf16 with memory low",
        flags: &[("--memory", "low"), ("--precision", "bf16")],
        after_the_one_before: false,
    },
];

/// How far a first loss, before any update, may be from PyTorch's.
const FIRST_LOSS: f64 = 2e-2;

/// Runs the benchmark.
pub fn run(bench: &Bench) -> Result<Report> {
    let (size, batch, rounds, steps) = if bench.quick { (64, 2, 2, 1) } else { (224, 16, 5, 2) };
    let images = Images { seed: 0, count: batch, size };
    let shared = |launch: Launch| -> Result<Launch> {
        let launch = launch.flag("--weights", bench.weights(0)?).flag("--images", bench.images(images)?);
        Ok(launch.flag("--batch", batch.to_string()).threads(bench.threads))
    };
    let mut launches = vec![shared(bench.peer(PYTORCH, "train_step.py"))?];
    for row in &ROWS {
        let launch = shared(bench.ours(row.label, "train-step"))?;
        launches.push(row.flags.iter().fold(launch, |launch, (flag, value)| launch.flag(flag, value)));
    }
    let labels: Vec<&str> = std::iter::once(PYTORCH).chain(ROWS.iter().map(|row| row.label)).collect();

    let mut report = Report {
        name: "bench ablation",
        file: "ablation",
        about: ABOUT,
        machine: machine::facts(),
        ..Report::default()
    };
    let mut peaks = Vec::new();
    for (launch, label) in launches.iter().zip(&labels) {
        let once = launch.clone().once(3)?;
        report.keep_fact("memory", label, json!({ "peak_bytes": once.peak_bytes }));
        peaks.push(once.peak_bytes);
    }
    let started = launches.into_iter().map(|launch| Ok((launch.flag("--warm-up", "2").start()?, steps)));
    let mut turns = started.collect::<Result<Vec<Turn>>>()?;
    report.machine.extend(machine::sides(&turns[1].0, &turns[0].0)?);
    let rows = interleave("steps", &mut turns, rounds)?;
    let first = |turn: &Turn| numbers(&turn.0.ready()["losses"]).first().copied().unwrap_or(f64::NAN);
    for turn in &turns {
        let (loss, reference) = (first(turn), first(&turns[0]));
        let near = (loss - reference).abs() <= FIRST_LOSS * reference.abs();
        ensure!(near, "the first loss of \"{}\" is {loss}, and PyTorch's {reference}", turn.0.label());
    }
    for (process, _) in turns {
        process.end()?;
    }
    report.keep(&rows);

    let speeds: Vec<Vec<f64>> = labels.iter().map(|label| rates(&rows, "steps", label)).collect();
    let against = |index: usize, other: usize| text::spread(Spread::of(&ratios(&speeds[index], &speeds[other])));
    let line = |(index, label): (usize, &&str)| {
        let adds = index > 0 && ROWS[index - 1].after_the_one_before;
        let before = if adds { against(index, index - 1) } else { String::new() };
        let peak = [peaks[index] / 1e9, peaks[index] / peaks[0]].map(text::number);
        let [gigabytes, share] = peak;
        let speed = text::spread(Spread::of(&speeds[index]));
        vec![(*label).to_owned(), speed, before, against(index, 0), gigabytes, share]
    };
    report.tables.push(Table {
        heading: "What each brings".to_owned(),
        head: vec!["program", "images/s", "× the row before", "× PyTorch", "peak GB", "of PyTorch's"],
        rows: labels.iter().enumerate().map(line).collect(),
    });
    report.notes.push(
        "Peak memory is the peak of resident memory (VmHWM) of a process that does nothing but three steps, its program \
         and libraries included."
            .to_owned(),
    );
    Ok(report)
}
