//! Which batches are made, and what is left of an epoch's.

use ceteris_shared::{ids::Epoch, spec::Augment};

use super::Plan;
use crate::features::CANONICAL_BATCH;

impl Plan {
    /// All of `samples` in canonical batches, the last one padded.
    pub fn canonical(samples: &[u32], augment: &Augment, seed: u64, epoch: Epoch) -> Self {
        let count = samples.len();
        let batches =
            (0..count).step_by(CANONICAL_BATCH).map(|start| start..count.min(start + CANONICAL_BATCH)).collect();
        Self { samples: samples.to_vec(), batches, rows: CANONICAL_BATCH, augment: augment.clone(), seed, epoch }
    }

    /// What is left when the first `done` batches are.
    pub fn from_batch(mut self, done: usize) -> Self {
        self.batches.drain(..done.min(self.batches.len()));
        self
    }
}
