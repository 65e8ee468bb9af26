//! The coordinator's clock: wall time at the start, monotonic from then on, so that a corrected system clock ends no
//! lease. A simulation moves the time itself.

#[cfg(feature = "simulation")]
mod simulated;

#[cfg(feature = "simulation")]
use std::sync::Arc;
use std::{
    future,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ceteris_scheduler::Timestamp;

#[cfg(feature = "simulation")]
pub use simulated::SimulatedTime;

/// Tells the time to the driver.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System {
        start: Timestamp,
        since: Instant,
    },
    #[cfg(feature = "simulation")]
    Simulated(Arc<SimulatedTime>),
}

impl Clock {
    /// Set to the system's wall time.
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(Source::System { start: Timestamp(0).after(wall), since: Instant::now() })
    }

    /// One that shows a simulation's time.
    #[cfg(feature = "simulation")]
    pub fn simulated(time: Arc<SimulatedTime>) -> Self {
        Self(Source::Simulated(time))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { start, since } => start.after(since.elapsed()),
            #[cfg(feature = "simulation")]
            Source::Simulated(time) => time.now(),
        }
    }

    /// Returns at `deadline`; never without one.
    pub async fn sleep_until(&self, deadline: Option<Timestamp>) {
        match (&self.0, deadline) {
            (Source::System { .. }, Some(deadline)) => tokio::time::sleep(deadline.since(self.now())).await,
            (Source::System { .. }, None) => future::pending().await,
            #[cfg(feature = "simulation")]
            (Source::Simulated(time), deadline) => time.sleep_until(deadline).await,
        }
    }
}
