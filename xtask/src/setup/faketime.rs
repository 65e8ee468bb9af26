//! libfaketime, with which tests set the clocks of processes.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use super::apt;

/// Its file; this one is made for programs of several threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The path of the library, which is preloaded: the system's.
pub fn ensure() -> Result<PathBuf> {
    if let Some(library) = installed() {
        return Ok(library);
    }
    apt::install("libfaketime", "tests in which clocks jump")?;
    installed().context("libfaketime is not installed: install it (Debian: apt-get install libfaketime)")
}

/// Debian has a folder for each architecture; others have it beside their libraries, or where a build from source puts it.
fn installed() -> Option<PathBuf> {
    let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let of_architectures = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    folders.into_iter().chain(of_architectures).map(|folder| folder.join(LIBRARY)).find(|library| library.is_file())
}
