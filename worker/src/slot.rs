//! One device: takes attempts one after the other, and keeps a trainer warm between them.

mod check;
mod execution;
mod features;
mod inputs;
mod newest;
mod room;
mod trainers;
mod upload;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use ceteris_proto::fleet::{EventKind, StartAttempt};
use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::Attempt,
    trainer::{FailureCause, Start, Train},
};
use tokio::sync::{mpsc, watch};
use tracing::Instrument as _;

use crate::{
    agent::Time,
    attempts::{Attempts, Wish, stronger},
    cache::{self, Cache, Use},
    config::Limits,
    features::Features,
    launcher::Trainer,
    session::Outbox,
    spool,
};
use room::NoRoom;
pub(crate) use trainers::Trainers;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Finished,
    Stopped,
    Failed(Failure),
    /// It is someone else's: nothing is said.
    Abandoned,
}

/// Why an attempt cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    cause: FailureCause,
    message: String,
    /// The checkpoint that was to be gone on from, where it is not what was stored, or gone.
    damaged: Option<Digest>,
}

impl Failure {
    fn infrastructure(error: impl std::fmt::Display) -> Self {
        Self { cause: FailureCause::Infrastructure, message: error.to_string(), damaged: None }
    }

    /// What the store did not give or take for as long as it was asked to. `about` says what of.
    fn of_store(error: &ceteris_blob::Error, about: impl FnOnce(&dyn std::fmt::Display) -> Self) -> Self {
        let failure = about(error);
        let cause = if error.is_transient() { FailureCause::Store } else { failure.cause };
        Self { cause, ..failure }
    }

    /// The same of the cache, which is filled from the store.
    fn of_cache(error: &cache::Error, about: impl FnOnce(&dyn std::fmt::Display) -> Self) -> Self {
        match error {
            cache::Error::Store(error) => Self::of_store(error, about),
            error => about(error),
        }
    }
}

/// An attempt that waits for the slot.
#[derive(Debug)]
pub(crate) struct Taken {
    pub start: StartAttempt,
    pub wish: watch::Receiver<Wish>,
}

/// What all slots of an agent share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub attempts: Arc<Attempts>,
    pub outbox: Outbox,
    pub cache: Cache,
    pub features: Features,
    pub time: Arc<Time>,
    pub limits: Limits,
    /// Where attempts have their folders.
    pub folder: PathBuf,
    /// What was told to the coordinator.
    pub environment: Environment,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub shared: Arc<Shared>,
    pub trainers: Trainers,
    /// Attempts that were given to this slot and are not over.
    pub load: Arc<AtomicUsize>,
}

/// The folders of one attempt, gone when it is.
struct Folder {
    root: PathBuf,
    /// Parts of the checkpoint that it starts from.
    start: PathBuf,
    /// What the trainer writes.
    epochs: PathBuf,
}

impl Folder {
    fn create(parent: &Path, attempt: Attempt) -> Result<Self, Failure> {
        let root = parent.join(format!("{}-{}", attempt.segment, attempt.number));
        let folder = Self { start: root.join("start"), epochs: root.join("epochs"), root };
        let made = std::fs::create_dir_all(&folder.start).and_then(|()| std::fs::create_dir_all(&folder.epochs));
        made.map_err(|error| {
            Failure::infrastructure(format!(
                "{}: {error}; make the state folder writable and free some space on its disk",
                folder.root.display()
            ))
        })?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.root) {
            tracing::warn!(folder = %self.root.display(), %error, "an attempt's folder stays behind");
        }
    }
}

/// Everything that has to be there before training.
struct Ready {
    folder: Folder,
    train: Train,
    trainer: Trainer,
    /// Keeps the cached files that it uses.
    used: Vec<Use>,
}

impl Slot {
    /// Executes what is queued, until the queue closes.
    ///
    /// # Errors
    /// When events can no longer be kept.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Taken>) -> Result<(), spool::Error> {
        loop {
            let taken = tokio::select! {
                taken = queue.recv() => taken,
                () = self.trainers.rest() => None,
            };
            let Some(Taken { start, wish }) = taken else { return Ok(()) };
            let attempt = start.attempt;
            let began = Instant::now();
            self.trainers.log().begin();
            let span = tracing::info_span!("attempt", %attempt);
            let outcome = self.execute(start, wish).instrument(span).await?;
            tracing::info!(%attempt, ?outcome, seconds = began.elapsed().as_secs_f64(), "ended");
            // Before it is told: the coordinator's next attempt may come the moment after.
            self.load.fetch_sub(1, Ordering::Relaxed);
            self.tell_end(attempt, outcome).await?;
            self.shared.attempts.end(attempt);
        }
    }

    async fn tell_end(&self, attempt: Attempt, outcome: Outcome) -> Result<(), spool::Error> {
        let lines = self.trainers.log().end();
        let kind = match outcome {
            Outcome::Abandoned => return Ok(()),
            Outcome::Finished => EventKind::Finished,
            // Who stops an attempt because it takes nothing any more says so by that; everyone else takes the next one.
            Outcome::Stopped if self.shared.attempts.is_closed() => EventKind::Stopped,
            Outcome::Stopped => EventKind::HandedBack,
            Outcome::Failed(Failure { cause, message, damaged }) => {
                let message = message.chars().take(8000).collect();
                match damaged {
                    Some(checkpoint) => EventKind::Damaged { checkpoint, message },
                    None => EventKind::Failed { cause, message },
                }
            }
        };
        if !lines.is_empty() {
            // Where there is no room for them, they are in the slot's log all the same.
            self.shared.outbox.try_append(attempt, EventKind::Log(lines)).await?;
        }
        self.shared.outbox.append(attempt, kind).await
    }

    async fn execute(&mut self, start: StartAttempt, mut wish: watch::Receiver<Wish>) -> Result<Outcome, spool::Error> {
        match room::wait(&self.shared, &mut wish).await {
            Ok(()) => {}
            Err(NoRoom::Wished(wish)) => return Ok(before_training(&wish)),
            Err(NoRoom::Failed(failure)) => return Ok(Outcome::Failed(failure)),
        }
        let ready = tokio::select! {
            biased;
            wish = stronger(&mut wish, &Wish::Run) => return Ok(before_training(&wish)),
            ready = self.prepare(&start) => ready,
        };
        let Ready { folder, train, trainer, used } = match ready {
            Ok(ready) => ready,
            Err(failure) => return Ok(Outcome::Failed(failure)),
        };
        let execution = execution::Execution::new(&self.shared, train, start.dataset, wish, self.trainers.log());
        let outcome = execution.run(trainer, &mut self.trainers).await?;
        drop((folder, used));
        Ok(outcome)
    }

    /// Verified inputs, an empty folder, a trainer.
    async fn prepare(&mut self, start: &StartAttempt) -> Result<Ready, Failure> {
        let folder = Folder::create(&self.shared.folder, start.attempt)?;
        let mut used = Vec::new();
        let cache = &self.shared.cache;
        let dataset = inputs::dataset(cache, start.dataset, &mut used).await?;
        let mut external = Vec::with_capacity(start.external.len());
        for (name, digest) in &start.external {
            external.push((name.clone(), inputs::dataset(cache, *digest, &mut used).await?));
        }
        let weights: Start = inputs::weights(cache, start, &folder.start, &mut used).await?;
        let train = Train {
            attempt: start.attempt,
            work: start.work.clone(),
            dataset,
            external,
            start: weights,
            directory: folder.epochs.clone(),
            features: self.shared.features.folder(),
        };
        let trainer = self.trainers.take().await?;
        Ok(Ready { folder, train, trainer, used })
    }
}

/// How an attempt ends of which something else is wished before it trains.
fn before_training(wish: &Wish) -> Outcome {
    if *wish == Wish::Abandon { Outcome::Abandoned } else { Outcome::Stopped }
}
