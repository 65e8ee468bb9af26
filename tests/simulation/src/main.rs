//! `ceteris-simulation`: replays one seed, or runs many.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use ceteris_shared::digest::Digest;
use ceteris_simulation::{Outcome, run};
use clap::Parser;
use serde_json::{Value, json};

/// Seeds of one row.
const PART: u64 = 1000;

/// Simulates a coordinator and its fleet under faults.
#[derive(Debug, Parser)]
struct Arguments {
    /// Replay this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Print every line of its trace
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Run so many seeds
    #[arg(long, default_value_t = 1000, conflicts_with = "seed")]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run one in so many a second time, in another order
    #[arg(long)]
    repeat: Option<u64>,
    /// Seeds that run side by side
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Print a line of JSON for each thousand seeds and one for all
    #[arg(long)]
    json: bool,
}

/// What many seeds came to.
#[derive(Debug, Default)]
struct Sums {
    seeds: u64,
    seconds: f64,
    violations: u64,
    differing: u64,
    repeated: u64,
    events: u64,
    lives: u64,
    attempts: u64,
    epochs: u64,
    simulated: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        let Self { seeds, seconds, violations, differing, repeated, events, lives, attempts, epochs, simulated } =
            other;
        self.seeds += seeds;
        self.seconds += seconds;
        self.violations += violations;
        self.differing += differing;
        self.repeated += repeated;
        self.events += events;
        self.lives += lives;
        self.attempts += attempts;
        self.epochs += epochs;
        self.simulated += simulated;
    }

    fn count(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.violations += u64::from(outcome.violation.is_some());
        self.events += outcome.lines;
        self.lives += outcome.lives;
        self.attempts += outcome.ending.attempts;
        self.epochs += outcome.ending.epochs;
        self.simulated += outcome.lasted;
    }

    fn json(&self) -> Value {
        json!({
            "seeds": self.seeds, "seconds": self.seconds, "violations": self.violations, "differing": self.differing,
            "repeated": self.repeated, "events": self.events, "lives": self.lives, "attempts": self.attempts,
            "epochs": self.epochs, "simulated_hours": self.simulated / 3_600_000,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        let outcome = run(seed, arguments.trace);
        println!("{}", told(&outcome, !arguments.trace));
        return exit(u64::from(outcome.violation.is_some()));
    }
    let (mut all, end) = (Sums::default(), arguments.first + arguments.seeds);
    let mut first = arguments.first;
    while first < end {
        let part = part(first..end.min(first + PART), &arguments);
        if arguments.json {
            println!("{}", part.json());
        }
        all.add(&part);
        first += PART;
    }
    if arguments.json {
        println!("{}", all.json());
        // Whoever reads the figures judges them.
        return ExitCode::SUCCESS;
    }
    let Sums { seeds, seconds, violations, events, lives, attempts, epochs, repeated, differing, .. } = all;
    println!(
        "{seeds} seeds in {seconds:.1} s: {violations} broke a rule; {events} lines, {lives} lives, {attempts} attempts, \
         {epochs} epochs; of {repeated} that ran twice {differing} came out otherwise"
    );
    exit(violations + differing)
}

fn exit(broken: u64) -> ExitCode {
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs some seeds, and some of them again in the reverse order.
fn part(seeds: std::ops::Range<u64>, arguments: &Arguments) -> Sums {
    let began = Instant::now();
    let once = side_by_side(seeds.clone().collect(), arguments.threads);
    let mut sums = Sums::default();
    for outcome in &once {
        sums.count(outcome);
        if outcome.violation.is_some() {
            eprintln!("{}", told(outcome, true));
        }
    }
    if let Some(every) = arguments.repeat {
        let chosen: Vec<u64> = seeds.rev().filter(|seed| seed.is_multiple_of(every.max(1))).collect();
        let again = side_by_side(chosen, arguments.threads);
        let hash = |seed: u64| -> Option<Digest> { Some(once.iter().find(|outcome| outcome.seed == seed)?.hash) };
        sums.repeated = again.len() as u64;
        sums.differing = again.iter().filter(|outcome| hash(outcome.seed) != Some(outcome.hash)).count() as u64;
    }
    sums.seconds = began.elapsed().as_secs_f64();
    sums
}

/// Runs seeds in order, so many at once; each is a world of its own.
fn side_by_side(seeds: Vec<u64>, threads: u64) -> Vec<Outcome> {
    let (next, outcomes) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(&seed) =
                    usize::try_from(next.fetch_add(1, Ordering::SeqCst)).ok().and_then(|at| seeds.get(at))
                {
                    let outcome = run(seed, false);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What became of a seed, in words.
fn told(outcome: &Outcome, with_trace: bool) -> String {
    let Outcome { seed, hash, violation, last, ending, lines, lasted, lives } = outcome;
    match violation {
        None => format!(
            "seed {seed}: {lines} lines in {} simulated s, {lives} lives, {ending:?}, hash {}",
            lasted / 1000,
            hash.short()
        ),
        Some(violation) => format!(
            "{}seed {seed}: {violation}\n  replay: cargo run -p ceteris-simulation -- --seed {seed} --trace\n",
            if with_trace { last.concat() } else { String::new() }
        ),
    }
}
