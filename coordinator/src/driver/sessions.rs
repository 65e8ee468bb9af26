//! The driver's side of its workers' connections.

use std::collections::BTreeMap;

use ceteris_proto::fleet::{self, CoordinatorMessage, Progress, Register};
use ceteris_scheduler::{Event, Message, Rejection, Start, StartAttempt, Timestamp, WorkerConnected};
use ceteris_shared::{
    ids::{Attempt, SessionId, WorkerId},
    planted,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Driver;
use crate::store::{self, Change, WorkerRecord};

/// What goes down a worker's stream.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A message.
    Message(CoordinatorMessage),
    /// Nothing more will.
    Close(Close),
}

/// Why a worker's stream is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Close {
    #[error("a newer connection of this worker replaced this one")]
    Replaced,
    #[error("the coordinator is shutting down; it goes on where it was when it is back")]
    ShuttingDown,
    #[error(transparent)]
    Malformed(#[from] fleet::Error),
    #[error("the coordinator cannot store what it is sent; its log says why")]
    StoreFailed,
}

/// A connected worker.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) register: Register,
    outbox: mpsc::Sender<Outgoing>,
    closed: CancellationToken,
    pub(super) connected_at: Timestamp,
    pub(super) heard_at: Timestamp,
    pub(super) progress: BTreeMap<Attempt, Progress>,
}

impl Session {
    fn record(&self, last_seen: Timestamp) -> WorkerRecord {
        let Register { worker: id, name, version, slots, environment, .. } = self.register.clone();
        WorkerRecord { id, name, version, slots, environment, first_seen: self.connected_at, last_seen }
    }
}

impl Driver {
    /// Replies with the sequence number of the last event that is stored, once the worker is connected. What is to be
    /// said to it comes after the caller's own first words, which are in the outbox already.
    pub(super) async fn connect(
        &mut self,
        register: Register,
        outbox: mpsc::Sender<Outgoing>,
        closed: CancellationToken,
        reply: oneshot::Sender<u64>,
    ) -> Result<(), store::Error> {
        let now = self.clock.now();
        let (worker, id) = (register.worker, register.session);
        let event = Event::WorkerConnected(WorkerConnected {
            worker,
            session: id,
            slots: register.slots,
            slot_memory: register.slot_memory_bytes.unwrap_or(0),
            environment: register.environment.clone(),
            running: register.running.clone(),
        });
        let session = Session { register, outbox, closed, connected_at: now, heard_at: now, progress: BTreeMap::new() };
        let record = session.record(now);
        tracing::info!(%worker, session = %id, name = record.name, slots = record.slots, "worker connected");
        if let Some(older) = self.sessions.insert(worker, session) {
            let _ = older.outbox.try_send(Outgoing::Close(Close::Replaced));
            older.closed.cancel();
        }
        let decided = self.decide(event);
        self.hold(vec![Change::Worker(record)], decided);
        // So that the number asked for below is that of everything that was decided.
        self.flush().await?;
        let last = self.store.last_sequence(worker).await?;
        if reply.send(last).is_err() {
            self.disconnect(worker, id);
        }
        Ok(())
    }

    pub(super) fn disconnect(&mut self, worker: WorkerId, session: SessionId) {
        let mut before = Vec::new();
        let current = |known: &Session| known.register.session == session || planted!(OldDisconnectDropsNew);
        if self.sessions.get(&worker).is_some_and(current) {
            before.extend(self.sessions.remove(&worker).map(|known| Change::Worker(known.record(self.clock.now()))));
            tracing::info!(%worker, %session, "worker disconnected");
        }
        let decided = self.decide(Event::WorkerDisconnected { worker, session });
        self.hold(before, decided);
    }

    pub(super) fn heartbeat(&mut self, worker: WorkerId, session: SessionId, progress: Vec<Progress>) {
        let running: Vec<Attempt> = progress.iter().map(|progress| progress.attempt).collect();
        let mut decided = self.decide(Event::Heartbeat { worker, session, running });
        if let Some(known) = self.sessions.get_mut(&worker)
            && known.register.session == session
        {
            known.heard_at = self.clock.now();
            known.progress = progress.into_iter().map(|progress| (progress.attempt, progress)).collect();
            let segments = known.progress.keys().map(|attempt| attempt.segment);
            decided.touched.extend(segments.filter_map(|segment| self.scheduler.experiment_of(segment)));
        }
        self.hold(Vec::new(), decided);
    }

    /// False when the connection is not the worker's current one: then nothing is stored, and the worker will say it
    /// again on the one that is.
    pub(super) fn report(&mut self, worker: WorkerId, sequence: u64, event: Event) -> bool {
        let decided = self.decide(event);
        let stale = decided.rejections.iter().any(|rejection| matches!(rejection, Rejection::StaleSession { .. }));
        let recorded = !stale || planted!(StaleReportRecorded);
        let before = if recorded { vec![Change::Sequence { worker, sequence }] } else { Vec::new() };
        self.hold(before, decided);
        !stale
    }

    /// A worker that does not take its messages is disconnected; it will come back and be told what is current.
    pub(super) fn deliver(&self, worker: WorkerId, session: SessionId, outgoing: Outgoing) {
        let Some(known) = self.sessions.get(&worker).filter(|known| known.register.session == session) else { return };
        if known.outbox.try_send(outgoing).is_err() {
            tracing::warn!(%worker, %session, "disconnected: it does not take its messages");
            known.closed.cancel();
        }
    }
}

/// A decision in the words of the wire.
pub(super) fn wire(message: Message) -> CoordinatorMessage {
    match message {
        Message::Start(start) => {
            let StartAttempt { attempt, work, dataset, external, start } = *start;
            let start = match start {
                Start::Random => fleet::Start::Random,
                Start::Weights(digest) => fleet::Start::Weights(digest),
                Start::Checkpoint(digest) => fleet::Start::Checkpoint(digest),
            };
            CoordinatorMessage::Start(Box::new(fleet::StartAttempt { attempt, work, dataset, external, start }))
        }
        Message::Stop(attempt) => CoordinatorMessage::Stop { attempt, now: true },
        Message::Drain { slots } => CoordinatorMessage::Drain { slots },
        Message::Revoke { attempt, reason } => CoordinatorMessage::Revoke { attempt, reason: reason.to_string() },
    }
}
