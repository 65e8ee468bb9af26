//! The shape of a plan: how the arms branch, which is the same for every seed.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use super::EpochSettings;
use crate::{
    digest::Digest,
    ids::Epoch,
    lineage::{Link, Settings},
    spec::{ResolvedArm, ResolvedStage},
};

/// Epochs of the arms' trie between two places where it branches or an arm ends.
pub(super) struct Stretch {
    /// Index of the one that it continues.
    pub(super) parent: Option<usize>,
    /// The first arm that has it: arms' new stretches stand together, in the order of the arms.
    pub(super) arm: usize,
    /// True where an arm ends.
    pub(super) ends: bool,
    /// Each epoch's link, and what it does.
    pub(super) epochs: Vec<(Digest, Arc<EpochSettings>)>,
}

/// Takes eight bytes of what is hashed as its hash: digests are spread evenly already.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        first.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
        self.0 = self.0.rotate_left(17) ^ u64::from_le_bytes(first);
    }
}

/// One epoch of the trie.
struct Node {
    parent: Option<usize>,
    children: u32,
    ends: bool,
    arm: usize,
    link: Digest,
    settings: Arc<EpochSettings>,
}

/// All stretches, parents before children, and for each arm the one that it ends with. Arms begin after epoch `start`. Where they
/// do not share, each has a path of its own.
pub(super) fn of(arms: &[ResolvedArm], start: Epoch, share: bool) -> (Vec<Stretch>, Vec<usize>) {
    let mut nodes: Vec<Node> = Vec::new();
    let mut known: HashMap<(Digest, Option<usize>), usize, BuildHasherDefault<Spread>> = HashMap::default();
    let mut last = Vec::with_capacity(arms.len());
    for (index, arm) in arms.iter().enumerate() {
        if !share {
            known.clear();
        }
        let mut at = None;
        let mut number = start.0;
        for stage in &arm.stages {
            let settings = settings(arm, stage);
            for within in 0..stage.epochs {
                number += 1;
                let (lr, rates) = stage.schedule.epoch(stage.lr, within, stage.epochs);
                let (epoch, optimizer_starts) = (Epoch(number), within == 0);
                let link = Link { settings, epoch, optimizer_starts, lr, rates }.digest();
                at = Some(*known.entry((link, at)).or_insert_with(|| {
                    if let Some(parent) = at {
                        let parent: &mut Node = &mut nodes[parent];
                        parent.children += 1;
                    }
                    let (train, augment) = (stage.train, stage.augment.clone());
                    let settings = EpochSettings { epoch, train, optimizer_starts, lr, rates, augment }.into();
                    nodes.push(Node { parent: at, children: 0, ends: false, arm: index, link, settings });
                    nodes.len() - 1
                }));
            }
        }
        if let Some(at) = at {
            nodes[at].ends = true;
            last.push(at);
        }
    }
    let (stretches, stretch_of) = cut(nodes);
    (stretches, last.into_iter().map(|node| stretch_of[node]).collect())
}

/// What links of a stage have in common.
fn settings(arm: &ResolvedArm, stage: &ResolvedStage) -> Digest {
    Settings {
        train: stage.train,
        optimization: &arm.optimization,
        augment: &stage.augment.canonical(),
        batch_size: arm.batch_size,
        precision: arm.precision,
        memory: arm.memory,
    }
    .digest()
}

/// Cuts the trie into unbranched stretches. Nodes come parents first, so stretches do too.
fn cut(nodes: Vec<Node>) -> (Vec<Stretch>, Vec<usize>) {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut stretch_of = vec![0; nodes.len()];
    let branches: Vec<bool> = nodes.iter().map(|node| node.children != 1 || node.ends).collect();
    for (index, node) in nodes.into_iter().enumerate() {
        let epoch = (node.link, node.settings);
        let target = if let Some(parent) = node.parent.filter(|&parent| !branches[parent]) {
            stretches[stretch_of[parent]].epochs.push(epoch);
            stretch_of[parent]
        } else {
            let parent = node.parent.map(|parent| stretch_of[parent]);
            stretches.push(Stretch { parent, arm: node.arm, ends: false, epochs: vec![epoch] });
            stretches.len() - 1
        };
        stretch_of[index] = target;
        stretches[target].ends |= node.ends;
    }
    (stretches, stretch_of)
}
