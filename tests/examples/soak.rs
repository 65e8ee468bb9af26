//! What `cargo xtask soak` drives: so many faults on a fleet of real processes. One line of JSON for each, and one for what
//! was seen in the end.
//!
//! `soak --cycles N --seed N`

use anyhow::{Context as _, Result, bail};
use ceteris_tests::soak::{Options, Outcome, soak};
use serde_json::json;

fn main() -> Result<()> {
    let mut options = Options { cycles: 0, seed: 0 };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().with_context(|| format!("{flag} has no value"))?;
        match flag.as_str() {
            "--cycles" => options.cycles = value.parse().context("--cycles is a number")?,
            "--seed" => options.seed = value.parse().context("--seed is a number")?,
            _ => bail!("{flag} is not known"),
        }
    }
    let tell = |cycle: &ceteris_tests::soak::Cycle| {
        let name = cycle.fault.name();
        eprintln!("{:>5} of {}: {name}, {:.1} s", cycle.number, options.cycles, cycle.seconds);
        println!("{}", json!({ "cycle": cycle.number, "fault": name, "seconds": cycle.seconds }));
    };
    let outcome =
        soak("soak", options, tell).context("there are no servers to test on; `cargo xtask soak` starts them")?;
    let Outcome { done: (experiments, epochs, values), lost, doubled, differing, .. } = outcome;
    println!(
        "{}",
        json!({
            "experiments": experiments, "epochs": epochs, "values": values,
            "lost": lost, "doubled": doubled, "differing": differing,
        })
    );
    Ok(())
}
