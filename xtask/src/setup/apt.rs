//! What the system has a package for: it is the system's own where it is there, and is installed where this is root on a
//! system with apt.

use std::process::Command;

use anyhow::Result;
use rustix::process::getuid;

use crate::{command, command::headline};

/// Installs a package, whose use `purpose` tells, if that can be done without asking anybody. Whoever calls this looks for
/// what was to be installed afterwards.
///
/// # Errors
/// When apt fails.
pub fn install(package: &str, purpose: &str) -> Result<()> {
    if !getuid().is_root() || !command::exists("apt-get", &["--version"]) {
        return Ok(());
    }
    headline(&format!("Installing {package}, for {purpose}"));
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--quiet=2", "--no-install-recommends", package]);
    // Nobody is asked, and a service is not started.
    install.envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")]);
    command::output(&mut install).map(drop)
}
