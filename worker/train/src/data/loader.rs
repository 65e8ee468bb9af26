//! Makes the next batches on threads of their own while the network works on one.
//!
//! Thread k of n makes batches k, k + n, k + 2n, … and hands them over through a channel of its own, from which they are
//! taken in turn: so they arrive in the plan's order, whatever thread is ahead, and none is more than
//! [`PREFETCH`] ahead of what is asked for. What is in a batch depends on the plan alone.

use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread::Scope,
};

use ceteris_shared::{augment::Policy, ids::Epoch};

use super::{Assembler, Batch, Dataset};

/// Batches of each thread that wait ready, besides the one that it works on.
pub const PREFETCH: usize = 1;

/// Which batches, and how their samples look.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All samples, in the order of their use.
    pub samples: Vec<u32>,
    /// The stretches of `samples` that are one batch each.
    pub batches: Vec<Range<usize>>,
    /// Images in a batch at least; missing ones are 0.
    pub rows: usize,
    /// How samples are shown; one that its `check` accepts.
    pub augment: Policy,
    /// The samples that mixup chooses partners from, in an order that does not change: the training split, ascending.
    /// Without any nothing is mixed.
    pub partners: Vec<u32>,
    /// The run's seed.
    pub seed: u64,
    /// The epoch that looks are drawn for.
    pub epoch: Epoch,
    /// Threads that make batches; 0 is taken for 1.
    pub threads: usize,
}

/// A plan's batches, in its order.
#[derive(Debug)]
pub struct Batches {
    /// One for each thread.
    channels: Vec<Receiver<Batch>>,
    next: usize,
}

/// Starts the threads. They end after the last batch, or when what is returned is dropped.
pub fn load<'scope, 'env>(scope: &'scope Scope<'scope, 'env>, dataset: &'env Dataset, plan: Plan) -> Batches {
    let threads = plan.threads.clamp(1, plan.batches.len().max(1));
    let plan = Arc::new(plan);
    let start = |first: usize| {
        let plan = Arc::clone(&plan);
        let (sender, receiver) = sync_channel(PREFETCH);
        scope.spawn(move || {
            let mut assembler = Assembler::new(dataset);
            for range in plan.batches.iter().skip(first).step_by(threads) {
                if sender.send(assembler.assemble(&plan, range.clone())).is_err() {
                    return;
                }
            }
        });
        receiver
    };
    Batches { channels: (0..threads).map(start).collect(), next: 0 }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let turn = self.next % self.channels.len();
        self.next += 1;
        self.channels[turn].recv().ok()
    }
}
