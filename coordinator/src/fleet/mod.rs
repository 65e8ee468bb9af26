//! The workers' door: the `Fleet` service of `ceteris/v1/fleet.proto`.
//!
//! A stream begins with `Register`, which is checked against what this coordinator is; then its messages are taken in
//! order, and each event is acknowledged once it is stored, together with all before it. Messages are converted here and nowhere
//! else; one that means nothing ends the stream with the field's name.

mod observations;
mod session;

use std::{pin::Pin, sync::Arc, sync::atomic::Ordering, time::Duration};

use ceteris_proto::{
    MAX_MESSAGE_BYTES,
    fleet::{self, CoordinatorMessage, Register, WorkerMessage},
    v1::{self, fleet_server},
};
use ceteris_shared::lineage;
use futures::{Stream, StreamExt as _};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    driver::{self, Close, Outgoing},
    store::Store,
};
pub use session::Session;

/// How long a new stream may take to say who it is.
const REGISTER: Duration = Duration::from_secs(10);
/// Messages that may wait for a worker before it is disconnected.
const OUTBOX: usize = 1024;

/// The service. Cloning it is cheap.
#[derive(Clone)]
pub struct Service {
    store: Arc<dyn Store>,
    driver: driver::Handle,
    /// Id of the object store.
    blobs: String,
    lease: Duration,
    heartbeat: Duration,
    stop: CancellationToken,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("blobs", &self.blobs).field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// Why a worker is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error(
        "the worker is version {worker} and the coordinator version {coordinator}, which do not understand each other: \
         run the same version on both"
    )]
    Version { worker: String, coordinator: &'static str },
    #[error(
        "the worker's training engine is version {worker:?}, but lineages are planned for version {coordinator:?}: run \
         the same version of ceteris on both"
    )]
    Engine { worker: String, coordinator: &'static str },
    #[error(
        "the worker uses the object store {worker}, the coordinator {coordinator}: give both the same one with --store"
    )]
    Store { worker: String, coordinator: String },
}

impl Service {
    /// The service for workers that use the object store with the id `blobs`. Cancelling `stop` closes all streams.
    pub fn new(
        store: Arc<dyn Store>,
        driver: driver::Handle,
        blobs: String,
        lease: Duration,
        heartbeat: Duration,
        stop: CancellationToken,
    ) -> Self {
        Self { store, driver, blobs, lease, heartbeat, stop }
    }

    /// The gRPC server, with its limits.
    pub fn into_server(self) -> fleet_server::FleetServer<Self> {
        fleet_server::FleetServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn check(&self, register: &Register) -> Result<(), Refusal> {
        let version = env!("CARGO_PKG_VERSION");
        if series(&register.version) != series(version) {
            return Err(Refusal::Version { worker: register.version.clone(), coordinator: version });
        }
        if register.environment.engine != lineage::ENGINE {
            let worker = register.environment.engine.clone();
            return Err(Refusal::Engine { worker, coordinator: lineage::ENGINE });
        }
        if register.store != self.blobs {
            return Err(Refusal::Store { worker: register.store.clone(), coordinator: self.blobs.clone() });
        }
        Ok(())
    }

    fn count_rejected(&self) {
        self.driver.counters().rejected.fetch_add(1, Ordering::Relaxed);
    }

    fn malformed(&self, error: &fleet::Error) {
        self.driver.counters().malformed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "a worker's message means nothing; its stream is closed");
    }
}

/// Major and minor version: within them, the wire stays compatible.
fn series(version: &str) -> Option<(&str, &str)> {
    let mut parts = version.split('.');
    Some((parts.next()?, parts.next()?))
}

#[tonic::async_trait]
impl fleet_server::Fleet for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let Ok(first) = timeout(REGISTER, inbound.message()).await else {
            return Err(Status::deadline_exceeded("no Register came within 10 s"));
        };
        let first = first?.ok_or_else(|| Status::invalid_argument("the stream ended before Register"))?;
        let (session, outbound) = self.open(first).await?;
        tokio::spawn(session.run(inbound));
        Ok(Response::new(Box::pin(outbound)))
    }
}

impl Service {
    /// Lets a worker in that begins its stream with `first`. What comes after it is for the session to take; what is
    /// said to the worker comes out of the stream beside it.
    ///
    /// # Errors
    /// When the message is no `Register`, when worker and coordinator do not fit together, and when the coordinator is
    /// shutting down.
    pub async fn open(
        &self,
        first: v1::WorkerMessage,
    ) -> Result<(Session, impl Stream<Item = Result<v1::CoordinatorMessage, Status>> + use<>), Status> {
        let register = match WorkerMessage::try_from(first) {
            Ok(WorkerMessage::Register(register)) => register,
            Ok(_) => return Err(status(&self.refuse_order("must be `register` in a stream's first message"))),
            Err(error) => {
                self.malformed(&error);
                return Err(status(&error.into()));
            }
        };
        self.check(&register).map_err(|refusal| {
            tracing::warn!(worker = %register.worker, name = register.name, %refusal, "a worker is not let in");
            Status::failed_precondition(refusal.to_string())
        })?;

        let (worker, id) = (register.worker, register.session);
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let closed = self.stop.child_token();
        let welcome = CoordinatorMessage::Welcome { lease: self.lease, heartbeat: self.heartbeat };
        outbox.try_send(Outgoing::Message(welcome)).expect("the channel is new");
        let last = self.driver.connect(register, outbox.clone(), closed.clone()).await;
        let last = last.map_err(|error| Status::unavailable(error.to_string()))?;
        let session = Session::new(self.clone(), worker, id, last, outbox, closed);
        let outbound = ReceiverStream::new(outgoing).map(|outgoing| match outgoing {
            Outgoing::Message(message) => Ok(message.into()),
            Outgoing::Close(close) => Err(status(&close)),
        });
        Ok((session, outbound))
    }
}

impl Service {
    /// A message that means something, but not here.
    fn refuse_order(&self, problem: &str) -> Close {
        let error = fleet::Error { field: "message", problem: problem.to_owned() };
        self.malformed(&error);
        Close::Malformed(error)
    }
}

fn status(close: &Close) -> Status {
    match close {
        Close::Replaced => Status::aborted(close.to_string()),
        Close::ShuttingDown | Close::StoreFailed => Status::unavailable(close.to_string()),
        Close::Malformed(error) => Status::invalid_argument(error.to_string()),
    }
}
