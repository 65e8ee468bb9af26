//! A coordinator, its workers and a command line that talks to them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ceteris_shared::document::{Checkpoints, Document, Experiment, Run};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Images, Process, Program, Spec, eventually};

/// Where a cluster's objects are.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a folder of the cluster's own.
    Folder,
    /// In a part of an S3 bucket: `s3://BUCKET/PREFIX`. The variables that the client needs are in the environment.
    S3(String),
}

/// One coordinator and any number of workers.
#[derive(Debug)]
pub struct Cluster {
    // Processes before the folder, so that they end before it goes.
    coordinator: Option<Process>,
    workers: Vec<Process>,
    url: String,
    store: String,
    /// Seconds.
    lease: u32,
    folder: TempDir,
}

/// What a command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it printed as data.
    pub stdout: String,
    /// What else it said.
    pub stderr: String,
}

impl Output {
    /// Itself, if the command succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Itself, if the command failed as it should: with this code, and in what it says all of `words`.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not said in:\n{}", self.stderr);
        }
        assert!(self.stderr.lines().any(|line| line.starts_with("error: ")), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The document on stdout.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in:\n{}\n{}", self.stdout, self.stderr))
    }
}

impl Cluster {
    /// A coordinator that listens, without workers.
    pub fn start(place: &Place) -> Self {
        Self::with_lease(place, 10)
    }

    /// As [`Self::start`], with leases of so many seconds.
    pub fn with_lease(place: &Place, lease: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = match place {
            Place::Folder => folder.path().join("store").to_string_lossy().into_owned(),
            Place::S3(url) => url.clone(),
        };
        let mut cluster = Self { coordinator: None, workers: Vec::new(), url: String::new(), store, lease, folder };
        cluster.start_coordinator();
        cluster
    }

    /// A coordinator with one worker and the images imported.
    pub fn with_data(place: &Place, images: Images) -> Self {
        let mut cluster = Self::start(place);
        cluster.start_worker();
        cluster.import(images);
        cluster
    }

    /// The folder of everything in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the coordinator listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The object store's place.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Starts the coordinator, at the address it had before if it had one.
    pub fn start_coordinator(&mut self) {
        let listen = self.url.strip_prefix("http://").unwrap_or("127.0.0.1:0").to_owned();
        let ready = self.folder().join("ready");
        let _ = fs::remove_file(&ready);
        let mut command = Program::Ceteris.command();
        command.args(["coordinator", "--listen", &listen, "--store", &self.store]);
        // Heartbeats carry progress: often, so that a test sees the epoch in flight.
        command.args(["--heartbeat", "0.2", "--lease", &self.lease.to_string()]);
        command.arg("--database").arg(self.folder().join("coordinator.db")).arg("--ready-file").arg(&ready);
        let mut process = Process::start("the coordinator", command, &self.folder().join("coordinator.log"));
        self.url = eventually("the coordinator to listen", || {
            assert!(process.ended().is_none(), "the coordinator ended:\n{}", process.log());
            let text = fs::read_to_string(&ready).ok()?;
            text.trim().starts_with("http://").then(|| text.trim().to_owned())
        });
        self.coordinator = Some(process);
    }

    /// Kills the coordinator with SIGKILL.
    pub fn kill_coordinator(&mut self) {
        self.coordinator.take().expect("it runs").kill();
    }

    /// The command that starts a worker with the state folder `worker-NUMBER`.
    pub fn worker_command(&self, number: usize) -> Command {
        self.worker_command_at(number, &self.url)
    }

    /// The same, but the worker finds the coordinator at another URL.
    pub fn worker_command_at(&self, number: usize, url: &str) -> Command {
        let mut command = Program::Worker.command();
        command.args(["--coordinator", url, "--store", &self.store, "--name", &format!("worker-{number}")]);
        command.args(["--threads", "2", "--state"]).arg(self.worker_state(number));
        command
    }

    /// The state folder of a worker.
    pub fn worker_state(&self, number: usize) -> PathBuf {
        self.folder().join(format!("worker-{number}"))
    }

    /// Starts one more worker.
    pub fn start_worker(&mut self) -> &Process {
        let number = self.workers.len();
        let log = self.folder().join(format!("worker-{number}.log"));
        self.workers.push(Process::start(&format!("worker {number}"), self.worker_command(number), &log));
        &self.workers[number]
    }

    /// Kills a worker's agent with SIGKILL, for good.
    pub fn kill_worker(&mut self, number: usize) {
        self.workers.remove(number).kill();
    }

    /// Asks a worker to end and waits until it has; returns its exit code.
    pub fn stop_worker(&mut self, number: usize) -> Option<i32> {
        self.workers.remove(number).stop().code()
    }

    /// A worker, counted from 0.
    pub fn worker(&self, number: usize) -> &Process {
        &self.workers[number]
    }

    /// Kills a worker's agent with SIGKILL and starts it again on the same state.
    pub fn kill_and_restart_worker(&mut self, number: usize) {
        self.workers.remove(number).kill();
        let log = self.folder().join(format!("worker-{number}.log"));
        let process = Process::start(&format!("worker {number}"), self.worker_command(number), &log);
        self.workers.insert(number, process);
    }

    /// `ceteris` with these arguments, talking to this coordinator.
    pub fn command(&self) -> Command {
        let mut command = Program::Ceteris.command();
        command.args(["--coordinator", &self.url]).current_dir(self.folder());
        command
    }

    /// Runs `ceteris` to its end.
    pub fn ceteris(&self, arguments: &[&str]) -> Output {
        run(self.command().args(arguments))
    }

    /// The document that a command prints.
    #[track_caller]
    pub fn document<D: Document>(&self, arguments: &[&str]) -> D {
        let output = self.ceteris(&[arguments, &["-o", "json"]].concat()).ok();
        D::from_json(&output.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}", output.stdout))
    }

    /// An experiment, by its name.
    #[track_caller]
    pub fn experiment(&self, name: &str) -> Experiment {
        self.document(&["show", name])
    }

    /// The checkpoints of the only run of an experiment.
    #[track_caller]
    pub fn checkpoints(&self, experiment: &str) -> Checkpoints {
        self.document(&["checkpoint", "ls", &self.only_run(experiment).run.to_string()])
    }

    /// The only run of an experiment.
    #[track_caller]
    pub fn only_run(&self, experiment: &str) -> Run {
        let arms = self.experiment(experiment).arms;
        let mut runs = arms.into_iter().flat_map(|arm| arm.runs);
        match (runs.next(), runs.next()) {
            (Some(run), None) => run,
            _ => panic!("{experiment} does not have one run"),
        }
    }

    /// Draws the images and imports them as the specs' data set.
    pub fn import(&self, images: Images) {
        let folder = self.folder().join("images");
        images.write(&folder);
        let (path, size) = (folder.to_string_lossy().into_owned(), images.size.to_string());
        self.ceteris(&["data", "import", &path, "--name", Spec::DATASET, "--image-size", &size]).ok();
    }

    /// Writes text to a file in the cluster's folder and returns its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder().join(name);
        fs::write(&path, text).expect("the test's folder is writable");
        path.to_string_lossy().into_owned()
    }

    /// Submits a spec and does not wait.
    pub fn submit(&self, spec: &Spec) {
        let path = self.write(&format!("{}.toml", spec.name), &spec.text());
        self.ceteris(&["submit", &path]).ok();
    }

    /// Submits a spec and waits until the experiment has ended well.
    pub fn train(&self, spec: &Spec) {
        let path = self.write(&format!("{}.toml", spec.name), &spec.text());
        self.ceteris(&["submit", &path, "--follow"]).ok();
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not start, is ended by a signal, or does not print UTF-8.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("programs print UTF-8");
    let code = output.status.code().unwrap_or_else(|| panic!("{} of {command:?}", output.status));
    Output { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}
