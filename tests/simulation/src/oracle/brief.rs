//! Events and effects in one line each, for the trace.

use std::fmt;

use ceteris_scheduler::{Change, Effect, Event, Message, Report};
use ceteris_shared::ids::Attempt;

/// An event in one line.
pub(super) struct Brief<'a>(pub &'a Event);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::ExperimentSubmitted(submission) => write!(f, "submitted {}", submission.experiment.short()),
            Event::WorkerConnected(connected) => {
                let running: Vec<String> = connected.running.iter().map(Attempt::to_string).collect();
                let (worker, session) = (connected.worker.short(), connected.session.short());
                write!(f, "connected {worker} session {session} slots {} running {running:?}", connected.slots)
            }
            Event::Heartbeat { worker, session, running } => {
                let running: Vec<String> = running.iter().map(Attempt::to_string).collect();
                write!(f, "heartbeat {} session {} {running:?}", worker.short(), session.short())
            }
            Event::AttemptReported { worker, session, attempt, report } => {
                write!(f, "reported {} session {} {attempt} ", worker.short(), session.short())?;
                match report {
                    Report::EpochCommitted(epoch) => {
                        write!(
                            f,
                            "epoch {} key {} manifest {}",
                            epoch.epoch,
                            epoch.key.0.short(),
                            epoch.manifest.short()
                        )
                    }
                    Report::StepCommitted(step) => {
                        write!(f, "step {} of epoch {} manifest {}", step.step, step.epoch, step.manifest.short())
                    }
                    other => write!(f, "{other:?}"),
                }
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// An effect in one line.
pub(super) struct BriefEffect<'a>(pub &'a Effect);

impl fmt::Display for BriefEffect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Effect::Persist(Change::SegmentChanged { segment, state, failures, losses }) => {
                write!(f, "{} is {state:?} failures {failures} losses {losses}", segment.short())
            }
            Effect::Persist(Change::AttemptAssigned { attempt, worker, replays, .. }) => {
                write!(f, "{attempt} is {}'s, {replays} replays", worker.short())
            }
            Effect::Persist(Change::EpochCommitted { attempt, committed, .. }) => {
                write!(f, "{attempt} committed epoch {}", committed.epoch)
            }
            Effect::Persist(Change::EpochReplayed { attempt, segment, committed, .. }) => {
                write!(f, "{attempt} trained epoch {} of {} again", committed.epoch, segment.short())
            }
            Effect::Persist(Change::SegmentAdded { segment, position, state, .. }) => {
                write!(f, "{} is segment {position}, {state:?}", segment.short())
            }
            Effect::Persist(Change::ExperimentBound { experiment, environment }) => {
                write!(f, "{} is bound to {} threads", experiment.short(), environment.threads)
            }
            Effect::Persist(change) => write!(f, "{change:?}"),
            Effect::Send { worker, message: Message::Start(start), .. } => {
                write!(f, "to {}: start {} from {:?}", worker.short(), start.attempt, start.start)
            }
            Effect::Send { worker, message, .. } => write!(f, "to {}: {message:?}", worker.short()),
            Effect::Reject(rejection) => write!(f, "refused: {rejection}"),
        }
    }
}
