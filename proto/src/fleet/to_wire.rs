//! Domain types to the wire: total.

use ceteris_shared::{
    checkpoint::Environment,
    ids::Attempt,
    trainer::{MetricPoint, Scored, Spent},
};

use super::{
    CoordinatorMessage, EpochCommitted, Event, EventKind, Progress, Register, Start, StartAttempt, StepCommitted,
    WorkerMessage,
};
use crate::v1;

/// The name that serde gives a unit variant: the one name it has in JSON, in specs and on the wire.
pub(super) fn name(variant: &impl serde::Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("a unit variant serialises as its name, not as {other:?}"),
    }
}

impl From<Attempt> for v1::Attempt {
    fn from(attempt: Attempt) -> Self {
        Self { segment: attempt.segment.to_string(), number: attempt.number }
    }
}

impl From<Environment> for v1::Environment {
    fn from(environment: Environment) -> Self {
        let Environment { engine, libtorch, device, instructions, threads, determinism } = environment;
        Self { engine, libtorch, device, instructions, threads, determinism }
    }
}

impl From<WorkerMessage> for v1::WorkerMessage {
    fn from(message: WorkerMessage) -> Self {
        use v1::worker_message::Message;
        let message = match message {
            WorkerMessage::Register(register) => Message::Register(register.into()),
            WorkerMessage::Heartbeat(running) => {
                Message::Heartbeat(v1::Heartbeat { running: running.into_iter().map(Into::into).collect() })
            }
            WorkerMessage::Event(event) => Message::Event(event.into()),
        };
        Self { message: Some(message) }
    }
}

impl From<Register> for v1::Register {
    fn from(register: Register) -> Self {
        Self {
            worker: register.worker.to_string(),
            name: register.name,
            session: register.session.to_string(),
            version: register.version,
            slots: register.slots,
            environment: Some(register.environment.into()),
            store: register.store,
            running: register.running.into_iter().map(Into::into).collect(),
            slot_memory_bytes: register.slot_memory_bytes.unwrap_or(0),
        }
    }
}

impl From<Progress> for v1::Progress {
    fn from(progress: Progress) -> Self {
        Self {
            attempt: Some(progress.attempt.into()),
            epoch: progress.epoch.0,
            step: progress.step,
            steps: progress.steps,
            loss: progress.loss.unwrap_or(f64::NAN),
        }
    }
}

impl From<CoordinatorMessage> for v1::CoordinatorMessage {
    fn from(message: CoordinatorMessage) -> Self {
        use v1::coordinator_message::Message;
        let milliseconds = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let message = match message {
            CoordinatorMessage::Welcome { lease, heartbeat } => Message::Welcome(v1::Welcome {
                lease_milliseconds: milliseconds(lease),
                heartbeat_milliseconds: milliseconds(heartbeat),
            }),
            CoordinatorMessage::Start(start) => Message::Start((*start).into()),
            CoordinatorMessage::Stop { attempt, now } => {
                Message::Stop(v1::StopAttempt { attempt: Some(attempt.into()), now })
            }
            CoordinatorMessage::Revoke { attempt, reason } => {
                Message::Revoke(v1::Revoke { attempt: Some(attempt.into()), reason })
            }
            CoordinatorMessage::Ack(sequence) => Message::Ack(v1::Ack { sequence }),
            CoordinatorMessage::Drain { slots } => Message::Drain(v1::DrainSlots { slots }),
        };
        Self { message: Some(message) }
    }
}

impl From<StartAttempt> for v1::StartAttempt {
    fn from(start: StartAttempt) -> Self {
        let external = |(name, dataset): (String, ceteris_shared::digest::Digest)| v1::External {
            name,
            dataset: dataset.to_string(),
        };
        Self {
            attempt: Some(start.attempt.into()),
            work: Some(start.work.into()),
            dataset: start.dataset.to_string(),
            external: start.external.into_iter().map(external).collect(),
            start: Some(start.start.into()),
        }
    }
}

impl From<Start> for v1::Start {
    fn from(start: Start) -> Self {
        use v1::start::Start as Wire;
        Self {
            start: Some(match start {
                Start::Random => Wire::Random(v1::start::Random {}),
                Start::Weights(digest) => Wire::Weights(digest.to_string()),
                Start::Checkpoint(digest) => Wire::Checkpoint(digest.to_string()),
            }),
        }
    }
}

impl From<Event> for v1::Event {
    fn from(event: Event) -> Self {
        use v1::{attempt_ended::Outcome, event::Event as Wire};
        let ended = |outcome| Wire::Ended(v1::AttemptEnded { outcome: Some(outcome) });
        let kind = match event.kind {
            EventKind::Started => Wire::Started(v1::AttemptStarted {}),
            EventKind::Metrics(points) => {
                Wire::Metrics(v1::Metrics { points: points.into_iter().map(Into::into).collect() })
            }
            EventKind::StepCommitted(committed) => Wire::StepCommitted(committed.into()),
            EventKind::EpochCommitted(committed) => Wire::EpochCommitted(committed.into()),
            EventKind::Finished => ended(Outcome::Finished(v1::attempt_ended::Finished {})),
            EventKind::Stopped => ended(Outcome::Stopped(v1::attempt_ended::Stopped {})),
            EventKind::HandedBack => ended(Outcome::HandedBack(v1::attempt_ended::HandedBack {})),
            EventKind::Failed { cause, message } => {
                ended(Outcome::Failed(v1::attempt_ended::Failed { cause: name(&cause), message }))
            }
            EventKind::Damaged { checkpoint, message } => {
                let checkpoint = checkpoint.to_string();
                ended(Outcome::Damaged(v1::attempt_ended::Damaged { checkpoint, message }))
            }
            EventKind::Log(lines) => Wire::Log(v1::LogLines { lines }),
        };
        Self { sequence: event.sequence, attempt: Some(event.attempt.into()), event: Some(kind) }
    }
}

impl From<MetricPoint> for v1::MetricPoint {
    fn from(point: MetricPoint) -> Self {
        Self { epoch: point.epoch.0, step: point.step, split: name(&point.split), name: point.name, value: point.value }
    }
}

impl From<StepCommitted> for v1::StepCommitted {
    fn from(committed: StepCommitted) -> Self {
        let StepCommitted { epoch, step, key, manifest } = committed;
        Self { epoch: epoch.0, step, key: key.to_string(), manifest: manifest.to_string() }
    }
}

impl From<EpochCommitted> for v1::EpochCommitted {
    fn from(committed: EpochCommitted) -> Self {
        use v1::prediction::Scored as Wire;
        let Spent { steps, samples, seconds } = committed.spent;
        let prediction = |(scored, digest): (Scored, ceteris_shared::digest::Digest)| v1::Prediction {
            scored: Some(match scored {
                Scored::Split(split) => Wire::Split(name(&split)),
                Scored::External(name) => Wire::External(name),
            }),
            digest: digest.to_string(),
        };
        Self {
            epoch: committed.epoch.0,
            key: committed.key.to_string(),
            manifest: committed.manifest.to_string(),
            predictions: committed.predictions.into_iter().map(prediction).collect(),
            spent: Some(v1::Spent { steps, samples, seconds }),
            weights: committed.weights.map(|weights| weights.to_string()),
        }
    }
}
