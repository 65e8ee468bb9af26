//! A coordinator, its workers and a command line that talks to them.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{Client, Clock, Clocks, Images, Process, Program, eventually};

/// Where a cluster's objects are.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a folder of the cluster's own.
    Folder,
    /// In a part of an S3 bucket: `s3://BUCKET/PREFIX`. The variables that the client needs are in the environment.
    S3(String),
}

/// What is not as usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unusual<'a> {
    /// Seconds of a lease; 10 unless told.
    pub lease: Option<u32>,
    /// The folder of the coordinator's database; the cluster's own unless told.
    pub database: Option<&'a Path>,
    /// The coordinator and its workers have clocks of their own.
    pub clocks: Option<&'a Clocks>,
}

/// One coordinator and any number of workers.
#[derive(Debug)]
pub struct Cluster {
    // Processes before the folder, so that they end before it goes.
    coordinator: Option<Process>,
    workers: Vec<Process>,
    /// Who talks to the coordinator; the cluster is one, too.
    client: Client,
    store: String,
    /// Seconds.
    lease: u32,
    database: PathBuf,
    /// The coordinator's, and the workers'.
    clocks: Option<[Clock; 2]>,
    folder: TempDir,
}

impl Deref for Cluster {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Cluster {
    /// A coordinator that listens, without workers.
    pub fn start(place: &Place) -> Self {
        Self::start_unusual(place, Unusual::default())
    }

    /// As [`Self::start`], but for this.
    pub fn start_unusual(place: &Place, unusual: Unusual<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = match place {
            Place::Folder => folder.path().join("store").to_string_lossy().into_owned(),
            Place::S3(url) => url.clone(),
        };
        let client = Client::new("", folder.path());
        let lease = unusual.lease.unwrap_or(10);
        let database = unusual.database.unwrap_or(folder.path()).join("coordinator.db");
        let clocks = unusual.clocks.map(|clocks| ["coordinator", "workers"].map(|of| clocks.make(of, folder.path())));
        let workers = Vec::new();
        let mut cluster = Self { coordinator: None, workers, client, store, lease, database, clocks, folder };
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

    /// Where the coordinator listens.
    pub fn url(&self) -> &str {
        &self.client.urls
    }

    /// The object store's place.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Starts the coordinator, at the address it had before if it had one, and waits until it listens.
    pub fn start_coordinator(&mut self) {
        let (mut process, ready) = self.launch_coordinator();
        self.client.urls = eventually("the coordinator to listen", || {
            assert!(process.ended().is_none(), "the coordinator ended:\n{}", process.log());
            let text = fs::read_to_string(&ready).ok()?;
            text.trim().starts_with("http://").then(|| text.trim().to_owned())
        });
        self.coordinator = Some(process);
    }

    /// Starts the coordinator where it cannot run, and waits until it has ended; its exit code, and all that coordinators
    /// logged.
    pub fn start_coordinator_in_vain(&self) -> (Option<i32>, String) {
        let (mut process, _) = self.launch_coordinator();
        let status = eventually("the coordinator to end", || process.ended());
        (status.code(), process.log())
    }

    /// The process, and the file in which it says where it listens.
    fn launch_coordinator(&self) -> (Process, PathBuf) {
        let listen = self.client.urls.strip_prefix("http://").unwrap_or("127.0.0.1:0").to_owned();
        let ready = self.folder.path().join("ready");
        let _ = fs::remove_file(&ready);
        let mut command = Program::Ceteris.command();
        command.args(["coordinator", "--listen", &listen, "--store", &self.store]);
        // Heartbeats carry progress: often, so that a test sees the epoch in flight.
        command.args(["--heartbeat", "0.2", "--lease", &self.lease.to_string()]);
        command.arg("--database").arg(&self.database).arg("--ready-file").arg(&ready);
        self.clocks.iter().for_each(|[clock, _]| clock.apply(&mut command));
        let process = Process::start("the coordinator", command, &self.folder.path().join("coordinator.log"));
        (process, ready)
    }

    /// Waits until the coordinator ends by itself; its exit code, and all that coordinators logged.
    pub fn coordinator_ends(&mut self) -> (Option<i32>, String) {
        let mut process = self.coordinator.take().expect("it runs");
        let status = eventually("the coordinator to end", || process.ended());
        (status.code(), process.log())
    }

    /// The coordinator's clock, and that of its workers.
    pub fn clocks(&self) -> &[Clock; 2] {
        self.clocks.as_ref().expect("it was started with clocks")
    }

    /// Kills the coordinator with SIGKILL.
    pub fn kill_coordinator(&mut self) {
        self.coordinator.take().expect("it runs").kill();
    }

    /// The command that starts a worker with the state folder `worker-NUMBER`.
    pub fn worker_command(&self, number: usize) -> Command {
        self.worker_command_at(number, &self.client.urls)
    }

    /// The same, but the worker finds the coordinator at another URL.
    pub fn worker_command_at(&self, number: usize, url: &str) -> Command {
        let mut command = Program::Worker.command();
        command.args(["--coordinator", url, "--store", &self.store, "--name", &format!("worker-{number}")]);
        command.args(["--threads", "2", "--state"]).arg(self.worker_state(number));
        self.clocks.iter().for_each(|[_, clock]| clock.apply(&mut command));
        command
    }

    /// The state folder of a worker.
    pub fn worker_state(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("worker-{number}"))
    }

    /// Starts one more worker.
    pub fn start_worker(&mut self) -> &Process {
        let number = self.workers.len();
        let log = self.folder.path().join(format!("worker-{number}.log"));
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
        let log = self.folder.path().join(format!("worker-{number}.log"));
        let process = Process::start(&format!("worker {number}"), self.worker_command(number), &log);
        self.workers.insert(number, process);
    }
}
