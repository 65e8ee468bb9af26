//! The plan: from a spec to runs, and from runs to the segments that train every epoch once.
//!
//! Each run is a path of lineage keys. Paths with a common beginning are merged into a trie, which is cut only where
//! runs branch or end; each unbranched stretch is a segment. Of a segment, the epochs that an earlier experiment has
//! trained are not trained again ([`Plan::reusable`]). Pure and in stable order, so that the client's preview and the
//! coordinator's authoritative plan are the same.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{Epoch, ExperimentId, RunId, SegmentId},
    lineage::{LineageKey, Link, Root, Written},
    spec::{
        self, Arch, Augment, ExperimentSpec, Init, Memory, Optimization, Precision, Rates, ResolvedArm, ResolvedStage,
        Trainable,
    },
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

/// One epoch to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochWork {
    /// Which.
    pub epoch: Epoch,
    /// The lineage key of the state after it.
    pub key: LineageKey,
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

    fn path_epochs(&self, run: &PlannedRun) -> u64 {
        run.path.iter().map(|&index| self.segments[index].work.epochs.len() as u64).sum()
    }

    /// The lineage keys of a run, epoch 1 first.
    pub fn keys<'a>(&'a self, run: &'a PlannedRun) -> impl Iterator<Item = (Epoch, LineageKey)> + 'a {
        run.path.iter().flat_map(|&index| self.segments[index].work.epochs.iter().map(|work| (work.epoch, work.key)))
    }
}

/// One node of the trie: an epoch in a context.
struct Node {
    parent: Option<usize>,
    children: u32,
    ends: bool,
    arm: usize,
    seed: u64,
    work: EpochWork,
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

    let mut nodes: Vec<Node> = Vec::new();
    let mut by_key: HashMap<LineageKey, usize> = HashMap::new();
    let mut runs = Vec::new();
    for (arm_index, arm) in arms.iter().enumerate() {
        let epochs = epochs(arm);
        for seed in spec.seeds.list() {
            let root = Root { arch: spec.model.arch, init: &init, dataset: &dataset, seed };
            let mut parent = None;
            if !spec.execution.share {
                by_key.clear();
            }
            let mut key = root.key();
            for epoch in &epochs {
                key = epoch.written.key(key);
                let node = *by_key.entry(key).or_insert_with(|| {
                    if let Some(parent) = parent {
                        let parent: &mut Node = &mut nodes[parent];
                        parent.children += 1;
                    }
                    let work = EpochWork { key, ..epoch.work.clone() };
                    nodes.push(Node { parent, children: 0, ends: false, arm: arm_index, seed, work });
                    nodes.len() - 1
                });
                parent = Some(node);
            }
            if let Some(last) = parent {
                nodes[last].ends = true;
                runs.push((arm_index, seed, last));
            }
        }
    }

    let (mut segments, segment_of) = cut(experiment, spec, &arms, nodes);
    let runs: Vec<PlannedRun> = runs
        .into_iter()
        .map(|(arm, seed, last)| {
            let mut path = vec![segment_of[last]];
            while let Some(parent) = segments[path[path.len() - 1]].parent {
                path.push(parent);
            }
            path.reverse();
            PlannedRun { id: RunId::derive(experiment, &arms[arm].name, seed), arm, seed, path }
        })
        .collect();
    if !spec.execution.share {
        for run in &runs {
            for &index in &run.path {
                let segment = &mut segments[index];
                if let Some(last) = segment.work.epochs.last() {
                    segment.id = SegmentId::derive_unshared(run.id, &last.key);
                }
            }
        }
    }
    Ok(Plan { arms, runs, segments })
}

fn pinned(digest: Option<Digest>, name: &str) -> String {
    digest.map_or_else(|| format!("name:{name}"), |digest| digest.to_string())
}

/// An epoch of an arm, the same for every seed but for its key.
struct ArmEpoch {
    /// With the key of no epoch.
    work: EpochWork,
    written: Written,
}

fn epochs(arm: &ResolvedArm) -> Vec<ArmEpoch> {
    let stages = arm.stages.iter().flat_map(|stage| (0..stage.epochs).map(move |index| (stage, index)));
    (1..).zip(stages).map(|(epoch, (stage, index))| arm_epoch(arm, stage, index, Epoch(epoch))).collect()
}

/// The epoch `epoch` of an arm, which is the epoch `index` (from 0) of its stage.
fn arm_epoch(arm: &ResolvedArm, stage: &ResolvedStage, index: u32, epoch: Epoch) -> ArmEpoch {
    let (lr, rates) = stage.schedule.epoch(stage.lr, index, stage.epochs);
    let link = Link {
        train: stage.train,
        optimization: &arm.optimization,
        optimizer_starts: index == 0,
        lr,
        rates,
        augment: &stage.augment.canonical(),
        batch_size: arm.batch_size,
        precision: arm.precision,
        memory: arm.memory,
    };
    let work = EpochWork {
        epoch,
        key: LineageKey(Digest([0; 32])),
        train: stage.train,
        optimizer_starts: index == 0,
        lr,
        rates,
        augment: stage.augment.clone(),
    };
    ArmEpoch { work, written: link.written(epoch) }
}

/// Cuts the trie into unbranched stretches. Nodes come parents first, so segments do too.
fn cut(
    experiment: ExperimentId,
    spec: &ExperimentSpec,
    arms: &[ResolvedArm],
    nodes: Vec<Node>,
) -> (Vec<Segment>, Vec<usize>) {
    let mut segments: Vec<Segment> = Vec::new();
    let mut segment_of = vec![0; nodes.len()];
    let branches: Vec<bool> = nodes.iter().map(|node| node.children != 1 || node.ends).collect();
    for (index, node) in nodes.into_iter().enumerate() {
        let target = if let Some(parent) = node.parent.filter(|&parent| !branches[parent]) {
            segments[segment_of[parent]].work.epochs.push(node.work);
            segment_of[parent]
        } else {
            let arm = &arms[node.arm];
            let id = SegmentId::derive(experiment, &node.work.key);
            let work = Work {
                arch: spec.model.arch,
                seed: node.seed,
                batch_size: arm.batch_size,
                optimization: arm.optimization.clone(),
                precision: arm.precision,
                memory: arm.memory,
                checkpoint_every_steps: spec.execution.checkpoint_every_steps,
                epochs: vec![node.work],
                endpoint: false,
            };
            let parent = node.parent.map(|parent| segment_of[parent]);
            segments.push(Segment { id, parent, work });
            segments.len() - 1
        };
        segment_of[index] = target;
        segments[target].work.endpoint |= node.ends;
    }
    for segment in &mut segments {
        if let Some(last) = segment.work.epochs.last() {
            segment.id = SegmentId::derive(experiment, &last.key);
        }
    }
    (segments, segment_of)
}

#[cfg(test)]
mod tests;
