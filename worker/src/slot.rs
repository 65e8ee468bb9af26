//! One device: takes attempts one after the other, and keeps a trainer warm between them.

mod check;
mod execution;
mod features;
mod inputs;
mod newest;
mod upload;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
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
    attempts::{Attempts, Wish, stronger},
    backoff,
    cache::Cache,
    config::Limits,
    features::Features,
    launcher::{self, Launcher, Trainer},
    session::Outbox,
    spool,
};

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
    pub limits: Limits,
    /// Where attempts have their folders.
    pub folder: PathBuf,
    /// What was told to the coordinator.
    pub environment: Environment,
}

#[derive(Debug)]
pub(crate) struct Slot {
    /// From 0.
    pub number: usize,
    pub shared: Arc<Shared>,
    pub launcher: Launcher,
    pub trainer: Option<Trainer>,
    /// Trainers lost since the last epoch that one completed.
    pub crashes: u32,
    pub last_crash: Option<Instant>,
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

impl Slot {
    /// Executes what is queued, until the queue closes.
    ///
    /// # Errors
    /// When events can no longer be kept.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Taken>) -> Result<(), spool::Error> {
        while let Some(Taken { start, wish }) = queue.recv().await {
            let attempt = start.attempt;
            let began = Instant::now();
            self.launcher.log().begin();
            let span = tracing::info_span!("attempt", %attempt);
            let outcome = self.execute(start, wish).instrument(span).await?;
            tracing::info!(%attempt, ?outcome, seconds = began.elapsed().as_secs_f64(), "ended");
            // Before it is told: the coordinator's next attempt may come the moment after.
            self.load.fetch_sub(1, Ordering::Relaxed);
            self.tell_end(attempt, outcome).await?;
            self.shared.attempts.end(attempt);
        }
        Ok(())
    }

    async fn tell_end(&self, attempt: Attempt, outcome: Outcome) -> Result<(), spool::Error> {
        let lines = self.launcher.log().end();
        let kind = match outcome {
            Outcome::Abandoned => return Ok(()),
            Outcome::Finished => EventKind::Finished,
            Outcome::Stopped if self.shared.attempts.is_drained(self.number) => EventKind::HandedBack,
            Outcome::Stopped => EventKind::Stopped,
            Outcome::Failed(Failure { cause, message, damaged }) => {
                let message = message.chars().take(8000).collect();
                match damaged {
                    Some(checkpoint) => EventKind::Damaged { checkpoint, message },
                    None => EventKind::Failed { cause, message },
                }
            }
        };
        if !lines.is_empty() {
            self.shared.outbox.append(attempt, EventKind::Log(lines)).await?;
        }
        self.shared.outbox.append(attempt, kind).await
    }

    async fn execute(&mut self, start: StartAttempt, mut wish: watch::Receiver<Wish>) -> Result<Outcome, spool::Error> {
        if self.shared.outbox.is_full() {
            return Ok(Outcome::Failed(Failure::infrastructure(
                "the worker's spool is full: the coordinator did not acknowledge for long; nothing new is begun until it does",
            )));
        }
        let ready = tokio::select! {
            biased;
            wish = stronger(&mut wish, &Wish::Run) => {
                return Ok(if wish == Wish::Abandon { Outcome::Abandoned } else { Outcome::Stopped });
            }
            ready = self.prepare(&start) => ready,
        };
        let (folder, train, trainer) = match ready {
            Ok(ready) => ready,
            Err(failure) => return Ok(Outcome::Failed(failure)),
        };
        let (outcome, trainer) = execution::Execution::new(&self.shared, train, wish, self.launcher.log())
            .run(trainer, &mut self.crashes)
            .await?;
        drop(folder);
        if trainer.is_none() {
            self.crashes += 1;
            self.last_crash = Some(Instant::now());
        }
        self.trainer = trainer;
        Ok(outcome)
    }

    /// Everything that has to be there before training: verified inputs, an empty folder, a trainer.
    async fn prepare(&mut self, start: &StartAttempt) -> Result<(Folder, Train, Trainer), Failure> {
        let folder = Folder::create(&self.shared.folder, start.attempt)?;
        let cache = &self.shared.cache;
        let dataset = inputs::dataset(cache, start.dataset).await?;
        let mut external = Vec::with_capacity(start.external.len());
        for (name, digest) in &start.external {
            external.push((name.clone(), inputs::dataset(cache, *digest).await?));
        }
        let weights: Start = inputs::weights(cache, start, &folder.start).await?;
        let train = Train {
            attempt: start.attempt,
            work: start.work.clone(),
            dataset,
            external,
            start: weights,
            directory: folder.epochs.clone(),
            features: self.shared.features.folder(),
        };
        let trainer = self.ready_trainer().await?;
        Ok((folder, train, trainer))
    }

    /// The warm trainer, or a new one; one that crashes again and again is started ever more rarely.
    async fn ready_trainer(&mut self) -> Result<Trainer, Failure> {
        if let Some(trainer) = self.trainer.take() {
            return Ok(trainer);
        }
        if let Some(crash) = self.last_crash {
            let wait = backoff::delay(
                self.crashes,
                Duration::from_millis(500),
                self.shared.limits.restart,
                backoff::entropy(),
            );
            tokio::time::sleep(wait.saturating_sub(crash.elapsed())).await;
        }
        let started = self.launcher.start().await;
        let trainer = started.inspect_err(|_| {
            self.crashes += 1;
            self.last_crash = Some(Instant::now());
        });
        let trainer = trainer.map_err(|error: launcher::Error| Failure::infrastructure(error))?;
        if *trainer.environment() != self.shared.environment {
            return Err(Failure::infrastructure(format!(
                "a new trainer's environment {:?} is not the one this worker registered with, {:?}: restart the agent",
                trainer.environment(),
                self.shared.environment
            )));
        }
        Ok(trainer)
    }
}
