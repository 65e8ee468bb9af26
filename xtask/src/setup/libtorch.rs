//! libtorch, for the trainer alone: headers and libraries in one prefix, `.toolchain/libtorch`.
//!
//! The published wheel is built for CUDA, and its `libtorch.so` pulls in gigabytes that a CPU never calls. So only the
//! CPU part is kept (487 MB of 1.7 GB), with an empty `libtorch.so` for the linker's `-ltorch`. A build for GPUs uses a
//! whole PyTorch instead, by setting `LIBTORCH` (see CONTRIBUTING.md).

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{is_complete, need_space, python, stamp, stub_library};
use crate::{command, command::headline, workspace::Workspace};

const VERSION: &str = "2.9.1";
/// What is downloaded, and what the CPU part of it needs to be loaded.
const WHEELS: [&str; 3] = ["torch==2.9.1", "nvidia-cuda-runtime-cu12==12.8.90", "nvidia-cuda-cupti-cu12==12.8.90"];
/// The wheels and what is unpacked from them, while both are there.
const SPACE: u64 = 1_600_000_000;
/// A header and a library that every libtorch has.
const EVIDENCE: [&str; 2] = ["include/torch/csrc/api/include/torch/torch.h", "lib/libtorch_cpu.so"];

/// Where a libtorch can come from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// The user named one.
    Named(PathBuf),
    /// `python3` has one of a supported version.
    Python(PathBuf, String),
    /// The package index.
    Wheels,
}

impl Source {
    fn describe(&self) -> String {
        match self {
            Self::Named(path) => format!("LIBTORCH={}", path.display()),
            Self::Python(path, version) => format!("torch {version} in {}", path.display()),
            Self::Wheels => WHEELS.join(" "),
        }
    }
}

/// Makes the prefix complete, whatever state it is in.
pub fn ensure(workspace: &Workspace) -> Result<()> {
    let prefix = workspace.libtorch();
    // What is complete stays, also if a PyTorch was installed later: another prefix would mean another build.
    let named = named(workspace);
    let source = match &named {
        None if is_complete(&prefix, &Source::Wheels.describe()) && holds_libtorch(&prefix) => return Ok(()),
        None => find(),
        Some(path) => Source::Named(path.clone()),
    };
    if is_complete(&prefix, &source.describe()) && holds_libtorch(&prefix) {
        return Ok(());
    }
    headline(&format!("Setting up libtorch from {}", source.describe()));
    let fresh = workspace.toolchain.join("libtorch.unfinished");
    make(&source, &fresh, &workspace.toolchain).context("set-up of libtorch failed")?;
    stamp(&fresh, &source.describe())?;
    command::remove(&prefix)?;
    fs::rename(&fresh, &prefix).with_context(|| format!("cannot rename {}", fresh.display()))
}

/// What the user put into `LIBTORCH`. If the user did not, Cargo sets the variable to the workspace's own prefix.
fn named(workspace: &Workspace) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os("LIBTORCH").filter(|value| !value.is_empty())?);
    let ours = [workspace.libtorch(), workspace.root.join(".toolchain/libtorch")];
    (!ours.contains(&path)).then_some(path)
}

fn find() -> Source {
    match python::torch() {
        Some((path, version)) if version.starts_with("2.9.") && holds_libtorch(&path) => Source::Python(path, version),
        _ => Source::Wheels,
    }
}

fn holds_libtorch(path: &Path) -> bool {
    EVIDENCE.iter().all(|file| path.join(file).exists())
}

fn make(source: &Source, prefix: &Path, toolchain: &Path) -> Result<()> {
    command::empty_folder(prefix)?;
    match source {
        Source::Named(path) => link_whole(path, prefix),
        Source::Python(path, version) => link_cpu_part(path, version, prefix),
        Source::Wheels => download(prefix, toolchain),
    }
}

/// The user's libtorch as it is, CUDA included.
fn link_whole(path: &Path, prefix: &Path) -> Result<()> {
    if !holds_libtorch(path) {
        bail!(
            "LIBTORCH is {}, which does not hold {}: set it to an unpacked libtorch or to the folder of a Python \
             package `torch`, or unset it to have one fetched",
            path.display(),
            EVIDENCE.join(" and ")
        );
    }
    for name in ["include", "lib", "build-version", "version.py"] {
        let target = fs::canonicalize(path.join(name));
        if let Ok(target) = target {
            link(&target, &prefix.join(name))?;
        }
    }
    Ok(())
}

/// The CPU part of a PyTorch, file by file, next to the two CUDA libraries it cannot be loaded without.
fn link_cpu_part(path: &Path, version: &str, prefix: &Path) -> Result<()> {
    let (from, to) = (path.join("lib"), prefix.join("lib"));
    fs::create_dir_all(&to)?;
    link(&path.join("include"), &prefix.join("include"))?;
    let built_for_cuda = from.join("libtorch_cuda.so").exists();
    for entry in fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let unwanted =
            ["cuda", "nvrtc", "python", "nvshmem", "shm", "global_deps"].iter().any(|part| name.contains(part));
        if name.contains(".so") && !unwanted && !(built_for_cuda && name == "libtorch.so") {
            link(&entry.path(), &to.join(name))?;
        }
    }
    if built_for_cuda {
        let packages = path.parent().context("torch is in a folder of packages")?.join("nvidia");
        for library in ["cuda_runtime/lib/libcudart.so.12", "cuda_cupti/lib/libcupti.so.12"] {
            let library = packages.join(library);
            if let (true, Some(name)) = (library.exists(), library.file_name()) {
                link(&library, &to.join(name))?;
            }
        }
        stub_library(&to.join("libtorch.so"))?;
    }
    fs::write(prefix.join("build-version"), version).context("cannot write build-version")
}

fn link(target: &Path, path: &Path) -> Result<()> {
    symlink(target, path).with_context(|| format!("cannot link {} to {}", path.display(), target.display()))
}

fn download(prefix: &Path, toolchain: &Path) -> Result<()> {
    if (env::consts::OS, env::consts::ARCH) != ("linux", "x86_64") {
        bail!(
            "a libtorch is fetched for linux on x86_64 only, and this is {} on {}. Install PyTorch 2.9 for python3 \
             (pip install torch=={VERSION}), or set LIBTORCH to an unpacked libtorch 2.9, and run this again",
            env::consts::OS,
            env::consts::ARCH
        );
    }
    need_space(toolchain, SPACE)?;
    let wheels = toolchain.join("download");
    command::empty_folder(&wheels)?;
    eprintln!("downloading about 910 MB with pip; this happens once");
    let outcome = python::download(&WHEELS, &wheels).and_then(|()| {
        eprintln!("unpacking the part that a CPU needs");
        python::run(include_str!("unpack.py"), &[wheels.as_path(), prefix]).context("the wheels cannot be unpacked")
    });
    command::remove(&wheels)?;
    outcome?;
    stub_library(&prefix.join("lib/libtorch.so"))?;
    fs::write(prefix.join("build-version"), VERSION).context("cannot write build-version")
}
