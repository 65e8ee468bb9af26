//! SeaweedFS as a process: the S3-compatible server that tests run on, and that some of them kill.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::command;

const BUCKET: &str = "ceteris";
const START: Duration = Duration::from_secs(60);
/// The server listens for gRPC this far above each of its ports.
const GRPC: u16 = 10_000;
const CREDENTIALS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "ceteris"), ("AWS_SECRET_ACCESS_KEY", "ceteris-tests")];

/// A server with data of its own; it ends, and its data is gone, when this is dropped.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    directory: PathBuf,
    ports: [u16; 5],
    process: Child,
}

impl Server {
    /// Starts a server on free ports of the loopback interface, with its data in `directory`, which is emptied; waits
    /// until it accepts objects. `program` is `weed`.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(program: &Path, directory: &Path) -> Result<Self> {
        command::empty_folder(&directory.join("data"))?;
        let ports = free_ports()?;
        let process = launch(program, directory, ports)?;
        let mut server = Self { program: program.to_owned(), directory: directory.to_owned(), ports, process };
        server.wait()?;
        Ok(server)
    }

    /// Ends it with SIGKILL. Its data stays.
    ///
    /// # Errors
    /// When the system does not let it be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().and_then(|()| self.process.wait()).context("cannot kill SeaweedFS")?;
        Ok(())
    }

    /// Starts it again where it was, after [`Self::kill`].
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = launch(&self.program, &self.directory, self.ports)?;
        self.wait()
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let mut put = Command::new("python3");
            put.envs(CREDENTIALS).args(["-c", include_str!("signed_put.py"), &self.endpoint(), BUCKET]);
            let Err(error) = command::output(&mut put) else { return Ok(()) };
            if self.process.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                bail!("SeaweedFS does not accept objects ({error:#}):\n{log}");
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// A place of this name in it: a store's URL.
    pub fn place(&self, name: &str) -> String {
        format!("s3://{BUCKET}/{name}")
    }

    /// The variables with which clients of S3 find it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let credentials = CREDENTIALS.map(|(name, value)| (name, value.to_owned()));
        let place = [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ];
        credentials.into_iter().chain(place).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn launch(program: &Path, directory: &Path, ports: [u16; 5]) -> Result<Child> {
    let log = directory.join("log");
    let output = File::options().create(true).append(true).open(&log);
    let output = output.with_context(|| format!("cannot create {}", log.display()))?;
    let mut weed = Command::new(program);
    weed.args(["mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false"]);
    weed.arg(format!("-bucket={BUCKET}")).arg(format!("-dir={}", directory.join("data").display()));
    for (name, port) in ["s3", "master", "volume", "filer", "admin"].into_iter().zip(ports) {
        weed.arg(format!("-{name}.port={port}"));
    }
    weed.envs(CREDENTIALS).current_dir(directory).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    weed.spawn().with_context(|| format!("cannot start {}", program.display()))
}

/// Ports that are free, and whose gRPC ports are.
fn free_ports() -> Result<[u16; 5]> {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = 20_000 + u16::try_from(std::process::id() % 9_000)?;
    let mut ports = (first..30_000).chain(20_000..first).filter(|port| free(*port) && free(*port + GRPC));
    let mut next = || ports.next().context("no ports are free between 20000 and 40000");
    Ok([next()?, next()?, next()?, next()?, next()?])
}
