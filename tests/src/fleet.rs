//! A whole fleet, all of which can be killed and comes back: two coordinators on PostgreSQL, of which one leads, an object
//! store of its own, and workers. They reach one another, and the database, through networks that can be made bad, and each
//! has a clock that can be set.

use std::{
    env, fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use xtask::seaweedfs::Server;

use crate::{
    Client, Clock, Clocks, Coordinator, Database, Process, Program, Proxy, Settings, Signal, eventually, free_address,
    signal, skip,
};

/// Seconds for which an attempt is believed alive without a sign of life.
pub const LEASE: u32 = 3;
/// What a coordinator that no longer leads ends with.
const DEPOSED: i32 = 5;
/// What the coordinators are called.
const COORDINATORS: [&str; 2] = ["a", "b"];

/// See above.
#[derive(Debug)]
pub struct Fleet {
    // Processes before what they use.
    coordinators: [Coordinator; 2],
    workers: Vec<Worker>,
    store: Server,
    client: Client,
    /// Of each coordinator: what it reaches the database through, and its clock, where clocks can be set.
    links: [Proxy; 2],
    clocks: [Option<Clock>; 2],
    makes_clocks: Option<Clocks>,
    database: Database,
    crash: PathBuf,
    folder: TempDir,
}

#[derive(Debug)]
struct Worker {
    process: Process,
    /// To each coordinator.
    links: [Proxy; 2],
    clock: Option<Clock>,
}

/// What a fleet's processes are started with.
struct Start<'a> {
    folder: &'a Path,
    store: &'a Server,
}

impl Start<'_> {
    /// Where processes look whether they have to die: `ceteris_crash`.
    fn crash(&self) -> PathBuf {
        self.folder.join("crash")
    }

    fn place(&self) -> String {
        self.store.place("fleet")
    }

    fn program(&self, program: Program, clock: Option<&Clock>) -> Command {
        let mut command = program.command();
        clock.into_iter().for_each(|clock| clock.apply(&mut command));
        command.envs(self.store.environment()).env("CETERIS_CRASH_FILE", self.crash());
        command
    }

    fn coordinator(&self, index: usize, address: &str, database: &str, clock: Option<&Clock>) -> Coordinator {
        let settings = Settings { address, database, store: &self.place(), lease: LEASE };
        Coordinator::of(COORDINATORS[index], self.program(Program::Ceteris, clock), self.folder, &settings)
    }

    fn worker(&self, number: usize, links: &[Proxy; 2], clock: Option<&Clock>) -> Process {
        let name = format!("worker-{number}");
        let mut command = self.program(Program::Worker, clock);
        let coordinators = links.each_ref().map(Proxy::url).join(",");
        command.args(["--coordinator", &coordinators, "--store", &self.place(), "--name", &name, "--threads", "1"]);
        command.arg("--state").arg(self.folder.join(&name));
        // They share the machine with one another, and must not wait for it spinning.
        command.env("OMP_WAIT_POLICY", "passive");
        Process::start(&name, command, &self.folder.join(format!("{name}.log")))
    }
}

impl Deref for Fleet {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Fleet {
    /// A fleet with so many workers; none, and a line that says so, where the tests are given no servers.
    ///
    /// # Panics
    /// When something of it does not start.
    pub fn start(test: &str, workers: usize) -> Option<Self> {
        let database = Database::make(test)?;
        let Some(weed) = env::var_os("CETERIS_TEST_WEED") else {
            skip(test, "CETERIS_TEST_WEED, the program of SeaweedFS");
            return None;
        };
        let makes_clocks = Clocks::find(&format!("what sets clocks in {test}"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Server::start(Path::new(&weed), &folder.path().join("seaweedfs"));
        let store = store.unwrap_or_else(|error| panic!("{error:#}"));
        let start = Start { folder: folder.path(), store: &store };
        let links = [(); 2].map(|()| Proxy::start(database.address()));
        let databases = links.each_ref().map(|link| database.url_at(link.address()));
        let clock = |name| Some(makes_clocks.as_ref()?.make(name, folder.path()));
        let clocks = COORDINATORS.map(clock);
        let mut leader = start.coordinator(0, &free_address(), &databases[0], clocks[0].as_ref());
        leader.leads();
        let mut standby = start.coordinator(1, &free_address(), &databases[1], clocks[1].as_ref());
        standby.stands_by();
        let client = Client::new(&format!("{},{}", leader.url(), standby.url()), folder.path());
        let (coordinators, crash) = ([leader, standby], start.crash());
        let none = Vec::new();
        let mut fleet =
            Self { coordinators, workers: none, store, client, links, clocks, makes_clocks, database, crash, folder };
        (0..workers).for_each(|_| fleet.add_worker());
        Some(fleet)
    }

    fn with(&self) -> Start<'_> {
        Start { folder: self.folder.path(), store: &self.store }
    }

    /// One more worker, with nothing of its own yet.
    pub fn add_worker(&mut self) {
        let links = self.coordinators.each_ref().map(|coordinator| Proxy::to_url(&coordinator.url()));
        let number = self.workers.len();
        let makes_clocks = self.makes_clocks.as_ref();
        let clock = makes_clocks.map(|clocks| clocks.make(&format!("worker-{number}"), self.folder.path()));
        let process = self.with().worker(number, &links, clock.as_ref());
        self.workers.push(Worker { process, links, clock });
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The agent of a worker.
    pub fn agent(&self, worker: usize) -> &Process {
        &self.workers[worker].process
    }

    /// The network between a worker and each coordinator.
    pub fn links(&self, worker: usize) -> &[Proxy; 2] {
        &self.workers[worker].links
    }

    /// The network between a coordinator and the database.
    pub fn database_link(&self, coordinator: usize) -> &Proxy {
        &self.links[coordinator]
    }

    /// The clocks of all machines; none where clocks cannot be set.
    pub fn clocks(&self) -> Vec<&Clock> {
        self.clocks.iter().chain(self.workers.iter().map(|worker| &worker.clock)).flatten().collect()
    }

    /// The index of the coordinator that leads, once one answers calls.
    pub fn leader(&self) -> usize {
        eventually("one coordinator to lead", || {
            let address = self.database.value("SELECT address FROM leadership");
            let index = self.coordinators.iter().position(|coordinator| coordinator.address == address)?;
            self.coordinators[index].is_leading().then_some(index)
        })
    }

    /// A coordinator's process.
    pub fn coordinator(&self, index: usize) -> &Process {
        &self.coordinators[index].process
    }

    /// Epochs that are committed.
    ///
    /// # Panics
    /// When the database does not say.
    pub fn epochs(&self) -> u64 {
        self.database.value("SELECT count(*) FROM epochs").parse().expect("it is a number")
    }

    /// Kills a coordinator, and starts it again where it was.
    pub fn kill_coordinator(&mut self, index: usize) {
        signal(self.coordinators[index].process.id(), Signal::KILL);
        eventually("a killed coordinator to end", || self.coordinators[index].process.ended());
        self.start_coordinator(index);
    }

    fn start_coordinator(&mut self, index: usize) {
        let address = self.coordinators[index].address.clone();
        let database = self.database.url_at(self.links[index].address());
        self.coordinators[index] = self.with().coordinator(index, &address, &database, self.clocks[index].as_ref());
    }

    /// Waits until a coordinator that no longer leads has ended by itself, and starts it again.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub fn restart_deposed(&mut self, index: usize) {
        let process = &mut self.coordinators[index].process;
        let status = eventually("a former leader to end", || process.ended());
        assert_eq!(status.code(), Some(DEPOSED), "{}", process.log());
        self.start_coordinator(index);
    }

    /// Kills an agent, and starts it again on the same state.
    pub fn kill_agent(&mut self, worker: usize) {
        signal(self.workers[worker].process.id(), Signal::KILL);
        eventually("a killed agent to end", || self.workers[worker].process.ended());
        self.start_agent(worker);
    }

    fn start_agent(&mut self, worker: usize) {
        let Worker { links, clock, .. } = &self.workers[worker];
        let process = self.with().worker(worker, links, clock.as_ref());
        self.workers[worker].process = process;
    }

    /// The object store's process.
    pub fn store(&mut self) -> &mut Server {
        &mut self.store
    }

    /// Asks for one death at this point: `ceteris_crash`.
    ///
    /// # Panics
    /// When the test's folder is not writable.
    pub fn crash_at(&self, point: &str) {
        // Whole, or not there: a process may look meanwhile.
        let aside = self.crash.with_extension("aside");
        fs::write(&aside, point).and_then(|()| fs::rename(&aside, &self.crash)).expect("the test's folder is writable");
    }

    /// Whether a death that was asked for happened.
    pub fn has_crashed(&self) -> bool {
        !self.crash.exists()
    }

    /// Starts whatever has ended, as a supervisor does; what that was.
    ///
    /// # Panics
    /// When a process ended by itself that had no reason to.
    pub fn revive(&mut self) -> Vec<String> {
        let mut revived = Vec::new();
        for index in 0..self.coordinators.len() {
            let Some(status) = self.coordinators[index].process.ended() else { continue };
            let log = self.coordinators[index].process.log();
            assert!(matches!(status.code(), None | Some(DEPOSED)), "a coordinator ended with {status}:\n{log}");
            self.start_coordinator(index);
            revived.push("coordinator".to_owned());
        }
        for worker in 0..self.workers.len() {
            let Some(status) = self.workers[worker].process.ended() else { continue };
            assert!(status.code().is_none(), "an agent ended with {status}:\n{}", self.workers[worker].process.log());
            self.start_agent(worker);
            revived.push("agent".to_owned());
        }
        revived
    }
}
