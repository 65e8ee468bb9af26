//! The coordinator's clock: wall time at the start, monotonic from then on, so that a corrected system clock ends no
//! lease.

use std::{
    future,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ceteris_scheduler::Timestamp;

/// Tells the time to the driver.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Timestamp,
    since: Instant,
}

impl Clock {
    /// Set to the system's wall time.
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { start: Timestamp(0).after(wall), since: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.start.after(self.since.elapsed())
    }

    /// Returns at `deadline`; never without one.
    pub async fn sleep_until(&self, deadline: Option<Timestamp>) {
        match deadline {
            Some(deadline) => tokio::time::sleep(deadline.since(self.now())).await,
            None => future::pending().await,
        }
    }
}
