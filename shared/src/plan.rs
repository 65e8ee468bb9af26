//! The plan: from a spec to runs, and from runs to the segments that train every epoch once.
//!
//! Each run is a path of lineage keys. Paths with a common beginning are merged into a trie, which is cut only where
//! runs branch or end; each unbranched stretch is a segment. Of a segment, the epochs that an earlier experiment has
//! trained are not trained again ([`Plan::reusable`]). Pure and in stable order, so that the client's preview and the
//! coordinator's authoritative plan are the same. The trie has the same shape for every seed, so it is made once, and only keys
//! are made for each seed.

mod shape;

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{Epoch, ExperimentId, RunId, SegmentId},
    lineage::{LineageKey, Root},
    spec::{self, Arch, Augment, ExperimentSpec, Init, Memory, Optimization, Precision, Rates, ResolvedArm, Trainable},
};

/// What the spec's names stood for at submission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// Digest of the data set's manifest; absent in a preview without a coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<Digest>,
    /// Digest of the initial weights' file; absent for `random` and in a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Digest>,
    /// Digests of the external data sets' manifests, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<(String, Digest)>,
}

/// A planned experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// All arms, in the order of the spec.
    pub arms: Vec<ResolvedArm>,
    /// All runs: for each arm its seeds.
    pub runs: Vec<PlannedRun>,
    /// All segments, parents before children.
    pub segments: Vec<Segment>,
}

/// One arm with one seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRun {
    /// Its identity.
    pub id: RunId,
    /// Index into [`Plan::arms`].
    pub arm: usize,
    /// Its seed.
    pub seed: u64,
    /// Indices into [`Plan::segments`], from the root to the end.
    pub path: Vec<usize>,
}

/// Consecutive epochs with one lineage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Its identity.
    pub id: SegmentId,
    /// Index of the segment it continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<usize>,
    /// What is to be trained.
    pub work: Work,
}

/// Everything an execution of a segment has to know, apart from where its inputs are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// The network.
    pub arch: Arch,
    /// The run's seed.
    pub seed: u64,
    /// Samples in an optimizer step.
    pub batch_size: u32,
    /// How weights move.
    pub optimization: Optimization,
    /// Arithmetic.
    pub precision: Precision,
    /// What is kept from forward for backward.
    pub memory: Memory,
    /// Optimizer steps between two checkpoints within an epoch; absent: there is one only where a trainer is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_every_steps: Option<u32>,
    /// The epochs to train, consecutive.
    pub epochs: Vec<EpochWork>,
    /// True where a run ends: test and external data are scored after the last epoch.
    pub endpoint: bool,
}

/// One epoch to train. It reads, and is changed, like its [`EpochSettings`], which many epochs share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenEpoch", into = "WrittenEpoch")]
pub struct EpochWork {
    /// The lineage key of the state after it.
    pub key: LineageKey,
    settings: Arc<EpochSettings>,
}

/// What an epoch does, whatever the seed.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochSettings {
    /// Which epoch.
    pub epoch: Epoch,
    /// What is trainable.
    pub train: Trainable,
    /// True where a stage begins: the optimizer starts anew.
    pub optimizer_starts: bool,
    /// The epoch's learning rate.
    pub lr: f64,
    /// Its course within the epoch.
    pub rates: Rates,
    /// Augmentation policy.
    pub augment: Augment,
}

impl EpochWork {
    /// An epoch that ends in `key`.
    pub fn new(key: LineageKey, settings: impl Into<Arc<EpochSettings>>) -> Self {
        Self { key, settings: settings.into() }
    }
}

impl Deref for EpochWork {
    type Target = EpochSettings;

    fn deref(&self) -> &EpochSettings {
        &self.settings
    }
}

impl DerefMut for EpochWork {
    fn deref_mut(&mut self) -> &mut EpochSettings {
        Arc::make_mut(&mut self.settings)
    }
}

/// An epoch as it is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEpoch {
    epoch: Epoch,
    key: LineageKey,
    train: Trainable,
    optimizer_starts: bool,
    lr: f64,
    rates: Rates,
    augment: Augment,
}

impl From<WrittenEpoch> for EpochWork {
    fn from(written: WrittenEpoch) -> Self {
        let WrittenEpoch { epoch, key, train, optimizer_starts, lr, rates, augment } = written;
        Self::new(key, EpochSettings { epoch, train, optimizer_starts, lr, rates, augment })
    }
}

impl From<EpochWork> for WrittenEpoch {
    fn from(work: EpochWork) -> Self {
        let EpochSettings { epoch, train, optimizer_starts, lr, rates, augment } = Arc::unwrap_or_clone(work.settings);
        Self { epoch, key: work.key, train, optimizer_starts, lr, rates, augment }
    }
}

impl Work {
    /// The last epoch's number.
    pub fn last_epoch(&self) -> Epoch {
        self.epochs.last().map_or(Epoch(0), |work| work.epoch)
    }

    /// The number of the state that the first epoch starts from.
    pub fn start(&self) -> Epoch {
        Epoch(self.epochs.first().map_or(0, |work| work.epoch.0 - 1))
    }
}

impl Plan {
    /// Epochs that all runs ask for, shared ones counted for each.
    pub fn epochs_asked(&self) -> u64 {
        self.runs.iter().map(|run| self.path_epochs(run)).sum()
    }

    /// Epochs that have to be trained.
    pub fn epochs_to_train(&self) -> u64 {
        self.segments.iter().map(|segment| segment.work.epochs.len() as u64).sum()
    }

    /// For each segment, what `trained` gives for its first epochs, as far as there are any: what is trained already and
    /// need not be trained again. `trained` is asked with an epoch's key and whether a run ends with it, where scores on
    /// test and external data are needed too.
    pub fn reusable<T>(&self, trained: impl Fn(LineageKey, bool) -> Option<T>) -> Vec<Vec<T>> {
        let mut reusable: Vec<Vec<T>> = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            let whole = |index: usize| reusable[index].len() == self.segments[index].work.epochs.len();
            let last = segment.work.last_epoch();
            let ends = |epoch: Epoch| segment.work.endpoint && epoch == last;
            let epochs = segment.work.epochs.iter().map_while(|work| trained(work.key, ends(work.epoch)));
            let epochs = if segment.parent.is_none_or(whole) { epochs.collect() } else { Vec::new() };
            reusable.push(epochs);
        }
        reusable
    }

    /// Epochs on a run's path.
    pub fn epochs_of(&self, run: &PlannedRun) -> u64 {
        self.path_epochs(run)
    }

    /// The plan of a run on its own, in another experiment: one segment, with the same lineage.
    pub fn alone(&self, run: &PlannedRun, experiment: ExperimentId) -> Self {
        let arm = self.arms[run.arm].clone();
        let id = RunId::derive(experiment, &arm.name, run.seed);
        let path = run.path.iter().map(|&index| &self.segments[index]);
        let epochs: Vec<EpochWork> = path.flat_map(|segment| segment.work.epochs.iter().cloned()).collect();
        let last = run.path.last().map(|&index| &self.segments[index]);
        let segments = last.zip(epochs.last()).map(|(last, end)| Segment {
            id: SegmentId::derive_unshared(id, &end.key),
            parent: None,
            work: Work { epochs: epochs.clone(), endpoint: true, ..last.work.clone() },
        });
        let runs = vec![PlannedRun { id, arm: 0, seed: run.seed, path: vec![0] }];
        Self { arms: vec![arm], runs, segments: segments.into_iter().collect() }
    }

    fn path_epochs(&self, run: &PlannedRun) -> u64 {
        run.path.iter().map(|&index| self.segments[index].work.epochs.len() as u64).sum()
    }

    /// The lineage keys of a run, epoch 1 first.
    pub fn keys<'a>(&'a self, run: &'a PlannedRun) -> impl Iterator<Item = (Epoch, LineageKey)> + 'a {
        run.path.iter().flat_map(|&index| self.segments[index].work.epochs.iter().map(|work| (work.epoch, work.key)))
    }
}

/// Plans a validated spec.
///
/// # Errors
/// What [`spec::validate`] refuses.
pub fn plan(experiment: ExperimentId, spec: &ExperimentSpec, pins: &Pins) -> Result<Plan, spec::Error> {
    spec::validate(spec)?;
    let arms = spec::resolve(spec);
    let dataset = pinned(pins.dataset, &spec.data.dataset);
    let init = match &spec.model.init {
        Init::Random => "random".to_owned(),
        Init::Weights(name) => pinned(pins.init, name),
    };
    let (stretches, ends) = shape::of(&arms, spec.execution.share);
    let seeds = spec.seeds.list();
    let keys: Vec<LineageKey> =
        seeds.iter().map(|&seed| Root { arch: spec.model.arch, init: &init, dataset: &dataset, seed }.key()).collect();

    let mut segments: Vec<Segment> = Vec::with_capacity(stretches.len() * seeds.len());
    // For each seed, the segment of each stretch.
    let mut placed: Vec<Vec<usize>> = vec![Vec::with_capacity(stretches.len()); seeds.len()];
    let mut runs = Vec::with_capacity(arms.len() * seeds.len());
    let mut rest = stretches.iter().peekable();
    for (index, (arm, &end)) in arms.iter().zip(&ends).enumerate() {
        let new: Vec<&shape::Stretch> = std::iter::from_fn(|| rest.next_if(|stretch| stretch.arm == index)).collect();
        for (position, &seed) in seeds.iter().enumerate() {
            let run = RunId::derive(experiment, &arm.name, seed);
            for stretch in &new {
                let parent = stretch.parent.map(|parent| placed[position][parent]);
                let before = parent.and_then(|parent| segments[parent].work.epochs.last());
                let mut key = before.map_or(keys[position], |work| work.key);
                let mut epochs = Vec::with_capacity(stretch.epochs.len());
                for (link, settings) in &stretch.epochs {
                    key = key.after(*link);
                    epochs.push(EpochWork::new(key, settings.clone()));
                }
                let id = match spec.execution.share {
                    true => SegmentId::derive(experiment, &key),
                    false => SegmentId::derive_unshared(run, &key),
                };
                let work = Work {
                    arch: spec.model.arch,
                    seed,
                    batch_size: arm.batch_size,
                    optimization: arm.optimization.clone(),
                    precision: arm.precision,
                    memory: arm.memory,
                    checkpoint_every_steps: spec.execution.checkpoint_every_steps,
                    epochs,
                    endpoint: stretch.ends,
                };
                placed[position].push(segments.len());
                segments.push(Segment { id, parent, work });
            }
            let mut path: Vec<usize> = std::iter::successors(Some(end), |&at| stretches[at].parent)
                .map(|stretch| placed[position][stretch])
                .collect();
            path.reverse();
            runs.push(PlannedRun { id: run, arm: index, seed, path });
        }
    }
    Ok(Plan { arms, runs, segments })
}

fn pinned(digest: Option<Digest>, name: &str) -> String {
    digest.map_or_else(|| format!("name:{name}"), |digest| digest.to_string())
}

#[cfg(test)]
mod tests;
