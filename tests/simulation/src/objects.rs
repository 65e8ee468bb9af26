//! The object store, and what training comes to: weights are a digest of everything that they depend on.

use std::collections::{BTreeMap, BTreeSet};

use ceteris_proto::fleet::Start;
use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch},
    lineage::LineageKey,
    plan::Work,
    trainer::FailureCause,
};

/// A stored checkpoint.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The epoch that it is the end of, or within.
    pub epoch: Epoch,
    /// Steps of that epoch; none at its end.
    pub step: Option<u32>,
    /// The lineage key of that epoch.
    pub key: LineageKey,
    /// The weights at its end; within it those before it.
    pub weights: Digest,
    /// Where it was made.
    pub environment: Environment,
}

/// What is stored, and what of it is damaged.
#[derive(Debug, Default)]
pub struct Objects {
    checkpoints: BTreeMap<Digest, Checkpoint>,
    /// Manifests in the order in which they were stored.
    order: Vec<Digest>,
    lost: BTreeSet<Digest>,
}

/// Why an attempt cannot begin where it was told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The checkpoint is damaged or gone.
    Lost(Digest),
    /// The coordinator named one that is not of the state before the work.
    Wrong(String),
}

impl Objects {
    /// Stores a checkpoint; returns its manifest's digest.
    pub fn store(&mut self, attempt: Attempt, checkpoint: Checkpoint) -> Digest {
        let Checkpoint { epoch, step, key, weights, .. } = &checkpoint;
        let manifest =
            Digest::of(format!("{}#{} {epoch} {step:?} {key} {weights}", attempt.segment, attempt.number).as_bytes());
        self.lost.remove(&manifest);
        self.checkpoints.insert(manifest, checkpoint);
        self.order.push(manifest);
        manifest
    }

    /// Damages one of the checkpoints that are whole; none where there is none.
    pub fn damage(&mut self, pick: impl FnOnce(usize) -> usize) -> Option<Digest> {
        let whole: Vec<Digest> =
            self.checkpoints.keys().filter(|manifest| !self.lost.contains(manifest)).copied().collect();
        let manifest = *whole.get(pick(whole.len()))?;
        self.lost.insert(manifest);
        Some(manifest)
    }

    /// Loses what was stored last, as a disk does that kept it in memory; how many are lost.
    pub fn lose_latest(&mut self, count: usize) -> usize {
        let lost = self.order.len().min(count);
        self.lost.extend(self.order.drain(self.order.len() - lost..));
        lost
    }

    /// Removes a checkpoint's parts.
    pub fn collect(&mut self, manifest: Digest) {
        self.lost.insert(manifest);
    }

    /// The checkpoint, whole or not.
    pub fn find(&self, manifest: &Digest) -> Option<&Checkpoint> {
        self.checkpoints.get(manifest)
    }

    /// The weights that an attempt in `environment` begins with.
    ///
    /// # Errors
    /// When what it is to start from is not there, or is not the state before its work.
    pub fn begin(&self, start: &Start, work: &Work, environment: &Environment) -> Result<Digest, Unusable> {
        let Start::Checkpoint(manifest) = start else {
            return if work.start() == Epoch(0) {
                Ok(initial(start))
            } else {
                Err(Unusable::Wrong(format!(
                    "work that begins after epoch {} starts from initial weights",
                    work.start()
                )))
            };
        };
        let Some(checkpoint) = self.checkpoints.get(manifest).filter(|_| !self.lost.contains(manifest)) else {
            return Err(Unusable::Lost(*manifest));
        };
        let first = work.epochs.first();
        match checkpoint.step {
            None if checkpoint.epoch == work.start() => Ok(checkpoint.weights),
            // Within an epoch the last bits would be neither environment's.
            Some(_) if checkpoint.environment != *environment => {
                Err(Unusable::Wrong("a checkpoint within an epoch is of another environment class".to_owned()))
            }
            Some(_) if first.is_some_and(|first| (first.epoch, first.key) == (checkpoint.epoch, checkpoint.key)) => {
                Ok(checkpoint.weights)
            }
            step => Err(Unusable::Wrong(format!(
                "work that begins after epoch {} starts from a checkpoint of epoch {}, step {step:?}",
                work.start(),
                checkpoint.epoch
            ))),
        }
    }
}

/// The weights before the first epoch.
pub fn initial(start: &Start) -> Digest {
    match start {
        Start::Weights(digest) => *digest,
        Start::Random | Start::Checkpoint(_) => Digest::of(b"drawn from the seed"),
    }
}

/// The weights after an epoch.
pub fn trained(before: Digest, key: LineageKey, environment: &Environment) -> Digest {
    let threads = environment.threads.to_le_bytes();
    Digest::of(&[&before.0[..], &key.0.0, environment.device.as_bytes(), &threads].concat())
}

/// Whether an epoch cannot be trained whoever tries it: a property of the epoch, like its weights.
pub fn fails(key: LineageKey) -> Option<FailureCause> {
    match key.0.0[0] {
        0..=5 => Some(FailureCause::Diverged),
        6..=8 => Some(FailureCause::User),
        _ => None,
    }
}
