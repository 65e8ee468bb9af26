//! What an execution reads before its first step, checked to fit together.

use std::path::Path;

use burn::tensor::Device;
use ceteris_shared::{
    architecture::Part,
    dataset::{MAX_MANIFEST_BYTES, Split},
    digest::Digest,
    plan::Work,
    spec::{ClassWeights, Memory, Precision},
    trainer::{DatasetFiles, Start, Train},
};

use super::Error;
use crate::{
    backend::{self, Compute, Float},
    checkpoint::{Parts, Progress},
    data::{self, Dataset, batches},
    files,
    loss::CrossEntropy,
    model::{Network, head, random, split},
    optimizer::Optimizer,
    tensors::{self, Contents, Source, StateDict},
};

/// Data sets, opened and checked.
pub(super) struct Inputs {
    pub dataset: Dataset,
    /// The digest of its manifest.
    pub digest: Digest,
    pub external: Vec<(String, Dataset, Digest)>,
    /// The training samples, ascending.
    pub train: Vec<u32>,
    pub loss: CrossEntropy,
}

/// The state before the first step.
pub(super) struct State {
    pub network: Network,
    /// The optimizer, where it goes on.
    pub optimizer: Option<Optimizer>,
    /// What of the first epoch is done.
    pub progress: Progress,
}

impl Inputs {
    pub fn open(request: &Train) -> Result<Self, Error> {
        let (dataset, digest) = open("of the experiment", &request.dataset)?;
        let mut external = Vec::new();
        for (name, files) in request.external.iter().filter(|_| request.work.endpoint) {
            let (other, digest) = open(name, files)?;
            check_external(&dataset, name, &other)?;
            external.push((name.clone(), other, digest));
        }
        let train = dataset.split(Split::Train);
        check_sizes(&request.work, dataset.manifest().image_size, train.len())?;
        let classes = dataset.manifest().classes.len();
        if let ClassWeights::Listed(weights) = &request.work.optimization.class_weights
            && weights.len() != classes
        {
            return Err(Error::Unfit(format!(
                "class_weights lists {} numbers, and the data set has {classes} classes: {}",
                weights.len(),
                dataset.manifest().classes.join(", ")
            )));
        }
        let mut counts = vec![0; classes];
        train.iter().for_each(|sample| counts[dataset.label(*sample) as usize] += 1);
        let loss = CrossEntropy::new(&request.work.optimization, &counts);
        Ok(Self { dataset, digest, external, train, loss })
    }

    pub fn classes(&self) -> usize {
        self.dataset.manifest().classes.len()
    }
}

fn open(name: &str, given: &DatasetFiles) -> Result<(Dataset, Digest), Error> {
    let failed = |source| Error::Data { name: name.to_owned(), source };
    let dataset = Dataset::open(given).map_err(failed)?;
    let manifest = files::read(&given.manifest, MAX_MANIFEST_BYTES);
    let manifest = manifest.map_err(|error| failed(data::Error::File(error)))?;
    Ok((dataset, Digest::of(&manifest)))
}

fn check_external(own: &Dataset, name: &str, other: &Dataset) -> Result<(), Error> {
    let (own, other) = (own.manifest(), other.manifest());
    if own.image_size != other.image_size {
        return Err(Error::Unfit(format!(
            "external data set {name} has images of {} pixels, the experiment's data set of {}: import it again with --image-size {}",
            other.image_size, own.image_size, own.image_size
        )));
    }
    if own.classes != other.classes {
        return Err(Error::Unfit(format!(
            "external data set {name} has classes {}, the experiment's data set {}: import it again with the same class names",
            other.classes.join(", "),
            own.classes.join(", ")
        )));
    }
    Ok(())
}

fn check_sizes(work: &Work, image_size: u32, samples: usize) -> Result<(), Error> {
    let (arch, smallest_image) = (work.arch.name(), work.arch.min_image_size());
    if image_size < smallest_image {
        return Err(Error::Unfit(format!(
            "images of {image_size} pixels leave {arch} no map; import the data set with an image size of {smallest_image} or more"
        )));
    }
    if samples == 0 {
        return Err(Error::Unfit("the data set has no training sample; import it with a split `train`".to_owned()));
    }
    let pixels = work.arch.last_map_size(image_size).pow(2) as usize;
    let accumulate = work.optimization.accumulate.max(1) as usize;
    // The last part of a batch that does not divide evenly is the smallest.
    let smallest_part = |rows: usize| {
        let size = rows.div_ceil(accumulate).max(1);
        if rows.is_multiple_of(size) { size } else { rows % size }
    };
    let all = batches(samples, work.batch_size as usize);
    let smallest = all.iter().map(|batch| smallest_part(batch.len())).min();
    let normalises = work.epochs.iter().any(|epoch| epoch.train.part() != Part::Head);
    if normalises && smallest.is_some_and(|rows| rows * pixels < 2) {
        return Err(Error::Unfit(format!(
            "a batch of 1 image of {image_size} pixels leaves BatchNorm a single value per channel, from which it cannot learn; raise batch_size or image_size, lower accumulate, or train the head alone"
        )));
    }
    Ok(())
}

/// How the network is computed.
pub(super) fn compute(work: &Work) -> Compute {
    let float = match work.precision {
        Precision::Fp32 | Precision::Tf32 => Float::Fp32,
        Precision::Bf16 => Float::Bf16,
    };
    Compute { low_memory: work.memory == Memory::Low, ..Compute::new(float) }
}

/// The state before the first step.
pub(super) fn start(request: &Train, classes: usize, device: &Device) -> Result<State, Error> {
    let work = &request.work;
    backend::check(device, compute(work)).map_err(|error| Error::Unfit(error.to_string()))?;
    let first = work.epochs.first().map_or(Part::Head, |epoch| epoch.train.part());
    let build = |state: &dyn Source| Network::new(state, work.arch, classes, first, compute(work), device);
    let fresh = |network| State { network, optimizer: None, progress: Progress::default() };
    match &request.start {
        Start::Random => build(&random(work.arch, work.seed, classes)).map(fresh).map_err(Error::Weights),
        Start::Weights { file } => {
            with_new_head(file, work, classes).and_then(|state| build(&state)).map(fresh).map_err(Error::Weights)
        }
        Start::Checkpoint { frozen, trained, optimizer, position } => {
            let parts = Parts { frozen: frozen.clone(), trained: trained.clone(), optimizer: optimizer.clone() };
            let network = parts.state().and_then(|state| build(&state)).map_err(Error::Checkpoint)?;
            let goes_on = match work.epochs.first() {
                Some(next) => position.is_some() || !next.optimizer_starts,
                None => false,
            };
            let optimizer =
                goes_on.then(|| parts.optimizer(&work.optimization, work.arch, first, classes, device)).transpose();
            let progress = match position {
                Some(position) => Progress::read(&position.progress, position.step)?,
                None => Progress::default(),
            };
            Ok(State { network, optimizer: optimizer.map_err(Error::Checkpoint)?, progress })
        }
    }
}

fn with_new_head(file: &Path, work: &Work, classes: usize) -> Result<StateDict, tensors::Error> {
    let state = Contents::read(file)?.tensors;
    // The file's own head may have any number of classes; only its name says that it is one.
    let (features, _old_head) = split(state, work.arch, classes, Part::Head);
    features.join(head(work.arch, work.seed, classes))
}
