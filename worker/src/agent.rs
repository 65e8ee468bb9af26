//! An agent's life: check everything, start the trainers, connect, take attempts, and end in good order.

mod dispatcher;
mod ending;
mod time;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use ceteris_blob::Blobs;
use ceteris_shared::checkpoint::Environment;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    attempts::{Attempts, Wish},
    cache::{self, Cache},
    config::Config,
    features::{self, Features},
    launcher::{self, Launcher, Trainer, TrainerLog},
    memory,
    session::{self, Addresses, Identity, Outbox, Session},
    slot::{Shared, Slot, Trainers},
    spool,
    state::{self, State},
};
use dispatcher::{Dispatcher, Queue};
pub use ending::Asked;
use ending::Ending;
pub(crate) use time::Time;

/// Attempts that may wait for one slot: a new one can arrive while the last one's end is on its way.
const QUEUE: usize = 4;

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
    Cache(#[from] cache::Error),
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

/// Runs an agent until it is `asked` to end, or has had nothing to do, or no time, for as long as its settings say. What
/// runs is then stopped as they say and handed back; what was not acknowledged by then is kept for the next start.
///
/// # Errors
/// When something it needs is not there or no longer works; the message says what to do.
pub async fn run(config: Config, asked: Asked) -> Result<(), Error> {
    let hand_back = config.limits.hand_back();
    let time = config.time_limit.map(|limit| Instant::now() + limit.saturating_sub(hand_back));
    let time = Arc::new(Time::until(time));
    let (state, spool) = State::open(&config.state, config.limits.spool_bytes)?;
    let blobs = Blobs::open(&config.store).await?;
    tracing::info!(worker = %state.worker(), state = %config.state.display(), store = blobs.place(), "starting trainers");
    let mut early = asked.clone();
    let trainers = tokio::select! {
        trainers = start_trainers(&config, &state) => trainers?,
        Ok(_) = early.wait_for(|times| *times > 0) => return Ok(()),
        () = time.is_up() => return Ok(()),
    };
    let environment = common_environment(&trainers)?;
    let devices: Vec<_> = trainers.iter().map(|(_, trainer)| trainer.memory_bytes()).collect();
    let attempts = Arc::new(Attempts::default());
    let outbox = Outbox::new(spool);
    let identity = Identity {
        worker: state.worker(),
        name: config.name,
        slots: u32::try_from(trainers.len()).unwrap_or(u32::MAX),
        environment: environment.clone(),
        store: blobs.store_id(),
        slot_memory_bytes: memory::of_each_slot(&devices, memory::of_machine()),
    };
    let patience = config.limits.store_patience;
    let features = Features::open(state.features(), config.features_bytes, blobs.clone(), patience).await?;
    let shared = Arc::new(Shared {
        attempts: Arc::clone(&attempts),
        outbox: outbox.clone(),
        cache: Cache::open(state.cache(), config.cache_bytes, blobs, patience).await?,
        features,
        time: Arc::clone(&time),
        limits: config.limits.clone(),
        folder: state.attempts(),
        environment,
    });
    let telling = TaskTracker::new();
    let (slots, queues) = start_slots(&shared, trainers);
    let session = Session {
        coordinator: Addresses::new(&config.coordinator),
        token: config.token,
        identity,
        attempts: Arc::clone(&attempts),
        outbox: outbox.clone(),
        starts: Dispatcher {
            queues,
            attempts: Arc::clone(&attempts),
            outbox: outbox.clone(),
            time: Arc::clone(&time),
            telling: telling.clone(),
        },
        reconnect: config.limits.reconnect,
        lease: AtomicU64::new(u64::MAX),
    };
    let ending = Ending {
        asked,
        attempts,
        outbox,
        time,
        telling,
        idle_timeout: config.idle_timeout,
        on_terminate: config.on_terminate,
        grace: config.terminate_grace,
        hand_back,
        last_words: config.limits.last_words,
    };
    serve(session, slots, ending).await
}

/// From ready to gone.
async fn serve(
    session: Session<Dispatcher>,
    mut slots: JoinSet<Result<(), spool::Error>>,
    ending: Ending,
) -> Result<(), Error> {
    let (attempts, hand_back) = (Arc::clone(&ending.attempts), ending.hand_back);
    tokio::select! {
        error = session.run() => {
            if matches!(error, session::Error::Refused { .. }) {
                keep_what_runs(&attempts, hand_back).await;
            }
            Err(error.into())
        }
        ended = slots.join_next() => Err(slot_ended(ended)),
        () = ending.run() => Ok(()),
    }
}

/// Where a coordinator refuses an agent that it knows, as after an upgrade or with another token, what runs is checkpointed and
/// kept in the spool: once the agent is welcome again it counts.
async fn keep_what_runs(attempts: &Attempts, hand_back: Duration) {
    attempts.close();
    if attempts.running().is_empty() {
        return;
    }
    tracing::error!("the coordinator refuses this worker: attempts checkpoint before it ends");
    attempts.wish_of_all(&Wish::StopNow);
    if tokio::time::timeout(hand_back, attempts.none()).await.is_err() {
        tracing::error!("attempts do not end; what they have not committed is trained again");
    }
}

fn start_slots(
    shared: &Arc<Shared>,
    trainers: Vec<(Arc<Launcher>, Trainer)>,
) -> (JoinSet<Result<(), spool::Error>>, Vec<Queue>) {
    let (mut slots, mut queues) = (JoinSet::new(), Vec::with_capacity(trainers.len()));
    for (launcher, trainer) in trainers {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let load = Arc::new(AtomicUsize::new(0));
        queues.push(Queue { sender, load: Arc::clone(&load) });
        let trainers = Trainers::new(launcher, trainer, shared.environment.clone(), &shared.limits);
        slots.spawn(Slot { shared: Arc::clone(shared), trainers, load }.run(receiver));
    }
    (slots, queues)
}

fn slot_ended(ended: Option<Result<Result<(), spool::Error>, tokio::task::JoinError>>) -> Error {
    match ended {
        Some(Ok(Err(error))) => error.into(),
        Some(Ok(Ok(()))) | None => Error::Broken("a slot ended".to_owned()),
        Some(Err(error)) => Error::Broken(error.to_string()),
    }
}

/// Starts all trainers at once: what does not load here would fail every attempt.
async fn start_trainers(config: &Config, state: &State) -> Result<Vec<(Arc<Launcher>, Trainer)>, Error> {
    let starts = config.slots.iter().enumerate().map(|(index, slot)| {
        let log = TrainerLog::new(state.logs().join(format!("slot-{index}.log")));
        let launcher = Launcher::new(config.trainer.clone(), slot.clone(), config.limits.trainer_start, log);
        async move {
            let trainer = launcher.start().await?;
            tracing::info!(slot = index, environment = ?trainer.environment(), "a trainer is ready");
            Ok((Arc::new(launcher), trainer))
        }
    });
    futures::future::try_join_all(starts).await
}

/// The one environment that all slots have: the coordinator is told one.
fn common_environment(trainers: &[(Arc<Launcher>, Trainer)]) -> Result<Environment, Error> {
    let mut environments = trainers.iter().map(|(_, trainer)| trainer.environment());
    let Some(first) = environments.next() else { return Err(Error::Broken("there is no slot".to_owned())) };
    match environments.find(|other| *other != first) {
        None => Ok(first.clone()),
        Some(other) => Err(Error::MixedEnvironments { first: format!("{first:?}"), other: format!("{other:?}") }),
    }
}
