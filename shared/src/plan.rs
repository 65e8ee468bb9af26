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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// The epochs that every run inherits, where `model.init` is the state of a run: what was trained, in order. Data set and
    /// initial weights were the ones above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherited: Vec<Work>,
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

    /// Whether both train in the same way, apart from their seeds and epochs.
    pub fn is_like(&self, other: &Self) -> bool {
        let Self {
            arch,
            seed: _,
            batch_size,
            optimization,
            precision,
            memory,
            checkpoint_every_steps,
            epochs: _,
            endpoint: _,
        } = self;
        (arch, batch_size, optimization) == (&other.arch, &other.batch_size, &other.optimization)
            && (precision, memory, checkpoint_every_steps)
                == (&other.precision, &other.memory, &other.checkpoint_every_steps)
    }

    /// The same with another seed and other epochs.
    pub fn with(&self, seed: u64, epochs: Vec<EpochWork>) -> Self {
        let Self {
            arch,
            seed: _,
            batch_size,
            ref optimization,
            precision,
            memory,
            checkpoint_every_steps,
            epochs: _,
            endpoint,
        } = *self;
        let optimization = optimization.clone();
        Self { arch, seed, batch_size, optimization, precision, memory, checkpoint_every_steps, epochs, endpoint }
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

    /// What a run trains up to `epoch`, one after the other: a beginning of its path. Neighbours that differ in nothing but their
    /// epochs are one.
    pub fn work_up_to(&self, run: &PlannedRun, epoch: Epoch) -> Vec<Work> {
        let mut all: Vec<Work> = Vec::new();
        for segment in run.path.iter().map(|&index| &self.segments[index]) {
            let epochs = segment.work.epochs.iter().filter(|work| work.epoch <= epoch).cloned();
            let work = Work { epochs: epochs.collect(), ..segment.work.clone() };
            if work.epochs.is_empty() {
                break;
            }
            match all.last_mut() {
                Some(last) if last.seed == work.seed && last.is_like(&work) => {
                    last.epochs.extend(work.epochs);
                    last.endpoint = work.endpoint;
                }
                _ => all.push(work),
            }
        }
        all
    }

    /// The plan of a run on its own, in another experiment, with the same lineage: one segment, and before it one for each run
    /// whose state it inherits.
    pub fn alone(&self, run: &PlannedRun, experiment: ExperimentId) -> Self {
        let arm = self.arms[run.arm].clone();
        let id = RunId::derive(experiment, &arm.name, run.seed);
        let work = self.work_up_to(run, Epoch(u32::MAX));
        let last = work.len().saturating_sub(1);
        let segments = work.into_iter().enumerate().filter_map(|(index, work)| {
            let id = SegmentId::derive_unshared(id, &work.epochs.last()?.key);
            Some(Segment { id, parent: index.checked_sub(1), work: Work { endpoint: index == last, ..work } })
        });
        let segments: Vec<Segment> = segments.collect();
        let runs = vec![PlannedRun { id, arm: 0, seed: run.seed, path: (0..segments.len()).collect() }];
        Self { arms: vec![arm], runs, segments }
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
        Init::Run(_) if pins.inherited.is_empty() => return Err(unknown_run(&spec.model.init)),
        // The keys go on from the run's.
        Init::Run(_) => String::new(),
    };
    let (stretches, ends) = shape::of(&arms, Epoch(spec.model.init.inherited_epochs()), spec.execution.share);
    let seeds = spec.seeds.list();
    let root = |seed: u64| match pins.inherited.last().and_then(|work| Some((work.seed, work.epochs.last()?.key))) {
        Some((before, key)) if before == seed => key,
        Some((_, key)) => key.with_seed(seed),
        None => Root { arch: spec.model.arch, init: &init, dataset: &dataset, seed }.key(),
    };
    let keys: Vec<LineageKey> = seeds.iter().map(|&seed| root(seed)).collect();

    let mut segments: Vec<Segment> = Vec::with_capacity(stretches.len() * seeds.len());
    let trunk = spec
        .execution
        .share
        .then(|| add_inherited(&mut segments, spec, pins, |key| SegmentId::derive(experiment, key)));
    // For each seed, the segment of each stretch.
    let mut placed: Vec<Vec<usize>> = vec![Vec::with_capacity(stretches.len()); seeds.len()];
    let mut runs = Vec::with_capacity(arms.len() * seeds.len());
    let mut rest = stretches.iter().peekable();
    for (index, (arm, &end)) in arms.iter().zip(&ends).enumerate() {
        let new: Vec<&shape::Stretch> = std::iter::from_fn(|| rest.next_if(|stretch| stretch.arm == index)).collect();
        for (position, &seed) in seeds.iter().enumerate() {
            let run = RunId::derive(experiment, &arm.name, seed);
            let trunk = trunk.clone().unwrap_or_else(|| {
                add_inherited(&mut segments, spec, pins, |key| SegmentId::derive_unshared(run, key))
            });
            for stretch in &new {
                let within = stretch.parent.map(|parent| placed[position][parent]);
                let parent = within.or(trunk.last().copied());
                let before = within.and_then(|parent| segments[parent].work.epochs.last());
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
            path.extend(trunk.iter().rev());
            path.reverse();
            runs.push(PlannedRun { id: run, arm: index, seed, path });
        }
    }
    Ok(Plan { arms, runs, segments })
}

/// Adds the epochs that runs inherit, and says which segments they are. Those between two of which nothing but the epoch changes are
/// one.
fn add_inherited(
    segments: &mut Vec<Segment>,
    spec: &ExperimentSpec,
    pins: &Pins,
    id: impl Fn(&LineageKey) -> SegmentId,
) -> Vec<usize> {
    let mut added = Vec::with_capacity(pins.inherited.len());
    for work in &pins.inherited {
        let Some(end) = work.epochs.last() else { continue };
        let checkpoint_every_steps = spec.execution.checkpoint_every_steps;
        let work = Work { endpoint: false, checkpoint_every_steps, ..work.clone() };
        segments.push(Segment { id: id(&end.key), parent: added.last().copied(), work });
        added.push(segments.len() - 1);
    }
    added
}

fn unknown_run(init: &Init) -> spec::Error {
    let cause = format!("only a coordinator knows what {init} is; plan and submit with one");
    spec::Error::Invalid { place: "model.init".to_owned(), cause }
}

fn pinned(digest: Option<Digest>, name: &str) -> String {
    digest.map_or_else(|| format!("name:{name}"), |digest| digest.to_string())
}

#[cfg(test)]
mod tests;
