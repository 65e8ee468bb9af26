//! Imports a folder again and again, for `cargo xtask bench input` (the protocol is described in `xtask/src/bench`).
//!
//! It is an example and no command, because a data set that nobody can find in a store is of no use to anyone else.

use std::{
    fs,
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use ceteris::import::{Fractions, Imported, Options, Patients, SplitChoice, import};
use clap::Parser;

#[derive(Debug, Parser)]
struct Arguments {
    /// A folder with train, val and test, or with one folder per class
    #[arg(long)]
    folder: PathBuf,
    /// Height and width of the packed images
    #[arg(long)]
    image_size: u32,
    /// Where `packed` is written: manifest.json, shard-0000 and so on
    #[arg(long)]
    scratch: PathBuf,
    /// Threads that decode
    #[arg(long)]
    threads: usize,
    /// Passes before the first line; one at least, which writes `packed`
    #[arg(long, default_value_t = 1)]
    warm_up: u32,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<()> {
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global()?;
    let pass = || import(&options(arguments)?, &|_| ()).map_err(Box::<dyn std::error::Error>::from);
    for _ in 1..arguments.warm_up {
        pass()?;
    }
    let images = keep(&pass()?, &arguments.scratch.join("packed"))?;
    let version = env!("CARGO_PKG_VERSION");
    say(&serde_json::json!({ "ready": true, "program": format!("ceteris {version}"), "threads": arguments.threads }))?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let passes: u32 = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["go", passes] => passes.parse()?,
            _ => return Err(format!("expected `go N`, not {line:?}").into()),
        };
        let start = Instant::now();
        for _ in 0..passes {
            pass()?;
        }
        let seconds = start.elapsed().as_secs_f64();
        say(&serde_json::json!({ "seconds": seconds, "images": images * passes as usize }))?;
    }
    Ok(())
}

fn options(arguments: &Arguments) -> Outcome<Options> {
    let published = arguments.folder.join("train").is_dir();
    let drawn = || {
        Ok::<_, Box<dyn std::error::Error>>(SplitChoice::Drawn { fractions: Fractions::new(1.0, 0.0, 0.0)?, seed: 0 })
    };
    Ok(Options {
        folder: arguments.folder.clone(),
        csv: None,
        patients: Patients::AsListed,
        split: if published { SplitChoice::Published } else { drawn()? },
        image_size: arguments.image_size,
        scratch: Some(arguments.scratch.clone()),
    })
}

/// Copies what was imported to where it stays, and says how many images it is.
fn keep(imported: &Imported, directory: &Path) -> Outcome<usize> {
    if let Some(refused) = imported.refused.first() {
        return Err(format!("{} of the images are refused, the first is {refused}", imported.refused.len()).into());
    }
    fs::create_dir_all(directory)?;
    for (number, shard) in imported.shards.iter().enumerate() {
        fs::copy(shard, directory.join(format!("shard-{number:04}")))?;
    }
    fs::write(directory.join("manifest.json"), imported.manifest.to_bytes())?;
    Ok(imported.manifest.samples.len())
}

fn say(message: &serde_json::Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{message}")?;
    stdout.flush()
}
