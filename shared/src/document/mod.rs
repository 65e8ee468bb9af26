//! Read-outs: the JSON documents in which everything about an experiment is told, one stable form of each.
//!
//! The coordinator writes them, `-o json` prints them as they are, and tables are made from them, so a script sees what
//! a person sees. Each says in `schema` what it is; within one schema fields are only ever added, and readers skip
//! what they do not know. `docs/guide/json.md` documents every field. Numbers are finite; what is undefined is `null`.

mod catalog;
mod comparison;
mod difference;
mod evidence;
mod experiment;
mod models;
mod plan;
mod predictions;
mod report;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};

pub use catalog::{
    Checkpoint, Checkpoints, Dataset, Datasets, Explanation, Garbage, Objects, Storage, Unusable, Verification,
    VerifiedEpoch, Weights, WeightsEntry, Worker, WorkerAttempt, WorkerState, Workers,
};
pub use comparison::{
    Comparison, ComparisonArm, ComparisonRun, Contrast, EndpointRule, FieldDifference, Metrics, Reason, Refusal,
    RefusedField, Scores, Spread, Summary, Verdict,
};
pub use difference::{Difference, Pair, Uncertainty};
pub use evidence::{Evidence, EvidenceEpoch, EvidenceRun};
pub use experiment::{
    Experiment, ExperimentArm, ExperimentRow, Experiments, Failure, Ledger, Live, NamedDigest, Run, RunSpent,
    SegmentRow, SegmentState, SeriesPoint, Sharing, State, standing,
};
pub use models::{
    BootstrapInterval, DelongTest, McnemarTest, Model, ModelContrast, ModelDifference, ModelSeed, ModelSummary, Models,
    Scope, SeedTests, Subgroup,
};
pub use plan::{PinState, Pinned, Plan, PlanArm, PlanContrast, Unresolved};
pub use predictions::{PredictedRun, PredictionFile, PredictionFiles};
pub use report::{
    Band, ChecklistItem, Chosen, Combination, Crossing, Curve, CurvePoint, DataSummary, Declared, Ensemble,
    ExternalDrop, Field, FieldClass, Matched, MatchedSays, Plateau, PlateauState, Reliability, Report, ReportArm,
    Shapes, SplitSummary, SubgroupDifference, Sweep, SweepPoint, ThresholdStudy, TreeSegment,
};

/// A read-out with a schema name.
pub trait Document: Serialize + DeserializeOwned {
    /// What the field `schema` says.
    const SCHEMA: &'static str;

    /// The JSON text, in one line.
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a document is plain data with string keys and times within range")
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When the text is no JSON, says another schema, or lacks a field.
    fn from_json(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let malformed =
            |error: serde_json::Error| Error::Malformed { expected: Self::SCHEMA, cause: error.to_string() };
        let head: Head = serde_json::from_str(text).map_err(malformed)?;
        if head.schema != Self::SCHEMA {
            return Err(Error::Schema { expected: Self::SCHEMA, found: head.schema });
        }
        serde_json::from_str(text).map_err(malformed)
    }
}

/// Why a document is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(
        "the answer is a {found:?} document where this version reads {expected:?}; use the same version of ceteris on \
         both sides"
    )]
    Schema { expected: &'static str, found: String },
    #[error("the answer cannot be read as {expected:?}: {cause}; use the same version of ceteris on both sides")]
    Malformed { expected: &'static str, cause: String },
}

macro_rules! schemas {
    ($($document:ty = $schema:literal),* $(,)?) => {
        $(impl Document for $document {
            const SCHEMA: &'static str = $schema;
        })*
    };
}

schemas! {
    Plan = "ceteris.plan/1",
    Experiments = "ceteris.experiments/1",
    Experiment = "ceteris.experiment/1",
    Comparison = "ceteris.compare/1",
    Workers = "ceteris.workers/1",
    Datasets = "ceteris.datasets/1",
    Weights = "ceteris.weights/1",
    Checkpoints = "ceteris.checkpoints/1",
    Explanation = "ceteris.explain/1",
    Garbage = "ceteris.gc/1",
    Storage = "ceteris.storage/1",
    Verification = "ceteris.verification/1",
    Models = "ceteris.models/1",
    PredictionFiles = "ceteris.predictions/1",
    Evidence = "ceteris.evidence/1",
    Report = "ceteris.report/1",
}

/// A moment, in milliseconds since 1970-01-01T00:00:00Z; written in JSON as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// The last moment of the year 9999: RFC 3339 has no later one.
const LAST_MILLISECOND: u64 = 253_402_300_799_999;

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = UNIX_EPOCH + Duration::from_millis(self.0.min(LAST_MILLISECOND));
        humantime::format_rfc3339_millis(moment).fmt(f)
    }
}

impl From<SystemTime> for Timestamp {
    /// Moments before 1970 become 1970.
    fn from(moment: SystemTime) -> Self {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(LAST_MILLISECOND))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(Self::from).map_err(de::Error::custom)
    }
}
