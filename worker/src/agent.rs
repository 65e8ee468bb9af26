//! An agent's life: check everything, start the trainers, connect, take attempts, and end in good order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ceteris_blob::Blobs;
use ceteris_proto::fleet::{EventKind, StartAttempt};
use ceteris_shared::{checkpoint::Environment, ids::Attempt, trainer::FailureCause};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    attempts::{Attempts, Wish},
    cache::Cache,
    config::Config,
    features::{self, Features},
    launcher::{self, Launcher, Trainer, TrainerLog},
    session::{self, Addresses, Identity, Outbox, Session, Starts},
    slot::{Shared, Slot, Taken},
    spool,
    state::{self, State},
};

/// Attempts that may wait for one slot: a new one can arrive while the last one's end is on its way.
const QUEUE: usize = 4;
/// How long the last events may take to be acknowledged when the agent ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why an agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Store(#[from] ceteris_blob::Error),
    #[error("the folder of features in the state folder cannot be used: {0}")]
    Features(String),
    #[error(transparent)]
    Trainer(#[from] launcher::Error),
    #[error(
        "this worker's devices give different bits ({first} and {other}): run one agent for each, with its own --state"
    )]
    MixedEnvironments { first: String, other: String },
    #[error(transparent)]
    Session(#[from] session::Error),
    #[error("events can no longer be kept: {0}")]
    Spool(#[from] spool::Error),
    #[error("a part of the agent broke: {0}")]
    Broken(String),
}

impl From<features::Error> for Error {
    fn from(error: features::Error) -> Self {
        Self::Features(error.to_string())
    }
}

/// Runs an agent until `shutdown`. Attempts are then stopped at once and reported as stopped; what was not acknowledged
/// by then is kept for the next start.
///
/// # Errors
/// When something it needs is not there or no longer works; the message says what to do.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let (state, spool) = State::open(&config.state, config.limits.spool_bytes)?;
    let blobs = Blobs::open(&config.store).await?;
    tracing::info!(worker = %state.worker(), state = %config.state.display(), store = blobs.place(), "starting trainers");
    let trainers = tokio::select! {
        trainers = start_trainers(&config, &state) => trainers?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let environment = common_environment(&trainers)?;
    let attempts = Arc::new(Attempts::default());
    let outbox = Outbox::new(spool);
    let store = blobs.store_id();
    let patience = config.limits.store_patience;
    let features = Features::open(state.features(), config.features_bytes, blobs.clone(), patience).await?;
    let shared = Arc::new(Shared {
        attempts: Arc::clone(&attempts),
        outbox: outbox.clone(),
        cache: Cache::new(state.cache(), blobs, patience),
        features,
        limits: config.limits.clone(),
        folder: state.attempts(),
        environment: environment.clone(),
    });

    let mut slots = JoinSet::new();
    let mut queues = Vec::with_capacity(trainers.len());
    for (launcher, trainer) in trainers {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let load = Arc::new(AtomicUsize::new(0));
        queues.push(Queue { sender, load: Arc::clone(&load) });
        let slot =
            Slot { shared: Arc::clone(&shared), launcher, trainer: Some(trainer), crashes: 0, last_crash: None, load };
        slots.spawn(slot.run(receiver));
    }
    let identity = Identity {
        worker: state.worker(),
        name: config.name,
        slots: u32::try_from(queues.len()).unwrap_or(u32::MAX),
        environment,
        store,
    };
    let dispatcher = Dispatcher {
        queues,
        attempts: Arc::clone(&attempts),
        outbox: outbox.clone(),
        closed: Arc::new(AtomicBool::new(false)),
    };
    let session = Session {
        coordinator: Addresses::new(&config.coordinator),
        token: config.token,
        identity,
        attempts,
        outbox,
        starts: dispatcher,
        reconnect: config.limits.reconnect,
    };
    serve(session, slots, shutdown).await
}

/// From ready to gone.
async fn serve(
    session: Session<Dispatcher>,
    mut slots: JoinSet<Result<(), spool::Error>>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (attempts, outbox) = (Arc::clone(&session.attempts), session.outbox.clone());
    let closed = Arc::clone(&session.starts.closed);
    let connected = session.run();
    tokio::pin!(connected);
    tokio::select! {
        error = &mut connected => return Err(error.into()),
        ended = slots.join_next() => return Err(slot_ended(ended)),
        () = shutdown.cancelled() => {}
    }
    tracing::info!("stopping");
    closed.store(true, Ordering::SeqCst);
    attempts.wish_of_all(&Wish::StopNow);
    let ended = async {
        while !attempts.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = tokio::time::timeout(LAST_WORDS, outbox.drained()).await;
    };
    tokio::select! {
        error = &mut connected => Err(error.into()),
        ended = slots.join_next() => Err(slot_ended(ended)),
        () = ended => Ok(()),
    }
}

fn slot_ended(ended: Option<Result<Result<(), spool::Error>, tokio::task::JoinError>>) -> Error {
    match ended {
        Some(Ok(Err(error))) => error.into(),
        Some(Ok(Ok(()))) | None => Error::Broken("a slot ended".to_owned()),
        Some(Err(error)) => Error::Broken(error.to_string()),
    }
}

/// Starts all trainers at once: what does not load here would fail every attempt.
async fn start_trainers(config: &Config, state: &State) -> Result<Vec<(Launcher, Trainer)>, Error> {
    let starts = config.slots.iter().enumerate().map(|(index, slot)| {
        let log = TrainerLog::new(state.logs().join(format!("slot-{index}.log")));
        let launcher = Launcher::new(config.trainer.clone(), slot.clone(), config.limits.trainer_start, log);
        async move {
            let trainer = launcher.start().await?;
            tracing::info!(slot = index, environment = ?trainer.environment(), "a trainer is ready");
            Ok((launcher, trainer))
        }
    });
    futures::future::try_join_all(starts).await
}

/// The one environment that all slots have: the coordinator is told one.
fn common_environment(trainers: &[(Launcher, Trainer)]) -> Result<Environment, Error> {
    let mut environments = trainers.iter().map(|(_, trainer)| trainer.environment());
    let Some(first) = environments.next() else { return Err(Error::Broken("there is no slot".to_owned())) };
    match environments.find(|other| *other != first) {
        None => Ok(first.clone()),
        Some(other) => Err(Error::MixedEnvironments { first: format!("{first:?}"), other: format!("{other:?}") }),
    }
}

/// Gives attempts to slots.
#[derive(Debug)]
struct Dispatcher {
    queues: Vec<Queue>,
    attempts: Arc<Attempts>,
    outbox: Outbox,
    /// Set when the agent ends: nothing more is taken.
    closed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Queue {
    sender: mpsc::Sender<Taken>,
    load: Arc<AtomicUsize>,
}

impl Starts for Dispatcher {
    fn start(&self, start: StartAttempt) {
        let attempt = start.attempt;
        if self.closed.load(Ordering::SeqCst) {
            return self.tell(attempt, EventKind::Stopped);
        }
        let Some(wish) = self.attempts.take(attempt) else {
            return tracing::debug!(%attempt, "it is here already");
        };
        let queue = self.queues.iter().min_by_key(|queue| queue.load.load(Ordering::Relaxed));
        let taken = queue.is_some_and(|queue| {
            let sent = queue.sender.try_send(Taken { start, wish }).is_ok();
            if sent {
                queue.load.fetch_add(1, Ordering::Relaxed);
            }
            sent
        });
        if !taken {
            self.attempts.end(attempt);
            let message = format!("all {} slots of this worker are taken", self.queues.len());
            self.tell(attempt, EventKind::Failed { cause: FailureCause::Infrastructure, message });
        }
    }
}

impl Dispatcher {
    /// Tells the end of an attempt that no slot has.
    fn tell(&self, attempt: Attempt, kind: EventKind) {
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            if let Err(error) = outbox.append(attempt, kind).await {
                tracing::error!(%attempt, %error, "an attempt's end is not kept");
            }
        });
    }
}
