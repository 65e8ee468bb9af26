//! What the README's commands call: `cargo xtask setup | build | demo | test | bench | soak`.
//!
//! Each does all the set-up that it needs and nothing outside the workspace's own, git-ignored folders. Plain Rust with
//! few dependencies, so that it builds in seconds and before libtorch is there.

mod bench;
mod checks;
mod demo;
mod programs;
mod setup;
mod workspace;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use xtask::command;

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets up, builds, shows, tests and measures ceteris", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
    /// Where libtorch and the test servers are put; `.toolchain` in the workspace unless told
    #[arg(long, global = true, env = "CETERIS_TOOLCHAIN_DIR", hide = true)]
    prefix: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch libtorch into .toolchain/libtorch, or link the one that is there (LIBTORCH, or python3's torch 2.9)
    Setup,
    /// Set up, then build ceteris, ceteris-worker and ceteris-train
    Build(programs::Options),
    /// Build, train two arms on synthetic radiographs on this machine, and print the comparison
    Demo(demo::Options),
    /// Draw the demo's synthetic radiographs into a folder, to try commands on
    Radiographs {
        /// Where to; created if absent
        directory: PathBuf,
    },
    /// Formatting, clippy, every test of every crate and the end-to-end suite
    Test(checks::Options),
    /// Measure ceteris beside PyTorch, and write what was found to docs/benchmarks
    Bench(bench::Options),
    /// Kill, stop and cut off a thousand times, at random, what trains, and see that nothing is lost
    Soak(bench::soak::Options),
    /// Pack what measures a GPU elsewhere, without network and compiler
    GpuKit(bench::kit::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = Workspace::new(arguments.prefix).and_then(|workspace| run(&workspace, &arguments.task));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that was asked for holds.
fn run(workspace: &Workspace, task: &Task) -> anyhow::Result<bool> {
    match task {
        Task::Setup => setup::libtorch::ensure(workspace)?,
        Task::Build(options) => drop(programs::build(workspace, options)?),
        Task::Demo(options) => demo::run(workspace, options)?,
        Task::Radiographs { directory } => demo::draw(directory)?,
        Task::Test(options) => checks::run(workspace, options)?,
        Task::Bench(options) => return bench::run(workspace, options),
        Task::Soak(options) => return bench::soak::run(workspace, options),
        Task::GpuKit(options) => bench::kit::pack(workspace, options)?,
    }
    Ok(true)
}
