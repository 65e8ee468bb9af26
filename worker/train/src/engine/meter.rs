//! What an execution costs, counted where it is spent. Any thread may read it while the execution goes on.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Costs so far.
#[derive(Debug, Default)]
pub struct Meter {
    frozen_samples: AtomicU64,
    epoch_nanoseconds: AtomicU64,
    checkpoint_nanoseconds: AtomicU64,
}

impl Meter {
    /// Samples that went through the frozen part, in training and in evaluation, kept or not; each as often as it did.
    pub fn frozen_samples(&self) -> u64 {
        self.frozen_samples.load(Relaxed)
    }

    /// The training thread's time in epochs: steps, evaluation and checkpoints.
    pub fn epochs(&self) -> Duration {
        Duration::from_nanos(self.epoch_nanoseconds.load(Relaxed))
    }

    /// The training thread's time for checkpoints: copying the state off the device, and waiting for the disk where the
    /// writer is not done with the checkpoints before.
    pub fn checkpoints(&self) -> Duration {
        Duration::from_nanos(self.checkpoint_nanoseconds.load(Relaxed))
    }

    pub(super) fn count_frozen(&self, samples: usize) {
        self.frozen_samples.fetch_add(samples as u64, Relaxed);
    }

    pub(super) fn time_epoch<T>(&self, work: impl FnOnce() -> T) -> T {
        time(&self.epoch_nanoseconds, work)
    }

    pub(super) fn time_checkpoint<T>(&self, work: impl FnOnce() -> T) -> T {
        time(&self.checkpoint_nanoseconds, work)
    }
}

fn time<T>(sum: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    sum.fetch_add(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
    result
}
