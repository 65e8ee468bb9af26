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
            let last = events.last().map_or(0, |event| event.0);
            let refused = events.iter().zip(known).filter(|(_, known)| !known).map(|(event, _)| event.1).collect();
            Ok(Stored { last, refused })
        }));
    }
}
