//! How the rest of the coordinator asks the driver for something.

use std::{collections::BTreeMap, sync::Arc};

use ceteris_proto::fleet::{Progress, Register};
use ceteris_scheduler::{Drain, Explanation, Report, Sharing, Timestamp};
use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, ExperimentId, RunId, SessionId, WorkerId},
    plan::{Pins, Plan},
    spec::ExperimentSpec,
};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Counters, Outgoing, Reusable};

/// A way to reach the driver; clones reach the same one.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    changes: broadcast::WeakSender<ExperimentId>,
    counters: Arc<Counters>,
}

/// What the driver can be asked. A reply is sent after the commit.
#[derive(Debug)]
pub(super) enum Command {
    Submit {
        request: Box<SubmitRequest>,
        reply: oneshot::Sender<Result<Submitted, Error>>,
    },
    Cancel {
        experiment: ExperimentId,
        reply: oneshot::Sender<Result<Cancelled, Error>>,
    },
    Pause {
        experiment: ExperimentId,
        /// Or let it go on.
        pause: bool,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Share {
        experiment: ExperimentId,
        change: SharingChange,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Drain {
        worker: WorkerId,
        drain: Option<Drain>,
        reply: oneshot::Sender<()>,
    },
    Drains {
        reply: oneshot::Sender<BTreeMap<WorkerId, Drain>>,
    },
    Retry {
        experiment: ExperimentId,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Collect {
        manifests: Vec<Digest>,
        reply: oneshot::Sender<Vec<Digest>>,
    },
    Explain {
        run: RunId,
        reply: oneshot::Sender<Result<Vec<Explanation>, Error>>,
    },
    Workers {
        reply: oneshot::Sender<Vec<LiveWorker>>,
    },
    Connect {
        register: Box<Register>,
        outbox: mpsc::Sender<Outgoing>,
        closed: CancellationToken,
        reply: oneshot::Sender<u64>,
    },
    Disconnect {
        worker: WorkerId,
        session: SessionId,
    },
    Heartbeat {
        worker: WorkerId,
        session: SessionId,
        progress: Vec<Progress>,
    },
    Report {
        worker: WorkerId,
        session: SessionId,
        sequence: u64,
        attempt: Attempt,
        report: Box<Report>,
        reply: oneshot::Sender<bool>,
    },
}

/// A planned experiment. The plan is the coordinator's own, made of this spec and these pins.
#[derive(Clone, Debug, PartialEq)]
pub struct SubmitRequest {
    /// Drawn by the client: sending it twice is one experiment.
    pub experiment: ExperimentId,
    /// What was asked for.
    pub spec: ExperimentSpec,
    /// The text that the user wrote.
    pub source: String,
    /// What the spec's names stand for: all of them.
    pub pins: Pins,
    /// Its runs and segments.
    pub plan: Plan,
    /// What it takes of what is trained; absent: what there is to take.
    pub reused: Option<Reusable>,
}

/// What of an experiment's sharing is changed; the rest stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharingChange {
    /// See [`Sharing::priority`].
    pub priority: Option<i32>,
    /// See [`Sharing::weight`].
    pub weight: Option<u32>,
    /// See [`Sharing::max_concurrent`].
    pub max_concurrent: Option<Option<u32>>,
    /// See [`Sharing::device_memory`].
    pub device_memory: Option<u64>,
}

impl SharingChange {
    /// What comes of it.
    pub fn of(self, before: Sharing) -> Sharing {
        Sharing {
            priority: self.priority.unwrap_or(before.priority),
            weight: self.weight.unwrap_or(before.weight),
            max_concurrent: self.max_concurrent.unwrap_or(before.max_concurrent),
            device_memory: self.device_memory.unwrap_or(before.device_memory),
        }
    }
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is stored, and will be trained.
    New,
    /// It had been submitted before.
    Before,
}

/// What became of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// Nothing more of it will be started.
    Now,
    /// It had been cancelled before.
    Before,
    /// It had ended before.
    Ended,
}

/// A connected worker.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveWorker {
    /// Its identity.
    pub id: WorkerId,
    /// What people call it.
    pub name: String,
    /// Its connection.
    pub session: SessionId,
    /// Version of its agent.
    pub version: String,
    /// Attempts it can execute at once.
    pub slots: u32,
    /// What its results depend on.
    pub environment: Environment,
    /// Since when it is connected.
    pub connected_at: Timestamp,
    /// When anything was last heard from it.
    pub heard_at: Timestamp,
    /// What it is executing.
    pub attempts: Vec<LiveAttempt>,
    /// Until when it is given nothing, because attempts failed on it again and again.
    pub set_aside_until: Option<Timestamp>,
}

/// What a worker is executing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveAttempt {
    /// Which execution.
    pub attempt: Attempt,
    /// How far it is, once it has said so.
    pub progress: Option<Progress>,
}

/// Why the driver did not do it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the coordinator is shutting down: try again when it is back")]
    Closed,
    #[error("experiment {0} is not known; `ceteris ls` lists those that are")]
    UnknownExperiment(ExperimentId),
    #[error("run {0} is not known; `ceteris show EXPERIMENT` lists those that are")]
    UnknownRun(RunId),
    #[error("experiment {0} was submitted before with another spec: submit under a new id")]
    Conflict(ExperimentId),
    #[error("`{field}` is not pinned to a digest: name a {what} that is registered")]
    Unpinned { field: &'static str, what: &'static str },
    #[error("experiment {0} has ended already, so there is nothing to pause")]
    Ended(ExperimentId),
    #[error("experiment {0} has ended already, so it shares nothing any more")]
    NothingToShare(ExperimentId),
    #[error(
        "nothing of experiment {0} failed in a way that trying again could mend; what diverged would diverge again, and what was \
         cancelled is submitted again: all that is trained is taken"
    )]
    NothingFailed(ExperimentId),
    #[error("the plan is refused: {0}")]
    Plan(String),
    #[error("nothing was submitted: {0}")]
    Unread(String),
}

impl Handle {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        changes: broadcast::WeakSender<ExperimentId>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { commands, changes, counters }
    }

    /// Stores an experiment and lets it be trained. Returns after the commit.
    ///
    /// # Errors
    /// [`Error::Unpinned`], [`Error::Conflict`], [`Error::Plan`], [`Error::Closed`].
    pub async fn submit(&self, request: SubmitRequest) -> Result<Submitted, Error> {
        self.ask(|reply| Command::Submit { request: Box::new(request), reply }).await?
    }

    /// Starts nothing more of an experiment, and stops what is running. Returns after the commit.
    ///
    /// # Errors
    /// [`Error::UnknownExperiment`], [`Error::Closed`].
    pub async fn cancel(&self, experiment: ExperimentId) -> Result<Cancelled, Error> {
        self.ask(|reply| Command::Cancel { experiment, reply }).await?
    }

    /// Starts nothing of an experiment until it is resumed, and stops what is running after its epoch. Returns after the
    /// commit.
    ///
    /// # Errors
    /// [`Error::UnknownExperiment`], [`Error::Ended`], [`Error::Closed`].
    pub async fn pause(&self, experiment: ExperimentId) -> Result<(), Error> {
        self.ask(|reply| Command::Pause { experiment, pause: true, reply }).await?
    }

    /// Lets a paused experiment go on; one that is not paused is left alone. Returns after the commit.
    ///
    /// # Errors
    /// [`Error::UnknownExperiment`], [`Error::Closed`].
    pub async fn resume(&self, experiment: ExperimentId) -> Result<(), Error> {
        self.ask(|reply| Command::Pause { experiment, pause: false, reply }).await?
    }

    /// Changes how an experiment shares the fleet. Returns after the commit.
    ///
    /// # Errors
    /// [`Error::UnknownExperiment`], [`Error::NothingToShare`], [`Error::Closed`].
    pub async fn share(&self, experiment: ExperimentId, change: SharingChange) -> Result<(), Error> {
        self.ask(|reply| Command::Share { experiment, change, reply }).await?
    }

    /// Uses a worker that registered once, or some of its slots, no more; with `None` all of it again. Returns after the
    /// commit.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn drain(&self, worker: WorkerId, drain: Option<Drain>) -> Result<(), Error> {
        self.ask(|reply| Command::Drain { worker, drain, reply }).await
    }

    /// What of workers is not to be used, whether or not they are connected.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn drains(&self) -> Result<BTreeMap<WorkerId, Drain>, Error> {
        self.ask(|reply| Command::Drains { reply }).await
    }

    /// Tries again what failed of an experiment. Returns after the commit.
    ///
    /// # Errors
    /// [`Error::UnknownExperiment`], [`Error::NothingFailed`], [`Error::Closed`].
    pub async fn retry(&self, experiment: ExperimentId) -> Result<(), Error> {
        self.ask(|reply| Command::Retry { experiment, reply }).await?
    }

    /// Gives up checkpoints, by their manifests; returns those that are given up now, after the commit. What is still gone
    /// on from is not.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn collect(&self, manifests: Vec<Digest>) -> Result<Vec<Digest>, Error> {
        self.ask(|reply| Command::Collect { manifests, reply }).await
    }

    /// Why each segment of a run is where it is, from its first epoch to its last.
    ///
    /// # Errors
    /// [`Error::UnknownRun`], [`Error::Closed`].
    pub async fn explain(&self, run: RunId) -> Result<Vec<Explanation>, Error> {
        self.ask(|reply| Command::Explain { run, reply }).await?
    }

    /// All connected workers, by name.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn workers(&self) -> Result<Vec<LiveWorker>, Error> {
        self.ask(|reply| Command::Workers { reply }).await
    }

    /// The ids of experiments as something about them changes: a state, an epoch, or live progress. A receiver that
    /// lags has missed some and should look again; one that is closed outlived the driver.
    pub fn subscribe(&self) -> broadcast::Receiver<ExperimentId> {
        match self.changes.upgrade() {
            Some(changes) => changes.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// What was refused since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connects a worker; the answer is the sequence number of the last event of it that is stored. Cancelling `closed`
    /// is how the driver ends the connection.
    pub(crate) async fn connect(
        &self,
        register: Register,
        outbox: mpsc::Sender<Outgoing>,
        closed: CancellationToken,
    ) -> Result<u64, Error> {
        self.ask(|reply| Command::Connect { register: Box::new(register), outbox, closed, reply }).await
    }

    pub(crate) async fn disconnect(&self, worker: WorkerId, session: SessionId) -> Result<(), Error> {
        self.tell(Command::Disconnect { worker, session }).await
    }

    pub(crate) async fn heartbeat(
        &self,
        worker: WorkerId,
        session: SessionId,
        progress: Vec<Progress>,
    ) -> Result<(), Error> {
        self.tell(Command::Heartbeat { worker, session, progress }).await
    }

    /// True when it is stored; false when the connection is no longer the worker's.
    pub(crate) async fn report(
        &self,
        worker: WorkerId,
        session: SessionId,
        sequence: u64,
        attempt: Attempt,
        report: Report,
    ) -> Result<bool, Error> {
        let report = Box::new(report);
        self.ask(|reply| Command::Report { worker, session, sequence, attempt, report, reply }).await
    }

    async fn tell(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::Closed)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await?;
        answer.await.map_err(|_| Error::Closed)
    }
}
