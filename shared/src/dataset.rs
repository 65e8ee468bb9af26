//! The packed data set: a manifest that says what every sample is, and shards that hold the pixels.
//!
//! Samples are sorted by (split, class, file), so importing the same bytes twice gives the same manifest and the same
//! digest, and a sample's index in the manifest is its identity in draws and predictions. A shard is nothing but
//! 8-bit grey pixels, sample after sample, rows top to bottom, which a worker can map into memory as it is.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The manifest's schema.
pub const SCHEMA: &str = "ceteris.dataset/1";
/// How pixels were made from source images; part of the digest, so a changed transform is another data set.
pub const TRANSFORM: &str = "grey8-antialiased@1";
/// Samples in every shard but the last.
pub const SAMPLES_PER_SHARD: usize = 1024;
/// The largest manifest that is read: one million samples of some 200 bytes.
pub const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// Which part of a data set a sample belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Weights are fitted on it.
    Train,
    /// Thresholds and epochs are chosen on it.
    Val,
    /// Scored at the endpoint only.
    Test,
}

impl Split {
    /// All splits, in their order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The name in files, tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|split| split.name() == text).ok_or_else(|| Error::UnknownSplit(text.to_owned()))
    }
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Where it came from: the path below the imported folder, with `/` between its parts.
    pub file: String,
    /// The part of the data set it belongs to.
    pub split: Split,
    /// Index into [`Manifest::classes`].
    pub class: u32,
    /// Whose image it is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
    /// SHA-256 of the source file.
    pub source: Digest,
    /// SHA-256 of the packed pixels: equal digests are pixel-identical images.
    pub pixels: Digest,
}

/// A file of `samples × image_size × image_size` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// SHA-256 of the file, which is also its name in the store.
    pub digest: Digest,
    /// How many samples it holds.
    pub samples: u32,
}

/// What a data set is. Its name is not in it: two imports of the same bytes are the same data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// [`TRANSFORM`].
    pub transform: String,
    /// Height and width in pixels.
    pub image_size: u32,
    /// Class names, sorted; a sample's class is an index into them.
    pub classes: Vec<String>,
    /// Sorted by (split, class, file).
    pub samples: Vec<Sample>,
    /// In order; shard `i` holds samples from `i ×` [`SAMPLES_PER_SHARD`] on.
    pub shards: Vec<Shard>,
}

/// Why a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{0:?} is not a split; splits are train, val and test")]
    UnknownSplit(String),
    #[error("the data set's manifest cannot be read: {0}")]
    Malformed(String),
    #[error("the data set's manifest says {field} is {found:?}; this version reads {expected:?}")]
    Schema { field: &'static str, found: String, expected: &'static str },
    #[error("the data set's manifest contradicts itself: {0}")]
    Inconsistent(String),
}

impl Manifest {
    /// The canonical bytes: what is stored and digested.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest is plain data with string keys")
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// When the bytes are no manifest of this schema, or when counts, order, classes and shards do not agree.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| Error::Malformed(error.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), Error> {
        for (field, found, expected) in [("schema", &self.schema, SCHEMA), ("transform", &self.transform, TRANSFORM)] {
            if found != expected {
                return Err(Error::Schema { field, found: found.clone(), expected });
            }
        }
        let refuse = |why: String| Err(Error::Inconsistent(why));
        if !(1..=4096).contains(&self.image_size) {
            return refuse(format!("image_size {} is not between 1 and 4096", self.image_size));
        }
        if self.classes.len() < 2 || !self.classes.is_sorted_by(|a, b| a < b) {
            return refuse("classes are not two or more different names in sorted order".to_owned());
        }
        let key = |sample: &Sample| (sample.split, sample.class, sample.file.clone());
        if !self.samples.is_sorted_by(|a, b| key(a) < key(b)) {
            return refuse("samples are not sorted by split, class and file without repeats".to_owned());
        }
        if let Some(sample) = self.samples.iter().find(|sample| sample.class as usize >= self.classes.len()) {
            return refuse(format!("{} has class {} of {}", sample.file, sample.class, self.classes.len()));
        }
        let expected: Vec<usize> = self.samples.chunks(SAMPLES_PER_SHARD).map(<[_]>::len).collect();
        if expected != self.shards.iter().map(|shard| shard.samples as usize).collect::<Vec<_>>() {
            return refuse(format!(
                "{} samples do not fill the {} shards listed",
                self.samples.len(),
                self.shards.len()
            ));
        }
        Ok(())
    }

    /// The data set's identity: the digest of [`Self::to_bytes`].
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Bytes of one sample.
    pub fn sample_bytes(&self) -> usize {
        (self.image_size as usize).pow(2)
    }

    /// Indices of the samples of `split`, ascending.
    pub fn split(&self, split: Split) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.samples).filter(move |(_, sample)| sample.split == split).map(|(index, _)| index)
    }

    /// Number of samples per class in each split that has any.
    pub fn counts(&self) -> BTreeMap<Split, Vec<u64>> {
        let mut counts: BTreeMap<Split, Vec<u64>> = BTreeMap::new();
        for sample in &self.samples {
            counts.entry(sample.split).or_insert_with(|| vec![0; self.classes.len()])[sample.class as usize] += 1;
        }
        counts
    }
}
