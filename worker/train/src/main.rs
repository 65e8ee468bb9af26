//! `ceteris-train`: trains what an agent asks for, until the agent is gone.

use std::{io, path::PathBuf, process::ExitCode, thread};

use anyhow::{Context, Result};
use ceteris_train::{
    backend::{self, DeviceName},
    bench,
    by_hand::{self, Ending},
    serve::serve,
};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// The trainer of ceteris: an agent starts it, once per device, and talks to it over a socket.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The Unix socket that the agent listens on
    #[arg(long, value_name = "PATH", required = true)]
    socket: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

#[derive(Clone, Debug, clap::Args)]
struct Machine {
    /// Threads within an operation [default: one per processor]. Results depend on it in their last bits
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Where to compute: `cpu`, `cuda:0` for the first GPU, `auto` for the first GPU or else the processor, or `flex`
    /// for burn's own kernels on one thread of the processor
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceName,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Open the device, compute on it, print what results depend on as JSON, and exit
    Check(Machine),
    /// Train one run of a spec by hand, without an agent and a coordinator
    ///
    /// Each epoch's figures are printed to stdout as a line of JSON, progress to stderr. Ctrl-C stops after the step in
    /// flight, with a checkpoint that --resume goes on from, and exit status 130 (143 for SIGTERM).
    Run {
        #[command(flatten)]
        options: by_hand::Options,
        #[command(flatten)]
        machine: Machine,
    },
    /// Do the work of a benchmark as lines on stdin ask for it; `cargo xtask bench` drives it
    #[command(subcommand)]
    Bench(bench::Subject),
}

impl Machine {
    fn threads(&self) -> u32 {
        let processors = || thread::available_parallelism().map_or(1, |count| count.get() as u32);
        self.threads.unwrap_or_else(processors)
    }
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_env_filter(filter).init();
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Some(Command::Check(machine)) => {
            let opened = backend::open(machine.device, machine.threads())?;
            println!("{}", serde_json::to_string_pretty(&opened.environment)?);
        }
        Some(Command::Run { options, machine }) => {
            if let Ending::Interrupted(signal) = by_hand::run(&options, machine.device, machine.threads())? {
                // As a shell tells that a signal ended a program.
                return Ok(u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from));
            }
        }
        Some(Command::Bench(subject)) => bench::run(&subject)?,
        None => {
            let socket = arguments.socket.context("--socket is missing")?;
            serve(&socket, arguments.machine.device, arguments.machine.threads())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
