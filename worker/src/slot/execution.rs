//! One attempt, from the request to the trainer to its outcome.
//!
//! Listens to the trainer, to what is wished of the attempt and to the uploader at once. Nothing that the trainer says
//! is believed without a check: only the epochs that were asked for and steps of them, in their order, with their keys
//! and inside their folders, are stored.

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use ceteris_proto::fleet::{EventKind, Progress};
use ceteris_shared::{
    digest::Digest,
    features::FeatureKey,
    ids::Attempt,
    spec::Arch,
    trainer::{EpochReport, FailureCause, Report, Request, Train},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Failure, Outcome, Shared, Trainers,
    check::{Expected, step_folder},
    features::Asked,
    newest::Newest,
    upload,
};
use crate::{
    attempts::{Wish, stronger},
    launcher::{Error as TrainerError, Trainer, TrainerLog},
    spool,
};

/// Why attempts stop though nobody wished it.
const SPOOL_FULL: &str = "the worker's spool is full: the coordinator did not acknowledge for long; the attempt was stopped at an epoch's end";
const NO_ROOM: &str =
    "the worker's disk had no room for events (its log names the folder); the attempt was stopped at an epoch's end";
/// How often lines are collected for the coordinator.
const LOG_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Execution<'a> {
    shared: &'a Arc<Shared>,
    attempt: Attempt,
    train: Option<Train>,
    dataset: Digest,
    arch: Arch,
    /// What the trainer writes to.
    directory: PathBuf,
    /// What is still to be reported.
    expected: Expected,
    wish: watch::Receiver<Wish>,
    log: Arc<TrainerLog>,
    /// That the trainer began, which there was no room to say.
    untold: bool,
    /// What there was no room in, where the attempt was stopped for that.
    lack: Option<&'static str>,
    /// The strongest stop that the trainer was told.
    told: Wish,
    /// When a trainer that was told to stop now is killed.
    kill_at: Option<Instant>,
    /// How often [`LOG_INTERVAL`] passed since it reported anything, while it was listened to.
    silent: u32,
    /// Why the uploader ended before its time.
    failure: Option<Failure>,
    /// Epochs that wait for the uploader. While one does, the trainer is not listened to, and soon waits too.
    waiting: VecDeque<EpochReport>,
    /// A step that waits for the uploader; nobody waits for it.
    step: Arc<Newest>,
    features: Asked,
    /// Ends the uploader.
    cancel: CancellationToken,
}

/// What happens next in an attempt.
enum Next {
    Report(Result<Report, TrainerError>),
    Room(mpsc::OwnedPermit<EpochReport>),
    Uploaded(Result<(), upload::Error>),
    Features(FeatureKey, bool),
    Wish(Wish),
    Tick,
    Kill,
}

/// How the trainer's part ended.
enum Part {
    /// It waits for the next request.
    Warm(Outcome),
    /// It is gone, or cannot be trusted.
    Lost(Failure),
    /// It did not stop in time.
    Killed,
}

impl<'a> Execution<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        train: Train,
        dataset: Digest,
        wish: watch::Receiver<Wish>,
        log: &Arc<TrainerLog>,
    ) -> Self {
        Self {
            shared,
            attempt: train.attempt,
            directory: train.directory.clone(),
            expected: Expected::of(&train),
            arch: train.work.arch,
            train: Some(train),
            dataset,
            wish,
            log: Arc::clone(log),
            untold: false,
            lack: None,
            told: Wish::Run,
            kill_at: None,
            silent: 0,
            failure: None,
            waiting: VecDeque::new(),
            step: Arc::default(),
            features: Asked::new(shared.features.clone()),
            cancel: CancellationToken::new(),
        }
    }

    /// The outcome. The trainer goes back to `trainers` if it can be used again.
    pub(super) async fn run(mut self, mut trainer: Trainer, trainers: &mut Trainers) -> Result<Outcome, spool::Error> {
        let Some(train) = self.train.take() else {
            return Ok(Outcome::Failed(Failure::infrastructure("an execution ran twice")));
        };
        let (epochs, queue) = mpsc::channel(upload::QUEUE);
        let uploader = upload::Uploader {
            shared: Arc::clone(self.shared),
            work: train.work.clone(),
            directory: self.directory.clone(),
            steps: Arc::clone(&self.step),
            cancel: self.cancel.clone(),
            kept: Vec::new(),
        };
        let mut uploads = tokio::spawn(uploader.run(queue));

        let part = match trainer.send(&Request::Train(Box::new(train))).await {
            Ok(()) => self.follow(&mut trainer, &epochs, &mut uploads, trainers).await,
            Err(error) => Ok(Part::Lost(Failure::infrastructure(error))),
        };
        let outcome = match part {
            Ok(Part::Warm(outcome)) => {
                trainers.give_back(trainer);
                outcome
            }
            Ok(Part::Lost(failure)) => {
                trainer.kill().await;
                trainers.lost();
                Outcome::Failed(failure)
            }
            Ok(Part::Killed) => {
                tracing::warn!(attempt = %self.attempt, "the trainer did not stop in time and was killed");
                trainer.kill().await;
                trainers.lost();
                Outcome::Stopped
            }
            Err(error) => {
                uploads.abort();
                return Err(error);
            }
        };
        let uploaded = self.drain(epochs, uploads).await?;
        let abandoned = *self.wish.borrow() == Wish::Abandon;
        if abandoned {
            self.features.revoke();
        }
        Ok(match (self.failure.take(), uploaded) {
            _ if abandoned => Outcome::Abandoned,
            (Some(failure), _) | (None, Some(failure)) => Outcome::Failed(failure),
            (None, None) => outcome,
        })
    }

    /// Waits until all epochs and the last step are committed; after a stop at once, only for a while.
    async fn drain(
        &mut self,
        epochs: mpsc::Sender<EpochReport>,
        mut uploads: JoinHandle<Result<(), upload::Error>>,
    ) -> Result<Option<Failure>, spool::Error> {
        if self.failure.is_some() {
            return Ok(None);
        }
        let mut wish = self.wish.clone();
        let hurry = async {
            if stronger(&mut wish, &Wish::StopAfterEpoch).await == Wish::StopNow {
                let _ =
                    tokio::time::timeout(self.shared.limits.upload_grace, stronger(&mut wish, &Wish::StopNow)).await;
            }
        };
        let waiting = std::mem::take(&mut self.waiting);
        let all = async {
            for report in waiting {
                if epochs.send(report).await.is_err() {
                    break;
                }
            }
            drop(epochs);
            (&mut uploads).await
        };
        let result = tokio::select! {
            result = all => result,
            () = hurry => {
                // Not aborted: an event that is being written down must not come to stand after the attempt's end.
                self.cancel.cancel();
                uploads.await
            }
        };
        match flatten(result) {
            Ok(()) => Ok(None),
            Err(upload::Error::Attempt(failure)) => Ok(Some(failure)),
            Err(upload::Error::Spool(error)) => Err(error),
        }
    }

    async fn follow(
        &mut self,
        trainer: &mut Trainer,
        epochs: &mpsc::Sender<EpochReport>,
        uploads: &mut JoinHandle<Result<(), upload::Error>>,
        trainers: &mut Trainers,
    ) -> Result<Part, spool::Error> {
        let mut tick = interval(LOG_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                wish = stronger(&mut self.wish, &self.told) => Next::Wish(wish),
                report = trainer.next(), if self.waiting.is_empty() || self.told >= Wish::StopNow => Next::Report(report),
                permit = epochs.clone().reserve_owned(), if !self.waiting.is_empty() && self.failure.is_none() => match permit {
                    Ok(permit) => Next::Room(permit),
                    // The uploader is gone: its branch says why.
                    Err(_) => Next::Tick,
                },
                result = &mut *uploads, if self.failure.is_none() => Next::Uploaded(flatten(result)),
                (key, found) = self.features.answer() => Next::Features(key, found),
                _ = tick.tick() => Next::Tick,
                () = until(self.kill_at) => Next::Kill,
            };
            match next {
                Next::Report(Ok(report)) => {
                    self.silent = 0;
                    if let Some(part) = self.hear(report, trainers).await? {
                        return Ok(part);
                    }
                }
                Next::Report(Err(error)) => return Ok(Part::Lost(Failure::infrastructure(error))),
                Next::Room(permit) => drop(self.waiting.pop_front().map(|report| permit.send(report))),
                Next::Uploaded(result) => {
                    self.failure = Some(match result {
                        Ok(()) => Failure::infrastructure("storing ended before training did"),
                        Err(upload::Error::Attempt(failure)) => failure,
                        Err(upload::Error::Spool(error)) => return Err(error),
                    });
                    self.waiting.clear();
                }
                Next::Features(key, found) => {
                    self.silent = 0;
                    let answer = Request::Features { attempt: self.attempt, key, found };
                    if let Err(error) = trainer.send(&answer).await {
                        return Ok(Part::Lost(Failure::infrastructure(error)));
                    }
                }
                Next::Wish(wish) => {
                    if wish == Wish::Abandon {
                        self.abandon();
                    }
                    if let Err(error) = self.tell(trainer, wish).await {
                        return Ok(Part::Lost(Failure::infrastructure(error)));
                    }
                }
                Next::Tick => {
                    self.tick().await?;
                    if self.is_hung() {
                        let limit = humantime::format_duration(self.shared.limits.trainer_silence);
                        let message =
                            format!("the trainer reported nothing for {limit} (--trainer-silence) and was killed");
                        return Ok(Part::Lost(Failure::infrastructure(message)));
                    }
                }
                Next::Kill => return Ok(Part::Killed),
            }
            let wish = match (&self.failure, self.shared.outbox.is_full()) {
                (Some(_), _) => Wish::StopNow,
                (None, true) => {
                    self.lack.get_or_insert_with(|| if self.shared.outbox.is_stalled() { NO_ROOM } else { SPOOL_FULL });
                    Wish::StopAfterEpoch
                }
                (None, false) => continue,
            };
            if wish > self.told
                && let Err(error) = self.tell(trainer, wish).await
            {
                return Ok(Part::Lost(Failure::infrastructure(error)));
            }
        }
    }

    /// Counts in what this agent lived through: one that was stopped heard nothing either.
    fn is_hung(&mut self) -> bool {
        let listened = self.waiting.is_empty() && self.kill_at.is_none();
        self.silent = if listened { self.silent.saturating_add(1) } else { 0 };
        LOG_INTERVAL * self.silent > self.shared.limits.trainer_silence
    }

    /// Nothing more of a revoked attempt is stored.
    fn abandon(&mut self) {
        self.cancel.cancel();
        self.features.revoke();
        self.waiting.clear();
    }

    async fn tick(&mut self) -> Result<(), spool::Error> {
        if self.untold {
            self.started().await?;
        }
        let lines = self.log.take();
        if !lines.is_empty() {
            // Where there is no room for them, they are in the slot's log all the same.
            self.shared.outbox.try_append(self.attempt, EventKind::Log(lines)).await?;
        }
        Ok(())
    }

    /// Nobody waits here for room on the disk: wishes have to be heard meanwhile.
    async fn started(&mut self) -> Result<(), spool::Error> {
        self.untold = !self.shared.outbox.try_append(self.attempt, EventKind::Started).await?;
        Ok(())
    }

    async fn tell(&mut self, trainer: &mut Trainer, wish: Wish) -> Result<(), TrainerError> {
        let now = wish >= Wish::StopNow;
        if now && self.kill_at.is_none() {
            self.kill_at = Some(Instant::now() + self.shared.limits.stop_grace);
        }
        let had = std::mem::replace(&mut self.told, wish);
        if now && had >= Wish::StopNow {
            return Ok(());
        }
        trainer.send(&Request::Stop { attempt: self.attempt, now }).await
    }

    /// One report; an outcome if it is the last one.
    async fn hear(&mut self, report: Report, trainers: &mut Trainers) -> Result<Option<Part>, spool::Error> {
        let about = match &report {
            Report::Ready { .. } => {
                return Ok(Some(Part::Lost(Failure::infrastructure("the trainer was ready twice"))));
            }
            Report::Started { attempt }
            | Report::Progress { attempt, .. }
            | Report::FeaturesWanted { attempt, .. }
            | Report::FeaturesMade { attempt, .. }
            | Report::Finished { attempt }
            | Report::Stopped { attempt }
            | Report::Failed { attempt, .. } => *attempt,
            Report::Step(report) => report.attempt,
            Report::Epoch(report) => report.attempt,
        };
        if about != self.attempt {
            let message = format!("the trainer reported about {about} while it trained {}", self.attempt);
            return Ok(Some(Part::Lost(Failure::infrastructure(message))));
        }
        match report {
            Report::Ready { .. } => {}
            Report::Started { .. } => self.started().await?,
            Report::Progress { attempt, epoch, step, steps, loss } => {
                let loss = Some(loss).filter(|loss| loss.is_finite());
                self.shared.attempts.report(Progress { attempt, epoch, step, steps, loss });
            }
            Report::FeaturesWanted { key, .. } => self.features.wanted(key),
            Report::FeaturesMade { key, .. } => self.features.made(key),
            Report::Step(report) => match self.expected.step(&report) {
                Ok(()) => {
                    trainers.worked();
                    if let Some(older) = self.step.put(report) {
                        upload::remove(&step_folder(&self.directory, &older)).await;
                    }
                }
                Err(message) => return Ok(Some(Part::Lost(Failure::infrastructure(message)))),
            },
            Report::Epoch(report) => match self.expected.epoch(&report) {
                Ok(train) => {
                    trainers.worked();
                    self.shared.time.measured((self.dataset, self.arch, train), report.spent.seconds);
                    if self.failure.is_none() {
                        self.waiting.push_back(*report);
                    }
                }
                Err(message) => return Ok(Some(Part::Lost(Failure::infrastructure(message)))),
            },
            Report::Finished { .. } if self.expected.epochs() == 0 => return Ok(Some(Part::Warm(Outcome::Finished))),
            Report::Finished { .. } => {
                let message = format!("the trainer finished {} epochs early", self.expected.epochs());
                return Ok(Some(Part::Lost(Failure::infrastructure(message))));
            }
            Report::Stopped { .. } => return Ok(Some(Part::Warm(self.stopped()))),
            Report::Failed { cause, message, .. } => {
                // A diverged trainer is as good as new; after other failures a device may not be.
                let failure = Failure { cause, message, damaged: None };
                return Ok(Some(match cause {
                    FailureCause::Infrastructure | FailureCause::Store | FailureCause::Irreproducible => {
                        Part::Lost(failure)
                    }
                    FailureCause::User | FailureCause::Diverged => Part::Warm(Outcome::Failed(failure)),
                }));
            }
        }
        Ok(None)
    }

    /// A stop that was wished is obeyed; one for want of room is the machine's failure.
    fn stopped(&self) -> Outcome {
        if *self.wish.borrow() > Wish::Run {
            return Outcome::Stopped;
        }
        Outcome::Failed(Failure::infrastructure(self.lack.unwrap_or("the trainer stopped though nothing asked it to")))
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn flatten(result: Result<Result<(), upload::Error>, tokio::task::JoinError>) -> Result<(), upload::Error> {
    result
        .unwrap_or_else(|error| Err(upload::Error::Attempt(Failure::infrastructure(format!("storing broke: {error}")))))
}
