//! Makes the next batches on a thread of its own while the network works on one.

use std::{
    ops::Range,
    sync::mpsc::{Receiver, sync_channel},
    thread::Scope,
};

use ceteris_shared::{ids::Epoch, spec::Augment};

use super::{Batch, Dataset, Look, assemble};

/// Batches that wait ready.
const PREFETCH: usize = 2;

/// Which batches, and how their samples look.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All samples, in the order of their use.
    pub samples: Vec<u32>,
    /// The stretches of `samples` that are one batch each.
    pub batches: Vec<Range<usize>>,
    /// Images in a batch at least; missing ones are 0.
    pub rows: usize,
    /// How samples are shown.
    pub augment: Augment,
    /// The run's seed.
    pub seed: u64,
    /// The epoch that looks are drawn for.
    pub epoch: Epoch,
}

/// Starts the thread. It ends after the last batch, or when the receiver is dropped.
pub fn load<'scope, 'env>(scope: &'scope Scope<'scope, 'env>, dataset: &'env Dataset, plan: Plan) -> Receiver<Batch> {
    let (sender, receiver) = sync_channel(PREFETCH);
    scope.spawn(move || {
        let look = |sample| Look::draw(&plan.augment, plan.seed, plan.epoch, sample);
        for batch in &plan.batches {
            let batch = assemble(dataset, &plan.samples[batch.clone()], look, plan.rows);
            if sender.send(batch).is_err() {
                return;
            }
        }
    });
    receiver
}
