//! Features: what the frozen part of a network gives for each sample, computed once and shared.
//!
//! A set of features is named by everything that it is a function of ([`Source`]), so arms, seeds and workers that would
//! compute the same find the same name. The canonical encoding of a name is lines of `name=value`, in the order written
//! here, under a version line; it is pinned by a golden test, because a changed encoding silently changes what is
//! shared.
//!
//! A set is a manifest and shards. A shard is nothing but numbers, little-endian, sample after sample, which a trainer
//! can map into memory as it is. In a folder a set is `KEY/shard-0`, `KEY/shard-1`, … and `KEY/manifest.json`, written
//! last; in the object store the name `features/KEY` stands for the manifest's digest. Whoever reads a shard digests it
//! first: a set that is damaged or incomplete is computed again, never trusted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    architecture::{Arch, Part},
    checkpoint::Environment,
    dataset::Split,
    digest::{self, Digest},
    ids::Epoch,
    lineage::ENGINE,
    spec::Precision,
};

/// Version of the encoding of names. Raise it when the lines change.
pub const ENCODING: &str = "ceteris.features/1";
/// The manifest's schema.
pub const SCHEMA: &str = "ceteris.features.manifest/1";
/// Where names of feature sets stand in the object store.
pub const NAMESPACE: &str = "features";
/// The manifest's file in a set's folder.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The largest manifest that is read: some 100,000 shards.
pub const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// Most dimensions of a sample's features.
const MAX_DIMENSIONS: usize = 8;

/// The name of a feature set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeatureKey(pub Digest);

impl FeatureKey {
    /// The set's folder: all 64 digits.
    pub fn folder(&self) -> String {
        self.to_string()
    }

    /// The first twelve hexadecimal digits: what messages show.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for FeatureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for FeatureKey {
    type Err = digest::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The file of shard `index` in a set's folder.
pub fn shard_file(index: usize) -> String {
    format!("shard-{index}")
}

/// Everything that features are a function of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Source<'a> {
    /// The network.
    pub arch: Arch,
    /// The first part that is trained; the features are its input.
    pub boundary: Part,
    /// Digest of the canonical bytes of every tensor below the boundary.
    pub frozen: Digest,
    /// Digest of the data set's manifest.
    pub dataset: Digest,
    /// Which of its samples, in their order; none for all.
    pub split: Option<Split>,
    /// Height and width of the images, in pixels.
    pub image_size: u32,
    /// Arithmetic.
    pub precision: Precision,
    /// Samples that are computed together: it can change a sample's last bits.
    pub batch: u32,
    /// Where they are computed.
    pub environment: &'a Environment,
    /// How the images are changed first; none where they are not.
    pub augment: Option<Draws<'a>>,
}

/// Which draws of an augmentation policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws<'a> {
    /// The policy with its version, or its canonical text; one line.
    pub policy: &'a str,
    /// The run's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: Epoch,
}

/// The name that serde gives a unit variant.
fn name(variant: &impl Serialize) -> String {
    let text = serde_json::to_string(variant).expect("a unit variant is plain data");
    text.trim_matches('"').to_owned()
}

impl Source<'_> {
    /// The set's name.
    pub fn key(&self) -> FeatureKey {
        let augment = match self.augment {
            None => "augment=none\n".to_owned(),
            // As JSON, so that whatever the text is, it is one line.
            Some(Draws { policy, seed, epoch }) => {
                let policy = serde_json::to_string(policy).expect("text is plain data");
                format!("augment={policy}\nseed={seed}\nepoch={epoch}\n")
            }
        };
        let environment = serde_json::to_string(self.environment).expect("an environment is plain data");
        FeatureKey(Digest::of(
            format!(
                "{ENCODING}\nengine={ENGINE}\narch={}\nboundary={}\nfrozen={}\ndataset={}\nsplit={}\nimage_size={}\n\
                 precision={}\nbatch={}\nenvironment={environment}\n{augment}",
                self.arch.name(),
                name(&self.boundary),
                self.frozen,
                self.dataset,
                self.split.map_or("all", Split::name),
                self.image_size,
                name(&self.precision),
                self.batch,
            )
            .as_bytes(),
        ))
    }
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// bfloat16: the upper half of a binary32.
    Bf16,
}

impl Dtype {
    /// Bytes of one number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// A file of `samples` samples' features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// SHA-256 of the file, which is also its name in the object store.
    pub digest: Digest,
    /// How many samples it holds.
    pub samples: u32,
    /// Its length.
    pub bytes: u64,
}

/// What a set of features is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The set's name.
    pub key: FeatureKey,
    /// One sample's features: their shape in PyTorch's order, such as `[1024, 7, 7]`.
    pub shape: Vec<u32>,
    /// How a number is written.
    pub dtype: Dtype,
    /// Samples in every shard but the last.
    pub samples_per_shard: u32,
    /// In order; shard `i` holds the set's samples from `i × samples_per_shard` on.
    pub shards: Vec<Shard>,
}

/// Why a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the features' manifest is {0} bytes long; at most {MAX_MANIFEST_BYTES} are read")]
    TooLarge(u64),
    #[error("the features' manifest cannot be read: {0}")]
    Malformed(String),
    #[error("the features' manifest has schema {0:?}; this version reads {SCHEMA:?}")]
    Schema(String),
    #[error("the features' manifest is of {found}, not of {expected}")]
    OtherKey { expected: FeatureKey, found: FeatureKey },
    #[error("the features' manifest contradicts itself: {0}")]
    Inconsistent(String),
}

impl Manifest {
    /// The canonical bytes: what is stored and digested.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest is plain data with string keys")
    }

    /// Reads and checks the manifest of the set named `key`.
    ///
    /// # Errors
    /// When the bytes are no manifest of this schema and key, or say what cannot be.
    pub fn from_bytes(bytes: &[u8], key: FeatureKey) -> Result<Self, Error> {
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(Error::TooLarge(bytes.len() as u64));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| Error::Malformed(error.to_string()))?;
        if manifest.schema != SCHEMA {
            return Err(Error::Schema(manifest.schema));
        }
        if manifest.key != key {
            return Err(Error::OtherKey { expected: key, found: manifest.key });
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Bytes of one sample's features; none where the shape is no shape.
    pub fn sample_bytes(&self) -> Option<u64> {
        if self.shape.is_empty() || self.shape.len() > MAX_DIMENSIONS || self.shape.contains(&0) {
            return None;
        }
        self.shape.iter().try_fold(self.dtype.bytes(), |bytes, &length| bytes.checked_mul(length.into()))
    }

    /// Samples of all shards.
    pub fn samples(&self) -> u64 {
        self.shards.iter().map(|shard| u64::from(shard.samples)).sum()
    }

    /// Bytes of all shards.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.bytes))
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |problem: String| Err(Error::Inconsistent(problem));
        let Some(sample) = self.sample_bytes() else {
            return refuse(format!("{:?} is not the shape of a sample's features", self.shape));
        };
        let Some(last) = self.shards.len().checked_sub(1) else {
            return refuse("it lists no shard".to_owned());
        };
        for (index, shard) in self.shards.iter().enumerate() {
            let full = shard.samples == self.samples_per_shard;
            if shard.samples == 0 || !full && (index < last || shard.samples > self.samples_per_shard) {
                return refuse(format!(
                    "shard {index} of {} has {} samples where {} are in a shard",
                    last + 1,
                    shard.samples,
                    self.samples_per_shard
                ));
            }
            if sample.checked_mul(shard.samples.into()) != Some(shard.bytes) {
                return refuse(format!(
                    "shard {index} has {} bytes for {} samples of {sample} bytes",
                    shard.bytes, shard.samples
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
