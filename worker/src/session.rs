//! The connection to the coordinator: one bidirectional stream, opened again whenever it breaks. Attempts do not notice.
//!
//! Each stream begins with `Register`; after `Welcome` come all events that are not acknowledged, in order, and then
//! heartbeats and new events as they happen. What is said and what is heard is decided in [`protocol`].

mod addresses;
mod outbox;
pub mod protocol;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ceteris_proto::{
    MAX_MESSAGE_BYTES,
    fleet::{Register, StartAttempt, WorkerMessage},
    v1::{self, fleet_client::FleetClient},
};
use ceteris_shared::{
    checkpoint::Environment,
    ids::{SessionId, WorkerId},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};
use uuid::Uuid;

pub(crate) use addresses::Addresses;
pub use outbox::Outbox;

use protocol::{Heard, Listener, Next, Speaker};

use crate::{attempts::Attempts, backoff, config::Token, spool};

/// How long a coordinator may take to answer `Register`.
const WELCOME: Duration = Duration::from_secs(15);

/// Who this agent is to the coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub worker: WorkerId,
    pub name: String,
    pub slots: u32,
    pub environment: Environment,
    pub store: String,
    pub slot_memory_bytes: Option<u64>,
}

/// Takes what the coordinator starts.
pub(crate) trait Starts: Send + Sync {
    /// Must not wait.
    fn start(&self, start: StartAttempt);
    /// Begins nothing on these slots from now on, and hands back what runs there after its epoch. Must not wait.
    fn drain(&self, slots: &[u32]);
}

pub(crate) struct Session<S> {
    pub coordinator: Addresses,
    pub token: Option<Token>,
    pub identity: Identity,
    pub attempts: Arc<Attempts>,
    pub outbox: Outbox,
    pub starts: S,
    /// Longest wait between two tries.
    pub reconnect: Duration,
    /// How long the coordinator believes attempts alive, in milliseconds, once it has said so.
    pub lease: AtomicU64,
}

impl<S> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("coordinator", &self.coordinator).finish_non_exhaustive()
    }
}

/// Why there can be no session.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(
        "the coordinator at {coordinator} refuses this worker: {message}; set right what it names and start the agent again"
    )]
    Refused { coordinator: String, message: String },
    #[error(
        "the coordinator has events of worker {worker} up to number {sequence}, and this state folder knows of {last}: it is a copy \
         of another agent's, or an older state of its own, and what is reported from here would be taken for what is known \
         already. Give each agent a folder of its own, or an empty one, with --state"
    )]
    Behind { worker: WorkerId, sequence: u64, last: u64 },
    #[error("{0:?} is not a coordinator's URL: {1}; write http://HOST:7417")]
    Url(String, String),
    #[error(transparent)]
    Spool(#[from] spool::Error),
}

/// How one stream ended.
enum Ended {
    /// It is worth another try. True if the coordinator had welcomed this worker.
    Broken {
        why: String,
        welcomed: bool,
    },
    Fatal(Error),
}

impl From<spool::Error> for Ended {
    fn from(error: spool::Error) -> Self {
        Self::Fatal(error.into())
    }
}

fn broken(why: impl fmt::Display) -> Ended {
    Ended::Broken { why: why.to_string(), welcomed: false }
}

impl<S: Starts> Session<S> {
    /// Connects, and connects again, until the coordinator refuses for good or the spool fails. Dropping the future
    /// closes the connection.
    pub(crate) async fn run(&self) -> Error {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let (why, welcomed) = match self.connect().await {
                Ended::Fatal(error) => return error,
                Ended::Broken { why, welcomed } => (why, welcomed),
            };
            let coordinator = self.coordinator.current();
            if welcomed {
                failures = 0;
            }
            if !self.coordinator.advance() {
                tracing::warn!(coordinator, lasted = ?began.elapsed(), "not connected: {why}; trying the next address");
                continue;
            }
            failures += 1;
            // A coordinator that comes back gives each attempt one lease to be heard of in.
            let lease = Duration::from_millis(self.lease.load(Ordering::Relaxed));
            let longest = self.coordinator.longest_wait(self.reconnect).min(lease / 3);
            let wait = backoff::delay(failures, Duration::from_millis(200), longest, backoff::entropy());
            tracing::warn!(
                coordinator, lasted = ?began.elapsed(), retry_in = ?wait,
                "not connected: {why}; attempts go on"
            );
            tokio::time::sleep(wait).await;
        }
    }

    fn endpoint(&self) -> Result<Endpoint, Error> {
        let url = self.coordinator.current();
        let endpoint = Endpoint::from_shared(url.to_owned());
        let endpoint = endpoint.map_err(|error| Error::Url(url.to_owned(), error.to_string()))?;
        Ok(endpoint
            .connect_timeout(Duration::from_secs(5).min(self.coordinator.keep_alive()))
            .http2_keep_alive_interval(self.coordinator.keep_alive())
            .keep_alive_timeout(self.coordinator.keep_alive())
            .keep_alive_while_idle(true)
            .tcp_nodelay(true))
    }

    /// One stream, to its end.
    async fn connect(&self) -> Ended {
        let endpoint = match self.endpoint() {
            Ok(endpoint) => endpoint,
            Err(error) => return Ended::Fatal(error),
        };
        let (sender, receiver) = mpsc::channel(16);
        let opened = tokio::time::timeout(WELCOME, self.open(&endpoint, &sender, receiver)).await;
        let (mut messages, mut listener, heartbeat) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(ended)) => return ended,
            Err(_) => return broken(format!("no answer within {} s", WELCOME.as_secs())),
        };
        tracing::info!(coordinator = self.coordinator.current(), ?heartbeat, "connected");
        self.attempts.welcomed();
        let ended = tokio::select! {
            ended = self.receive(&mut messages, &mut listener) => ended,
            ended = self.send(&sender, heartbeat) => ended,
        };
        match ended {
            Ended::Broken { why, .. } => Ended::Broken { why, welcomed: true },
            fatal => fatal,
        }
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        sender: &mpsc::Sender<v1::WorkerMessage>,
        receiver: mpsc::Receiver<v1::WorkerMessage>,
    ) -> Result<(Streaming<v1::CoordinatorMessage>, Listener, Duration), Ended> {
        let channel = endpoint.connect().await.map_err(|error| broken(chain(&error)))?;
        if !self.coordinator.answers(channel.clone()).await {
            return Err(broken("no sign of life"));
        }
        let mut client = FleetClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let register = Register {
            worker: self.identity.worker,
            name: self.identity.name.clone(),
            session: SessionId(Uuid::new_v4()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots: self.identity.slots,
            environment: self.identity.environment.clone(),
            store: self.identity.store.clone(),
            running: self.attempts.running(),
            slot_memory_bytes: self.identity.slot_memory_bytes,
        };
        sender.send(WorkerMessage::Register(register).into()).await.map_err(broken)?;
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = &self.token {
            let value: MetadataValue<Ascii> = format!("Bearer {}", token.reveal()).parse().map_err(broken)?;
            request.metadata_mut().insert("authorization", value);
        }
        let answer = client.session(request).await.map_err(|status| self.judge(&status))?;
        let mut messages = answer.into_inner();
        let mut listener = Listener::default();
        match self.next(&mut messages, &mut listener).await? {
            Heard::Welcome { heartbeat, lease } => {
                self.lease.store(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
                Ok((messages, listener, heartbeat))
            }
            other => Err(broken(format!("the coordinator began with {other:?}"))),
        }
    }

    async fn next(
        &self,
        messages: &mut Streaming<v1::CoordinatorMessage>,
        listener: &mut Listener,
    ) -> Result<Heard, Ended> {
        let message = match messages.message().await {
            Ok(Some(message)) => message.try_into().map_err(broken)?,
            Ok(None) => return Err(broken("the coordinator closed the stream")),
            Err(status) => return Err(self.judge(&status)),
        };
        match listener.hear(message) {
            Heard::Nonsense(why) => Err(broken(why)),
            heard => Ok(heard),
        }
    }

    /// Tells what may pass from what will not.
    fn judge(&self, status: &Status) -> Ended {
        match status.code() {
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::Unimplemented => Ended::Fatal(Error::Refused {
                coordinator: self.coordinator.to_string(),
                message: status.message().chars().take(2000).collect(),
            }),
            code => broken(format!("{code:?}: {:.500}", status.message())),
        }
    }

    async fn receive(&self, messages: &mut Streaming<v1::CoordinatorMessage>, listener: &mut Listener) -> Ended {
        loop {
            let heard = match self.next(messages, listener).await {
                Ok(heard) => heard,
                Err(ended) => return ended,
            };
            match heard {
                Heard::Start(start) => {
                    tracing::info!(attempt = %start.attempt, epochs = start.work.epochs.len(), "start");
                    self.starts.start(*start);
                }
                Heard::Wish { attempt, wish, reason } => {
                    let known = self.attempts.wish(attempt, wish.clone());
                    tracing::info!(%attempt, ?wish, reason, known, "wished");
                }
                Heard::Drain(slots) => {
                    tracing::info!(?slots, "drained");
                    self.starts.drain(&slots);
                }
                Heard::Acknowledged(sequence) => {
                    let (_, next) = *self.outbox.watch().borrow();
                    if sequence >= next {
                        return Ended::Fatal(Error::Behind { worker: self.identity.worker, sequence, last: next - 1 });
                    }
                    if let Err(error) = self.outbox.acknowledge(sequence).await {
                        return error.into();
                    }
                }
                Heard::Welcome { .. } | Heard::Nonsense(_) => {
                    return broken("the coordinator said what makes no sense here");
                }
            }
        }
    }

    async fn send(&self, sender: &mpsc::Sender<v1::WorkerMessage>, heartbeat: Duration) -> Ended {
        let began = Instant::now();
        let mut range = self.outbox.watch();
        let mut speaker = Speaker::new(heartbeat, *range.borrow_and_update());
        loop {
            let kept = *range.borrow_and_update();
            let message = match speaker.next(began.elapsed(), kept) {
                Next::Heartbeat => Some(WorkerMessage::Heartbeat(self.attempts.progress()).into()),
                Next::Event(number) => match self.outbox.read(number).await {
                    Ok(event) => event,
                    Err(error) => return error.into(),
                },
                Next::Wait(until) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(began + until) => {}
                        // The sender lives as long as this does.
                        _ = range.changed() => {}
                    }
                    None
                }
            };
            if let Some(message) = message
                && sender.send(message).await.is_err()
            {
                // The receiving half knows why.
                return std::future::pending().await;
            }
        }
    }
}

/// An error with its causes, since tonic tells no more than "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
