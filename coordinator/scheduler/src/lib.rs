//! The coordinator's decisions, and nothing but them: [`Scheduler::handle`] is a function of what happened and when, and
//! returns what is to be done about it.
//!
//! No clock, no disk, no network: the driver commits the [`Effect::Persist`] of one event in one transaction and only
//! then sends messages, so a crash between any two of its steps leaves a state that [`Scheduler::restore`] can go on from.
//! What peers say is refused with a typed [`Rejection`] and never panics; what must hold of the scheduler itself is
//! written down once, in [`Scheduler::check_invariants`].
//!
//! Where to look: `scheduler` owns the data and its indexes, `submit` takes, pauses, cancels and retries experiments, `workers` connects
//! and loses workers, `attempts` judges what they report, `replay` trains again what no checkpoint is left of, `assign` gives work away:
//! `queue` says whose turn it is, `room` where there is room, `preempt` who has to make some, `standing` and `drain` who gets nothing.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod assign;
mod attempts;
mod drain;
mod effect;
mod event;
mod explain;
mod invariants;
mod preempt;
mod queue;
mod replay;
mod restore;
mod room;
mod saved;
mod scheduler;
mod segments;
mod standing;
mod state;
mod submit;
#[cfg(test)]
mod tests;
mod time;
mod training;
mod workers;

pub use drain::Drain;
pub use effect::{Change, Effect, Message, Rejection, Start, StartAttempt};
pub use event::{CommittedEpoch, CommittedStep, Event, Report, Reused, Submission, WorkerConnected};
pub use explain::{Ahead, Explanation, Why};
pub use invariants::Violation;
pub use queue::Sharing;
pub use restore::{RestoreError, SavedEpoch, SavedExperiment, SavedSegment, SavedStep, Snapshot};
pub use scheduler::{Config, Scheduler};
pub use state::{AttemptEnd, Live, Outcome, State, StopReason};
pub use time::Timestamp;
