//! A checkpoint: everything needed to go on from an epoch boundary as if nothing had happened.
//!
//! Its parts are immutable, content-addressed safetensors files; the manifest is written last and names them. The parts
//! that training did not touch have the same digest at every epoch, so they are stored once. A checkpoint counts only
//! when the coordinator has recorded its manifest: an object without a record is garbage.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{Attempt, Epoch},
    lineage::LineageKey,
    spec::Arch,
};

/// The manifest's schema.
pub const SCHEMA: &str = "ceteris.checkpoint/1";
/// The largest manifest that is read.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// What a file of a checkpoint holds. Every file is safetensors; names are torchvision's, and for the optimizer
/// `NAME.moment1`, `NAME.moment2` of each trainable parameter and one `step` (int64, shape `[]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Parameters and BatchNorm statistics below the freeze boundary.
    Frozen,
    /// Parameters and BatchNorm statistics above it.
    Trained,
    /// The optimizer's state.
    Optimizer,
}

/// One file of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it holds.
    pub role: Role,
    /// Its name in the store.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// What a checkpoint is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The lineage that leads here.
    pub key: LineageKey,
    /// How many epochs that is.
    pub epoch: Epoch,
    /// The execution that made it.
    pub attempt: Attempt,
    /// The network.
    pub arch: Arch,
    /// The classes, in the order of the head's outputs.
    pub classes: Vec<String>,
    /// Where it was computed.
    pub environment: Environment,
    /// Its files, one per role, in the order of [`Role`].
    pub parts: Vec<Part>,
}

/// What besides the lineage can change a result's bits: two attempts of one lineage in one environment class end in the
/// same weights.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Version of the training engine.
    pub engine: String,
    /// Version of libtorch.
    pub libtorch: String,
    /// `cpu`, or the accelerator's model.
    pub device: String,
    /// The instruction set that libtorch dispatches to, such as `AVX512`.
    pub instructions: String,
    /// Threads within an operation; the count changes the order of sums.
    pub threads: u32,
    /// `deterministic` where the device was told to give the same bits every time, else `default`.
    pub determinism: String,
}

/// Why a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the checkpoint's manifest cannot be read: {0}")]
    Malformed(String),
    #[error("the checkpoint's manifest has schema {0:?}; this version reads {SCHEMA:?}")]
    Schema(String),
    #[error(
        "the checkpoint's manifest does not list a frozen, a trained and an optimizer part, once each and in this order"
    )]
    Parts,
}

impl Manifest {
    /// The bytes that are stored and digested.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest is plain data with string keys")
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// When the bytes are no manifest of this schema with one part of each role.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| Error::Malformed(error.to_string()))?;
        if manifest.schema != SCHEMA {
            return Err(Error::Schema(manifest.schema));
        }
        let roles = manifest.parts.iter().map(|part| part.role);
        if roles.eq([Role::Frozen, Role::Trained, Role::Optimizer]) { Ok(manifest) } else { Err(Error::Parts) }
    }
}
