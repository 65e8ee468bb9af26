//! `ceteris-worker`: settings, messages, signals; everything else is in the library.

use std::{io, process::ExitCode};

use ceteris_worker::config::{Arguments, Config, LogFormat, Machine};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Exit status for settings that cannot be meant.
const USAGE: u8 = 2;
/// Exit status for what the machine, the store or the network refuses.
const INFRASTRUCTURE: u8 = 5;

fn main() -> ExitCode {
    let config = match Config::load(Arguments::parse(), &Machine::this()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ceteris-worker: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let filter = EnvFilter::try_from_env("CETERIS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let messages = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    match config.log_format {
        LogFormat::Text => messages.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => messages.json().init(),
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ceteris-worker: {error:#}");
            ExitCode::from(INFRASTRUCTURE)
        }
    }
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancel = shutdown.clone();
    tokio::spawn(async move {
        for count in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if count > 0 {
                // The second time, nothing is waited for; trainers end when their sockets close.
                std::process::exit(130);
            }
            tracing::info!("stopping attempts; a second signal ends at once");
            cancel.cancel();
        }
    });
    Ok(ceteris_worker::run(config, shutdown).await?)
}
