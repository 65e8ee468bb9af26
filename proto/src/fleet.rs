//! Messages between the coordinator and its workers, as domain types.
//!
//! Each `TryFrom` refuses what it cannot mean and says which field; each `From` is total.

mod from_wire;
#[cfg(test)]
mod tests;
mod to_wire;
mod work;

use std::time::Duration;

use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch, SessionId, WorkerId},
    lineage::LineageKey,
    plan::Work,
    trainer::{FailureCause, MetricPoint, Scored, Spent},
};

/// Most characters of a text field: names, messages, log lines.
pub const MAX_TEXT: usize = 64 << 10;
/// Most entries of a repeated field.
pub const MAX_ENTRIES: usize = 100_000;
/// Most memory that a slot can have: a pebibyte.
pub const MAX_MEMORY_BYTES: u64 = 1 << 50;

/// From a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerMessage {
    /// The first message of a stream.
    Register(Register),
    /// Renews the leases of the attempts it lists.
    Heartbeat(Vec<Progress>),
    /// Something that must not be lost.
    Event(Event),
}

/// From the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum CoordinatorMessage {
    /// The answer to [`Register`].
    Welcome {
        /// How long an attempt is believed alive without a heartbeat.
        lease: Duration,
        /// How often to send one.
        heartbeat: Duration,
    },
    /// Execute a segment, or what remains of it.
    Start(Box<StartAttempt>),
    /// Stop after the epoch in flight, or now.
    Stop {
        /// Which execution.
        attempt: Attempt,
        /// Do not finish the epoch.
        now: bool,
    },
    /// The attempt is no longer the worker's.
    Revoke {
        /// Which execution.
        attempt: Attempt,
        /// Why, for the log.
        reason: String,
    },
    /// All events up to this sequence number are stored.
    Ack(u64),
    /// Begin nothing on these slots, and hand back what runs there after its epoch. Replaces what was said before.
    Drain {
        /// From 0.
        slots: Vec<u32>,
    },
}

/// Who a worker is.
#[derive(Clone, Debug, PartialEq)]
pub struct Register {
    /// Kept across restarts of the agent.
    pub worker: WorkerId,
    /// For people.
    pub name: String,
    /// New for each connection.
    pub session: SessionId,
    /// Version of the agent.
    pub version: String,
    /// Attempts it can run at once.
    pub slots: u32,
    /// What its results depend on.
    pub environment: Environment,
    /// Id of the object store it uses.
    pub store: String,
    /// What it still runs.
    pub running: Vec<Attempt>,
    /// Bytes of memory that each slot has to train in: its GPU's, or its part of the machine's. Older workers do not say it.
    pub slot_memory_bytes: Option<u64>,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Which execution.
    pub attempt: Attempt,
    /// The epoch in flight; 0 while inputs are fetched.
    pub epoch: Epoch,
    /// Optimizer steps done in it.
    pub step: u32,
    /// Optimizer steps it has.
    pub steps: u32,
    /// Mean training loss over the epoch so far; absent before the first step.
    pub loss: Option<f64>,
}

/// An execution and where its inputs are.
#[derive(Clone, Debug, PartialEq)]
pub struct StartAttempt {
    /// Which execution.
    pub attempt: Attempt,
    /// What to train: the epochs that remain.
    pub work: Work,
    /// Digest of the data set's manifest.
    pub dataset: Digest,
    /// External data sets: name and digest of the manifest.
    pub external: Vec<(String, Digest)>,
    /// Where the weights come from.
    pub start: Start,
}

/// Where an execution's weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Drawn from the seed.
    Random,
    /// A safetensors file.
    Weights(Digest),
    /// A checkpoint's manifest.
    Checkpoint(Digest),
}

/// Something that must not be lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// From 1, without gaps, per worker.
    pub sequence: u64,
    /// The execution it is about.
    pub attempt: Attempt,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// The trainer has its inputs and begins.
    Started,
    /// Measured values.
    Metrics(Vec<MetricPoint>),
    /// A checkpoint within an epoch is in the store.
    StepCommitted(StepCommitted),
    /// An epoch's objects are all in the store.
    EpochCommitted(EpochCommitted),
    /// All epochs are committed.
    Finished,
    /// A stop was obeyed, or the agent is shutting down.
    Stopped,
    /// It stopped after an epoch, because its slot is drained.
    HandedBack,
    /// It cannot go on.
    Failed {
        /// Who must act.
        cause: FailureCause,
        /// What happened.
        message: String,
    },
    /// What it was to go on from is not what was stored, or gone.
    Damaged {
        /// Digest of the checkpoint's manifest.
        checkpoint: Digest,
        /// What is wrong with it.
        message: String,
    },
    /// Lines that the trainer printed.
    Log(Vec<String>),
}

/// A committed checkpoint within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepCommitted {
    /// The epoch in flight.
    pub epoch: Epoch,
    /// Optimizer steps of it that are done; at least 1.
    pub step: u32,
    /// The lineage key of the epoch in flight.
    pub key: LineageKey,
    /// Digest of the checkpoint's manifest.
    pub manifest: Digest,
}

/// A committed epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochCommitted {
    /// Which.
    pub epoch: Epoch,
    /// The lineage key of the state after it.
    pub key: LineageKey,
    /// Digest of the checkpoint's manifest.
    pub manifest: Digest,
    /// Predictions files.
    pub predictions: Vec<(Scored, Digest)>,
    /// What it cost.
    pub spent: Spent,
    /// [`ceteris_shared::checkpoint::Manifest::weights`]; older workers do not say it.
    pub weights: Option<Digest>,
}

/// A message that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {problem}")]
pub struct Error {
    /// The field's path in the message.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}
