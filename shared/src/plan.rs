//! The plan: from a spec to runs, and from runs to the segments that train every epoch once.
//!
//! Each run is a path of lineage keys. Paths with a common beginning are merged into a trie, which is cut only where
//! runs branch or end; each unbranched stretch is a segment. Pure and in stable order, so that the client's preview and
//! the coordinator's authoritative plan are the same.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{Epoch, ExperimentId, RunId, SegmentId},
    lineage::{LineageKey, Link, Root},
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
        for seed in spec.seeds.list() {
            let root = Root { arch: spec.model.arch, init: &init, dataset: &dataset, seed };
            let mut parent = None;
            for work in epochs(arm, root.key()) {
                let key = work.key;
                let node = *by_key.entry(key).or_insert_with(|| {
                    if let Some(parent) = parent {
                        let parent: &mut Node = &mut nodes[parent];
                        parent.children += 1;
                    }
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

    let (segments, segment_of) = cut(experiment, spec, &arms, nodes);
    let runs = runs
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
    Ok(Plan { arms, runs, segments })
}

fn pinned(digest: Option<Digest>, name: &str) -> String {
    digest.map_or_else(|| format!("name:{name}"), |digest| digest.to_string())
}

fn epochs(arm: &ResolvedArm, root: LineageKey) -> impl Iterator<Item = EpochWork> {
    let mut key = root;
    let mut epoch = Epoch(0);
    arm.stages.iter().flat_map(|stage| (0..stage.epochs).map(move |index| (stage, index))).map(move |(stage, index)| {
        epoch = epoch.next();
        let work = epoch_work(arm, stage, index, epoch, key);
        key = work.key;
        work
    })
}

/// The epoch `epoch` of an arm, which is the epoch `index` (from 0) of its stage.
fn epoch_work(arm: &ResolvedArm, stage: &ResolvedStage, index: u32, epoch: Epoch, before: LineageKey) -> EpochWork {
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
    EpochWork {
        epoch,
        key: link.key(epoch, before),
        train: stage.train,
        optimizer_starts: index == 0,
        lr,
        rates,
        augment: stage.augment.clone(),
    }
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
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::spec::{Format, PolicyName, Schedule, parse};

    fn spec(arms: &[&[(u32, &str)]], seeds: u32) -> ExperimentSpec {
        let budget: u32 = arms[0].iter().map(|(epochs, _)| epochs).sum();
        let mut text = format!(
            "name = \"x\"\ndata = {{ dataset = \"d\" }}\nmodel = {{ init = \"random\" }}\nbudget = {{ epochs = {budget} }}\n\
             seeds = {{ count = {seeds} }}\n"
        );
        for (index, stages) in arms.iter().enumerate() {
            let stages: Vec<String> =
                stages.iter().map(|(epochs, train)| format!("{{ epochs = {epochs}, train = \"{train}\" }}")).collect();
            text += &format!("[[arm]]\nname = \"arm{index}\"\nstages = [{}]\n", stages.join(", "));
        }
        parse(&text, Format::Toml).expect("a well-formed spec")
    }

    fn planned(spec: &ExperimentSpec) -> Plan {
        plan(ExperimentId(uuid::Uuid::nil()), spec, &Pins::default()).expect("a valid spec")
    }

    #[test]
    fn the_seed_study_trains_55_of_80_epochs() {
        let mut study = spec(
            &[
                &[(20, "head")],
                &[(15, "head"), (5, "denseblock4")],
                &[(10, "head"), (10, "denseblock4")],
                &[(20, "denseblock4")],
            ],
            8,
        );
        study.grid.augment = Some(vec![Augment::NONE, Augment::Named(PolicyName::Light)]);
        let plan = planned(&study);
        assert_eq!((plan.runs.len(), plan.epochs_asked(), plan.epochs_to_train()), (64, 1280, 880));
    }

    #[test]
    fn a_common_beginning_is_one_segment_and_its_runs_branch_from_it() {
        let plan = planned(&spec(&[&[(4, "head")], &[(2, "head"), (2, "denseblock4")]], 1));
        let shape: Vec<_> = plan.segments.iter().map(|s| (s.parent, s.work.epochs.len(), s.work.endpoint)).collect();
        assert_eq!(shape, [(None, 2, false), (Some(0), 2, true), (Some(0), 2, true)]);
        assert_eq!(plan.runs.iter().map(|run| run.path.clone()).collect::<Vec<_>>(), [vec![0, 1], vec![0, 2]]);
        assert!(plan.segments[2].work.epochs[0].optimizer_starts);
    }

    #[test]
    fn equal_arms_share_everything() {
        let plan = planned(&spec(&[&[(3, "head")], &[(3, "head")]], 2));
        assert_eq!((plan.runs.len(), plan.segments.len(), plan.epochs_to_train()), (4, 2, 6));
    }

    #[test]
    fn a_horizon_free_schedule_shares_what_a_shorter_one_has_done() {
        let stages: [&[(u32, &str)]; 2] = [&[(4, "head")], &[(3, "head"), (1, "head")]];
        let to_train = |schedule| {
            let mut spec = spec(&stages, 1);
            spec.controls.schedule = schedule;
            planned(&spec).epochs_to_train()
        };
        assert_eq!(to_train(Schedule::Step { every: 2, factor: 0.1, warm_up: 0 }), 5);
        // Stages of 4 and of 3 epochs begin with the same rate, and then fall at different speeds.
        assert_eq!(to_train(Schedule::Cosine { minimum: 0.0, warm_up: 0 }), 7);
        assert_eq!(to_train(Schedule::OneCycle { rise: 0.3, start_divisor: 25.0, end_divisor: 1e4 }), 8);
    }

    /// The first epoch whose key a change of the spec moves; `None` where it moves none.
    fn touched(change: impl Fn(&mut ExperimentSpec)) -> Option<u32> {
        let mut changed = spec(&[&[(2, "head"), (2, "denseblock4")]], 1);
        changed.controls.optimizer.weight_decay = Some(0.1);
        let keys = |spec: &ExperimentSpec| {
            let plan = planned(spec);
            plan.keys(&plan.runs[0]).map(|(_, key)| key).collect::<Vec<_>>()
        };
        let before = keys(&changed);
        change(&mut changed);
        let after = keys(&changed);
        let first = before.iter().zip(&after).position(|(before, after)| before != after);
        first.map(|index| index as u32 + 1)
    }

    #[test]
    fn a_setting_moves_the_keys_from_the_first_epoch_that_it_touches() {
        let from_the_first = [
            touched(|spec| spec.model.arch = Arch::Densenet169),
            touched(|spec| spec.model.init = Init::Weights("w".to_owned())),
            touched(|spec| spec.data.dataset = "other".to_owned()),
            touched(|spec| spec.seeds.values = spec.seeds.count.take().map(|_| vec![7])),
            touched(|spec| spec.controls.batch_size = 16),
            touched(|spec| spec.controls.optimizer.epsilon = Some(1e-7)),
            touched(|spec| spec.controls.optimizer.weight_decay = Some(0.2)),
            touched(|spec| spec.controls.optimizer.decay_norms_and_biases = Some(true)),
            touched(|spec| spec.controls.lr = 1e-4),
            touched(|spec| spec.controls.schedule = Schedule::Constant { warm_up: 1 }),
            touched(|spec| spec.controls.augment = Augment::Named(PolicyName::Strong)),
            touched(|spec| spec.controls.clip_norm = Some(1.0)),
            touched(|spec| spec.controls.label_smoothing = 0.1),
            touched(|spec| spec.controls.class_weights = spec::ClassWeights::Listed(vec![1.0, 2.0])),
            touched(|spec| spec.controls.accumulate = 2),
            touched(|spec| spec.controls.average = Some(0.99)),
            touched(|spec| spec.controls.precision = Precision::Bf16),
            touched(|spec| spec.controls.memory = Memory::Low),
        ];
        assert_eq!(from_the_first, [Some(1); 18]);
        assert_eq!(touched(|spec| spec.controls.lr_decay_per_block = 0.5), Some(3));
        assert_eq!(touched(|spec| spec.arm[0].stages[1].lr = Some(1e-5)), Some(3));
        assert_eq!(
            touched(|spec| spec.controls.schedule = Schedule::Step { every: 1, factor: 0.1, warm_up: 0 }),
            Some(2)
        );
        let nothing = [
            touched(|spec| spec.name = "other".to_owned()),
            touched(|spec| spec.arm[0].name = "other".to_owned()),
            touched(|spec| spec.execution.checkpoint_every_steps = Some(10)),
            touched(|spec| spec.controls.optimizer.betas = Some([0.9, 0.999])),
            touched(|spec| spec.controls.clip_norm = Some(0.0)),
            touched(|spec| spec.compare.alpha = 0.01),
        ];
        assert_eq!(nothing, [None; 6]);
    }

    proptest! {
        #[test]
        fn every_run_covers_its_budget_once_and_no_epoch_is_trained_twice(
            splits in prop::collection::vec(prop::collection::vec(0usize..6, 1..5), 1..6),
            budget in 1u32..12,
            seeds in 1u32..4,
        ) {
            const TRAIN: [&str; 6] = ["head", "denseblock4", "denseblock3", "denseblock2", "denseblock1", "all"];
            let arms: Vec<Vec<(u32, &str)>> = splits
                .iter()
                .map(|kinds| {
                    let stages = kinds.len().min(budget as usize);
                    let mut arm: Vec<_> = kinds[..stages].iter().map(|kind| (1, TRAIN[*kind])).collect();
                    arm[stages - 1].0 = budget - stages as u32 + 1;
                    arm
                })
                .collect();
            let arms: Vec<&[(u32, &str)]> = arms.iter().map(Vec::as_slice).collect();
            let plan = planned(&spec(&arms, seeds));
            for run in &plan.runs {
                let epochs: Vec<u32> = plan.keys(run).map(|(epoch, _)| epoch.0).collect();
                prop_assert_eq!(epochs, (1..=budget).collect::<Vec<_>>());
                prop_assert!(plan.segments[*run.path.last().unwrap()].work.endpoint);
                for pair in run.path.windows(2) {
                    prop_assert_eq!(plan.segments[pair[1]].parent, Some(pair[0]));
                }
            }
            let keys: Vec<_> = plan.segments.iter().flat_map(|s| s.work.epochs.iter().map(|work| work.key)).collect();
            prop_assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
            prop_assert!(plan.segments.iter().enumerate().all(|(index, s)| s.parent.is_none_or(|parent| parent < index)));
            let ids: HashSet<_> = plan.segments.iter().map(|s| s.id).chain(plan.runs.iter().map(|r| SegmentId(r.id.0))).collect();
            prop_assert_eq!(ids.len(), plan.segments.len() + plan.runs.len());
        }
    }
}
