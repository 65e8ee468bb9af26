//! A checkpoint: everything needed to go on from an epoch boundary, or from a step within an epoch, as if nothing had
//! happened.
//!
//! Its parts are immutable, content-addressed files; the manifest is written last and names them. The parts that
//! training did not touch have the same digest at every epoch, so they are stored once. A checkpoint counts only when
//! the coordinator has recorded its manifest: an object without a record is garbage.

use std::fmt;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{Attempt, Epoch},
    lineage::LineageKey,
    spec::Arch,
};

/// The manifest's schema.
pub const SCHEMA: &str = "ceteris.checkpoint/2";
/// The schema before steps within an epoch were known; still read.
const SCHEMA_1: &str = "ceteris.checkpoint/1";
/// The largest manifest that is read.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// What a file of a checkpoint holds. Every file but the progress is safetensors; names are torchvision's, and for the
/// optimizer `NAME.moment1`, `NAME.moment2` of each trainable parameter and one `step` (int64, shape `[]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Parameters and BatchNorm statistics below the freeze boundary.
    Frozen,
    /// Parameters and BatchNorm statistics above it.
    Trained,
    /// The optimizer's state.
    Optimizer,
    /// Within an epoch: what the epoch's figures were so far. JSON that only the training engine reads.
    Progress,
}

impl Role {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Trained => "trained",
            Self::Optimizer => "optimizer",
            Self::Progress => "progress",
        }
    }
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
    /// The lineage that leads here; within an epoch, that of the epoch in flight.
    pub key: LineageKey,
    /// How many epochs that is; within an epoch, the one in flight.
    pub epoch: Epoch,
    /// Within an epoch: optimizer steps of it that are done, at least 1. None at an epoch's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The execution that made it.
    pub attempt: Attempt,
    /// The network.
    pub arch: Arch,
    /// The classes, in the order of the head's outputs.
    pub classes: Vec<String>,
    /// Where it was computed.
    pub environment: Environment,
    /// Its files, one per role, in the order of [`Role`]; the progress only within an epoch.
    pub parts: Vec<Part>,
}

/// What besides the lineage can change a result's bits: two attempts of one lineage in one environment class end in the
/// same weights.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Version of the training engine.
    pub engine: String,
    /// Version of libtorch, or `none` where it computes nothing.
    pub libtorch: String,
    /// `cpu`, `flex` for the processor without libtorch, or the accelerator's model.
    pub device: String,
    /// The instruction set that kernels are dispatched to, such as `AVX512`.
    pub instructions: String,
    /// Threads within an operation; the count changes the order of sums.
    pub threads: u32,
    /// `deterministic` where the device was told to give the same bits every time, else `default`.
    pub determinism: String,
}

impl Environment {
    /// The names of the fields that differ.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let Self { engine, libtorch, device, instructions, threads, determinism } = self;
        let fields = [
            ("engine", *engine == other.engine),
            ("libtorch", *libtorch == other.libtorch),
            ("device", *device == other.device),
            ("instructions", *instructions == other.instructions),
            ("threads", *threads == other.threads),
            ("determinism", *determinism == other.determinism),
        ];
        fields.into_iter().filter(|(_, equal)| !equal).map(|(name, _)| name).collect()
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { engine, libtorch, device, instructions, threads, determinism } = self;
        write!(
            f,
            "engine {engine}, libtorch {libtorch}, device {device}, {instructions}, threads {threads}, {determinism}"
        )
    }
}

/// The first tensor, by name, in which two safetensors files differ; none where they do not, or where one is no such file.
pub fn first_difference(one: &[u8], other: &[u8]) -> Option<String> {
    let (one, other) = (SafeTensors::deserialize(one).ok()?, SafeTensors::deserialize(other).ok()?);
    let mut names: Vec<&str> = one.names().into_iter().chain(other.names()).collect();
    names.sort_unstable();
    let differs = |name: &&str| match (one.tensor(name), other.tensor(name)) {
        (Ok(one), Ok(other)) => {
            one.dtype() != other.dtype() || one.shape() != other.shape() || one.data() != other.data()
        }
        _ => true,
    };
    names.into_iter().find(differs).map(str::to_owned)
}

/// Why a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the checkpoint's manifest cannot be read: {0}")]
    Malformed(String),
    #[error("the checkpoint's manifest has schema {0:?}; this version reads {SCHEMA:?} and {SCHEMA_1:?}")]
    Schema(String),
    #[error("the checkpoint's manifest says step 0, which is the end of the epoch before")]
    Step,
    #[error(
        "the checkpoint's manifest does not list a frozen, a trained and an optimizer part, and within an epoch a progress part, once each \
         and in this order"
    )]
    Parts,
}

impl Manifest {
    /// Digest of weights and optimizer, whoever computed them: of the digests of the parts that are in every checkpoint,
    /// one line `role=digest` each. Training an epoch again in the same environment class gives the same one.
    pub fn weights(&self) -> Digest {
        let parts = self.parts.iter().filter(|part| part.role != Role::Progress);
        let lines: String = parts.map(|part| format!("{}={}\n", part.role.name(), part.digest)).collect();
        Digest::of(lines.as_bytes())
    }

    /// The bytes that are stored and digested.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest is plain data with string keys")
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// When the bytes are no manifest of a known schema with one part of each role.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| Error::Malformed(error.to_string()))?;
        match (manifest.schema.as_str(), manifest.step) {
            (SCHEMA, Some(0)) => return Err(Error::Step),
            (SCHEMA, _) | (SCHEMA_1, None) => {}
            _ => return Err(Error::Schema(manifest.schema)),
        }
        let expected: &[Role] = match manifest.step {
            None => &[Role::Frozen, Role::Trained, Role::Optimizer],
            Some(_) => &[Role::Frozen, Role::Trained, Role::Optimizer, Role::Progress],
        };
        let roles = manifest.parts.iter().map(|part| &part.role);
        if roles.eq(expected) { Ok(manifest) } else { Err(Error::Parts) }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::{Dtype, tensor::TensorView};
    use uuid::Uuid;

    use super::*;
    use crate::ids::SegmentId;

    fn manifest(step: Option<u32>, roles: &[Role]) -> Manifest {
        let part = |&role| Part { role, digest: Digest::of(b"part"), bytes: 4 };
        Manifest {
            schema: SCHEMA.to_owned(),
            key: LineageKey(Digest::of(b"key")),
            epoch: Epoch(3),
            step,
            attempt: Attempt { segment: SegmentId(Uuid::nil()), number: 1 },
            arch: Arch::Densenet121,
            classes: vec!["NORMAL".to_owned(), "PNEUMONIA".to_owned()],
            environment: Environment {
                engine: "1".to_owned(),
                libtorch: "2.9.1".to_owned(),
                device: "cpu".to_owned(),
                instructions: "AVX2".to_owned(),
                threads: 2,
                determinism: "default".to_owned(),
            },
            parts: roles.iter().map(part).collect(),
        }
    }

    const BOUNDARY: [Role; 3] = [Role::Frozen, Role::Trained, Role::Optimizer];
    const WITHIN: [Role; 4] = [Role::Frozen, Role::Trained, Role::Optimizer, Role::Progress];

    #[test]
    fn manifests_are_read_as_they_were_written() {
        for written in [manifest(None, &BOUNDARY), manifest(Some(7), &WITHIN)] {
            assert_eq!(Manifest::from_bytes(&written.to_bytes()), Ok(written));
        }
    }

    #[test]
    fn the_weights_are_the_parts_and_nothing_else() {
        let one = manifest(None, &BOUNDARY);
        let attempt = Attempt { number: 2, ..one.attempt };
        assert_eq!(Manifest { attempt, ..one.clone() }.weights(), one.weights());
        assert_eq!(manifest(Some(7), &WITHIN).weights(), one.weights());
        for index in 0..3 {
            let mut other = one.clone();
            other.parts[index].digest = Digest::of(b"another part");
            assert_ne!(other.weights(), one.weights());
        }
    }

    #[test]
    fn the_first_tensor_that_differs_is_named() {
        let file = |names: &[&str], value: f32| {
            let bytes = value.to_le_bytes();
            let view = |name: &&str| {
                let data = if **name == *"b" { &bytes } else { &[0; 4] };
                (name.to_string(), TensorView::new(Dtype::F32, vec![1], data).expect("one number"))
            };
            safetensors::serialize(names.iter().map(view).collect::<Vec<_>>(), None).expect("a file")
        };
        let differs = |one: &[u8], other: &[u8]| first_difference(one, other);
        let whole = file(&["a", "b", "c"], 1.0);
        assert_eq!(differs(&whole, &whole), None);
        assert_eq!(differs(&whole, &file(&["a", "b", "c"], 2.0)).as_deref(), Some("b"));
        assert_eq!(differs(&whole, &file(&["a", "b"], 1.0)).as_deref(), Some("c"));
        assert_eq!(differs(&whole, b"no such file"), None);
    }

    #[test]
    fn the_first_schema_is_still_read() {
        let old = Manifest { schema: SCHEMA_1.to_owned(), ..manifest(None, &BOUNDARY) };
        assert!(!String::from_utf8(old.to_bytes()).unwrap().contains("step"), "as it was written then");
        assert_eq!(Manifest::from_bytes(&old.to_bytes()), Ok(old));
        let impossible = Manifest { schema: SCHEMA_1.to_owned(), ..manifest(Some(7), &WITHIN) };
        assert_eq!(Manifest::from_bytes(&impossible.to_bytes()), Err(Error::Schema(SCHEMA_1.to_owned())));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let read = |manifest: Manifest| Manifest::from_bytes(&manifest.to_bytes());
        assert_eq!(read(manifest(None, &WITHIN)), Err(Error::Parts));
        assert_eq!(read(manifest(Some(7), &BOUNDARY)), Err(Error::Parts));
        assert_eq!(read(manifest(None, &[Role::Trained, Role::Frozen, Role::Optimizer])), Err(Error::Parts));
        assert_eq!(read(manifest(Some(0), &WITHIN)), Err(Error::Step));
        assert!(matches!(Manifest::from_bytes(b"{}"), Err(Error::Malformed(_))));
    }
}
