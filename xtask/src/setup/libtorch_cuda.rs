//! A PyTorch with CUDA, to build the trainer of a kit against; nothing here runs it.
//!
//! Its version is the one that machines with GPUs have today. The same program runs on any PyTorch of this version,
//! which brings the libraries that the wheel alone lacks, so they are not fetched: mold links without them.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use super::{is_complete, need_space, stamp};
use crate::{command, command::headline, workspace::Workspace};

const PACKAGE: &str = "torch==2.11.0";
const SPACE: u64 = 3_000_000_000;

/// The folder to set `LIBTORCH` to.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.toolchain.join("libtorch-cuda");
    let torch = directory.join("torch");
    if is_complete(&directory, PACKAGE) && torch.join("lib/libtorch_cuda.so").exists() {
        return Ok(torch);
    }
    headline(&format!("Setting up {PACKAGE} with CUDA, to build against"));
    need_space(&workspace.toolchain, SPACE)?;
    eprintln!("downloading about 530 MB with pip; this happens once");
    command::empty_folder(&directory)?;
    let mut install = Command::new("python3");
    install.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--target"]);
    command::run(install.arg(&directory).arg(PACKAGE))
        .context("pip could not install; if it says why above, mend that and run again")?;
    if !torch.join("lib/libtorch_cuda.so").exists() {
        bail!("{PACKAGE} from this package index has no CUDA: use one that serves PyTorch's wheels for CUDA");
    }
    stamp(&directory, PACKAGE)?;
    Ok(torch)
}
