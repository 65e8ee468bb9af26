//! `ceteris-worker`: settings, messages, signals; everything else is in the library.

use std::{io, process::ExitCode};

use ceteris_worker::config::{Arguments, Config, LogFormat, Machine, OnTerminate};
use clap::Parser as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

/// Exit status for settings that cannot be meant.
const USAGE: u8 = 2;
/// Exit status for what the machine, the store or the network refuses.
const INFRASTRUCTURE: u8 = 5;
/// Exit status for an end without waiting.
const AT_ONCE: i32 = 130;

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
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (ask, asked) = watch::channel(0);
    // As many signals end it in order; one more, at once.
    let in_order = match config.on_terminate {
        OnTerminate::Checkpoint => 1,
        OnTerminate::FinishEpoch => 2,
    };
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            ask.send_modify(|times| *times += 1);
            if *ask.borrow() > in_order {
                // Nothing is waited for; trainers end when their sockets close.
                std::process::exit(AT_ONCE);
            }
        }
    });
    Ok(ceteris_worker::run(config, asked).await?)
}
