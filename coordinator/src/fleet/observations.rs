//! What one stream's worker measures and prints, on its way to the store.
//!
//! While some of it is being stored, what comes next gathers and is stored together after it, so that a stream waits for
//! one commit at a time and not for one per event. Only one part is on its way to the store, so events are stored in their
//! order, and what is acknowledged is all that was sent before.

use std::sync::Arc;

use ceteris_shared::ids::{Attempt, WorkerId};
use futures::future::BoxFuture;

use crate::store::{self, Observed, Store};

/// What a stream may hold in memory before no more is read from it.
const GATHERED_BYTES: usize = 1 << 20;

/// Events of one worker that are not stored yet.
pub(super) struct Observations {
    store: Arc<dyn Store>,
    worker: WorkerId,
    storing: Option<BoxFuture<'static, Result<Stored, store::Error>>>,
    gathered: Vec<Observed>,
    bytes: usize,
}

/// Events that are durable now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// The sequence number of the last one.
    pub(super) last: u64,
    /// The attempts of those that were refused: they were never the worker's.
    pub(super) refused: Vec<Attempt>,
}

impl Observations {
    pub(super) fn new(store: Arc<dyn Store>, worker: WorkerId) -> Self {
        Self { store, worker, storing: None, gathered: Vec::new(), bytes: 0 }
    }

    /// Whether another one may be added.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < GATHERED_BYTES
    }

    /// Adds the next event.
    pub(super) fn add(&mut self, observed: Observed) {
        self.bytes += observed.bytes();
        self.gathered.push(observed);
        if self.storing.is_none() {
            self.begin();
        }
    }

    /// Waits until some more are stored; none where all are. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the store fails. Then what has not been acknowledged has to come again.
    pub(super) async fn stored(&mut self) -> Option<Result<Stored, store::Error>> {
        let stored = self.storing.as_mut()?.await;
        self.storing = None;
        if stored.is_ok() && !self.gathered.is_empty() {
            self.begin();
        }
        Some(stored)
    }

    fn begin(&mut self) {
        let (store, worker) = (Arc::clone(&self.store), self.worker);
        let observed = std::mem::take(&mut self.gathered);
        self.bytes = 0;
        self.storing = Some(Box::pin(async move {
            let events: Vec<(u64, Attempt)> = observed.iter().map(|event| (event.sequence, event.attempt)).collect();
            let known = store.append(worker, observed).await?;
            ceteris_crash::here(ceteris_crash::Point::ObservationsStored);
            let last = events.last().map_or(0, |event| event.0);
            let refused = events.iter().zip(known).filter(|(_, known)| !known).map(|(event, _)| event.1).collect();
            Ok(Stored { last, refused })
        }));
    }
}

#[cfg(test)]
mod tests {
    use ceteris_shared::ids::SegmentId;
    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;
    use crate::store::{Observation, Sqlite};

    #[tokio::test]
    async fn what_comes_while_something_is_stored_is_stored_together_and_in_order() {
        let folder = TempDir::new().expect("a folder");
        let store = Arc::new(Sqlite::open(&folder.path().join("c.db")).await.expect("it opens"));
        let mut observations = Observations::new(store.clone(), WorkerId(Uuid::from_u128(1)));
        assert_eq!(observations.stored().await, None, "there is nothing to wait for");
        let attempt = Attempt { segment: SegmentId(Uuid::from_u128(2)), number: 1 };
        let log = |sequence| Observed { sequence, attempt, what: Observation::Log(vec!["x".repeat(1 << 15)]) };
        let mut added = 0;
        while observations.has_room() {
            added += 1;
            observations.add(log(added));
        }
        assert!((32..40).contains(&added), "a bounded number of events is held: {added}");
        let first = observations.stored().await.expect("one is on its way").expect("it is stored");
        assert_eq!(first, Stored { last: 1, refused: vec![attempt] });
        assert!(observations.has_room(), "the others are on their way");
        observations.add(log(added + 1));
        // Waiting may be given up at any time.
        drop(observations.stored());
        let second = observations.stored().await.expect("the others are on their way").expect("they are stored");
        assert_eq!((second.last, second.refused.len()), (added, added as usize - 1));
        let third = observations.stored().await.expect("the last is on its way").expect("it is stored");
        assert_eq!((third.last, observations.stored().await), (added + 1, None));

        observations.add(log(added + 2));
        observations.add(log(added + 3));
        store.close().await;
        assert!(observations.stored().await.expect("it is on its way").is_err(), "the store is closed");
        assert_eq!(observations.stored().await, None, "nothing goes past what was not stored");
    }
}
