//! Which attempts this agent has, how far they are, and what is wished of them. Shared between the session, which is
//! told wishes and tells progress, and the slots, which do the opposite.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ceteris_proto::fleet::Progress;
use ceteris_shared::{
    ids::{Attempt, Epoch},
    planted,
};
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
pub struct Attempts {
    entries: Mutex<BTreeMap<Attempt, Entry>>,
    /// How many there are.
    count: watch::Sender<usize>,
    /// Slots that are not to be used.
    drained: Mutex<BTreeSet<usize>>,
    /// Nothing more is taken. Changed while `entries` are locked, read at any time.
    closed: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    progress: Progress,
    /// Which slot has it.
    slot: Option<usize>,
    wish: watch::Sender<Wish>,
}

/// What came of offering an attempt.
#[derive(Debug)]
pub enum Take {
    /// It is taken; what is wished of it comes here.
    New(watch::Receiver<Wish>),
    /// It is here already.
    Known,
    /// Nothing is taken any more.
    Closed,
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Attempt, Entry>> {
        // Every change is one statement, so a panic elsewhere leaves nothing half-done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers one.
    pub fn take(&self, attempt: Attempt) -> Take {
        let mut entries = self.lock();
        if entries.contains_key(&attempt) {
            return Take::Known;
        }
        if self.is_closed() {
            return Take::Closed;
        }
        let (wish, receiver) = watch::channel(Wish::default());
        let progress = Progress { attempt, epoch: Epoch(0), step: 0, steps: 0, loss: None };
        entries.insert(attempt, Entry { progress, slot: None, wish });
        self.count.send_replace(entries.len());
        Take::New(receiver)
    }

    /// From now on nothing is taken.
    pub fn close(&self) {
        let entries = self.lock();
        self.closed.store(true, Ordering::SeqCst);
        // Who waits for the last one to end may go now.
        self.count.send_replace(entries.len());
    }

    /// Whether nothing is taken any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// How far one of them is.
    pub fn report(&self, progress: Progress) {
        if let Some(entry) = self.lock().get_mut(&progress.attempt) {
            entry.progress = progress;
        }
    }

    /// Says which slot has an attempt.
    pub fn place(&self, attempt: Attempt, slot: usize) {
        if let Some(entry) = self.lock().get_mut(&attempt) {
            entry.slot = Some(slot);
        }
    }

    /// These slots, and no others, are not to be used: what they have is to end after its epoch.
    pub fn drain(&self, slots: BTreeSet<usize>) {
        let entries = self.lock();
        let there = entries.values().filter(|entry| entry.slot.is_some_and(|slot| slots.contains(&slot)));
        there.for_each(|entry| strengthen(&entry.wish, Wish::StopAfterEpoch));
        *self.drained.lock().unwrap_or_else(PoisonError::into_inner) = slots;
    }

    /// A connection begins: what of this worker is not to be used is said on it anew, if anything is. Otherwise a drain that
    /// was lifted while there was no connection would last as long as the agent.
    pub fn welcomed(&self) {
        if !planted!(DrainOutlivesConnection) {
            self.drain(BTreeSet::new());
        }
    }

    /// Whether a slot is not to be used.
    pub fn is_drained(&self, slot: usize) -> bool {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner).contains(&slot)
    }

    /// One of them is over.
    pub fn end(&self, attempt: Attempt) {
        let mut entries = self.lock();
        entries.remove(&attempt);
        self.count.send_replace(entries.len());
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

    /// Changes of how many there are.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Waits until there is none.
    pub async fn none(&self) {
        // The sender lives as long as this does.
        let _ = self.count().wait_for(|count| *count == 0).await;
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
        let Take::New(wish) = attempts.take(attempt) else { panic!("it is new") };
        assert!(matches!(attempts.take(attempt), Take::Known));
        assert!(attempts.wish(attempt, Wish::StopNow));
        attempts.wish_of_all(&Wish::StopAfterEpoch);
        assert_eq!(*wish.borrow(), Wish::StopNow);
        attempts.end(attempt);
        assert!(!attempts.wish(attempt, Wish::Abandon));
        assert!(attempts.running().is_empty());
    }

    #[tokio::test]
    async fn what_is_here_is_known_and_nothing_more_is_taken_once_closed() {
        let attempts = Attempts::default();
        let attempt = |number| Attempt { segment: SegmentId(Uuid::nil()), number };
        let _wish = attempts.take(attempt(1));
        attempts.close();
        assert!(matches!(attempts.take(attempt(1)), Take::Known));
        assert!(matches!(attempts.take(attempt(2)), Take::Closed));
        assert_eq!(attempts.running(), [attempt(1)]);
        let (none, ()) = tokio::join!(attempts.none(), async { attempts.end(attempt(1)) });
        assert_eq!((none, attempts.running()), ((), Vec::new()));
    }

    #[test]
    fn a_drain_ends_what_runs_there_and_lasts_as_long_as_the_connection() {
        let attempts = Attempts::default();
        let attempt = |number| Attempt { segment: SegmentId(Uuid::nil()), number };
        let mut wishes = Vec::new();
        for (number, slot) in [(1, 0), (2, 1)] {
            let Take::New(wish) = attempts.take(attempt(number)) else { panic!("it is new") };
            attempts.place(attempt(number), slot);
            wishes.push(wish);
        }
        attempts.drain(BTreeSet::from([1]));
        assert_eq!(
            wishes.iter().map(|wish| wish.borrow().clone()).collect::<Vec<_>>(),
            [Wish::Run, Wish::StopAfterEpoch]
        );
        assert!(attempts.is_drained(1) && !attempts.is_drained(0));
        attempts.welcomed();
        assert!(!attempts.is_drained(1), "what is still not to be used is said anew");
    }
}
