//! What segments train, kept small: of a million segments most differ from another one in nothing but seed and keys.

use std::sync::Arc;

use ceteris_shared::{
    ids::Epoch,
    lineage::LineageKey,
    plan::{EpochWork, Work},
};

/// A [`Work`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Training {
    /// Everything but the seed and the keys, for all segments that have it in common.
    pattern: Arc<Work>,
    seed: u64,
    /// Of each epoch.
    keys: Box<[LineageKey]>,
}

/// Makes trainings that share what they can.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    /// The last ones, the newest first: a plan goes through the seeds of few arms at a time.
    recent: Vec<Arc<Work>>,
}

/// How many patterns are looked through.
const RECENT: usize = 16;

impl Patterns {
    pub(crate) fn training(&mut self, work: Work) -> Training {
        let seed = work.seed;
        let keys = work.epochs.iter().map(|epoch| epoch.key).collect();
        let known = self.recent.iter().position(|pattern| is_alike(pattern, &work));
        let pattern = match known {
            Some(index) => self.recent.remove(index),
            None => Arc::new(work),
        };
        self.recent.insert(0, Arc::clone(&pattern));
        self.recent.truncate(RECENT);
        Training { pattern, seed, keys }
    }
}

/// Whether two differ in seed and keys alone.
fn is_alike(one: &Work, other: &Work) -> bool {
    let epoch = |(one, other): (&EpochWork, &EpochWork)| **one == **other;
    one.epochs.len() == other.epochs.len()
        && one.epochs.iter().zip(&other.epochs).all(epoch)
        && one.is_like(other)
        && one.endpoint == other.endpoint
}

impl Training {
    /// Number of epochs; at least one.
    pub(crate) fn epochs(&self) -> usize {
        self.keys.len()
    }

    /// The number of the epoch with this index, and the key of the state after it.
    pub(crate) fn epoch(&self, index: usize) -> Option<(Epoch, LineageKey)> {
        Some((self.pattern.epochs.get(index)?.epoch, *self.keys.get(index)?))
    }

    /// Whether one of the epochs ends in this key.
    pub(crate) fn has(&self, key: LineageKey) -> bool {
        self.keys.contains(&key)
    }

    /// The number of the state that the first epoch starts from.
    pub(crate) fn start(&self) -> Epoch {
        self.pattern.start()
    }

    pub(crate) fn last_epoch(&self) -> Epoch {
        self.pattern.last_epoch()
    }

    /// The epoch with this index, as it is asked for.
    pub(crate) fn epoch_work(&self, index: usize) -> Option<EpochWork> {
        let mut epoch = self.pattern.epochs.get(index)?.clone();
        epoch.key = *self.keys.get(index)?;
        Some(epoch)
    }

    /// The work without its first epochs, and with others before it.
    pub(crate) fn work(&self, done: usize, again: Vec<EpochWork>) -> Work {
        let left = (done..self.epochs()).filter_map(|index| self.epoch_work(index));
        let epochs = again.into_iter().chain(left).collect();
        self.pattern.with(self.seed, epochs)
    }
}
