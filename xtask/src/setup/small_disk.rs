//! A file system of some megabytes in memory, so that tests can fill a disk. Only root may mount one.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::command;

/// Mounted while it lives.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts it in the folder for temporary files.
    ///
    /// # Errors
    /// When this user may not mount file systems.
    pub fn mount() -> Result<Self> {
        let folder = env::temp_dir().join(format!("ceteris-small-disk-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        // From here on dropping it cleans up.
        let disk = Self { folder };
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m,mode=700", "ceteris-small-disk"]).arg(&disk.folder);
        command::output(&mut mount).context("no small disk to fill: run as root, or leave its one test out")?;
        Ok(disk)
    }

    /// Where tests find it.
    pub fn environment(&self) -> (&'static str, &std::path::Path) {
        ("CETERIS_TEST_SMALL_DISK", &self.folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Where it was never mounted this fails, and there is only an empty folder to remove.
        let _ = command::output(Command::new("umount").arg(&self.folder));
        let _ = fs::remove_dir(&self.folder);
    }
}
