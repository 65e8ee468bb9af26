//! Why and how an agent ends by itself or when it is asked: first nothing more is taken, then what runs is handed back,
//! then the last events are told.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::time::Time;
use crate::{
    attempts::{Attempts, Wish},
    config::OnTerminate,
    session::Outbox,
};

/// How much longer than they may take attempts are waited for that do not end.
const STUCK: Duration = Duration::from_secs(10);

/// How often an agent was asked to end. Each time is more urgent than the one before.
pub type Asked = watch::Receiver<u32>;

/// An agent's way out.
#[derive(Debug)]
pub(super) struct Ending {
    pub asked: Asked,
    pub attempts: Arc<Attempts>,
    pub outbox: Outbox,
    pub time: Arc<Time>,
    /// Ends of attempts that no slot has.
    pub telling: TaskTracker,
    pub idle_timeout: Option<Duration>,
    pub on_terminate: OnTerminate,
    /// How long epochs are waited for.
    pub grace: Duration,
    /// How long attempts take at most that are told to stop now.
    pub hand_back: Duration,
    /// How long the last events may take.
    pub last_words: Duration,
}

impl Ending {
    /// Until the agent may go: it has nothing any more, or cannot wait for it.
    pub(super) async fn run(self) {
        tokio::select! {
            () = asked(&self.asked, 1) => self.terminate().await,
            () = self.time.is_up() => tracing::info!("the time limit is near: attempts are handed back"),
            () = self.given_back() => tracing::info!("what runs here is done, and there is no time for anything else"),
            () = self.idle() => tracing::info!("there was nothing to do for long: ending"),
        }
        self.attempts.close();
        self.attempts.wish_of_all(&Wish::StopNow);
        self.telling.close();
        let told = async {
            self.attempts.none().await;
            self.telling.wait().await;
        };
        tokio::select! {
            () = told => {}
            () = self.cannot_tell() => {
                tracing::error!("attempts' ends cannot be kept, for want of room on the disk: the coordinator finds out by their leases");
            }
            () = tokio::time::sleep(self.hand_back + STUCK) => {
                tracing::error!("attempts do not end, as trainers do not whose device or disk hangs: the coordinator finds out by their leases");
            }
        }
        if tokio::time::timeout(self.last_words, self.outbox.drained()).await.is_err() {
            tracing::warn!(
                "the last events are not acknowledged; they are sent again when the agent is started on this state folder"
            );
        }
    }

    /// Finishes epochs, where that is wanted, as long as there is time and nobody asks again.
    async fn terminate(&self) {
        self.attempts.close();
        if self.on_terminate == OnTerminate::Checkpoint {
            return tracing::info!("stopping: attempts checkpoint and are handed back; a second signal ends at once");
        }
        tracing::info!(grace = ?self.grace, "stopping: attempts finish their epochs and are handed back; a second signal checkpoints now");
        self.attempts.wish_of_all(&Wish::StopAfterEpoch);
        tokio::select! {
            () = self.attempts.none() => {}
            () = asked(&self.asked, 2) => tracing::info!("asked again: attempts checkpoint now; another signal ends at once"),
            () = self.time.is_up() => tracing::info!("the time limit is near: attempts checkpoint now"),
            () = tokio::time::sleep(self.grace) => tracing::info!("the grace is over: attempts checkpoint now"),
        }
    }

    /// Waits until an attempt was given back for want of time and all others have ended.
    async fn given_back(&self) {
        // The sender lives as long as the attempts do.
        let _ = self.attempts.count().wait_for(|count| *count == 0 && self.attempts.is_closed()).await;
    }

    /// Waits until there was nothing to do for long: no attempt, and no event that waits. For ever where that is no reason
    /// to end.
    async fn idle(&self) {
        let Some(timeout) = self.idle_timeout else { return std::future::pending().await };
        let (mut attempts, mut events) = (self.attempts.count(), self.outbox.watch());
        loop {
            let idle = *attempts.borrow_and_update() == 0 && {
                let (first, next) = *events.borrow_and_update();
                first == next
            };
            tokio::select! {
                () = tokio::time::sleep(timeout), if idle => return,
                _ = attempts.changed() => {}
                _ = events.changed() => {}
            }
        }
    }

    /// Waits until ends that have to be kept had time enough and the disk has no room for them.
    async fn cannot_tell(&self) {
        tokio::time::sleep(self.hand_back).await;
        while !self.outbox.is_stalled() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Waits until an agent was asked to end so many times.
async fn asked(asked: &Asked, times: u32) {
    if asked.clone().wait_for(|count| *count >= times).await.is_err() {
        // Nobody can ask any more.
        std::future::pending().await
    }
}
