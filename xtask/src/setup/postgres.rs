//! PostgreSQL, the server that tests of coordinators that stand by run on. It is the system's own; where it is absent, and
//! this is root on a system with apt, it is installed.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, getuid, kill_process};

use super::apt;
use crate::command;

/// Where Debian puts each version's programs.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The user that Debian's package makes; the server refuses to run as root.
const USER: &str = "postgres";
/// The beginning of the name of a server's folder; the rest is the id of the process that started it.
const DATA: &str = "ceteris-postgres-";
const START: Duration = Duration::from_secs(60);
/// Tests run beside each other, each with databases and connections of its own.
const CONNECTIONS: &str = "max_connections=300";

/// The folder of `initdb` and `postgres`: the newest that is installed.
pub fn ensure() -> Result<PathBuf> {
    if let Some(programs) = installed() {
        return Ok(programs);
    }
    apt::install("postgresql", "the tests of standby coordinators")?;
    installed().context(
        "PostgreSQL is not installed: install its server (Debian: apt-get install postgresql), or put `initdb` on PATH",
    )
}

fn installed() -> Option<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<f64>().ok();
    let mut versions: Vec<(f64, PathBuf)> = fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((version(&path)?, path.join("bin"))).filter(|(_, programs)| programs.join("initdb").exists())
        })
        .collect();
    versions.sort_by(|a, b| a.0.total_cmp(&b.0));
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    };
    versions.pop().map(|(_, programs)| programs).or_else(on_path)
}

/// A running server; it and its data are gone when this is dropped.
pub struct Server {
    process: Child,
    directory: PathBuf,
    url: String,
}

impl Server {
    /// Starts a server of its own data on a free port of the loopback interface, and waits until it answers. Where
    /// `durable` is false it does not wait for the disk.
    pub fn start(programs: &Path, durable: bool) -> Result<Self> {
        remove_left_behind()?;
        let directory = std::env::temp_dir().join(format!("{DATA}{}", std::process::id()));
        command::empty_folder(&directory)?;
        let log = directory.join("log");
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        if getuid().is_root() {
            command::output(Command::new("chown").arg("--recursive").arg(USER).arg(&directory))?;
        }
        let data = directory.join("data");
        let mut initialise = unprivileged(&programs.join("initdb"));
        initialise.args(["--username=ceteris", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        command::output(initialise.arg("--pgdata").arg(&data).current_dir(&directory))?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut postgres = unprivileged(&programs.join("postgres"));
        postgres.arg("-D").arg(&data).arg("-c").arg(format!("port={port}"));
        let sync = if durable { "fsync=on" } else { "fsync=off" };
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", CONNECTIONS, sync] {
            postgres.args(["-c", setting]);
        }
        postgres.current_dir(&directory).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let process = postgres.spawn().with_context(|| format!("cannot start {}", command::shown(&postgres)))?;
        let url = format!("postgres://ceteris@127.0.0.1:{port}/postgres");
        let mut server = Self { process, directory, url };
        server.wait(&data, &log)?;
        Ok(server)
    }

    /// The server says in its own file when it takes connections.
    fn wait(&mut self, data: &Path, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let state = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            if state.lines().last().is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            if self.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("PostgreSQL does not start:\n{}", fs::read_to_string(log).unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where it listens; its user may make databases.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT ends it without saving anything: its data goes, too.
        if let Some(process) = Pid::from_raw(self.process.id().cast_signed()) {
            let _ = kill_process(process, Signal::QUIT);
        }
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A program as a user that is not root, which ends when this process does, however that ends.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=QUIT");
    if getuid().is_root() {
        command.args([format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".to_owned()]);
    }
    command.arg("--").arg(program).env("LC_ALL", "C.UTF-8");
    command
}

/// Removes the data of servers whose test run was ended before it could.
fn remove_left_behind() -> Result<()> {
    let folder = std::env::temp_dir();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let dead = |id: &str| !Path::new("/proc").join(id).exists();
        if name.strip_prefix(DATA).is_some_and(dead) {
            command::remove(&folder.join(name))?;
        }
    }
    Ok(())
}
