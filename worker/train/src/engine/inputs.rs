//! What an execution reads before its first step, checked to fit together.

use burn::tensor::Device;
use ceteris_shared::{
    dataset::Split,
    spec::{Arch, OptimizerName, Precision, Trainable},
    trainer::{Start, Train},
};

use super::Error;
use crate::{
    adam::Adam,
    checkpoint::Parts,
    data::{Dataset, batches},
    model::{DenseNet121, MIN_IMAGE_SIZE, Part, head, last_map_size, random, split},
    tensors::{self, Contents},
};

/// Data sets, opened and checked.
pub(super) struct Inputs {
    pub dataset: Dataset,
    pub external: Vec<(String, Dataset)>,
    /// The training samples, ascending.
    pub train: Vec<u32>,
}

impl Inputs {
    pub fn open(request: &Train) -> Result<Self, Error> {
        // A new level of these has to be taught to the engine before it compiles.
        let (Arch::Densenet121, Precision::Fp32, OptimizerName::Adam) =
            (request.work.arch, request.work.precision, request.work.optimizer.name)
        else {
            return Err(Error::Unfit(format!("{} is not trained by this version", request.work.arch.name())));
        };
        let open =
            |name: &str, files| Dataset::open(files).map_err(|source| Error::Data { name: name.to_owned(), source });
        let dataset = open("of the experiment", &request.dataset)?;
        let mut external = Vec::new();
        for (name, files) in request.external.iter().filter(|_| request.work.endpoint) {
            let other = open(name, files)?;
            check_external(&dataset, name, &other)?;
            external.push((name.clone(), other));
        }
        let train = dataset.split(Split::Train);
        check_sizes(request, dataset.manifest().image_size, train.len())?;
        Ok(Self { dataset, external, train })
    }

    pub fn classes(&self) -> usize {
        self.dataset.manifest().classes.len()
    }
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

fn check_sizes(request: &Train, image_size: u32, samples: usize) -> Result<(), Error> {
    if image_size < MIN_IMAGE_SIZE {
        return Err(Error::Unfit(format!(
            "images of {image_size} pixels leave DenseNet-121 no map; import the data set with an image size of {MIN_IMAGE_SIZE} or more"
        )));
    }
    if samples == 0 {
        return Err(Error::Unfit("the data set has no training sample; import it with a split `train`".to_owned()));
    }
    let pixels = last_map_size(image_size).pow(2) as usize;
    let smallest = batches(samples, request.work.batch_size as usize).iter().map(ExactSizeIterator::len).min();
    let normalises = request.work.epochs.iter().any(|work| work.train != Trainable::Head);
    if normalises && smallest.is_some_and(|batch| batch * pixels < 2) {
        return Err(Error::Unfit(format!(
            "a batch of 1 image of {image_size} pixels leaves BatchNorm a single value per channel, from which it cannot learn; raise batch_size or image_size, or train the head alone"
        )));
    }
    Ok(())
}

/// The network before the first epoch, and the optimizer where it goes on.
pub(super) fn start(request: &Train, classes: usize, device: &Device) -> Result<(DenseNet121, Option<Adam>), Error> {
    let work = &request.work;
    match &request.start {
        Start::Random => {
            let network = DenseNet121::from_state(&random(work.seed, classes), classes, device);
            Ok((network.map_err(Error::Weights)?, None))
        }
        Start::Weights { file } => {
            let network = with_new_head(file, work.seed, classes, device);
            Ok((network.map_err(Error::Weights)?, None))
        }
        Start::Checkpoint { frozen, trained, optimizer } => {
            let parts = Parts { frozen: frozen.clone(), trained: trained.clone(), optimizer: optimizer.clone() };
            let network = parts.network(classes, device).map_err(Error::Checkpoint)?;
            let adam = match work.epochs.first() {
                Some(next) if !next.optimizer_starts => {
                    let first = Part::first_trained(next.train);
                    Some(parts.optimizer(work.optimizer, first, classes, device).map_err(Error::Checkpoint)?)
                }
                _ => None,
            };
            Ok((network, adam))
        }
    }
}

fn with_new_head(
    file: &std::path::Path,
    seed: u64,
    classes: usize,
    device: &Device,
) -> Result<DenseNet121, tensors::Error> {
    let (features, _old_head) = split(Contents::read(file)?.tensors, Part::Head);
    DenseNet121::from_state(&features.join(head(seed, classes))?, classes, device)
}
