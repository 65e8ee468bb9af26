//! The one task that owns the scheduler: take an event, decide, commit, then speak.
//!
//! Everything else talks to it through a [`Handle`]. It never waits for a peer: a worker whose messages pile up is
//! disconnected. When a commit fails it ends with the error and the process with it; what was not committed was never
//! said to anyone, and restoring from the store goes on from there.

mod clock;
mod handle;
#[cfg(feature = "simulation")]
mod observer;
mod requests;
mod sessions;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ceteris_scheduler::{Config, Effect, Event, Message, Rejection, RestoreError, Scheduler};
use ceteris_shared::{
    ids::{ExperimentId, SessionId, WorkerId},
    planted,
};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::store::{self, Change, Store};
use handle::Command;
use sessions::Session;

pub use clock::Clock;
#[cfg(feature = "simulation")]
pub use clock::SimulatedTime;
#[cfg(feature = "simulation")]
pub use observer::Observer;
pub use handle::{Cancelled, Error, Handle, LiveAttempt, LiveWorker, SubmitRequest, Submitted};
pub use requests::Reusable;
pub(crate) use requests::reusable;
pub(crate) use sessions::{Close, Outgoing};

/// Commands that may wait for the driver before who sends them has to.
const INBOX: usize = 1024;
/// Changes that a slow subscriber may be behind.
const CHANGES: usize = 1024;
/// Commands that are taken before looking at the clock again: heartbeats that came while the driver was held up
/// renew their leases before anything expires.
const BATCH: u32 = 256;

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
    #[cfg(feature = "simulation")]
    observer: Option<Arc<dyn Observer>>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

/// What the scheduler decided, sorted by what is to be done with it.
#[derive(Debug, Default)]
struct Decided {
    changes: Vec<Change>,
    messages: Vec<(WorkerId, SessionId, Message)>,
    rejections: Vec<Rejection>,
    touched: BTreeSet<ExperimentId>,
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
        let mut taken = 0;
        loop {
            let deadline = self.scheduler.next_deadline();
            if taken >= BATCH && deadline.is_some_and(|deadline| deadline <= self.clock.now()) {
                self.handle(Event::Tick).await?;
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
                        taken += 1;
                    }
                },
                () = self.clock.sleep_until(deadline) => {
                    self.handle(Event::Tick).await?;
                    taken = 0;
                }
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Result<Vec<Rejection>, store::Error> {
        let decided = self.decide(event);
        self.carry_out(Vec::new(), decided).await
    }

    fn decide(&mut self, event: Event) -> Decided {
        let mut decided = Decided::default();
        let now = self.clock.now();
        #[cfg(feature = "simulation")]
        let shown = self.observer.is_some().then(|| event.clone());
        let effects = self.scheduler.handle(now, event);
        #[cfg(feature = "simulation")]
        if let (Some(observer), Some(event)) = (&self.observer, &shown) {
            observer.decided(now, event, &effects, &self.scheduler);
        }
        for effect in effects {
            match effect {
                Effect::Persist(change) => {
                    let of_segment = change.segment().and_then(|segment| self.scheduler.experiment_of(segment));
                    decided.touched.extend(of_segment);
                    decided.changes.push(Change::Scheduler(change));
                }
                Effect::Send { worker, session, message } => decided.messages.push((worker, session, message)),
                Effect::Reject(rejection) => decided.rejections.push(rejection),
            }
        }
        decided
    }

    /// Commits `before` and what was decided in one transaction; then, and only then, speaks.
    async fn carry_out(&mut self, before: Vec<Change>, decided: Decided) -> Result<Vec<Rejection>, store::Error> {
        let Decided { changes, messages, rejections, touched } = decided;
        let changes: Vec<Change> = before.into_iter().chain(changes).collect();
        if planted!(SpeaksBeforeCommit) {
            for (worker, session, message) in messages.clone() {
                self.deliver(worker, session, Outgoing::Message(sessions::wire(message)));
            }
        }
        if !changes.is_empty()
            && let Err(error) = self.store.commit(&changes).await
            && !planted!(GoesOnAfterFailedCommit)
        {
            return Err(error);
        }
        for rejection in &rejections {
            self.counters.rejected.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%rejection, "refused");
        }
        for (worker, session, message) in messages {
            if planted!(SpeaksBeforeCommit) {
                break;
            }
            self.deliver(worker, session, Outgoing::Message(sessions::wire(message)));
        }
        for experiment in touched {
            // An error means that nobody is listening.
            let _ = self.changes.send(experiment);
        }
        #[cfg(feature = "simulation")]
        if let Some(observer) = &self.observer {
            let connections: Vec<_> =
                self.sessions.iter().map(|(&worker, session)| (worker, session.register.session)).collect();
            observer.carried_out(self.clock.now(), &self.scheduler, &connections);
        }
        Ok(rejections)
    }
}
