//! A slot's trainer processes: one is kept warm between attempts, the next is started in the background as soon as one is
//! lost, and one without work is ended after a while, so that others can have its device's memory.

use std::{sync::Arc, time::Duration};

use ceteris_shared::checkpoint::Environment;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Failure;
use crate::{
    backoff,
    config::Limits,
    launcher::{Error, Launcher, Trainer, TrainerLog},
};

/// The wait before a trainer is started again after the second crash in a row; the first one waits for nothing.
const SECOND_START: Duration = Duration::from_millis(500);

/// The trainers of one slot, one at a time.
#[derive(Debug)]
pub(crate) struct Trainers {
    launcher: Arc<Launcher>,
    current: Current,
    /// What was told to the coordinator.
    environment: Environment,
    /// Trainers lost since the last epoch or step that one completed.
    crashes: u32,
    /// When the next start may be tried.
    not_before: Instant,
    /// Longest wait before a start.
    longest: Duration,
    /// How long one without work is kept.
    idle: Duration,
}

#[derive(Debug)]
enum Current {
    /// It waits for work since then.
    Warm(Trainer, Instant),
    /// It will be ready soon. Dropping the handle ends it.
    Starting(AbortOnDropHandle<Result<Trainer, Error>>, Instant),
    /// An attempt has it, or there is none.
    Away,
}

impl Trainers {
    pub(crate) fn new(launcher: Arc<Launcher>, trainer: Trainer, environment: Environment, limits: &Limits) -> Self {
        let now = Instant::now();
        let (longest, idle) = (limits.restart, limits.trainer_idle);
        let current = Current::Warm(trainer, now);
        Self { launcher, current, environment, crashes: 0, not_before: now, longest, idle }
    }

    /// What its trainers print.
    pub(super) fn log(&self) -> &Arc<TrainerLog> {
        self.launcher.log()
    }

    /// The warm trainer, the one that is being started, or a new one. Until it comes back or is lost, there is no other.
    /// May be dropped and asked again.
    ///
    /// # Errors
    /// When none can be started, or it is not what the coordinator was told of.
    pub(super) async fn take(&mut self) -> Result<Trainer, Failure> {
        let in_the_background = match &mut self.current {
            Current::Starting(handle, _) => Some(handle.await),
            Current::Warm(..) | Current::Away => None,
        };
        let started = match (std::mem::replace(&mut self.current, Current::Away), in_the_background) {
            (Current::Warm(trainer, _), _) => Ok(trainer),
            (_, Some(Ok(Ok(trainer)))) => Ok(trainer),
            (_, background) => {
                if let Some(Ok(Err(error))) = background {
                    tracing::warn!(%error, "no trainer could be started in the background; trying again");
                    self.crashed();
                }
                tokio::time::sleep_until(self.not_before).await;
                self.launcher.start().await
            }
        };
        let trainer = started.map_err(|error| {
            self.crashed();
            Failure::infrastructure(error)
        })?;
        if *trainer.environment() != self.environment {
            return Err(Failure::infrastructure(format!(
                "a new trainer's environment {:?} is not the one this worker registered with, {:?}: restart the agent",
                trainer.environment(),
                self.environment
            )));
        }
        Ok(trainer)
    }

    /// Takes a trainer back that can be used again.
    pub(super) fn give_back(&mut self, trainer: Trainer) {
        self.current = Current::Warm(trainer, Instant::now());
    }

    /// A trainer that was taken is gone: the next one is started at once, or after a while if it is not the first.
    pub(super) fn lost(&mut self) {
        self.log().seal();
        self.crashed();
        let (launcher, not_before) = (Arc::clone(&self.launcher), self.not_before);
        let start = tokio::spawn(async move {
            tokio::time::sleep_until(not_before).await;
            launcher.start().await
        });
        self.current = Current::Starting(AbortOnDropHandle::new(start), Instant::now());
    }

    /// A trainer got something done: the next crash is the first one.
    pub(super) fn worked(&mut self) {
        self.crashes = 0;
    }

    fn crashed(&mut self) {
        self.crashes += 1;
        let wait = match self.crashes {
            1 => Duration::ZERO,
            crashes => backoff::delay(crashes - 1, SECOND_START, self.longest, backoff::entropy()),
        };
        self.not_before = Instant::now() + wait;
    }

    /// Sees to the trainer while the slot has no work; never returns. May be dropped at any time.
    pub(super) async fn rest(&mut self) {
        loop {
            match &mut self.current {
                Current::Warm(trainer, since) => {
                    let until = *since + self.idle;
                    tokio::select! {
                        said = trainer.next() => self.lost_idle(said),
                        () = tokio::time::sleep_until(until) => self.dismiss(),
                    }
                }
                Current::Starting(handle, since) => {
                    let since = *since;
                    match handle.await {
                        Ok(Ok(trainer)) => self.current = Current::Warm(trainer, since),
                        ended => {
                            // The next attempt tries again, and tells if it fails.
                            tracing::warn!(?ended, "no trainer could be started in the background");
                            self.crashed();
                            self.current = Current::Away;
                        }
                    }
                }
                Current::Away => std::future::pending().await,
            }
        }
    }

    /// An idle trainer has nothing to say: it is gone, or cannot be trusted.
    fn lost_idle<T: std::fmt::Debug>(&mut self, said: Result<T, Error>) {
        match said {
            Ok(report) => tracing::warn!(?report, "an idle trainer spoke; it is replaced"),
            Err(error) => tracing::warn!(%error, "an idle trainer is gone; the next one is started"),
        }
        self.lost();
    }

    fn dismiss(&mut self) {
        if let Current::Warm(trainer, _) = std::mem::replace(&mut self.current, Current::Away) {
            tracing::info!(after = ?self.idle, "a trainer without work is ended, and started again when there is some");
            tokio::spawn(trainer.dismiss());
        }
    }
}
