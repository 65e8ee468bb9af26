//! A coordinator on SQLite that nobody talks to: how soon it answers, and how much memory it has then.

use std::{
    fs,
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use ceteris_tests::{Process, free_address};
use serde_json::json;
use tokio::runtime::Runtime;
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::Options;

/// How long it is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);
const SERVICE: &str = "ceteris.v1.Coordinator";

/// Each time in a folder that was empty.
pub fn run(options: &Options, runtime: &Runtime) -> Result<()> {
    for round in 0..options.times {
        let folder = tempfile::tempdir()?;
        let address = free_address();
        let mut command = options.program();
        command.args(["coordinator", "--listen", &address]);
        command.arg("--database").arg(folder.path().join("coordinator.db"));
        command.arg("--store").arg(folder.path().join("store"));
        let began = Instant::now();
        let process = Process::start("the coordinator", command, &folder.path().join("log"));
        while TcpStream::connect(&address).is_err() {
            if began.elapsed() > PATIENCE {
                bail!("it does not listen:\n{}", process.log());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        runtime.block_on(serving(&address))?;
        let ready = began.elapsed().as_secs_f64();
        std::thread::sleep(IDLE);
        let resident = resident_bytes(process.id())?;
        println!("{}", json!({ "round": round, "ready_seconds": ready, "resident_bytes": resident }));
        process.stop();
    }
    Ok(())
}

async fn serving(address: &str) -> Result<()> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut client = HealthClient::new(channel);
    let request = HealthCheckRequest { service: SERVICE.to_owned() };
    let status = client.check(request).await?.into_inner().status;
    if status == ServingStatus::Serving as i32 { Ok(()) } else { bail!("its health is {status}") }
}

fn resident_bytes(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(1024 * kibibytes)
}
