//! How a simulation looks into the driver: it is shown what was decided before anything is committed, and where the
//! driver is when it has spoken.

use std::fmt;

use ceteris_scheduler::{Effect, Event, Scheduler, Timestamp};
use ceteris_shared::ids::{SessionId, WorkerId};

/// Who watches a driver. It may look, and change nothing.
pub trait Observer: fmt::Debug + Send + Sync {
    /// An event led to these effects; nothing of them is committed yet.
    fn decided(&self, now: Timestamp, event: &Event, effects: &[Effect], scheduler: &Scheduler);

    /// What was decided last is committed and said. The connections are the driver's own.
    fn carried_out(&self, now: Timestamp, scheduler: &Scheduler, connections: &[(WorkerId, SessionId)]);
}
