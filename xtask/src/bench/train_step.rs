//! `bench train-step`: steps of training DenseNet121, everything trainable, 224 × 224 pixels.

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    Bench,
    checks::Required::{AtLeast, AtMost},
    losses, machine,
    material::Images,
    process::{Launch, Once, Process, numbers},
    report::{Report, Table},
    rounds::{self, Row, Turn, interleave, rates, unit_seconds},
    spread::{Spread, largest_difference, ratios},
    text,
};

const ABOUT: &str = "Steps of training DenseNet121 with everything trainable: forward, cross entropy, backward, Adam. \
                     Both sides start from equal weights and see equal images, resident in memory.";

/// What is compared, under the names that tables show.
const EAGER: &str = "PyTorch fp32";
const BEST: &str = "PyTorch bf16 channels_last";
const OURS: &str = "ceteris fp32";
const OURS_BEST: &str = "ceteris bf16 channels_last";
const LOW: &str = "ceteris fp32, memory low";
const LOW_BEST: &str = "ceteris bf16 channels_last, memory low";
/// Shown beside the others: what the layout alone does.
const EAGER_LAST: &str = "PyTorch fp32 channels_last";

/// The batch size at which memory is required to be small; at small batches what a process needs without any image
/// hides the difference.
const MEMORY_BATCH: u32 = 16;
/// How far a first loss, before any update, may be from PyTorch's in fp32.
const FIRST_LOSS: f64 = 1e-4;
const FIRST_LOSS_BF16: f64 = 2e-2;

struct Plan {
    size: u32,
    batches: Vec<u32>,
    rounds: u32,
}

/// Runs the benchmark.
pub fn run(bench: &Bench) -> Result<Report> {
    let plan = if bench.quick {
        Plan { size: 64, batches: vec![2], rounds: 2 }
    } else {
        Plan { size: 224, batches: vec![8, 16, 32], rounds: 7 }
    };
    let mut report = Report {
        name: "bench train-step",
        file: "train-step",
        about: ABOUT,
        machine: machine::facts(),
        ..Report::default()
    };
    losses::compare(bench, &mut report)?;
    let mut speed = Table {
        heading: "Speed".to_owned(),
        head: vec!["batch", "program", "images/s", "against PyTorch fp32"],
        rows: vec![],
    };
    let mut memory = Table {
        heading: "Peak memory".to_owned(),
        head: vec!["batch", "program", "GB", "against PyTorch fp32"],
        rows: vec![],
    };
    for batch in &plan.batches {
        let setting = format!("batch {batch}");
        let timed = timed(bench, &plan, *batch, &setting, &mut report)?;
        speed.rows.extend(timed.table(*batch, &setting));
        timed.judge(&setting, &mut report);
        memory.rows.extend(peaks(bench, &plan, *batch, &mut report)?);
    }
    report.tables.extend([speed, memory]);
    report.notes.push(format!(
        "Peak memory is the peak of resident memory (VmHWM) of a process that does nothing but three steps, its program \
         and libraries included; it is required at batch {MEMORY_BATCH}."
    ));
    report.notes.push(
        "PyTorch's best mode is autocast to bf16 in channels_last with the fused Adam; everything else is PyTorch's \
         default."
            .to_owned(),
    );
    Ok(report)
}

/// A program as it is started for one batch size.
fn launch(bench: &Bench, label: &str, plan: &Plan, batch: u32) -> Result<Launch> {
    let (precision, layout) = match label {
        BEST | OURS_BEST | LOW_BEST => ("bf16", "channels_last"),
        EAGER_LAST => ("fp32", "channels_last"),
        EAGER => ("fp32", "contiguous"),
        _ => ("fp32", "auto"),
    };
    let launch = match label {
        EAGER | EAGER_LAST => bench.peer(label, "train_step.py"),
        BEST => bench.peer(label, "train_step.py").switch("--fused"),
        _ => bench
            .ours(label, "train-step")
            .flag("--memory", if [LOW, LOW_BEST].contains(&label) { "low" } else { "normal" }),
    };
    let count = plan.batches.iter().copied().max().unwrap_or(batch);
    let images = bench.images(Images { seed: 0, count, size: plan.size })?;
    let launch =
        launch.flag("--weights", bench.weights(0)?).flag("--images", images).flag("--batch", batch.to_string());
    Ok(launch.flag("--precision", precision).flag("--layout", layout).threads(bench.threads))
}

/// The rounds of one batch size, and who computed the right loss.
struct Timed {
    rows: Vec<Row>,
    wrong: Vec<&'static str>,
}

const CONTESTANTS: [&str; 7] = [EAGER, OURS, BEST, OURS_BEST, LOW, LOW_BEST, EAGER_LAST];

fn timed(bench: &Bench, plan: &Plan, batch: u32, setting: &str, report: &mut Report) -> Result<Timed> {
    // About as much work in every round, whatever the batch.
    let steps = (32 / batch).clamp(1, 4);
    let mut turns: Vec<Turn> = Vec::new();
    for label in CONTESTANTS {
        turns.push((launch(bench, label, plan, batch)?.flag("--warm-up", "2").start()?, steps));
    }
    if !report.machine.iter().any(|(name, _)| *name == "libtorch") {
        report.machine.extend(machine::sides(&turns[1].0, &turns[0].0)?);
    }
    let rows = interleave(setting, &mut turns, plan.rounds)?;
    let reference = first_loss(&turns[0].0)?;
    let mut wrong = Vec::new();
    for (label, (process, _)) in CONTESTANTS.into_iter().zip(&turns) {
        let tolerance = if process.ready()["precision"] == "bf16" { FIRST_LOSS_BF16 } else { FIRST_LOSS };
        let first = first_loss(process)?;
        let losses = rows.iter().filter(|row| row.label == label).flat_map(|row| numbers(&row.answer.line["losses"]));
        // One batch again and again is learned by heart, so every later loss is below the first.
        let learns = losses.clone().count() > 0 && losses.into_iter().all(|loss| loss < first);
        if !(largest_difference(&[first], &[reference]) <= tolerance && learns) {
            wrong.push(label);
        }
        let facts = json!({ "first_loss": first, "precision": process.ready()["precision"], "layout": process.ready()["layout"] });
        report.keep_fact(setting, label, facts);
    }
    for (process, _) in turns {
        process.end()?;
    }
    report.keep(&rows);
    Ok(Timed { rows, wrong })
}

fn first_loss(process: &Process) -> Result<f64> {
    let first = numbers(&process.ready()["losses"]).first().copied();
    first.with_context(|| format!("{} told no losses of its warm-up", process.label()))
}

impl Timed {
    fn right(&self, label: &str) -> bool {
        !self.wrong.contains(&label)
    }

    fn against(&self, setting: &str, ours: &str, peer: &str) -> Spread {
        Spread::of(&ratios(&rates(&self.rows, setting, ours), &rates(&self.rows, setting, peer)))
    }

    fn table(&self, batch: u32, setting: &str) -> Vec<Vec<String>> {
        let row = |label: &str| {
            let rate = Spread::of(&rounds::rates(&self.rows, setting, label));
            let against = self.against(setting, label, EAGER);
            vec![batch.to_string(), label.to_owned(), text::spread(rate), text::spread(against)]
        };
        CONTESTANTS.into_iter().map(row).collect()
    }

    fn judge(&self, setting: &str, report: &mut Report) {
        let pairs = [("fp32 against PyTorch fp32", OURS, EAGER), ("best mode against PyTorch's", OURS_BEST, BEST)];
        for (what, ours, peer) in pairs {
            let figure = format!("{setting}: images/s, {what}");
            let got = self.against(setting, ours, peer);
            report.checks.require(&figure, AtLeast(1.0), got, self.right(ours));
            report.checks.stretch(&figure, AtLeast(1.25), got, self.right(ours));
        }
        let time = ratios(&unit_seconds(&self.rows, setting, LOW), &unit_seconds(&self.rows, setting, OURS));
        let figure = format!("{setting}: time of a step, memory low against normal");
        report.checks.require(&figure, AtMost(1.3), Spread::of(&time), self.right(LOW) && self.right(OURS));
        let figure = format!("{setting}: images/s, memory low in bf16 channels_last against PyTorch fp32");
        report.checks.require(&figure, AtLeast(1.0), self.against(setting, LOW_BEST, EAGER), self.right(LOW_BEST));
    }
}

/// The peaks of memory at one batch size.
fn peaks(bench: &Bench, plan: &Plan, batch: u32, report: &mut Report) -> Result<Vec<Vec<String>>> {
    let setting = format!("batch {batch}, memory");
    let mut measured: Vec<(&str, Once)> = Vec::new();
    for label in [EAGER, BEST, OURS, OURS_BEST, LOW, LOW_BEST] {
        let once = launch(bench, label, plan, batch)?.once(3)?;
        report.keep_fact(
            &setting,
            label,
            json!({ "peak_bytes": once.peak_bytes, "losses": once.answer.line["losses"] }),
        );
        measured.push((label, once));
    }
    let reference = measured[0].1.peak_bytes;
    let losses = |once: &Once| numbers(&once.answer.line["losses"]).first().copied().unwrap_or(f64::NAN);
    let first = losses(&measured[0].1);
    for (label, limit) in [(OURS, 0.8), (LOW, 0.42), (LOW_BEST, 0.22)] {
        let Some((_, once)) = measured.iter().find(|(name, _)| *name == label) else { continue };
        let tolerance = if label == LOW_BEST { FIRST_LOSS_BF16 } else { FIRST_LOSS };
        let right = largest_difference(&[losses(once)], &[first]) <= tolerance;
        if batch == MEMORY_BATCH || bench.quick {
            let figure = format!("batch {batch}: peak memory, {label} against PyTorch fp32");
            report.checks.require(&figure, AtMost(limit), Spread::one(once.peak_bytes / reference), right);
        }
    }
    let row = |(label, once): &(&str, Once)| {
        let numbers = [once.peak_bytes / 1e9, once.peak_bytes / reference].map(text::number);
        let [gigabytes, against] = numbers;
        vec![batch.to_string(), (*label).to_owned(), gigabytes, against]
    };
    Ok(measured.iter().map(row).collect())
}
