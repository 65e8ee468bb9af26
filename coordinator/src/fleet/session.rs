//! One worker's stream after `Register`.

use std::{fmt, ops::ControlFlow};

use ceteris_proto::{
    fleet::{CoordinatorMessage, EpochCommitted, Event, EventKind, StepCommitted, WorkerMessage},
    v1,
};
use ceteris_scheduler::{CommittedEpoch, CommittedStep, Report};
use ceteris_shared::{
    ids::{Attempt, SessionId, WorkerId},
    planted,
};
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Service,
    observations::{Observations, Stored},
};
use crate::{
    driver::{Close, Outgoing},
    store::{self, Observation, Observed},
};

/// Takes a worker's messages, one after the other.
pub struct Session {
    service: Service,
    worker: WorkerId,
    id: SessionId,
    /// Sequence number of the last event that is stored.
    last: u64,
    /// Sequence number of the last event that is stored or on its way.
    taken: u64,
    observations: Observations,
    outbox: mpsc::Sender<Outgoing>,
    closed: CancellationToken,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, id, last, .. } = self;
        f.debug_struct("Session").field("worker", worker).field("id", id).field("last", last).finish_non_exhaustive()
    }
}

/// How a stream ends: with a reason that the worker is told, or because the worker is gone.
type End = Option<Close>;

impl Session {
    pub(super) fn new(
        service: Service,
        worker: WorkerId,
        id: SessionId,
        last: u64,
        outbox: mpsc::Sender<Outgoing>,
        closed: CancellationToken,
    ) -> Self {
        let last = if planted!(SessionForgetsLast) { 0 } else { last };
        let observations = Observations::new(service.store.clone(), worker);
        Self { service, worker, id, last, taken: last, observations, outbox, closed }
    }

    /// Takes what comes until the stream breaks, or the coordinator ends it.
    #[tracing::instrument(skip_all, fields(worker = %self.worker, session = %self.id))]
    pub async fn run(mut self, mut inbound: impl Stream<Item = Result<v1::WorkerMessage, Status>> + Unpin) {
        let closed = self.closed.clone();
        let end = tokio::select! {
            biased;
            () = closed.cancelled() => self.service.stop.is_cancelled().then_some(Close::ShuttingDown),
            end = self.take_all(&mut inbound) => end,
        };
        if let Some(close) = end {
            // A full outbox is that of a worker that reads nothing.
            let _ = self.outbox.try_send(Outgoing::Close(close));
        }
        // Fails only when the driver is gone, and with it all sessions.
        let _ = self.service.driver.disconnect(self.worker, self.id).await;
    }

    async fn take_all(&mut self, inbound: &mut (impl Stream<Item = Result<v1::WorkerMessage, Status>> + Unpin)) -> End {
        if let ControlFlow::Break(end) = self.say(CoordinatorMessage::Ack(self.last)).await {
            return end;
        }
        loop {
            let message = tokio::select! {
                biased;
                Some(stored) = self.observations.stored() => match self.observed(stored).await {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(end) => return end,
                },
                message = inbound.next(), if self.observations.has_room() => message,
            };
            let message = match message {
                Some(Ok(message)) => message,
                None => return None,
                Some(Err(status)) => {
                    tracing::debug!(%status, "the stream broke");
                    return None;
                }
            };
            if let ControlFlow::Break(end) = self.take(message).await {
                return end;
            }
        }
    }

    async fn take(&mut self, message: v1::WorkerMessage) -> ControlFlow<End> {
        match WorkerMessage::try_from(message) {
            Ok(WorkerMessage::Register(_)) => {
                ControlFlow::Break(Some(self.service.refuse_order("is `register`, which comes once")))
            }
            Ok(WorkerMessage::Heartbeat(progress)) => {
                match self.service.driver.heartbeat(self.worker, self.id, progress).await {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(Some(Close::ShuttingDown)),
                }
            }
            Ok(WorkerMessage::Event(event)) => self.event(event).await,
            Err(error) => {
                self.service.malformed(&error);
                ControlFlow::Break(Some(error.into()))
            }
        }
    }

    /// What was stored before is only acknowledged again.
    async fn event(&mut self, event: Event) -> ControlFlow<End> {
        let Event { sequence, attempt, kind } = event;
        if sequence <= self.taken {
            self.settle().await?;
            return self.say(CoordinatorMessage::Ack(self.last)).await;
        }
        if sequence != self.taken + 1 {
            tracing::warn!(sequence, last = self.taken, "events are missing before this one");
        }
        self.taken = sequence;
        if planted!(AckBeforeStore) {
            self.say(CoordinatorMessage::Ack(sequence)).await?;
        }
        let report = match kind {
            EventKind::Metrics(points) => return self.observe(sequence, attempt, Observation::Metrics(points)),
            EventKind::Log(lines) => return self.observe(sequence, attempt, Observation::Log(lines)),
            EventKind::Started => Report::Started,
            EventKind::Finished => Report::Finished,
            EventKind::Stopped => Report::Stopped,
            EventKind::HandedBack => Report::HandedBack,
            EventKind::Failed { cause, message } => Report::Failed { cause, message },
            EventKind::Damaged { checkpoint, message } => Report::Damaged { checkpoint, message },
            EventKind::StepCommitted(StepCommitted { epoch, step, key, manifest }) => {
                Report::StepCommitted(CommittedStep { epoch, step, key, manifest })
            }
            EventKind::EpochCommitted(epoch) => Report::EpochCommitted(committed(epoch)),
        };
        self.settle().await?;
        self.report(sequence, attempt, report).await?;
        self.last = sequence;
        self.say(CoordinatorMessage::Ack(self.last + u64::from(planted!(AckOneTooMany)))).await
    }

    fn observe(&mut self, sequence: u64, attempt: Attempt, what: Observation) -> ControlFlow<End> {
        self.observations.add(Observed { sequence, attempt, what });
        ControlFlow::Continue(())
    }

    /// Waits until all that was observed is stored and acknowledged: what follows rests on it.
    async fn settle(&mut self) -> ControlFlow<End> {
        while let Some(stored) = self.observations.stored().await {
            self.observed(stored).await?;
        }
        ControlFlow::Continue(())
    }

    async fn observed(&mut self, stored: Result<Stored, store::Error>) -> ControlFlow<End> {
        let Stored { last, refused } = match stored {
            Ok(stored) => stored,
            Err(_) if planted!(UnstoredMetricsAcknowledged) => Stored { last: self.taken, refused: Vec::new() },
            Err(error) => {
                tracing::error!(%error, "what a worker measured cannot be stored");
                return ControlFlow::Break(Some(Close::StoreFailed));
            }
        };
        self.last = last;
        for attempt in refused {
            let reason = format!("attempt {attempt} was never this worker's");
            self.service.count_rejected();
            tracing::warn!(reason, "refused");
            self.say(CoordinatorMessage::Revoke { attempt, reason }).await?;
        }
        self.say(CoordinatorMessage::Ack(self.last)).await
    }

    async fn report(&mut self, sequence: u64, attempt: Attempt, report: Report) -> ControlFlow<End> {
        match self.service.driver.report(self.worker, self.id, sequence, attempt, report).await {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(Some(Close::Replaced)),
            Err(_) => ControlFlow::Break(Some(Close::ShuttingDown)),
        }
    }

    async fn say(&mut self, message: CoordinatorMessage) -> ControlFlow<End> {
        match self.outbox.send(Outgoing::Message(message)).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(None),
        }
    }
}

fn committed(epoch: EpochCommitted) -> CommittedEpoch {
    let EpochCommitted { epoch, key, manifest, predictions, spent, weights } = epoch;
    CommittedEpoch { epoch, key, manifest, predictions, spent, weights }
}
