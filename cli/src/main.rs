//! The `ceteris` command. Data goes to stdout, everything else to stderr; the exit code says who must act.
//!
//! `commands` has one file per command; each does its talking through `client` and hands documents to `render`, whose
//! functions are pure. Errors are `failure`s: one paragraph each, printed here and nowhere else.

mod args;
mod attributes;
mod checkpoint_file;
mod client;
mod commands;
mod contact_sheet;
mod context;
mod evidence;
mod failure;
mod file;
mod output;
mod predictions_file;
mod predictions_table;
mod progress;
mod render;
mod report;
mod service;
mod spec_file;
mod supervisor;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&failure::Failure::io("start the asynchronous runtime", &error)),
    };
    let result = runtime.block_on(commands::run(cli));
    // A thread that waits for a terminal or a disk must not keep the process alive.
    runtime.shutdown_background();
    result.map_or_else(|failure| report(&failure), |()| ExitCode::SUCCESS)
}

fn report(failure: &failure::Failure) -> ExitCode {
    eprintln!("{}", output::printable(&failure.to_string()));
    failure.exit.into()
}
