//! Where the trained part's input comes from: kept features, or the frozen part on images.

use std::{collections::HashMap, sync::Arc, time::Instant};

use burn::tensor::Device;
use ceteris_shared::{
    architecture::Part,
    augment::Policy,
    checkpoint::Environment,
    dataset::Split,
    digest::Digest,
    features::{Draws, FeatureKey, Source},
    ids::Epoch,
    plan::EpochWork,
    spec::Augment,
    trainer::{Report, Train},
};

use super::{
    Control, Meter, Wish,
    epoch::images,
    writer::{Reporter, tell},
};
use crate::{
    backend::Opened,
    data::{Dataset, Plan, load},
    features::{self, CANONICAL_BATCH, Decision, Estimate, FeatureSet, Maker},
    model::Network,
    tensors::Contents,
};

/// Samples whose features are asked for.
pub(super) struct Wanted<'a> {
    pub dataset: &'a Dataset,
    /// The digest of its manifest.
    pub digest: Digest,
    /// None for all its samples.
    pub split: Option<Split>,
    /// In the data set's order.
    pub samples: &'a [u32],
    pub augment: &'a Augment,
    pub epoch: Epoch,
}

/// The feature sets of an execution.
pub(super) struct Frozen<'a> {
    pub request: &'a Train,
    pub device: &'a Device,
    pub control: &'a Control,
    pub reporter: &'a Reporter<'a>,
    meter: &'a Meter,
    environment: &'a Environment,
    /// The boundary, and the digest of what is below it.
    stage: Option<(Part, Digest)>,
    /// What was opened or decided against in this execution.
    sets: HashMap<FeatureKey, Option<Arc<FeatureSet>>>,
}

impl<'a> Frozen<'a> {
    pub fn new(
        request: &'a Train,
        opened: &'a Opened,
        control: &'a Control,
        reporter: &'a Reporter<'a>,
        meter: &'a Meter,
    ) -> Self {
        let Opened { device, environment, .. } = opened;
        Self { request, device, control, reporter, meter, environment, stage: None, sets: HashMap::new() }
    }

    /// The set of what `wanted` asks for. None where it is not worth keeping, or nothing is frozen.
    pub fn set(&mut self, network: &Network, wanted: &Wanted<'_>) -> Option<Arc<FeatureSet>> {
        let first = network.first();
        let folder = self.request.features.as_ref().filter(|_| first != Part::Stem)?;
        let directory = folder.directory.clone();
        if wanted.samples.is_empty() {
            return None;
        }
        let key = self.key(network, wanted);
        if let Some(known) = self.sets.get(&key) {
            return known.clone();
        }
        let attempt = self.request.attempt;
        tell(self.reporter, Report::FeaturesWanted { attempt, key });
        self.control.wait_for(attempt, key);
        let set = match self.open(&directory, key, wanted) {
            Some(set) => {
                tracing::info!(%key, samples = wanted.samples.len(), "features found");
                Some(set)
            }
            None if self.try_to_make(network, wanted, key) => {
                let set = self.open(&directory, key, wanted);
                if set.is_some() {
                    tell(self.reporter, Report::FeaturesMade { attempt, key });
                }
                set
            }
            None => None,
        };
        let set = set.map(Arc::new);
        // A set of one epoch's draws is used in this epoch alone.
        if wanted.augment.changes_nothing() || set.is_none() {
            self.sets.insert(key, set.clone());
        }
        set
    }

    fn open(&self, directory: &std::path::Path, key: FeatureKey, wanted: &Wanted<'_>) -> Option<FeatureSet> {
        FeatureSet::open(directory, key, wanted.samples.len()).unwrap_or_else(|error| {
            tracing::warn!(%key, %error, "a set of features is damaged; it is computed again");
            None
        })
    }

    fn key(&mut self, network: &Network, wanted: &Wanted<'_>) -> FeatureKey {
        let work = &self.request.work;
        let first = network.first();
        let frozen = match self.stage {
            Some((boundary, frozen)) if boundary == first => frozen,
            _ => {
                let state = Contents { tensors: network.frozen_state(), step: None };
                let frozen = Digest::of(&state.to_bytes());
                self.stage = Some((first, frozen));
                frozen
            }
        };
        let policy = wanted.augment.canonical();
        let draws = Draws { policy: &policy, seed: work.seed, epoch: wanted.epoch };
        Source {
            arch: work.arch,
            boundary: first,
            frozen,
            dataset: wanted.digest,
            split: wanted.split,
            image_size: wanted.dataset.manifest().image_size,
            precision: work.precision,
            batch: CANONICAL_BATCH as u32,
            environment: self.environment,
            augment: (!wanted.augment.changes_nothing()).then_some(draws),
        }
        .key()
    }

    /// Computes a set. False where it was not made; a disk that refuses only costs the time to compute anew.
    fn try_to_make(&mut self, network: &Network, wanted: &Wanted<'_>, key: FeatureKey) -> bool {
        self.make(network, wanted, key).unwrap_or_else(|error| {
            tracing::warn!(%key, %error, "features cannot be kept; they are computed anew in each epoch");
            false
        })
    }

    /// Computes a set, unless its first batch shows that it is not worth it, or a stop is wished.
    fn make(&mut self, network: &Network, wanted: &Wanted<'_>, key: FeatureKey) -> Result<bool, features::Error> {
        let Some(folder) = &self.request.features else { return Ok(false) };
        let plan = Plan::canonical(wanted.samples, Policy::from(wanted.augment), self.request.work.seed, wanted.epoch);
        let attempt = self.request.attempt;
        std::thread::scope(|scope| {
            let mut maker: Option<Maker> = None;
            for batch in load(scope, wanted.dataset, plan) {
                if self.control.wish(attempt) == Wish::Now {
                    return Ok(false);
                }
                let count = batch.samples.len();
                let began = Instant::now();
                let features = network.features(images(&batch, self.device));
                self.meter.count_frozen(count);
                let [_, channels, height, width] = features.dims();
                let maker = match &mut maker {
                    Some(maker) => maker,
                    None => {
                        let dtype = features.dtype();
                        // Waits for the device, so that the clock tells the truth.
                        let sample_bytes = features.clone().slice(0..1).into_data().as_bytes().len() as u64;
                        let decision = features::decide(Estimate {
                            samples: wanted.samples.len(),
                            sample_bytes,
                            sample_seconds: began.elapsed().as_secs_f64() / count as f64,
                            limit: folder.limit_bytes,
                        });
                        tracing::info!(%key, boundary = ?network.first(), "{decision}");
                        if !matches!(decision, Decision::Keep(_)) {
                            return Ok(false);
                        }
                        let begun = Maker::begin(&folder.directory, key, [channels, height, width], dtype);
                        maker.insert(begun?)
                    }
                };
                maker.add(features, count)?;
            }
            match maker {
                Some(maker) => maker.finish().map(|()| true),
                None => Ok(false),
            }
        })
    }

    /// What an epoch's training reads.
    pub fn of_training(
        &mut self,
        network: &Network,
        dataset: &Dataset,
        digest: Digest,
        train: &[u32],
        work: &EpochWork,
    ) -> Option<Arc<FeatureSet>> {
        let wanted = Wanted {
            dataset,
            digest,
            split: Some(Split::Train),
            samples: train,
            augment: &work.augment,
            epoch: work.epoch,
        };
        // Mixed images are those of one batch, not of one sample.
        if work.augment.mixes() { None } else { self.set(network, &wanted) }
    }
}
