//! The wire to domain types: refuses what it cannot mean, naming the field.

use std::{fmt::Display, str::FromStr, time::Duration};

use ceteris_shared::{
    checkpoint::Environment,
    ids::{Attempt, Epoch},
    trainer::{MetricPoint, Scored, Spent},
};
use serde::de::DeserializeOwned;

use super::{
    CoordinatorMessage, EpochCommitted, Error, Event, EventKind, MAX_ENTRIES, MAX_MEMORY_BYTES, MAX_TEXT, Progress,
    Register, Start, StartAttempt, StepCommitted, WorkerMessage,
};
use crate::v1;

pub(super) type Result<T> = std::result::Result<T, Error>;

pub(super) fn refuse<T>(field: &'static str, problem: impl Into<String>) -> Result<T> {
    Err(Error { field, problem: problem.into() })
}

pub(super) fn required<T>(field: &'static str, value: Option<T>) -> Result<T> {
    value.map_or_else(|| refuse(field, "is missing"), Ok)
}

pub(super) fn parsed<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T> {
    text.parse().or_else(|error| refuse(field, format!("cannot be read: {error}")))
}

/// A unit variant by its serde name.
pub(super) fn named<T: DeserializeOwned>(field: &'static str, text: String) -> Result<T> {
    let text = bounded(field, text)?;
    serde_json::from_value(serde_json::Value::String(text))
        .or_else(|error| refuse(field, format!("is unknown: {error}")))
}

fn bounded(field: &'static str, text: String) -> Result<String> {
    if text.len() > MAX_TEXT {
        return refuse(field, format!("has {} bytes, more than {MAX_TEXT}", text.len()));
    }
    Ok(text)
}

pub(super) fn finite(field: &'static str, value: f64) -> Result<f64> {
    if value.is_finite() { Ok(value) } else { refuse(field, format!("is {value}")) }
}

pub(super) fn all<T, U>(field: &'static str, values: Vec<T>, convert: impl FnMut(T) -> Result<U>) -> Result<Vec<U>> {
    if values.len() > MAX_ENTRIES {
        return refuse(field, format!("has {} entries, more than {MAX_ENTRIES}", values.len()));
    }
    values.into_iter().map(convert).collect()
}

fn attempt(field: &'static str, attempt: Option<v1::Attempt>) -> Result<Attempt> {
    let attempt = required(field, attempt)?;
    if attempt.number == 0 {
        return refuse(field, "has number 0; attempts are counted from 1");
    }
    Ok(Attempt { segment: parsed(field, &attempt.segment)?, number: attempt.number })
}

/// None for 0, which is what a worker says that does not know.
fn memory(field: &'static str, bytes: u64) -> Result<Option<u64>> {
    if bytes > MAX_MEMORY_BYTES {
        return refuse(field, format!("is {bytes}, more than any machine has"));
    }
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

impl TryFrom<v1::WorkerMessage> for WorkerMessage {
    type Error = Error;

    fn try_from(message: v1::WorkerMessage) -> Result<Self> {
        use v1::worker_message::Message;
        Ok(match required("message", message.message)? {
            Message::Register(register) => Self::Register(register.try_into()?),
            Message::Heartbeat(heartbeat) => {
                Self::Heartbeat(all("heartbeat.running", heartbeat.running, Progress::try_from)?)
            }
            Message::Event(event) => Self::Event(event.try_into()?),
        })
    }
}

impl TryFrom<v1::Environment> for Environment {
    type Error = Error;

    fn try_from(environment: v1::Environment) -> Result<Self> {
        Ok(Self {
            engine: bounded("environment.engine", environment.engine)?,
            libtorch: bounded("environment.libtorch", environment.libtorch)?,
            device: bounded("environment.device", environment.device)?,
            instructions: bounded("environment.instructions", environment.instructions)?,
            threads: environment.threads,
            determinism: bounded("environment.determinism", environment.determinism)?,
        })
    }
}

impl TryFrom<v1::Register> for Register {
    type Error = Error;

    fn try_from(register: v1::Register) -> Result<Self> {
        if !(1..=1024).contains(&register.slots) {
            return refuse("register.slots", format!("is {}, not between 1 and 1024", register.slots));
        }
        Ok(Self {
            worker: parsed("register.worker", &register.worker)?,
            name: bounded("register.name", register.name)?,
            session: parsed("register.session", &register.session)?,
            version: bounded("register.version", register.version)?,
            slots: register.slots,
            environment: required("register.environment", register.environment)?.try_into()?,
            store: bounded("register.store", register.store)?,
            running: all("register.running", register.running, |running| attempt("register.running", Some(running)))?,
            slot_memory_bytes: memory("register.slot_memory_bytes", register.slot_memory_bytes)?,
        })
    }
}

impl TryFrom<v1::Progress> for Progress {
    type Error = Error;

    fn try_from(progress: v1::Progress) -> Result<Self> {
        Ok(Self {
            attempt: attempt("progress.attempt", progress.attempt)?,
            epoch: Epoch(progress.epoch),
            step: progress.step,
            steps: progress.steps,
            loss: Some(progress.loss).filter(|loss| loss.is_finite()),
        })
    }
}

impl TryFrom<v1::CoordinatorMessage> for CoordinatorMessage {
    type Error = Error;

    fn try_from(message: v1::CoordinatorMessage) -> Result<Self> {
        use v1::coordinator_message::Message;
        Ok(match required("message", message.message)? {
            Message::Welcome(welcome) => Self::Welcome {
                lease: Duration::from_millis(welcome.lease_milliseconds),
                heartbeat: Duration::from_millis(welcome.heartbeat_milliseconds),
            },
            Message::Start(start) => Self::Start(Box::new(start.try_into()?)),
            Message::Stop(stop) => Self::Stop { attempt: attempt("stop.attempt", stop.attempt)?, now: stop.now },
            Message::Revoke(revoke) => Self::Revoke {
                attempt: attempt("revoke.attempt", revoke.attempt)?,
                reason: bounded("revoke.reason", revoke.reason)?,
            },
            Message::Ack(ack) => Self::Ack(ack.sequence),
            Message::Drain(drain) => Self::Drain { slots: drain.slots },
        })
    }
}

impl TryFrom<v1::StartAttempt> for StartAttempt {
    type Error = Error;

    fn try_from(start: v1::StartAttempt) -> Result<Self> {
        Ok(Self {
            attempt: attempt("start.attempt", start.attempt)?,
            work: required("start.work", start.work)?.try_into()?,
            dataset: parsed("start.dataset", &start.dataset)?,
            external: all("start.external", start.external, |external| {
                Ok((bounded("external.name", external.name)?, parsed("external.dataset", &external.dataset)?))
            })?,
            start: required("start.start", start.start)?.try_into()?,
        })
    }
}

impl TryFrom<v1::Start> for Start {
    type Error = Error;

    fn try_from(start: v1::Start) -> Result<Self> {
        use v1::start::Start as Wire;
        Ok(match required("start.start", start.start)? {
            Wire::Random(_) => Self::Random,
            Wire::Weights(digest) => Self::Weights(parsed("start.weights", &digest)?),
            Wire::Checkpoint(digest) => Self::Checkpoint(parsed("start.checkpoint", &digest)?),
        })
    }
}

impl TryFrom<v1::Event> for Event {
    type Error = Error;

    fn try_from(event: v1::Event) -> Result<Self> {
        use v1::event::Event as Wire;
        if event.sequence == 0 {
            return refuse("event.sequence", "is 0; events are counted from 1");
        }
        let kind = match required("event.event", event.event)? {
            Wire::Started(_) => EventKind::Started,
            Wire::Metrics(metrics) => EventKind::Metrics(all("metrics.points", metrics.points, MetricPoint::try_from)?),
            Wire::StepCommitted(committed) => EventKind::StepCommitted(committed.try_into()?),
            Wire::EpochCommitted(committed) => EventKind::EpochCommitted(committed.try_into()?),
            Wire::Ended(ended) => ended_kind(ended)?,
            Wire::Log(log) => EventKind::Log(all("log.lines", log.lines, |line| bounded("log.lines", line))?),
        };
        Ok(Self { sequence: event.sequence, attempt: attempt("event.attempt", event.attempt)?, kind })
    }
}

fn ended_kind(ended: v1::AttemptEnded) -> Result<EventKind> {
    use v1::attempt_ended::Outcome;
    Ok(match required("ended.outcome", ended.outcome)? {
        Outcome::Finished(_) => EventKind::Finished,
        Outcome::Stopped(_) => EventKind::Stopped,
        Outcome::HandedBack(_) => EventKind::HandedBack,
        Outcome::Failed(failed) => EventKind::Failed {
            cause: named("failed.cause", failed.cause)?,
            message: bounded("failed.message", failed.message)?,
        },
        Outcome::Damaged(damaged) => EventKind::Damaged {
            checkpoint: parsed("damaged.checkpoint", &damaged.checkpoint)?,
            message: bounded("damaged.message", damaged.message)?,
        },
    })
}

impl TryFrom<v1::MetricPoint> for MetricPoint {
    type Error = Error;

    fn try_from(point: v1::MetricPoint) -> Result<Self> {
        Ok(Self {
            epoch: Epoch(point.epoch),
            step: point.step,
            split: named("metric.split", point.split)?,
            name: bounded("metric.name", point.name)?,
            value: finite("metric.value", point.value)?,
        })
    }
}

impl TryFrom<v1::StepCommitted> for StepCommitted {
    type Error = Error;

    fn try_from(committed: v1::StepCommitted) -> Result<Self> {
        if committed.step == 0 {
            return refuse("step_committed.step", "is 0, which is the end of the epoch before");
        }
        Ok(Self {
            epoch: Epoch(committed.epoch),
            step: committed.step,
            key: parsed("step_committed.key", &committed.key)?,
            manifest: parsed("step_committed.manifest", &committed.manifest)?,
        })
    }
}

impl TryFrom<v1::EpochCommitted> for EpochCommitted {
    type Error = Error;

    fn try_from(committed: v1::EpochCommitted) -> Result<Self> {
        let spent = required("epoch_committed.spent", committed.spent)?;
        Ok(Self {
            epoch: Epoch(committed.epoch),
            key: parsed("epoch_committed.key", &committed.key)?,
            manifest: parsed("epoch_committed.manifest", &committed.manifest)?,
            predictions: all("epoch_committed.predictions", committed.predictions, prediction)?,
            spent: Spent {
                steps: spent.steps,
                samples: spent.samples,
                seconds: finite("spent.seconds", spent.seconds)?,
            },
            weights: committed.weights.map(|text| parsed("epoch_committed.weights", &text)).transpose()?,
        })
    }
}

fn prediction(prediction: v1::Prediction) -> Result<(Scored, ceteris_shared::digest::Digest)> {
    use v1::prediction::Scored as Wire;
    let scored = match required("prediction.scored", prediction.scored)? {
        Wire::Split(split) => Scored::Split(named("prediction.split", split)?),
        Wire::External(name) => Scored::External(bounded("prediction.external", name)?),
    };
    Ok((scored, parsed("prediction.digest", &prediction.digest)?))
}
