//! What `cargo xtask bench recovery` drives: coordinators as processes, faults, and a worker that trains nothing but says
//! everything that a worker says. One line of JSON for each measurement.
//!
//! `bench_recovery hand-over|stale|idle --ceteris PROGRAM --times N [--postgres URL]`

mod hand_over;
mod idle;
mod stale;
mod worker;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ceteris_tests::{Images, Spec};

/// What it is told.
struct Options {
    /// The program `ceteris`.
    ceteris: PathBuf,
    /// How often it is done.
    times: u32,
    /// The server on which databases are made.
    postgres: Option<String>,
}

impl Options {
    fn postgres(&self) -> Result<&str> {
        self.postgres.as_deref().context("--postgres URL is missing")
    }

    /// A command that starts `ceteris`, whatever this process was told by its environment.
    fn program(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.ceteris);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CETERIS_")) {
            command.env_remove(name);
        }
        command.stdin(std::process::Stdio::null());
        command
    }

    /// Imports images and submits `spec`, with files in `folder`, to the coordinator at `url`.
    fn submit(&self, folder: &Path, url: &str, spec: &Spec) -> Result<()> {
        let (images, file) = (folder.join("images"), folder.join("spec.toml"));
        Images::TINY.write(&images);
        std::fs::write(&file, spec.text())?;
        let mut import = self.program();
        import.args(["data", "import"]).arg(&images).args(["--name", Spec::DATASET, "--image-size", "32"]);
        let mut submit = self.program();
        submit.arg("submit").arg(&file);
        for command in [&mut import, &mut submit] {
            let output = ceteris_tests::run(command.args(["--coordinator", url]));
            ensure!(output.code == 0, "{}", output.stderr);
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let subject = words.next().context("say what: hand-over, stale or idle")?;
    let (mut ceteris, mut times, mut postgres) = (None, None, None);
    while let Some(flag) = words.next() {
        let value = words.next().with_context(|| format!("{flag} has no value"))?;
        match flag.as_str() {
            "--ceteris" => ceteris = Some(PathBuf::from(value)),
            "--times" => times = Some(value.parse().context("--times is a number")?),
            "--postgres" => postgres = Some(value),
            _ => bail!("{flag} is not known"),
        }
    }
    let ceteris = ceteris.context("--ceteris PROGRAM is missing")?;
    let options = Options { ceteris, times: times.context("--times N is missing")?, postgres };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match subject.as_str() {
        "hand-over" => hand_over::run(&options, &runtime),
        "stale" => stale::run(&options, &runtime),
        "idle" => idle::run(&options, &runtime),
        _ => bail!("{subject} is none of hand-over, stale and idle"),
    }
}
