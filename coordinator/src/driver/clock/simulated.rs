//! A time that stands still until a simulation moves it.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
};

use ceteris_scheduler::Timestamp;

/// No alarm.
const NEVER: u64 = u64::MAX;

/// What a simulated clock shows, and when who sleeps by it wants to be looked at again.
#[derive(Debug)]
pub struct SimulatedTime {
    now: AtomicU64,
    alarm: AtomicU64,
}

impl SimulatedTime {
    /// It is `now`.
    pub fn new(now: Timestamp) -> Self {
        Self { now: AtomicU64::new(now.0), alarm: AtomicU64::new(NEVER) }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    /// Moves the time. Nobody is woken: who moves it polls who sleeps.
    pub fn set(&self, now: Timestamp) {
        self.now.store(now.0, Ordering::SeqCst);
    }

    /// The deadline that was slept for last; none where there was none.
    pub fn alarm(&self) -> Option<Timestamp> {
        Some(self.alarm.load(Ordering::SeqCst)).filter(|&alarm| alarm != NEVER).map(Timestamp)
    }

    pub(super) async fn sleep_until(&self, deadline: Option<Timestamp>) {
        poll_fn(|_| {
            self.alarm.store(deadline.map_or(NEVER, |deadline| deadline.0), Ordering::SeqCst);
            match deadline {
                Some(deadline) if deadline <= self.now() => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
    }
}
