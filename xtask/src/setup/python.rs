//! Python is how PyTorch's libraries are published, so pip fetches them and Python's zipfile unpacks them.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::command;

const NO_PIP: &str = "Python's pip is needed to fetch packages: install it (Debian: apt-get install python3-pip \
                      python3-venv), or, for libtorch alone, unpack one yourself and set LIBTORCH to it";

/// Downloads wheels, without what they depend on, into `directory`. Any pip of the last years can do this whatever
/// Python it belongs to, because the platform is named.
pub fn download(requirements: &[&str], directory: &Path) -> Result<()> {
    let mut check = Command::new("python3");
    command::output(check.args(["-m", "pip", "--version"])).context(NO_PIP)?;
    let mut download = Command::new("python3");
    download.args(["-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--only-binary=:all:"]);
    download.args(["--implementation", "cp", "--python-version", "3.11", "--abi", "cp311", "--abi", "none"]);
    for platform in ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"] {
        download.args(["--platform", platform]);
    }
    download.arg("--dest").arg(directory).args(requirements);
    command::run(&mut download).context("pip could not download; if it says why above, mend that and run again")
}

/// Runs a Python program and returns what it prints.
pub fn run(program: &str, arguments: &[&Path]) -> Result<String> {
    let mut python = Command::new("python3");
    command::output(python.arg("-c").arg(program).args(arguments))
}

/// A fresh virtual environment with `packages` in it. pip's own words go to stderr.
pub fn environment(directory: &Path, packages: &[&str]) -> Result<()> {
    command::remove(directory)?;
    let mut create = Command::new("python3");
    command::output(create.args(["-m", "venv"]).arg(directory)).context(NO_PIP)?;
    let mut install = Command::new(directory.join("bin/python"));
    install.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet"]).args(packages);
    command::run(&mut install).context("pip could not install; if it says why above, mend that and run again")
}

/// The folder of the PyTorch that `python3` would import, and its version.
pub fn torch() -> Option<(std::path::PathBuf, String)> {
    const FIND: &str = "import importlib.util as u, os, runpy
spec = u.find_spec('torch')
root = os.path.dirname(spec.origin)
print(root)
print(runpy.run_path(os.path.join(root, 'version.py'))['__version__'])";
    let found = run(FIND, &[]).ok()?;
    let (root, version) = found.trim().split_once('\n')?;
    Some((root.into(), version.to_owned()))
}

/// Fails unless a Python that the reference and the test server have wheels for is there.
pub fn check_version() -> Result<()> {
    let version = run("import sys; print(sys.version_info[0] * 100 + sys.version_info[1])", &[])
        .context("python3 is needed: install it (Debian: apt-get install python3 python3-pip python3-venv)")?;
    match version.trim().parse::<u32>() {
        Ok(310..=314) => Ok(()),
        _ => bail!("PyTorch 2.9.1 has wheels for Python 3.10 to 3.14, and python3 is another version"),
    }
}
