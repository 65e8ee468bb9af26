//! Events on their way to the coordinator: durable first, sent after, kept until acknowledged.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ceteris_proto::{fleet::EventKind, v1};
use ceteris_shared::ids::Attempt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::protocol::{decode, encode};
use crate::spool::{Error, Spool};

/// How often a disk without room is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// The spool as a queue of events. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Outbox {
    spool: Arc<Mutex<Spool>>,
    /// (first number kept, number of the next event).
    range: Arc<watch::Sender<(u64, u64)>>,
    /// Whether the disk had no room for the last event.
    stalled: Arc<AtomicBool>,
}

impl Outbox {
    /// Events go to `spool`, and those in it are sent first.
    pub fn new(spool: Spool) -> Self {
        let range = watch::channel((spool.first(), spool.next())).0;
        Self { spool: Arc::new(Mutex::new(spool)), range: Arc::new(range), stalled: Arc::default() }
    }

    /// Adds an event; it is on disk on return. Where the disk has no room, this waits until it has.
    ///
    /// # Errors
    /// When the disk refuses for another reason. An agent that cannot keep events must not go on.
    pub async fn append(&self, attempt: Attempt, kind: EventKind) -> Result<(), Error> {
        self.append_unless(&CancellationToken::new(), attempt, kind).await.map(drop)
    }

    /// As [`Self::append`], but waits for room no longer than until `cancel`. False where the event was not added.
    ///
    /// # Errors
    /// As for [`Self::append`].
    pub async fn append_unless(
        &self,
        cancel: &CancellationToken,
        attempt: Attempt,
        kind: EventKind,
    ) -> Result<bool, Error> {
        while !self.try_append(attempt, kind.clone()).await? {
            if cancel.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds an event unless the disk has no room for it; whether it was added.
    ///
    /// # Errors
    /// As for [`Self::append`].
    pub async fn try_append(&self, attempt: Attempt, kind: EventKind) -> Result<bool, Error> {
        let added = self.with(move |spool| spool.append(|sequence| encode(sequence, attempt, kind)));
        match added.await {
            Ok(_) => {
                if self.stalled.swap(false, Ordering::Relaxed) {
                    tracing::info!("there is room for events again");
                }
                Ok(true)
            }
            Err(error) if error.is_no_room() => {
                if !self.stalled.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "attempts stop at their epochs' ends and go on when there is room");
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The event of that number as it is sent; none where it is acknowledged or not yet there.
    pub(super) async fn read(&self, number: u64) -> Result<Option<v1::WorkerMessage>, Error> {
        let Some(bytes) = self.with(move |spool| spool.read(number)).await? else { return Ok(None) };
        // The bytes are what `append` encoded: their checksum was right when the spool was opened.
        decode(&bytes).map(Some).ok_or(Error::Unreadable(number))
    }

    /// Forgets all events up to `number`.
    pub(super) async fn acknowledge(&self, number: u64) -> Result<(), Error> {
        self.with(move |spool| spool.acknowledge(number)).await
    }

    /// True where the disk had no room for the last event.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Told where the disk is known to have room again though no event was tried since.
    pub(crate) fn clear_stall(&self) {
        self.stalled.store(false, Ordering::Relaxed);
    }

    /// True where so much waits that nothing new is to be begun, or where the disk has no room.
    pub fn is_full(&self) -> bool {
        self.is_stalled() || self.spool.lock().unwrap_or_else(PoisonError::into_inner).is_full()
    }

    /// Changes of (first number kept, number of the next event).
    pub fn watch(&self) -> watch::Receiver<(u64, u64)> {
        self.range.subscribe()
    }

    /// Waits until everything is acknowledged.
    pub async fn drained(&self) {
        // The sender lives as long as this does.
        let _ = self.watch().wait_for(|(first, next)| first == next).await;
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spool) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (spool, range) = (Arc::clone(&self.spool), Arc::clone(&self.range));
        let done = tokio::task::spawn_blocking(move || {
            let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
            let result = work(&mut spool);
            let now = (spool.first(), spool.next());
            range.send_if_modified(|range| std::mem::replace(range, now) != now);
            result
        });
        match done.await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
