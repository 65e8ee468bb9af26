//! HyperQueue, a task scheduler beside which ours is measured. The PyPI package holds server and worker.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{is_complete, need_space, python, stamp};
use crate::{command::headline, workspace::Workspace};

const PACKAGE: &str = "hyperqueue==0.27.0";
const SPACE: u64 = 100_000_000;

/// The path of a Python that has it.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.toolchain.join("hyperqueue");
    let program = directory.join("bin/python");
    if !(is_complete(&directory, PACKAGE) && program.exists()) {
        headline("Setting up HyperQueue, to measure beside it");
        need_space(&workspace.toolchain, SPACE)?;
        python::environment(&directory, &[PACKAGE]).context("set-up of HyperQueue failed")?;
        stamp(&directory, PACKAGE)?;
    }
    Ok(program)
}
