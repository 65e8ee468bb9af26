//! The one task that owns the scheduler: take events, decide, commit, then speak.
//!
//! Everything else talks to it through a [`Handle`]. What has come in meanwhile is decided one after the other and
//! committed together, so that a thousand workers do not wait for a thousand syncs of a disk. It never waits for a peer: a
//! worker whose messages pile up is disconnected. When a commit fails it ends with the error and the process with it; what
//! was not committed was never said to anyone, and restoring from the store goes on from there.

mod clock;
mod handle;
#[cfg(feature = "simulation")]
mod observer;
mod pending;
mod requests;
mod sessions;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use ceteris_scheduler::{Config, Event, RestoreError, Scheduler, Timestamp};
use ceteris_shared::ids::{ExperimentId, WorkerId};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::store::{self, Store};
use handle::Command;
use pending::Pending;
use sessions::Session;

pub use clock::Clock;
#[cfg(feature = "simulation")]
pub use clock::SimulatedTime;
pub use handle::{Cancelled, Error, Handle, LiveAttempt, LiveWorker, SharingChange, SubmitRequest, Submitted};
#[cfg(feature = "simulation")]
pub use observer::Observer;
pub use requests::Reusable;
pub(crate) use requests::reusable;
pub(crate) use sessions::{Close, Outgoing};

/// Commands that may wait for the driver before who sends them has to.
const INBOX: usize = 1024;
/// Changes that a slow subscriber may be behind.
const CHANGES: usize = 1024;
/// Commands that are taken into one commit. Once the clock has passed a deadline, as many are taken first as can have been
/// waiting: heartbeats that came while the driver was held up renew their leases before anything expires.
const BATCH: usize = 256;
/// Changes from which on a commit does not wait for what else there is.
const MAX_CHANGES: usize = 4096;

/// Why the driver ends.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Failure {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the database contradicts itself: {0}; restore it from a backup")]
    Restore(#[from] RestoreError),
}

/// What was refused since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// What peers said of attempts and experiments that are not as they think.
    pub rejected: AtomicU64,
    /// Messages that mean nothing.
    pub malformed: AtomicU64,
}

/// Owns the scheduler.
pub struct Driver {
    scheduler: Scheduler,
    store: Arc<dyn Store>,
    clock: Clock,
    inbox: mpsc::Receiver<Command>,
    changes: broadcast::Sender<ExperimentId>,
    sessions: BTreeMap<WorkerId, Session>,
    counters: Arc<Counters>,
    pending: Pending,
    #[cfg(feature = "simulation")]
    observer: Option<Arc<dyn Observer>>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

impl Driver {
    /// Goes on from what is stored.
    ///
    /// # Errors
    /// When the store cannot be read, or contradicts itself.
    pub async fn restore(store: Arc<dyn Store>, config: Config, clock: Clock) -> Result<(Self, Handle), Failure> {
        let scheduler = Scheduler::restore(config, clock.now(), store.snapshot().await?)?;
        let (commands, inbox) = mpsc::channel(INBOX);
        let (changes, _) = broadcast::channel(CHANGES);
        let counters = Arc::new(Counters::default());
        let handle = Handle::new(commands, changes.downgrade(), counters.clone());
        let driver = Self {
            scheduler,
            store,
            clock,
            inbox,
            changes,
            sessions: BTreeMap::new(),
            counters,
            pending: Pending::default(),
            #[cfg(feature = "simulation")]
            observer: None,
        };
        Ok((driver, handle))
    }

    /// Shows `observer` everything from now on, beginning with where it is.
    #[cfg(feature = "simulation")]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        observer.carried_out(self.clock.now(), &self.scheduler, &[]);
        self.observer = Some(observer);
        self
    }

    /// Works until `stop`, or until nobody can reach it any more.
    ///
    /// # Errors
    /// When a commit fails.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Failure> {
        // Commands that were taken since the clock was found to have passed a deadline.
        let mut taken = 0;
        loop {
            let deadline = self.scheduler.next_deadline();
            if deadline.is_none_or(|deadline| deadline > self.clock.now()) {
                taken = 0;
            } else if taken >= INBOX {
                self.tick(deadline);
                self.flush().await?;
                taken = 0;
                continue;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                command = self.inbox.recv() => match command {
                    None => return Ok(()),
                    Some(command) => {
                        self.obey(command).await?;
                        taken += 1 + self.obey_waiting().await?;
                        self.flush().await?;
                    }
                },
                () = self.clock.sleep_until(deadline) => {
                    self.tick(deadline);
                    self.flush().await?;
                    taken = 0;
                }
            }
        }
    }

    /// Time has passed. Where nobody looked for long after a deadline, this process was stopped, or waited for a disk, and
    /// heard nobody: that workers are gone would be no more than a guess.
    fn tick(&mut self, deadline: Option<Timestamp>) {
        let late = deadline.map_or(Duration::ZERO, |deadline| self.clock.now().since(deadline));
        if late > self.scheduler.config().lease / 2 {
            tracing::warn!(?late, "this coordinator was held up; attempts have a whole lease to be heard of");
            self.handle(Event::HeldUp);
        }
        self.handle(Event::Tick);
    }

    /// Obeys what has come in meanwhile, as far as one commit goes; how much it was.
    async fn obey_waiting(&mut self) -> Result<usize, store::Error> {
        for taken in 0..BATCH {
            if self.pending.changes.len() >= MAX_CHANGES {
                return Ok(taken);
            }
            let Ok(command) = self.inbox.try_recv() else { return Ok(taken) };
            self.obey(command).await?;
        }
        Ok(BATCH)
    }
}
