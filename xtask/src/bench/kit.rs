//! `cargo xtask gpu-kit`: everything that measures a GPU on a machine without network, compiler and source code.
//!
//! A kit is a folder with the trainer, built against a PyTorch with CUDA; this program; the peers' scripts; a packed
//! data set; and `run.sh`, which is the one command. It runs against the PyTorch that is installed there.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::{Bench, Places, gpu};
use crate::{
    command,
    command::headline,
    programs::{self, Programs, cargo},
    setup,
    workspace::Workspace,
};

#[derive(Args, Debug)]
pub struct Options {
    /// The kit: a file if its name ends in .tar.gz, else a folder, which must not exist
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Pack this ceteris-train, built against a PyTorch with CUDA, instead of building one
    #[arg(long, value_name = "FILE")]
    trainer: Option<PathBuf>,
    /// Take everything else from this folder of optimised programs (xtask, examples/bench_import) instead of building it
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// The packed data set in a kit.
pub const DATA: &str = "data";
const TRAINER: &str = "ceteris-train";
const PROGRAM: &str = "ceteris-bench";
const PEERS: &str = "peers";
const MAX_BYTES: u64 = 60 << 20;
const RUN: &str = include_str!("run.sh");

/// Packs a kit.
pub fn pack(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.output.exists() {
        bail!("{} exists; remove it or choose another name", options.output.display());
    }
    let programs = match &options.programs {
        Some(folder) => Programs::in_folder(folder)?,
        None => programs::for_benchmarks(workspace)?,
    };
    let trainer = match &options.trainer {
        Some(trainer) => trainer.clone(),
        None => build_trainer(workspace)?,
    };
    let peers = workspace.root.join("xtask/src/bench/peers");
    let bench = Bench {
        places: Places {
            trainer: trainer.clone(),
            importer: programs.importer(),
            python: "python3".into(),
            peers: peers.clone(),
            work: workspace.root.join(".ceteris/bench"),
            libraries: None,
        },
        shared: PathBuf::new(),
        threads: 2,
        quick: false,
    };
    let plan = gpu::kit_plan();
    let data = bench.packed(&bench.radiographs(&plan)?, plan.size)?;
    let kit = workspace.root.join(".ceteris/gpu-kit");
    assemble(&kit, &Parts { trainer, program: programs.xtask(), peers, data })?;
    deliver(&kit, &options.output)
}

/// The trainer against a PyTorch with CUDA: burn decides at compile time, so it is a build of its own.
fn build_trainer(workspace: &Workspace) -> Result<PathBuf> {
    let torch = setup::libtorch_cuda::ensure(workspace)?;
    if !command::exists("mold", &["--version"]) {
        bail!("mold is needed to link without CUDA's libraries: install it (Debian: apt-get install mold)");
    }
    headline("Building ceteris-train for GPUs (about 10 minutes the first time on 2 cores)");
    let target = workspace.root.join("target-gpu");
    let mut build = cargo(workspace);
    build.args(["build", "--release", "--package", "ceteris-train", "--bins"]);
    build.env("LIBTORCH", &torch).env("LIBTORCH_INCLUDE", &torch).env("LIBTORCH_BYPASS_VERSION_CHECK", "1");
    build.env("RUSTFLAGS", "-C link-arg=-fuse-ld=mold").env("CARGO_TARGET_DIR", &target);
    command::run(&mut build).context("the trainer does not build; the compiler says why above")?;
    Ok(target.join("release").join(TRAINER))
}

/// What goes into a kit.
struct Parts {
    trainer: PathBuf,
    program: PathBuf,
    peers: PathBuf,
    data: PathBuf,
}

fn assemble(kit: &Path, parts: &Parts) -> Result<()> {
    command::empty_folder(kit)?;
    copy(&parts.trainer, &kit.join(TRAINER))?;
    copy(&parts.program, &kit.join(PROGRAM))?;
    copy_files(&parts.peers, &kit.join(PEERS), "py")?;
    copy_files(&parts.data, &kit.join(DATA), "")?;
    let run = kit.join("run.sh");
    fs::write(&run, RUN).with_context(|| format!("cannot write {}", run.display()))?;
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755))?;
    let bytes = size(kit)?;
    if bytes > MAX_BYTES {
        bail!("the kit has {bytes} bytes and may have {MAX_BYTES}: is the trainer stripped (--release)?");
    }
    eprintln!("the kit has {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    Ok(())
}

fn deliver(kit: &Path, output: &Path) -> Result<()> {
    let parent = kit.parent().context("a kit is in a folder")?;
    if output.to_string_lossy().ends_with(".tar.gz") {
        let mut tar = Command::new("tar");
        command::run(tar.arg("-czf").arg(output).arg("-C").arg(parent).arg("gpu-kit"))?;
    } else {
        command::run(Command::new("cp").arg("-r").arg(kit).arg(output))?;
    }
    eprintln!("wrote {}", output.display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Copies the files of a folder whose names end so; empty takes all.
fn copy_files(from: &Path, to: &Path, extension: &str) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let path = entry?.path();
        let wanted = extension.is_empty() || path.extension().is_some_and(|found| found == extension);
        if let (true, true, Some(name)) = (wanted, path.is_file(), path.file_name()) {
            copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Bytes of all files below a folder.
fn size(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// Runs from an unpacked kit, with the PyTorch of this machine.
pub(super) fn bench(kit: &Path, options: &super::Options) -> Result<Bench> {
    let kit = std::path::absolute(kit)?;
    let missing = [TRAINER, PEERS, DATA].into_iter().find(|part| !kit.join(part).exists());
    if let Some(missing) = missing {
        bail!("{} is no kit: {missing} is missing; unpack the archive that `cargo xtask gpu-kit` wrote", kit.display());
    }
    let python = env::var_os("CETERIS_REFERENCE_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let libraries = libraries(&python)?;
    Ok(Bench {
        places: Places {
            trainer: kit.join(TRAINER),
            // Nothing is imported here: the kit's data is packed.
            importer: PathBuf::new(),
            peers: kit.join(PEERS),
            work: kit.join("work"),
            libraries: Some(libraries.into()),
            python,
        },
        shared: PathBuf::new(),
        threads: options.threads,
        quick: options.quick,
    })
}

/// The folders in which PyTorch's libraries lie, and those that it was installed with.
fn libraries(python: &Path) -> Result<String> {
    const FIND: &str = "import glob, importlib.util, os
torch = os.path.dirname(importlib.util.find_spec('torch').origin)
packages = os.path.dirname(torch)
known = os.environ.get('LD_LIBRARY_PATH', '').split(':')
print(':'.join([torch + '/lib', *sorted(glob.glob(packages + '/nvidia/*/lib')), *filter(None, known)]))";
    let found = command::output(Command::new(python).args(["-c", FIND]))
        .context("a Python with PyTorch is needed: install one, or name one that has it in CETERIS_REFERENCE_PYTHON")?;
    Ok(found.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a kit, with `trainer` as the trainer.
    fn parts(directory: &Path, trainer: u64) -> Parts {
        let parts = Parts {
            trainer: directory.join("trainer"),
            program: directory.join("xtask"),
            peers: directory.join("scripts"),
            data: directory.join("packed"),
        };
        fs::create_dir_all(&parts.peers).expect("a folder");
        fs::create_dir_all(&parts.data).expect("a folder");
        fs::File::create(&parts.trainer).and_then(|file| file.set_len(trainer)).expect("a file");
        for file in
            [&parts.program, &parts.peers.join("a.py"), &parts.peers.join("a.pyc"), &parts.data.join("shard-0000")]
        {
            fs::write(file, "x").expect("a file");
        }
        parts
    }

    #[test]
    fn a_kit_holds_what_its_command_needs() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let kit = directory.path().join("gpu-kit");
        assemble(&kit, &parts(directory.path(), 5)).expect("a kit");
        let packed = directory.path().join("kit.tar.gz");
        deliver(&kit, &packed).expect("an archive");
        let listed = command::output(Command::new("tar").arg("-tzf").arg(&packed)).expect("a list");
        let mut files: Vec<&str> = listed.lines().filter(|line| !line.ends_with('/')).collect();
        files.sort_unstable();
        let expected = ["ceteris-bench", "ceteris-train", "data/shard-0000", "peers/a.py", "run.sh"];
        assert_eq!(files, expected.map(|file| format!("gpu-kit/{file}")));
        assert!(RUN.contains(PROGRAM) && RUN.contains("bench gpu --kit"));
    }

    #[test]
    fn a_kit_that_is_too_large_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let refused = assemble(&directory.path().join("gpu-kit"), &parts(directory.path(), MAX_BYTES));
        assert!(refused.expect_err("it is too large").to_string().contains("stripped"));
    }
}
