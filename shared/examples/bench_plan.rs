//! Plans experiments again and again, for `cargo xtask bench plan` (the protocol is described in `xtask/src/bench`).
//!
//! It is an example and no command, because `ceteris plan` also reads a file and prints a document.

use std::{
    error::Error,
    fmt::Write as _,
    io::{self, BufRead, Write as _},
    process::ExitCode,
    time::Instant,
};

use ceteris_shared::{
    digest::Digest,
    ids::ExperimentId,
    plan::{Pins, Plan, plan},
    spec::{ExperimentSpec, Format, parse},
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shape, arms, seeds, epochs] = &arguments[..] else {
        return Err("expected SHAPE (shared or distinct), ARMS, SEEDS and EPOCHS".into());
    };
    let (arms, seeds, epochs) = (arms.parse()?, seeds.parse()?, epochs.parse()?);
    let spec = spec(shape == "shared", arms, seeds, epochs)?;
    say(r#"{"ready": true, "program": "ceteris"}"#)?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let Some(Ok(times)) = line.strip_prefix("go ").map(str::parse::<u32>) else {
            return Err(format!("expected `go N`, not {line:?}").into());
        };
        let start = Instant::now();
        let mut last = None;
        for _ in 0..times {
            drop(last.take());
            last = Some(planned(&spec)?);
        }
        let seconds = start.elapsed().as_secs_f64();
        let (runs, asked, to_train) =
            last.map_or((0, 0, 0), |plan| (plan.runs.len(), plan.epochs_asked(), plan.epochs_to_train()));
        say(&format!(
            r#"{{"seconds": {seconds}, "images": {runs}, "epochs_asked": {asked}, "epochs_to_train": {to_train}}}"#
        ))?;
    }
    Ok(())
}

fn planned(spec: &ExperimentSpec) -> Result<Plan, Box<dyn Error>> {
    let pins = Pins { dataset: Some(Digest::of(b"data set")), ..Pins::default() };
    Ok(plan(ExperimentId::FIRST, spec, &pins)?)
}

/// Arms that all share the first half of their epochs, or that share nothing.
fn spec(shared: bool, arms: u32, seeds: u32, epochs: u32) -> Result<ExperimentSpec, Box<dyn Error>> {
    let mut text = format!(
        "name = \"plan\"\ndata = {{ dataset = \"d\" }}\nmodel = {{ init = \"random\" }}\nbudget = {{ epochs = {epochs} }}\n\
         seeds = {{ count = {seeds} }}\n"
    );
    for arm in 0..arms {
        let (lr, half) = (1e-6 * f64::from(arm + 1), epochs / 2);
        let stages = match shared {
            true => format!(
                "{{ epochs = {half}, train = \"head\" }}, {{ epochs = {}, train = \"denseblock4\", lr = {lr:e} }}",
                epochs - half
            ),
            false => format!("{{ epochs = {epochs}, train = \"head\", lr = {lr:e} }}"),
        };
        write!(text, "[[arm]]\nname = \"arm{arm}\"\nstages = [{stages}]\n")?;
    }
    Ok(parse(&text, Format::Toml)?)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
