//! How long an agent with a time limit still has, and how long epochs take on it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ceteris_shared::{
    digest::Digest,
    plan::Work,
    spec::{Arch, Trainable},
};
use tokio::time::Instant;

/// What decides how long an epoch takes, but for settings that change it by little.
pub(crate) type Kind = (Digest, Arch, Trainable);

/// Measured by all slots, asked before anything is taken.
#[derive(Debug, Default)]
pub(crate) struct Time {
    /// When what runs is handed back; none where the agent has no time limit.
    hand_back: Option<Instant>,
    /// The last epoch of each kind that was trained here.
    epochs: Mutex<HashMap<Kind, Duration>>,
}

impl Time {
    pub(super) fn until(hand_back: Option<Instant>) -> Self {
        Self { hand_back, epochs: Mutex::default() }
    }

    fn epochs(&self) -> MutexGuard<'_, HashMap<Kind, Duration>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers how long an epoch took.
    pub(crate) fn measured(&self, kind: Kind, seconds: f64) {
        if let Ok(took) = Duration::try_from_secs_f64(seconds) {
            self.epochs().insert(kind, took);
        }
    }

    /// Whether the first epoch of such work could still be committed: by the last one of its kind, or the longest of
    /// any. Where none was measured there is no telling, and what a checkpoint within the epoch keeps is not lost.
    pub(super) fn is_enough_for(&self, work: &Work, dataset: Digest) -> bool {
        let Some(hand_back) = self.hand_back else { return true };
        let left = hand_back.saturating_duration_since(Instant::now());
        let epochs = self.epochs();
        let same = work.epochs.first().and_then(|epoch| epochs.get(&(dataset, work.arch, epoch.train)));
        let needed = same.or_else(|| epochs.values().max()).copied().unwrap_or_default();
        left > needed
    }

    /// Waits until what runs is to be handed back; for ever where there is no limit.
    pub(super) async fn is_up(&self) {
        match self.hand_back {
            Some(time) => tokio::time::sleep_until(time).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use ceteris_shared::{
        ids::Epoch,
        lineage::LineageKey,
        plan::{EpochSettings, EpochWork},
        spec::{Augment, Memory, Optimization, Precision, Rates},
    };

    use super::*;

    fn work(train: Trainable) -> Work {
        let settings = EpochSettings {
            epoch: Epoch(1),
            train,
            optimizer_starts: true,
            lr: 1e-3,
            rates: Rates::Constant,
            augment: Augment::NONE,
        };
        Work {
            arch: Arch::Densenet121,
            seed: 0,
            batch_size: 2,
            optimization: Optimization::default(),
            precision: Precision::Fp32,
            memory: Memory::Normal,
            checkpoint_every_steps: None,
            epochs: vec![EpochWork::new(LineageKey(Digest::of(b"key")), settings)],
            endpoint: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_epoch_is_begun_while_the_last_one_of_its_kind_would_fit() {
        let dataset = Digest::of(b"data set");
        let time = Time::until(Some(Instant::now() + Duration::from_secs(100)));
        let kind = |train| (dataset, Arch::Densenet121, train);
        assert!(time.is_enough_for(&work(Trainable::All), dataset), "nothing is known yet");
        time.measured(kind(Trainable::Head), 10.0);
        time.measured(kind(Trainable::All), 90.0);
        time.measured(kind(Trainable::Head), f64::NAN);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(time.is_enough_for(&work(Trainable::Head), dataset));
        assert!(!time.is_enough_for(&work(Trainable::All), dataset));
        assert!(
            !time.is_enough_for(&work(Trainable::Head), Digest::of(b"another")),
            "it may be as long as the longest"
        );
        tokio::time::advance(Duration::from_secs(80)).await;
        assert!(!time.is_enough_for(&work(Trainable::Head), dataset));
        assert!(Time::until(None).is_enough_for(&work(Trainable::All), dataset));
    }
}
