//! The one source of chance in a world.

use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use uuid::Uuid;

/// A generator that everything in one world draws from; clones share it.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<ChaCha8Rng>>);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))))
    }

    /// Any number.
    pub fn number(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// A number below `end`; 0 where there is none.
    pub fn below(&self, end: u64) -> u64 {
        // The bias of a remainder is far below what any seed could show.
        self.number().checked_rem(end).unwrap_or(0)
    }

    /// A number from `low` to `high`.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in so many of a thousand cases.
    pub fn per_mille(&self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    /// One of them.
    pub fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        of.get(usize::try_from(self.below(of.len() as u64)).unwrap_or(0))
    }

    /// An index below `length`.
    pub fn index(&self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// A wait: mostly short, seldom long, `mean` milliseconds on average and at most sixteen times that.
    pub fn wait(&self, mean: u64) -> u64 {
        let uniform = (self.below(1 << 20) + 1) as f64 / (1_u64 << 20) as f64;
        ((-uniform.ln() * mean as f64) as u64).min(mean * 16)
    }

    /// An id.
    pub fn uuid(&self) -> Uuid {
        Uuid::from_u64_pair(self.number(), self.number())
    }
}
