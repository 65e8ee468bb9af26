//! The newest checkpoint within an epoch that waits to be stored. An older one that still waits is of no use any more.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ceteris_shared::{ids::Epoch, trainer::StepReport};
use tokio::sync::Notify;

/// Room for one report: filled by who hears the trainer, emptied by who stores.
#[derive(Debug, Default)]
pub(super) struct Newest {
    report: Mutex<Option<Box<StepReport>>>,
    filled: Notify,
}

/// What there is for who stores.
#[derive(Debug)]
pub(super) enum Waiting {
    /// To be stored.
    Next(Box<StepReport>),
    /// Of an epoch that is stored as a whole: to be thrown away.
    Late(Box<StepReport>),
}

impl Newest {
    fn lock(&self) -> MutexGuard<'_, Option<Box<StepReport>>> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the older one, if it still waited.
    pub(super) fn put(&self, report: Box<StepReport>) -> Option<Box<StepReport>> {
        let older = self.lock().replace(report);
        self.filled.notify_one();
        older
    }

    /// What waits, where `next` is the first epoch that is not stored. A step of a later epoch has to wait for the epochs
    /// before it.
    pub(super) fn take(&self, next: Epoch) -> Option<Waiting> {
        let mut waiting = self.lock();
        let epoch = waiting.as_ref()?.epoch;
        if epoch > next {
            return None;
        }
        let report = waiting.take()?;
        Some(if epoch == next { Waiting::Next(report) } else { Waiting::Late(report) })
    }

    /// Waits for what [`Self::take`] gives. May be dropped and asked again without losing one.
    pub(super) async fn taken(&self, next: Epoch) -> Waiting {
        loop {
            if let Some(waiting) = self.take(next) {
                return waiting;
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ceteris_shared::{
        digest::Digest,
        ids::{Attempt, SegmentId},
        lineage::LineageKey,
    };
    use uuid::Uuid;

    use super::*;

    fn report(epoch: u32, step: u32) -> Box<StepReport> {
        Box::new(StepReport {
            attempt: Attempt { segment: SegmentId(Uuid::nil()), number: 1 },
            epoch: Epoch(epoch),
            step,
            key: LineageKey(Digest::of(b"key")),
            classes: Vec::new(),
            frozen: PathBuf::new(),
            trained: PathBuf::new(),
            optimizer: PathBuf::new(),
            progress: PathBuf::new(),
        })
    }

    #[tokio::test]
    async fn the_newest_is_stored_in_its_turn() {
        let newest = Newest::default();
        assert!(newest.put(report(2, 3)).is_none());
        assert_eq!(newest.put(report(2, 6)).map(|older| older.step), Some(3));
        assert!(newest.take(Epoch(1)).is_none(), "epoch 1 is not stored yet");
        assert!(matches!(newest.taken(Epoch(2)).await, Waiting::Next(report) if report.step == 6));
        assert!(newest.take(Epoch(2)).is_none());
        newest.put(report(2, 9));
        assert!(matches!(newest.take(Epoch(3)), Some(Waiting::Late(report)) if report.step == 9));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let newest = std::sync::Arc::new(Newest::default());
        let waiting = tokio::spawn({
            let newest = std::sync::Arc::clone(&newest);
            async move { newest.taken(Epoch(1)).await }
        });
        tokio::task::yield_now().await;
        newest.put(report(1, 1));
        assert!(matches!(waiting.await.expect("no panic"), Waiting::Next(_)));
    }
}
