//! What the README's commands call: `cargo xtask setup | build | demo | test`.
//!
//! Each does all the set-up that it needs and nothing outside the workspace's own, git-ignored folders. Plain Rust with
//! few dependencies, so that it builds in seconds and before libtorch is there.

mod bench;
mod checks;
mod command;
mod demo;
mod programs;
mod setup;
mod workspace;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets up, builds, shows and tests ceteris", version)]
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
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = Workspace::new(arguments.prefix).and_then(|workspace| match &arguments.task {
        Task::Setup => setup::libtorch::ensure(&workspace),
        Task::Build(options) => programs::build(&workspace, options).map(|_| ()),
        Task::Demo(options) => demo::run(&workspace, options),
        Task::Radiographs { directory } => demo::draw(directory),
        Task::Test(options) => checks::run(&workspace, options),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
