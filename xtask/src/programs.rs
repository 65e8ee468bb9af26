//! Building the programs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{command, command::headline, setup, workspace::Workspace};

#[derive(Args, Debug)]
pub struct Options {
    /// Optimise our own code too; libtorch, which does the training, is optimised either way
    #[arg(long)]
    pub release: bool,
}

/// The folder of the built programs.
pub struct Programs(PathBuf);

impl Programs {
    /// Programs that were built elsewhere.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let programs = Self(std::path::absolute(folder)?);
        for program in [programs.trainer(), programs.importer()] {
            if !program.exists() {
                bail!("{} is missing; leave --programs out to have everything built", program.display());
            }
        }
        Ok(programs)
    }

    pub fn ceteris(&self) -> PathBuf {
        self.0.join("ceteris")
    }

    pub fn trainer(&self) -> PathBuf {
        self.0.join("ceteris-train")
    }

    /// The example that imports again and again; only [`for_benchmarks`] builds it.
    pub fn importer(&self) -> PathBuf {
        self.0.join("examples/bench_import")
    }

    /// This program.
    pub fn xtask(&self) -> PathBuf {
        self.0.join("xtask")
    }
}

/// Sets up libtorch and builds ceteris, ceteris-worker and ceteris-train.
pub fn build(workspace: &Workspace, options: &Options) -> Result<Programs> {
    compile(workspace, options.release, &["--bins"])
}

/// The same, and all tests, so that both have the features that tests ask for and nothing is built twice.
pub fn for_tests(workspace: &Workspace) -> Result<Programs> {
    compile(workspace, false, &["--bins", "--tests"])
}

/// The same, optimised, and what only benchmarks run.
pub fn for_benchmarks(workspace: &Workspace) -> Result<Programs> {
    compile(workspace, true, &["--bins", "--example", "bench_import"])
}

/// An example of a crate that needs no libtorch, such as the one that plans again and again, optimised.
pub fn example(workspace: &Workspace, package: &str, name: &str) -> Result<PathBuf> {
    let mut build = cargo(workspace);
    build.args(["build", "--release", "--package", package, "--example", name]);
    command::run(&mut build).context("the example does not build; the compiler says why above")?;
    Ok(target(workspace)?.join("release/examples").join(name))
}

/// `ceteris`, optimised, and an example of the end-to-end suite that drives it; neither needs libtorch.
pub fn ceteris_and_example(workspace: &Workspace, name: &str) -> Result<(PathBuf, PathBuf)> {
    let mut build = cargo(workspace);
    build.args(["build", "--release", "--package", "ceteris", "--bin", "ceteris"]);
    build.args(["--package", "ceteris-tests", "--example", name]);
    command::run(&mut build).context("they do not build; the compiler says why above")?;
    let release = target(workspace)?.join("release");
    Ok((release.join("ceteris"), release.join("examples").join(name)))
}

/// The programs and an example of the end-to-end suite that runs them, as its tests are built.
pub fn fleet(workspace: &Workspace, example: &str) -> Result<PathBuf> {
    let Programs(folder) = compile(workspace, false, &["--bins", "--tests", "--example", example])?;
    Ok(folder.join("examples").join(example))
}

/// The simulation of a coordinator and its fleet, as its tests are built.
pub fn simulation(workspace: &Workspace) -> Result<PathBuf> {
    let mut build = cargo(workspace);
    build.args(["build", "--package", "ceteris-simulation"]);
    command::run(&mut build).context("the simulation does not build; the compiler says why above")?;
    Ok(target(workspace)?.join("debug/ceteris-simulation"))
}

fn compile(workspace: &Workspace, release: bool, what: &[&str]) -> Result<Programs> {
    setup::libtorch::ensure(workspace)?;
    headline("Building ceteris, ceteris-worker and ceteris-train (about 10 minutes the first time on 2 cores)");
    let mut build = cargo(workspace);
    build.args(["build", "--workspace"]).args(what);
    if release {
        build.arg("--release");
    }
    command::run(&mut build).context("the programs do not build; the compiler says why above")?;
    Ok(Programs(target(workspace)?.join(if release { "release" } else { "debug" })))
}

/// Cargo, in the workspace. What `cargo run` set for this program is not passed on, so that everything looks to the
/// called Cargo as it does when a person calls it, and nothing is built twice.
pub fn cargo(workspace: &Workspace) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&workspace.root);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Cargo's target folder.
pub fn target(workspace: &Workspace) -> Result<PathBuf> {
    let mut metadata = cargo(workspace);
    let text = command::output(metadata.args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo metadata names no target_directory")
}
