//! `ceteris-train run`: one run of a spec, trained by hand, without an agent and a coordinator.
//!
//! What it writes to its folder is what an agent would store: `epoch-N` after each epoch and `epoch-N-step-S` within
//! one. Beside them lies `run.json`, which says whose they are. An epoch's folder is complete when it has
//! `metrics.json`, which is written last.

mod choice;
mod resume;
mod tell;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, bail};
use ceteris_shared::{
    dataset::MAX_MANIFEST_BYTES,
    digest::Digest,
    ids::{Attempt, ExperimentId},
    plan::Pins,
    spec::{self, ExperimentSpec, Format, Init, MAX_SPEC_BYTES},
    trainer::{DatasetFiles, FeatureFolder, Start, Train},
};
use clap::Args;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::{Handle, Signals},
};

use self::{choice::Chosen, resume::Found, tell::Teller};
use crate::{
    backend::{self, DeviceName, Opened},
    data::Dataset,
    engine::{self, Control, Outcome},
    files, local,
    serve::STACK_BYTES,
    tensors::MAX_FILE_BYTES,
};

/// What an agent lets the features of frozen parts take unless told.
const FEATURE_BYTES: u64 = 20 << 30;

/// What to train, and where everything lies.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The spec of an experiment (TOML, or YAML or JSON by its extension)
    #[arg(long, value_name = "FILE")]
    spec: PathBuf,
    /// Its data set, packed: a folder with manifest.json and shard-0000, shard-0001, …
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Its initial weights, imported (safetensors); none where the spec says `init = "random"`
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Where checkpoints and predictions are written; empty, or made
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Which arm, with its grid levels as in a plan; may be left out where there is one
    #[arg(long, value_name = "NAME")]
    arm: Option<String>,
    /// Which seed; may be left out where there is one
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where features of frozen parts are kept, for this run and others; they are computed in each epoch without it
    #[arg(long, value_name = "DIR")]
    features: Option<PathBuf>,
    /// Go on from the newest complete checkpoint in the folder of --out
    #[arg(long)]
    resume: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are trained.
    Finished,
    /// A signal with this number was obeyed, and what was done is in a checkpoint.
    Interrupted(i32),
}

/// Trains the run. One JSON line for each epoch goes to stdout, one line for each report to stderr. SIGINT and SIGTERM
/// stop it after the step in flight, with a checkpoint; a second one stops it at once.
///
/// # Errors
/// When the spec, the data or the weights are refused, the run cannot be told, the folder is not empty or holds another
/// run, or training fails.
pub fn run(options: &Options, device: DeviceName, threads: u32) -> Result<Ending> {
    let spec = read_spec(&options.spec)?;
    let files = local::dataset(&options.data)?;
    let pins = pins(options, &spec, &files)?;
    let plan = ceteris_shared::plan::plan(ExperimentId(uuid::Uuid::nil()), &spec, &pins)?;
    let chosen = choice::choose(&plan, options.arm.as_deref(), options.seed)?;
    let start = match (&spec.model.init, &options.weights) {
        (Init::Random, None) => Start::Random,
        (Init::Weights(_), Some(file)) => Start::Weights { file: file.clone() },
        (init @ Init::Run(_), _) => bail!("{init} is known to a coordinator alone; submit the spec to one"),
        (Init::Random, Some(_)) => bail!("the spec says `init = \"random\"`; leave --weights out"),
        (Init::Weights(name), None) => {
            bail!("the spec starts from the weights {name:?}; say with --weights where they lie")
        }
    };
    if !spec.data.external.is_empty() {
        eprintln!("external data sets are not scored by hand: {}", spec.data.external.join(", "));
    }
    let classes = check_data(&spec, &files)?;
    resume::claim(&options.out, &chosen, options.resume)?;
    let features = options.features.as_deref().map(feature_folder).transpose()?;
    let train = Train {
        attempt: Attempt { segment: chosen.segment, number: 1 },
        work: chosen.work.clone(),
        dataset: files,
        external: Vec::new(),
        start,
        directory: options.out.clone(),
        features,
    };
    // libtorch's thread count belongs to a thread, and walking a deep graph needs a large stack.
    thread::scope(|scope| {
        let body = || execute(train, classes, &chosen, device, threads);
        let training = thread::Builder::new().name("training".to_owned()).stack_size(STACK_BYTES);
        let training = training.spawn_scoped(scope, body).context("no thread to train on")?;
        training.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Trains what is left of `train`.
fn execute(mut train: Train, classes: usize, chosen: &Chosen, device: DeviceName, threads: u32) -> Result<Ending> {
    let opened = backend::open(device, threads)?;
    if let Some(found) = resume::newest(&train.directory, &train.work, classes, &opened.device)? {
        eprintln!("going on from {}", found.folder.display());
        go_on(&mut train, &found);
    }
    if train.work.epochs.is_empty() {
        eprintln!("arm {}, seed {}: all epochs are trained", chosen.arm, train.work.seed);
        return Ok(Ending::Finished);
    }
    let (control, signals) = (Control::alone(), Signals::new([SIGINT, SIGTERM])?);
    let closing = Closing(signals.handle());
    let attempt = train.attempt;
    thread::scope(|scope| {
        let heard = scope.spawn(|| hear(signals, &control, attempt));
        let trained = train_and_tell(&train, chosen, &opened, &control);
        drop(closing);
        let signal = heard.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (trained?, signal) {
            (Outcome::Stopped, Some(signal)) => Ok(Ending::Interrupted(signal)),
            (Outcome::Stopped, None) => bail!("training stopped, and no one asked for it"),
            (Outcome::Finished, _) => Ok(Ending::Finished),
        }
    })
}

/// Ends the waiting for signals, also where training panics.
struct Closing(Handle);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Waits for signals until there can be none. The first is obeyed after the step in flight, the second at once.
fn hear(mut signals: Signals, control: &Control, attempt: Attempt) -> Option<i32> {
    let mut first = None;
    for signal in signals.forever() {
        if first.is_some() {
            std::process::exit(128 + signal);
        }
        eprintln!("stopping after this step; once more to stop at once");
        control.request(attempt, true);
        first = Some(signal);
    }
    first
}

fn train_and_tell(train: &Train, chosen: &Chosen, opened: &Opened, control: &Control) -> Result<Outcome> {
    let mut teller = Teller::new(&chosen.arm, train);
    let outcome = engine::train(train, opened, control, &mut |report| {
        if let Err(error) = teller.tell(report) {
            // Without a place to write to there is no use in going on.
            teller.failed.get_or_insert(error);
            control.request(train.attempt, true);
        }
    });
    match teller.failed {
        Some(error) => Err(error),
        None => Ok(outcome?),
    }
}

/// Leaves to `train` what comes after a checkpoint.
fn go_on(train: &mut Train, found: &Found) {
    train
        .work
        .epochs
        .retain(|work| work.epoch > found.epoch || (found.position.is_some() && work.epoch == found.epoch));
    let parts = found.parts.clone();
    let position = found.position.clone();
    train.start =
        Start::Checkpoint { frozen: parts.frozen, trained: parts.trained, optimizer: parts.optimizer, position };
}

fn read_spec(file: &Path) -> Result<ExperimentSpec> {
    let bytes = files::read(file, MAX_SPEC_BYTES as u64)?;
    let text = String::from_utf8(bytes).with_context(|| format!("{}: not UTF-8", file.display()))?;
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let spec = spec::parse(&text, Format::of_extension(extension));
    spec.with_context(|| format!("{}: the spec is refused", file.display()))
}

/// What the spec's names stand for, so that lineage keys are those that a coordinator gives.
fn pins(options: &Options, spec: &ExperimentSpec, files: &DatasetFiles) -> Result<Pins> {
    let digest = |file: &Path, limit| files::read(file, limit).map(|bytes| Digest::of(&bytes));
    let weights = options.weights.as_deref().filter(|_| spec.model.init != Init::Random);
    Ok(Pins {
        dataset: Some(digest(&files.manifest, MAX_MANIFEST_BYTES)?),
        init: weights.map(|file| digest(file, MAX_FILE_BYTES)).transpose()?,
        ..Pins::default()
    })
}

/// Opens the data set and says how many classes it has.
fn check_data(spec: &ExperimentSpec, files: &DatasetFiles) -> Result<usize> {
    let dataset = Dataset::open(files)?;
    let has = dataset.manifest().image_size;
    match spec.data.image_size {
        Some(wants) if wants != has => bail!(
            "the spec wants images of {wants} pixels, and {} has {has}: import the data set again, or change `data.image_size`",
            files.manifest.display()
        ),
        _ => Ok(dataset.manifest().classes.len()),
    }
}

fn feature_folder(directory: &Path) -> Result<FeatureFolder> {
    make(directory)?;
    Ok(FeatureFolder { directory: directory.to_owned(), limit_bytes: FEATURE_BYTES })
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be created", folder.display()))
}
