//! Which attempts this agent has, how far they are, and what is wished of them. Shared between the session, which is
//! told wishes and tells progress, and the slots, which do the opposite.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ceteris_proto::fleet::Progress;
use ceteris_shared::ids::{Attempt, Epoch};
use tokio::sync::watch;

/// What is wished of an attempt. A wish is only ever replaced by a stronger one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// Go on.
    #[default]
    Run,
    /// End after the epoch in flight.
    StopAfterEpoch,
    /// End now.
    StopNow,
    /// End now and say nothing: it is someone else's.
    Abandon,
}

/// The attempts that were taken and are not yet ended.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<BTreeMap<Attempt, Entry>>);

#[derive(Debug)]
struct Entry {
    progress: Progress,
    wish: watch::Sender<Wish>,
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Attempt, Entry>> {
        // Every change is one statement, so a panic elsewhere leaves nothing half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an attempt; none where it is here already.
    pub fn take(&self, attempt: Attempt) -> Option<watch::Receiver<Wish>> {
        let mut entries = self.lock();
        if entries.contains_key(&attempt) {
            return None;
        }
        let (wish, receiver) = watch::channel(Wish::default());
        let progress = Progress { attempt, epoch: Epoch(0), step: 0, steps: 0, loss: None };
        entries.insert(attempt, Entry { progress, wish });
        Some(receiver)
    }

    /// How far one of them is.
    pub fn report(&self, progress: Progress) {
        if let Some(entry) = self.lock().get_mut(&progress.attempt) {
            entry.progress = progress;
        }
    }

    /// One of them is over.
    pub fn end(&self, attempt: Attempt) {
        self.lock().remove(&attempt);
    }

    /// Wishes something of one of them. False where there is no such attempt.
    pub fn wish(&self, attempt: Attempt, wish: Wish) -> bool {
        self.lock().get(&attempt).map(|entry| strengthen(&entry.wish, wish)).is_some()
    }

    /// Wishes the same of all of them.
    pub fn wish_of_all(&self, wish: &Wish) {
        self.lock().values().for_each(|entry| strengthen(&entry.wish, wish.clone()));
    }

    /// How far they are.
    pub fn progress(&self) -> Vec<Progress> {
        self.lock().values().map(|entry| entry.progress).collect()
    }

    /// Which they are.
    pub fn running(&self) -> Vec<Attempt> {
        self.lock().keys().copied().collect()
    }
}

fn strengthen(sender: &watch::Sender<Wish>, wish: Wish) {
    sender.send_if_modified(|current| {
        let stronger = wish > *current;
        if stronger {
            *current = wish;
        }
        stronger
    });
}

/// Waits until more is wished than `than`.
pub(crate) async fn stronger(wish: &mut watch::Receiver<Wish>, than: &Wish) -> Wish {
    loop {
        let now = wish.borrow_and_update().clone();
        if now > *than {
            return now;
        }
        if wish.changed().await.is_err() {
            // The attempt is over; nothing more will be wished of it.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use ceteris_shared::ids::SegmentId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_wish_only_grows_and_an_attempt_is_taken_once() {
        let attempts = Attempts::default();
        let attempt = Attempt { segment: SegmentId(Uuid::nil()), number: 1 };
        let wish = attempts.take(attempt).expect("it is new");
        assert!(attempts.take(attempt).is_none());
        assert!(attempts.wish(attempt, Wish::StopNow));
        attempts.wish_of_all(&Wish::StopAfterEpoch);
        assert_eq!(*wish.borrow(), Wish::StopNow);
        attempts.end(attempt);
        assert!(!attempts.wish(attempt, Wish::Abandon));
        assert!(attempts.running().is_empty());
    }
}
