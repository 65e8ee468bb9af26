//! `ceteris-simulation`: replays one seed, or runs many.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use anyhow::{Result, bail};
use ceteris_simulation::{Outcome, run};
use clap::Parser;

/// Simulates a coordinator and its fleet under faults.
#[derive(Debug, Parser)]
struct Arguments {
    /// Replay this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Print every line of the trace
    #[arg(long)]
    trace: bool,
    /// Run so many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Seeds that run side by side
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        let outcome = run(seed, arguments.trace);
        println!("{}", told(&outcome));
        return match outcome.violation {
            None => Ok(()),
            Some(violation) => bail!("seed {seed}: {violation}"),
        };
    }
    many(&arguments)
}

fn many(arguments: &Arguments) -> Result<()> {
    let (next, end) = (AtomicU64::new(arguments.first), arguments.first + arguments.seeds);
    let began = Instant::now();
    let outcomes = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= end {
                        return;
                    }
                    let outcome = run(seed, false);
                    if outcome.violation.is_some() {
                        println!("{}", told(&outcome));
                    }
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push(outcome);
                    }
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_default();
    let broken = outcomes.iter().filter(|outcome| outcome.violation.is_some()).count();
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    println!(
        "{} seeds in {:.1} s: {broken} broke a rule; {} lines, {} lives, {} attempts, {} epochs, {} simulated hours",
        outcomes.len(),
        began.elapsed().as_secs_f64(),
        sum(|o| o.lines),
        sum(|o| o.lives),
        sum(|o| o.ending.attempts),
        sum(|o| o.ending.epochs),
        sum(|o| o.lasted) / 3_600_000,
    );
    if broken > 0 { bail!("{broken} seeds broke a rule") } else { Ok(()) }
}

/// What became of a seed, in words.
fn told(outcome: &Outcome) -> String {
    let Outcome { seed, hash, violation, last, ending, lines, lasted, lives } = outcome;
    match violation {
        None => format!(
            "seed {seed}: {lines} lines in {} simulated s, {lives} lives, {ending:?}, hash {}",
            lasted / 1000,
            hash.short()
        ),
        Some(violation) => format!(
            "{}seed {seed}: {violation}\n  replay: cargo run -p ceteris-simulation -- --seed {seed} --trace\n",
            last.concat()
        ),
    }
}
