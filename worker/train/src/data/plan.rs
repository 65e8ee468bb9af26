//! Which batches are made, and what is left of an epoch's.

use std::thread::available_parallelism;

use ceteris_shared::{augment::Policy, ids::Epoch, seed};

use super::{Plan, batches};
use crate::features::CANONICAL_BATCH;

/// Threads that make batches at most: enough for a GPU under `strong@1`.
const MOST_THREADS: usize = 8;

impl Plan {
    /// The batches of an epoch of training on `train`, which are ascending, in the order that the seed draws for it.
    pub fn of_epoch(train: &[u32], batch_size: usize, augment: Policy, seed: u64, epoch: Epoch) -> Self {
        let count = u32::try_from(train.len()).unwrap_or(u32::MAX);
        Self {
            samples: seed::order(seed, epoch, count).into_iter().map(|index| train[index as usize]).collect(),
            batches: batches(train.len(), batch_size),
            rows: 0,
            augment,
            partners: train.to_vec(),
            seed,
            epoch,
            threads: threads_for(&augment),
        }
    }

    /// All of `samples` in canonical batches, the last one padded.
    pub fn canonical(samples: &[u32], augment: Policy, seed: u64, epoch: Epoch) -> Self {
        let count = samples.len();
        let batches =
            (0..count).step_by(CANONICAL_BATCH).map(|start| start..count.min(start + CANONICAL_BATCH)).collect();
        Self {
            samples: samples.to_vec(),
            batches,
            rows: CANONICAL_BATCH,
            augment,
            partners: Vec::new(),
            seed,
            epoch,
            threads: threads_for(&augment),
        }
    }

    /// What is left when the first `done` batches are.
    pub fn from_batch(mut self, done: usize) -> Self {
        self.batches.drain(..done.min(self.batches.len()));
        self
    }
}

/// Threads that make batches under a policy: one where making them is copying, more where it is work.
pub fn threads_for(augment: &Policy) -> usize {
    let processors = available_parallelism().map_or(1, |count| count.get());
    if augment.only_flips() { 1 } else { processors.div_ceil(2).min(MOST_THREADS) }
}
