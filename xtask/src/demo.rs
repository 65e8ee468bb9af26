//! `cargo xtask demo`: the whole of it on one machine, from no data to a comparison.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use xtask::radiographs::{self, Plan};

use crate::{
    command,
    command::headline,
    programs::{self, Programs},
    workspace::Workspace,
};

const SPEC: &str = "examples/frozen-vs-finetuned.toml";
/// The data set and the experiment, as the spec names them.
const DATASET: &str = "demo";
const EXPERIMENT: &str = "frozen-vs-finetuned";
/// The patient in a synthetic radiograph's file name.
const PATIENT: &str = "(p[0-9]+)-";
/// How long `ceteris up` may take until it listens and its worker is there.
const START: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
pub struct Options {
    /// Train on these images instead of synthetic ones: a folder with train, val and test, or with one folder per class
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// With --data: a CSV with split, class, file and patient
    #[arg(long, value_name = "FILE", requires = "data")]
    csv: Option<PathBuf>,
    /// Leave everything running at the end, and say how to stop it
    #[arg(long)]
    keep: bool,
}

/// Runs the demo.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let programs = programs::build(workspace, &programs::Options { release: false })?;
    let directory = workspace.root.join(".ceteris/demo");
    refuse_if_running(&directory)?;
    command::empty_folder(&directory)?;

    let import = match &options.data {
        Some(data) => import_arguments(data, options.csv.as_deref(), 224, None),
        None => {
            headline("Drawing synthetic radiographs");
            let images = directory.join("radiographs");
            draw(&images)?;
            import_arguments(&images, None, 64, Some(PATIENT))
        }
    };

    headline("Starting a coordinator and a worker with `ceteris up`");
    let up = Up::start(&programs, &directory)?;
    eprintln!("they listen at {} and keep their state in {}", up.url, up.state.display());

    let ceteris = |arguments: &[&str]| {
        let words: Vec<String> = arguments.iter().map(|word| command::quoted(word)).collect();
        eprintln!("\n$ ceteris {}", words.join(" "));
        let mut command = Command::new(programs.ceteris());
        command.current_dir(&workspace.root).env("CETERIS_COORDINATOR", &up.url).args(arguments);
        command::run(&mut command).with_context(|| format!("see also {}", up.log.display()))
    };
    headline("Importing, training and comparing");
    ceteris(&import.iter().map(String::as_str).collect::<Vec<_>>())?;
    ceteris(&["plan", SPEC])?;
    ceteris(&["submit", SPEC, "--follow"])?;
    ceteris(&["compare", EXPERIMENT])?;
    farewell(workspace, &programs, up, options.keep);
    Ok(())
}

/// A demo that was kept, or whose task was killed, still uses its folder.
fn refuse_if_running(directory: &Path) -> Result<()> {
    let process = fs::read_to_string(directory.join("state/up.lock")).unwrap_or_default().trim().to_owned();
    let program = fs::read_to_string(Path::new("/proc").join(&process).join("comm")).unwrap_or_default();
    if !process.is_empty() && program.trim() == "ceteris" {
        bail!("a demo is still running: stop it with `kill {process}`, then run this again");
    }
    Ok(())
}

/// Writes the demo's images.
pub fn draw(directory: &Path) -> Result<()> {
    let count = radiographs::write(&Plan::demo(), directory)
        .with_context(|| format!("cannot write images to {}", directory.display()))?;
    eprintln!("{count} images in {}", directory.display());
    Ok(())
}

fn import_arguments(data: &Path, csv: Option<&Path>, image_size: u32, patient: Option<&str>) -> Vec<String> {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let mut arguments = ["data", "import", &path(data), "--name", DATASET].map(str::to_owned).to_vec();
    arguments.extend(["--image-size".to_owned(), image_size.to_string()]);
    let patient = patient.into_iter().flat_map(|pattern| ["--group-by", "patient", "--patient-pattern", pattern]);
    arguments.extend(patient.map(str::to_owned));
    arguments.extend(csv.into_iter().flat_map(|csv| ["--csv".to_owned(), path(csv)]));
    arguments
}

fn farewell(workspace: &Workspace, programs: &Programs, up: Up, keep: bool) {
    let short = |path: &Path| path.strip_prefix(&workspace.root).unwrap_or(path).display().to_string();
    let ceteris = short(&programs.ceteris());
    headline("Where to look next");
    if keep {
        let (url, pid) = up.leave_running();
        eprintln!("It goes on running: `kill {pid}` stops it. Meanwhile, with");
        eprintln!("  export CETERIS_COORDINATOR={url}");
    } else {
        eprintln!("Everything that was started is being stopped. To start it again with all that was trained:");
        eprintln!("  {ceteris} up --state {}", short(&up.state));
        eprintln!("and, in another terminal:");
    }
    for arguments in ["show", "compare --at 2", "compare -o json", "data show"] {
        let (verb, rest) = arguments.split_at(arguments.find(" -").unwrap_or(arguments.len()));
        let object = if verb == "data show" { DATASET } else { EXPERIMENT };
        eprintln!("  {ceteris} {verb} {object}{rest}");
    }
    eprintln!("The spec is {SPEC}; README.md goes on from here, on real data.");
}

/// `ceteris up`, stopped when this is dropped.
struct Up {
    process: Option<Child>,
    url: String,
    state: PathBuf,
    log: PathBuf,
}

impl Up {
    fn start(programs: &Programs, directory: &Path) -> Result<Self> {
        let (state, log, ready) = (directory.join("state"), directory.join("up.log"), directory.join("ready"));
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = Command::new(programs.ceteris());
        command.args(["up", "--listen", "127.0.0.1:0", "--state"]).arg(&state).arg("--ready-file").arg(&ready);
        command.env_remove("CETERIS_STORE").stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let process = command.spawn().context("cannot start `ceteris up`")?;
        let mut up = Self { process: Some(process), url: String::new(), state, log };
        up.url = up.wait(&ready)?;
        Ok(up)
    }

    /// Waits for the file in which `ceteris up` says where it listens.
    fn wait(&mut self, ready: &Path) -> Result<String> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(url) =
                fs::read_to_string(ready).ok().map(|text| text.trim().to_owned()).filter(|t| !t.is_empty())
            {
                return Ok(url);
            }
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            let said = || fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(status) = ended {
                bail!("`ceteris up` ended with {status}:\n{}", said());
            }
            if Instant::now() > deadline {
                bail!("`ceteris up` was not ready after {} s:\n{}", START.as_secs(), said());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn leave_running(mut self) -> (String, u32) {
        let pid = self.process.take().map_or(0, |process| process.id());
        (std::mem::take(&mut self.url), pid)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // Asked first, so that the worker and its trainer end with it; made to, if it does not.
        if let Some(pid) = rustix::process::Pid::from_raw(process.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if !matches!(process.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = process.kill();
        let _ = process.wait();
    }
}
