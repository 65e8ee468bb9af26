//! Identities. Each is a newtype, so that a run can never be handed where a segment is meant, and each prints as
//! the UUID that people see in `ceteris show`.
//!
//! Experiment ids are drawn by the client, which makes a submission idempotent: sending it twice under one id is one
//! experiment. Run and segment ids are derived from the experiment's id and from what they are, so planning is a pure
//! function and planning again gives the same ids.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Before every other one.
            pub const FIRST: Self = Self(Uuid::nil());

            /// The first eight hexadecimal digits: what tables show.
            pub fn short(&self) -> String {
                self.0.simple().to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id! {
    /// One submitted spec.
    ExperimentId
}
id! {
    /// One arm trained with one seed.
    RunId
}
id! {
    /// A stretch of consecutive epochs with one lineage: the unit that is scheduled.
    SegmentId
}
id! {
    /// One agent process's installation; survives restarts of the agent.
    WorkerId
}
id! {
    /// One live connection of a worker.
    SessionId
}

impl RunId {
    /// The run of `arm` with `seed` in `experiment`.
    pub fn derive(experiment: ExperimentId, arm: &str, seed: u64) -> Self {
        Self(Uuid::new_v5(&experiment.0, format!("run\n{arm}\n{seed}").as_bytes()))
    }
}

impl SegmentId {
    /// The segment of `experiment` that ends in the lineage key `end`.
    pub fn derive(experiment: ExperimentId, end: &crate::lineage::LineageKey) -> Self {
        Self(Uuid::new_v5(&experiment.0, format!("segment\n{end}").as_bytes()))
    }

    /// The segment that ends in the lineage key `end` and is `run`'s alone, where nothing is shared.
    pub fn derive_unshared(run: RunId, end: &crate::lineage::LineageKey) -> Self {
        Self(Uuid::new_v5(&run.0, format!("segment\n{end}").as_bytes()))
    }
}

/// How many epochs of training lie behind a state: 0 is the initial weights, and epoch `n` is the one that leads from
/// state `n - 1` to state `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The n-th execution of a segment, counted from 1. Its number is the fencing token: whatever an execution makes
/// carries it, and what carries an old one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// What is executed.
    pub segment: SegmentId,
    /// Which execution of it, from 1.
    pub number: u32,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.segment.short(), self.number)
    }
}
