//! Gives attempts to slots, and back to the coordinator what none takes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ceteris_proto::fleet::{EventKind, StartAttempt};
use ceteris_shared::{ids::Attempt, trainer::FailureCause};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::time::Time;
use crate::{
    attempts::{Attempts, Take},
    session::{Outbox, Starts},
    slot::Taken,
};

#[derive(Debug)]
pub(super) struct Dispatcher {
    pub queues: Vec<Queue>,
    pub attempts: Arc<Attempts>,
    pub outbox: Outbox,
    /// How long there still is.
    pub time: Arc<Time>,
    /// Ends that are being told here.
    pub telling: TaskTracker,
}

/// Attempts on their way to a slot.
#[derive(Debug)]
pub(super) struct Queue {
    pub sender: mpsc::Sender<Taken>,
    /// How many were given to the slot and are not over.
    pub load: Arc<AtomicUsize>,
}

impl Starts for Dispatcher {
    fn start(&self, start: StartAttempt) {
        let attempt = start.attempt;
        let wish = match self.attempts.take(attempt) {
            Take::New(wish) => wish,
            Take::Known => return tracing::debug!(%attempt, "it is here already"),
            // The coordinator gives it to another worker, and this one nothing more.
            Take::Closed => return self.tell(attempt, EventKind::Stopped),
        };
        if !self.time.is_enough_for(&start.work, start.dataset) {
            tracing::info!(%attempt, "given back: there is no time for an epoch of it before the time limit");
            self.tell(attempt, EventKind::Stopped);
            self.attempts.close();
            return self.attempts.end(attempt);
        }
        let usable = self.queues.iter().enumerate().filter(|(slot, _)| !self.attempts.is_drained(*slot));
        let queue = usable.min_by_key(|(_, queue)| queue.load.load(Ordering::Relaxed));
        let taken = queue.is_some_and(|(slot, queue)| {
            self.attempts.place(attempt, slot);
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

    fn drain(&self, slots: &[u32]) {
        self.attempts.drain(slots.iter().map(|&slot| slot as usize).collect());
    }
}

impl Dispatcher {
    /// Tells the end of an attempt that no slot has.
    fn tell(&self, attempt: Attempt, kind: EventKind) {
        let outbox = self.outbox.clone();
        self.telling.spawn(async move {
            if let Err(error) = outbox.append(attempt, kind).await {
                tracing::error!(%attempt, %error, "an attempt's end is not kept");
            }
        });
    }
}
