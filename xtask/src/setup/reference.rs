//! A Python with PyTorch and torchvision: the reference that networks, losses and checkpoints are compared with.
//!
//! The published packages are built for CUDA, and `pip install torch` fetches 7 GB of it. Nothing of that is called on
//! a CPU, so it is left out (2 GB remain): names that the loader asks for are empty libraries, and a `.pth` file has
//! Python bind functions when they are called and not when their library is loaded.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{is_complete, need_space, python, stamp, stub_library};
use crate::{command, command::headline, workspace::Workspace};

const SOURCE: &str = "torch==2.9.1 torchvision==0.24.1";
const SPACE: u64 = 3_200_000_000;
/// All that is used of it and of what it depends on.
const PACKAGES: [&str; 16] = [
    "--no-deps",
    "torch==2.9.1",
    "torchvision==0.24.1",
    "nvidia-cuda-runtime-cu12==12.8.90",
    "nvidia-cuda-cupti-cu12==12.8.90",
    "filelock",
    "fsspec",
    "jinja2",
    "markupsafe",
    "mpmath",
    "networkx",
    "numpy",
    "pillow",
    "safetensors",
    "sympy",
    "typing-extensions",
];
/// What PyTorch's CUDA libraries ask the loader for.
const STUBS: [&str; 10] = [
    "libcublas.so.12",
    "libcublasLt.so.12",
    "libcudnn.so.9",
    "libcufft.so.11",
    "libcufile.so.0",
    "libcurand.so.10",
    "libcusparse.so.12",
    "libcusparseLt.so.0",
    "libnccl.so.2",
    "libnvshmem_host.so.3",
];
const CHECK: &str = "import torch, torchvision, safetensors.torch
assert torchvision.models.densenet121().eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)";

/// The Python: the one that `CETERIS_REFERENCE_PYTHON` names, `python3` if it has what is needed, or one that is made.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(named) = env::var_os("CETERIS_REFERENCE_PYTHON") {
        return Ok(named.into());
    }
    let directory = workspace.toolchain.join("reference");
    let program = directory.join("bin/python");
    if is_complete(&directory, SOURCE) && program.exists() {
        return Ok(program);
    }
    if works(Path::new("python3")) {
        return Ok("python3".into());
    }
    headline("Setting up PyTorch and torchvision, to compare with");
    make(workspace, &directory).context("set-up of the reference failed")?;
    if !works(&program) {
        bail!(
            "set-up of the reference failed: {} cannot run torchvision's densenet121. Name a Python that can in \
             CETERIS_REFERENCE_PYTHON, or leave these tests out with --no-reference",
            program.display()
        );
    }
    stamp(&directory, SOURCE)?;
    Ok(program)
}

fn works(python: &Path) -> bool {
    command::output(Command::new(python).args(["-c", CHECK])).is_ok()
}

fn make(workspace: &Workspace, directory: &Path) -> Result<()> {
    python::check_version()?;
    need_space(&workspace.toolchain, SPACE)?;
    eprintln!("downloading about 930 MB with pip; this happens once, and --no-reference leaves it out");
    python::environment(directory, &PACKAGES)?;
    const WHERE: &str = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = command::output(Command::new(directory.join("bin/python")).args(["-c", WHERE]))?;
    let packages = Path::new(packages.trim());
    let libraries = packages.join("torch/lib");
    if libraries.join("libtorch_cuda.so").exists() {
        for name in STUBS {
            stub_library(&libraries.join(name))?;
        }
        fs::write(packages.join("lazy.pth"), "import os, sys; sys.setdlopenflags(os.RTLD_LAZY)\n")
            .context("cannot write lazy.pth")?;
    }
    Ok(())
}
