//! Whole executions, asked for as an agent asks: the work of a planned spec, a start that is a checkpoint, folders.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use ceteris_shared::{
    architecture::{Arch, Part},
    augment::Policy,
    dataset::Split,
    ids::{Attempt, ExperimentId, SegmentId},
    plan::{EpochWork, Pins, Work, plan},
    spec::{Format, parse},
    trainer::{DatasetFiles, FeatureFolder, MetricPoint, Start, Train},
};
use clap::Args;

use super::{Layout, Machine, Precision, material};
use crate::{
    checkpoint::Parts,
    data::{Dataset, Plan},
    local,
    model::split,
    tensors::{Contents, StateDict},
};

/// What an agent lets the features of frozen parts take unless told.
const FEATURE_BYTES: u64 = 20 << 30;

/// What every subject that trains is given.
#[derive(Clone, Debug, Args)]
pub struct Given {
    /// safetensors with torchvision's names; the classifier is used as it is
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// A packed data set
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Images in a step
    #[arg(long, value_name = "N")]
    batch: u32,
    /// An existing folder for what is written
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
}

/// What is trained: one arm, crossed with learning rates and seeds.
#[derive(Clone, Debug)]
pub struct Arms<'a> {
    /// As in a spec's `train`.
    pub train: &'a str,
    pub lrs: &'a [f64],
    pub seeds: &'a [u64],
    pub epochs: u32,
}

/// What executions are made of.
#[derive(Debug)]
pub struct Executions {
    scratch: PathBuf,
    files: DatasetFiles,
    pub dataset: Dataset,
    /// The weights, as the checkpoint of an epoch 0.
    start: Parts,
}

impl Given {
    /// Reads the data set's manifest, and writes the weights as a checkpoint of a network that is trained from `first`
    /// on: a start from a weights file would draw a new classifier.
    pub fn prepare(&self, first: Part) -> Result<Executions> {
        let files = local::dataset(&self.data)?;
        let dataset = Dataset::open(&files)?;
        let folder = self.scratch.join("start");
        empty(&folder)?;
        let start = Parts::in_folder(&folder);
        let state = Contents::read(&self.weights)?.tensors;
        let (frozen, trained) = split(state, Arch::Densenet121, material::CLASSES, first);
        let model = |tensors| Contents { tensors, step: None };
        model(frozen).write(&start.frozen)?;
        model(trained).write(&start.trained)?;
        Contents { tensors: StateDict::default(), step: Some(0) }.write(&start.optimizer)?;
        Ok(Executions { scratch: self.scratch.clone(), files, dataset, start })
    }

    /// The work of each run of `arms`, in the order of a plan: for each learning rate its seeds.
    pub fn works(&self, machine: &Machine, arms: &Arms<'_>) -> Result<Vec<Work>> {
        let precision = match machine.precision {
            Precision::Fp32 => "fp32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
            Precision::Fp64 => bail!("epochs are trained in fp32, tf32 or bf16; write one of them as --precision"),
        };
        if machine.layout == Layout::Contiguous {
            bail!("epochs are trained in channels_last; leave --layout out");
        }
        let Arms { train, lrs, seeds, epochs } = arms;
        let text = format!(
            "name = 'bench'\n\
             data = {{ dataset = 'bench' }}\n\
             model = {{ init = 'bench' }}\n\
             budget = {{ epochs = {epochs} }}\n\
             seeds = {{ values = {seeds:?} }}\n\
             arm = [{{ name = 'bench', stages = [{{ epochs = {epochs}, train = '{train}' }}] }}]\n\
             grid = {{ lr = {lrs:?} }}\n\
             controls = {{ batch_size = {}, optimizer = {{ name = 'adam' }}, schedule = 'constant', augment = 'none', \
             precision = '{precision}' }}\n",
            self.batch
        );
        let spec = parse(&text, Format::Toml)?;
        let plan = plan(ExperimentId(uuid::Uuid::nil()), &spec, &Pins::default())?;
        Ok(plan.runs.iter().filter_map(|run| local::work(&plan, run)).collect())
    }
}

impl Executions {
    /// A request to do `work` from the given weights, with an empty folder `name` to write to.
    pub fn request(&self, name: &str, work: Work) -> Result<Train> {
        let directory = self.scratch.join(name);
        empty(&directory)?;
        Ok(Train {
            attempt: Attempt { segment: SegmentId(uuid::Uuid::nil()), number: 1 },
            work,
            dataset: self.files.clone(),
            external: Vec::new(),
            start: start(&self.start),
            directory,
            features: Some(FeatureFolder { directory: self.scratch.join("features"), limit_bytes: FEATURE_BYTES }),
        })
    }

    /// Forgets all features that were kept.
    pub fn forget_features(&self) -> Result<()> {
        empty(&self.scratch.join("features"))
    }

    /// The order of samples in each epoch of `work`.
    pub fn orders(&self, work: &Work) -> Vec<Vec<u32>> {
        let (train, batch) = (self.dataset.split(Split::Train), work.batch_size as usize);
        let plan =
            |epoch: &EpochWork| Plan::of_epoch(&train, batch, Policy::from(&epoch.augment), work.seed, epoch.epoch);
        work.epochs.iter().map(|epoch| plan(epoch).samples).collect()
    }
}

/// Going on from a checkpoint at an epoch's end.
pub fn start(parts: &Parts) -> Start {
    let Parts { frozen, trained, optimizer } = parts.clone();
    Start::Checkpoint { frozen, trained, optimizer, position: None }
}

/// The mean training loss among an epoch's metrics.
pub fn training_loss(metrics: &[MetricPoint]) -> Option<f64> {
    metrics.iter().find(|point| point.split == Split::Train && point.name == "loss").map(|point| point.value)
}

/// Makes `folder` an empty one.
fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} cannot be removed", folder.display()));
        }
        _ => {}
    }
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be created", folder.display()))
}
