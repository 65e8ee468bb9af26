//! Connections: one ordered stream each way, which is slow, stands still and breaks.
//!
//! What a worker sent before its side broke may still arrive, or part of it; what the coordinator sees of the break comes
//! later still. So the messages of an old stream and of the one that replaced it overlap.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use ceteris_coordinator::fleet::Service;
use ceteris_proto::v1;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

/// From a worker.
#[derive(Debug)]
// Nearly all are messages.
#[allow(clippy::large_enum_variant)]
pub enum Up {
    /// A message.
    Message(v1::WorkerMessage),
    /// Nothing more.
    End,
}

/// To a worker.
#[derive(Debug)]
// Nearly all are messages.
#[allow(clippy::large_enum_variant)]
pub enum Down {
    /// A message.
    Message(v1::CoordinatorMessage),
    /// The stream is over, and why.
    End(Status),
}

/// What a session says, in order, until the network takes it.
#[derive(Clone, Debug, Default)]
pub struct Said(Arc<Mutex<VecDeque<Down>>>);

impl Said {
    fn say(&self, what: Down) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(what);
    }

    /// Everything since this was asked last.
    pub fn take(&self) -> VecDeque<Down> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// Index of the machine.
    pub machine: usize,
    /// The life of the coordinator at the other end.
    pub life: u64,
    /// On its way to the coordinator.
    pub up: VecDeque<Up>,
    /// When the last of these arrives.
    pub up_until: u64,
    /// On its way to the worker.
    pub down: VecDeque<Down>,
    /// When the last of these arrives.
    pub down_until: u64,
    /// Where what arrives goes; none once the coordinator's side is over.
    pub inbound: Option<mpsc::UnboundedSender<Result<v1::WorkerMessage, Status>>>,
    /// What the session says.
    pub said: Said,
    /// Whether the worker still listens.
    pub heard: bool,
}

/// Converses on one stream as the gRPC server does, to its end.
pub async fn converse(
    service: Service,
    inbound: mpsc::UnboundedReceiver<Result<v1::WorkerMessage, Status>>,
    said: Said,
) {
    let mut inbound = UnboundedReceiverStream::new(inbound);
    let Some(Ok(first)) = inbound.next().await else { return };
    match service.open(first).await {
        Err(status) => said.say(Down::End(status)),
        Ok((session, outbound)) => {
            let mut outbound = std::pin::pin!(outbound);
            let speak = async {
                while let Some(message) = outbound.next().await {
                    match message {
                        Ok(message) => said.say(Down::Message(message)),
                        Err(status) => return said.say(Down::End(status)),
                    }
                }
                said.say(Down::End(Status::unavailable("the stream is over")));
            };
            futures::join!(session.run(inbound), speak);
        }
    }
}
