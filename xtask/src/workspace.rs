//! Where everything lies.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The folders that tasks read and write.
pub struct Workspace {
    /// The workspace's root.
    pub root: PathBuf,
    /// What set-up fetched.
    pub toolchain: PathBuf,
}

impl Workspace {
    /// The workspace that this program was built in; `prefix` instead of its `.toolchain`.
    pub fn new(prefix: Option<PathBuf>) -> Result<Self> {
        // Cargo tells where the package lies now; the path at build time may be of a folder that was moved.
        let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&package).parent().context("xtask is not inside the workspace")?.to_owned();
        let toolchain = prefix.unwrap_or_else(|| root.join(".toolchain"));
        Ok(Self { toolchain: std::path::absolute(toolchain)?, root })
    }

    /// The prefix that `.cargo/config.toml` names as `LIBTORCH`.
    pub fn libtorch(&self) -> PathBuf {
        self.toolchain.join("libtorch")
    }
}
