//! `cargo xtask bench NAME`: what is faster or smaller than the PyTorch script that ceteris replaces, and by how much.
//!
//! Every benchmark sets programs against each other in the same run. A benchmark's rounds go from program to program
//! while the others wait, so that a ratio is always one of neighbours; medians and spreads are of those ratios. What
//! was computed is compared in the same run, and a figure whose results are wrong counts as zero. Raw rows and a table
//! are written to `docs/benchmarks`; `--check` fails where a figure falls short of what is required.
//!
//! # The protocol
//!
//! Ours (`ceteris-train bench SUBJECT`, and the example `bench_import` of the crate `ceteris`) and the peers
//! (`python3 peers/SUBJECT.py`) are programs that take the same flags and speak the same lines:
//!
//! 1. It reads what its flags name, does `--warm-up` units of work, and prints one line of JSON to stdout:
//!    `{"ready": true, "program": "ceteris-train 0.1.0", "libtorch": "2.9.1", "threads": 2, …}`. `threads` is what the
//!    library says it uses, not what was asked for. The subject adds its own facts.
//! 2. For each line `go N` on stdin it does N units of work and prints one line of JSON, with the wall time of exactly
//!    that work: `{"seconds": 3.2, "images": 32, …}`. Until the next line it waits in a read and does not spin.
//! 3. At the end of stdin it exits with 0. What goes wrong is said on stderr, with an exit status that is not 0.
//!
//! Nothing else is printed to stdout. The harness sets `OMP_NUM_THREADS`, `OMP_WAIT_POLICY=passive` and the like for
//! both sides, and reads the peak of resident memory (`VmHWM`) from `/proc` itself, in processes that do one thing.
//!
//! ## Flags of every subject
//!
//! | flag | meaning |
//! |---|---|
//! | `--threads N` | threads within an operation |
//! | `--device D` | `cpu` (default) or `cuda:0` |
//! | `--precision P` | `fp32` (default), `tf32`, `bf16` (autocast with fp32 parameters), `fp64` (parameters and all else) |
//! | `--layout L` | `contiguous`, `channels_last`, or `auto` (default): what training uses unless told; PyTorch's is contiguous |
//! | `--deterministic` | deterministic algorithms; only differs on GPUs |
//! | `--warm-up N` | units of work before the first line |
//!
//! On `cuda` a measured stretch ends with a synchronisation. Facts in the first line besides those above: `device` (the
//! model's name), `precision`, `layout` (the one that `auto` chose).
//!
//! ## Files
//!
//! * `--weights F`: safetensors with torchvision's names (`features.conv0.weight`, …, `classifier.bias`) of a
//!   DenseNet121 with two classes, fp32, without `num_batches_tracked`. The classifier is used as it is.
//! * `--images F`: safetensors with `images`, fp32 `[n, 3, height, width]`, normalised, and `labels`, int64 `[n]`.
//! * `--data DIR`: a packed data set, `DIR/manifest.json` and `DIR/shard-0000`, `shard-0001`, … in the manifest's order.
//! * `--orders F` (peers only): JSON, a list with the order of samples of each epoch.
//! * `--scratch DIR`: an existing folder for what the program writes.
//!
//! ## Subjects
//!
//! **`train-step`** `--weights F --images F --batch N [--memory normal|low] [--lr 1e-3]`. One unit is one step of
//! training everything: forward on the first N images, cross entropy, backward, Adam with PyTorch's defaults. The first
//! line has `losses`, those of the warm-up's steps; an answer has `losses`, one for each of its steps. With
//! `--data DIR` in place of `--images` the batches come from the input pipeline, flipped, epoch after epoch. Ours goes
//! without what `--without one-operation|fused-norm|one-pass-adam` names, as often as wanted.
//!
//! **`features`** `--weights F --images F --batch N`. One unit is one batch through the backbone in inference mode. The
//! first line has `features`, the pooled features of the first image (fp32, 1024 numbers).
//!
//! **`frozen-sweep`** `--weights F --data DIR --batch N --lrs A,B,… --seeds A,B,… --epochs N --scratch DIR`. Arms that
//! train the classifier alone, with Adam, for each learning rate and seed; no augmentation; everything else frozen, its
//! BatchNorm in inference mode. Ours: one unit is the whole sweep with nothing cached before. The first line has
//! `orders`: the order of samples (indices in the manifest) in each epoch of the first seed. An answer has `samples`
//! (of the data set, all of which an arm is trained or scored on), `backbone_samples` (images that went through the
//! backbone, each as often as it did), `heads` (arms trained) and `losses`: the mean training loss of each epoch of the
//! first arm (first learning rate, first seed). The peer: one unit is one epoch of the first arm, in the given order; an
//! answer has `losses`, one for each of its epochs. Ours also evaluates and writes checkpoints, which the peer does not.
//!
//! **`partial`** `--weights F --data DIR --batch N --lr X --seed N --scratch DIR`. One arm that trains `denseblock4`,
//! `norm5` and the classifier; below, frozen and in inference mode. One unit is one epoch; of ours, with the evaluation
//! and the checkpoint of the epoch before. The first epoch belongs to the warm-up: the first line has `losses` with its
//! mean training loss, `first_epoch_seconds` and, from ours, `orders` of the first 16 epochs. An answer has `losses`,
//! one for each of its epochs, and `backbone_samples`.
//!
//! **`input`** `--data DIR --batch N --seed N`. One unit is one pass over the training split in the order of an epoch:
//! each image flipped or not, normalised, in batches as the network takes them. The first line has, over one pass that
//! is not timed and over the first channel, three numbers that do not depend on order and flips: `mean`, `mean_square`,
//! and `row_moment`, the mean of value × row (0 at the top); and `flipped`, the share of images that were flipped. The
//! peer reads `--folder DIR`, the PNG files that were packed.
//!
//! **`import`** `--folder DIR --image-size N --scratch DIR`. One unit is one pass over the images of a class folder,
//! from files to 8-bit grey pixels. Ours leaves the packed data set in `DIR/packed`; the peer takes it as
//! `--packed DIR`, and its first line has `difference`, the largest mean absolute difference of an image in grey levels.
//!
//! **`checkpoint`** `--weights F --data DIR --batch N --trainable all|head --scratch DIR`. One unit is one epoch that
//! ends in a checkpoint. An answer has `stall_seconds`, the part of `seconds` in which the training thread worked or
//! waited for checkpoints, and `bytes`, what the last checkpoint wrote (for `head`, what is frozen is not written).
//! Writing ends before the next answer, and counts neither as `seconds` nor as stall if training did not wait for it.
//!
//! **`load`** `--weights F --images F --batch N --scratch DIR`. It makes one step of training everything, saves model and
//! optimizer, and then loads them; one unit is one load, from a file in the page cache to tensors in memory of their own.
//! The first line has `bytes`, the size of what is loaded, and `norm`, the L2 norm of all loaded parameters and of
//! Adam's first moments, each taken as a whole: `[model, moments]`.
//!
//! **`metrics`** `--scratch DIR`, of ours the example `bench_metrics` of the crate `ceteris-coordinator`. One unit is one event of a
//! thousand points from each of 16 workers; of the peer one `log_batch` of a thousand metrics. An answer has as `images`
//! the points that are durable then, and `right`: whether what is read is what was sent. Ours also has `reads`, how often a
//! reader read meanwhile, `log_bytes`, the largest length of the write-ahead log, and `fdatasync_per_second`, the rate of a
//! block that is written and synchronised right before the round.

mod ablation;
mod checkpoint;
mod checks;
mod frozen;
mod gpu;
mod input;
pub mod kit;
mod losses;
mod machine;
mod material;
mod metrics;
mod plan;
mod process;
mod recovery;
mod report;
mod rounds;
mod scheduler;
mod simulation;
pub mod soak;
mod spread;
mod statistics;
mod text;
mod train_step;

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use self::{process::Launch, report::Report};
use crate::{
    command::headline,
    programs::{self, Programs},
    setup,
    workspace::Workspace,
};

#[derive(Args, Debug)]
pub struct Options {
    /// What to measure
    name: Name,
    /// Fail where a figure falls short of what is required
    #[arg(long)]
    check: bool,
    /// Small sizes and few rounds, to see that everything runs; the figures mean nothing and no page is written
    #[arg(long)]
    quick: bool,
    /// Measure the programs in this folder (ceteris-train, examples/bench_import) instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where the page and the raw rows are written; docs/benchmarks unless told
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Threads of both sides
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// With `gpu`: a folder that `cargo xtask gpu-kit` packed
    #[arg(long, value_name = "DIR")]
    kit: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Speed, memory and losses of training steps
    TrainStep,
    /// What each thing that makes training steps fast or small brings
    Ablation,
    /// Many heads on a frozen backbone
    FrozenSweep,
    /// Epochs of an arm that trains the last dense block
    Partial,
    /// Reading packed data and importing images
    Input,
    /// Writing and loading checkpoints
    Checkpoint,
    /// Planning as many runs as one experiment may have
    Plan,
    /// Taking in what workers measure
    Metrics,
    /// How often verdicts and intervals are wrong, on made-up studies
    Statistics,
    /// Whether a simulated fleet breaks a rule, on many seeds
    Simulation,
    /// Deciding about a million queued segments, and giving segments away durably
    Scheduler,
    /// How soon a standby coordinator goes on, and what an idle one takes
    Recovery,
    /// Training and feature extraction on a GPU, from a packed kit
    Gpu,
}

/// What benchmarks are run with.
struct Bench {
    places: Places,
    /// Where real data may be.
    shared: PathBuf,
    threads: u32,
    quick: bool,
}

/// Where everything lies that is run, read and written.
struct Places {
    trainer: PathBuf,
    importer: PathBuf,
    python: PathBuf,
    /// The folder of the peers' scripts.
    peers: PathBuf,
    /// What is drawn and written meanwhile.
    work: PathBuf,
    /// Where the trainer finds libtorch, if it was built elsewhere.
    libraries: Option<OsString>,
}

impl Bench {
    /// The trainer, measured in `subject`.
    fn ours(&self, label: &str, subject: &str) -> Launch {
        let launch = Launch::new(label, &[self.places.trainer.as_os_str(), OsStr::new("bench"), OsStr::new(subject)]);
        match &self.places.libraries {
            Some(libraries) => launch.variable("LD_LIBRARY_PATH", libraries),
            None => launch,
        }
    }

    /// One of the peers' scripts.
    fn peer(&self, label: &str, script: &str) -> Launch {
        let script = self.places.peers.join(script);
        Launch::new(label, &[self.places.python.as_os_str(), OsStr::new("-B"), script.as_os_str()])
    }

    /// In the workspace: everything is built and set up first.
    fn in_workspace(workspace: &Workspace, options: &Options) -> Result<Self> {
        let programs = match &options.programs {
            Some(folder) => Programs::in_folder(folder)?,
            None => programs::for_benchmarks(workspace)?,
        };
        let shared = env::var_os("CETERIS_SHARED_DIR").map_or_else(|| workspace.root.join("../shared"), PathBuf::from);
        Ok(Self {
            places: Places {
                trainer: programs.trainer(),
                importer: programs.importer(),
                python: setup::reference::ensure(workspace)?,
                peers: workspace.root.join("xtask/src/bench/peers"),
                work: workspace.root.join(".ceteris/bench"),
                libraries: None,
            },
            shared: shared.join("data"),
            threads: options.threads,
            quick: options.quick,
        })
    }
}

/// Runs a benchmark and shows its figures last. Whether nothing that was asked for fell short.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let bench = || {
        let bench = Bench::in_workspace(workspace, options)?;
        headline("Measuring; leave the machine alone meanwhile");
        Ok::<_, anyhow::Error>(bench)
    };
    let report = match (options.name, &options.kit) {
        (Name::Gpu, Some(kit)) => gpu::run(&kit::bench(kit, options)?, &kit.join(kit::DATA))?,
        (Name::Gpu, None) => bail!(
            "a GPU is measured from a kit: pack one with `cargo xtask gpu-kit -o gpu-kit.tar.gz`, unpack it on the \
             machine with the GPU, and start its run.sh (docs/benchmarks/gpu.md)"
        ),
        (Name::Plan, None) => plan::run(workspace, options.quick)?,
        (Name::Metrics, None) => metrics::run(workspace, options.quick)?,
        (Name::Statistics, None) => statistics::run(workspace, options.quick)?,
        (Name::Simulation, None) => simulation::run(workspace, options.quick, options.threads)?,
        (Name::Scheduler, None) => scheduler::run(workspace, options.quick)?,
        (Name::Recovery, None) => recovery::run(workspace, options.quick)?,
        (_, Some(_)) => bail!("--kit is for `bench gpu` alone"),
        (Name::TrainStep, None) => train_step::run(&bench()?)?,
        (Name::Ablation, None) => ablation::run(&bench()?)?,
        (Name::FrozenSweep, None) => frozen::sweep(&bench()?)?,
        (Name::Partial, None) => frozen::partial(&bench()?)?,
        (Name::Input, None) => input::run(&bench()?)?,
        (Name::Checkpoint, None) => checkpoint::run(&bench()?)?,
    };
    if options.quick && options.output.is_none() {
        eprintln!("--quick: no page is written");
    } else {
        report.write(&pages(workspace, options.output.as_deref()))?;
    }
    Ok(concludes(&report) || !options.check)
}

/// Where pages are written.
fn pages(workspace: &Workspace, told: Option<&Path>) -> PathBuf {
    told.map_or_else(|| workspace.root.join("docs/benchmarks"), Path::to_owned)
}

/// Shows the figures; whether none falls short.
fn concludes(report: &Report) -> bool {
    let failed = report.checks.failed();
    print!("{}", conclusion(report, failed));
    failed == 0
}

/// What is printed at the very end.
fn conclusion(report: &Report, failed: usize) -> String {
    let tables =
        report.tables.iter().map(|table| format!("\n{}\n\n{}", table.heading, text::table(&table.head, &table.rows)));
    let required = report.checks.0.iter().filter(|check| !check.stretch).count();
    let verdict = match (required, failed) {
        (0, _) => String::new(),
        (_, 0) => format!("\nAll {required} required figures hold.\n"),
        _ => format!("\n{failed} of {required} required figures fall short.\n"),
    };
    format!("{}{verdict}{}", tables.collect::<String>(), report.figures("\n"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::command;

    fn peers() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/peers")
    }

    #[test]
    fn every_peer_says_what_it_takes_without_loading_pytorch() {
        for entry in peers().read_dir().expect("the folder of peers") {
            let path = entry.expect("it can be listed").path();
            let library = ["common.py", "packed.py"].iter().any(|name| path.ends_with(name));
            if path.extension().is_some_and(|extension| extension == "py") && !library {
                let help = command::output(Command::new("python3").arg("-B").arg(&path).arg("--help"));
                let help = help.unwrap_or_else(|error| panic!("{error:#}"));
                assert!(help.starts_with("usage: "), "{help}");
            }
        }
    }

    #[test]
    fn a_peer_trains_and_answers() {
        let Some(python) = env::var_os("CETERIS_REFERENCE_PYTHON") else {
            eprintln!("skipped: a_peer_trains_and_answers needs CETERIS_REFERENCE_PYTHON");
            return;
        };
        let directory = tempfile::tempdir().expect("a temporary folder");
        let places = Places {
            trainer: PathBuf::new(),
            importer: PathBuf::new(),
            python: python.into(),
            peers: peers(),
            work: directory.path().to_owned(),
            libraries: None,
        };
        let bench = Bench { places, shared: PathBuf::new(), threads: 1, quick: true };
        let images = bench.images(material::Images { seed: 0, count: 2, size: 32 }).expect("images");
        let weights = bench.weights(0).expect("weights");
        let launch = bench.peer("PyTorch", "train_step.py").flag("--weights", weights).flag("--images", images);
        let once = launch.flag("--batch", "2").flag("--warm-up", "1").threads(1).once(2).expect("two steps");
        let losses = process::numbers(&once.answer.line["losses"]);
        assert_eq!((once.answer.images, losses.len()), (4.0, 2));
        assert!(losses.iter().all(|loss| loss.is_finite() && *loss > 0.0), "{losses:?}");
        assert_eq!(process::numbers(&once.ready["losses"]).len(), 1);
        assert!(once.peak_bytes > 1e8, "{}", once.peak_bytes);
    }

    #[test]
    fn the_conclusion_ends_with_the_figures() {
        let mut report = Report::default();
        let required = checks::Required::AtLeast(1.0);
        report.checks.require("images/s against PyTorch", required, spread::Spread::one(1.5), true);
        insta::assert_snapshot!(conclusion(&report, report.checks.failed()));
        report.checks.require("the same, but slower", required, spread::Spread::one(0.5), true);
        insta::assert_snapshot!(conclusion(&report, report.checks.failed()));
    }
}
