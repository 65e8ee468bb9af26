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
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        // Nobody is asked, and a service is not started.
        apt.arg("--quiet=2").args(arguments).envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")]);
        command::output(&mut apt).map(drop)
    };
    let install = || apt(&["install", "--yes", "--no-install-recommends", package]);
    // What packages there are may never have been asked, or long ago.
    install().or_else(|_| apt(&["update"]).and_then(|()| install()))
}
