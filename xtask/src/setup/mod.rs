//! Fetches what is not Rust. Everything goes below the workspace's `.toolchain`; a stamp file, written last, says that
//! a part is complete, so a set-up that was interrupted is done again.

mod apt;
pub mod faketime;
pub mod hyperqueue;
pub mod libtorch;
pub mod libtorch_cuda;
pub mod mlflow;
pub mod postgres;
pub mod python;
pub mod reference;
pub mod seaweedfs;
pub mod small_disk;

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::command;

const STAMP: &str = "ceteris-setup";

/// Whether `directory` was completely made from `source`.
fn is_complete(directory: &Path, source: &str) -> bool {
    fs::read_to_string(directory.join(STAMP)).is_ok_and(|stamp| stamp.trim() == source)
}

/// Says that `directory` was completely made from `source`.
fn stamp(directory: &Path, source: &str) -> Result<()> {
    let path = directory.join(STAMP);
    fs::write(&path, format!("{source}\n")).with_context(|| format!("cannot write {}", path.display()))
}

/// Fails unless `bytes` more fit on the disk that holds `directory`.
fn need_space(directory: &Path, bytes: u64) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let disk =
        rustix::fs::statvfs(directory).with_context(|| format!("cannot ask for space in {}", directory.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < bytes {
        bail!(
            "{} has {:.1} GB free and {:.1} GB are needed: free some space, or make .toolchain a link to a folder \
             on a larger disk",
            directory.display(),
            free as f64 / 1e9,
            bytes as f64 / 1e9
        );
    }
    Ok(())
}

/// An empty shared library, for a name that a linker or a loader asks for and nobody calls.
fn stub_library(path: &Path) -> Result<()> {
    let name = path.file_name().context("a library has a name")?.to_string_lossy().into_owned();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut command = std::process::Command::new(compiler);
    command.args(["-shared", "-x", "c", "/dev/null", "-o"]).arg(path).arg(format!("-Wl,-soname,{name}"));
    command::output(&mut command)
        .map(|_| ())
        .context("a C compiler is needed: install one (Debian: apt-get install build-essential), or name one in CC")
}
