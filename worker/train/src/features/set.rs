//! A set of features on disk: made shard by shard, aside, the manifest last; opened only after every digest was checked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use ceteris_shared::{
    digest::Digest,
    features::{self, Dtype, FeatureKey, MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, SCHEMA, Shard, shard_file},
};
use memmap2::{Mmap, MmapOptions};

use crate::files;

/// Bytes that a shard has about.
const SHARD_BYTES: u64 = 32 << 20;

/// A complete set, mapped into memory.
#[derive(Debug)]
pub struct FeatureSet {
    manifest: Manifest,
    /// `[channels, height, width]` of one sample.
    shape: [usize; 3],
    shards: Vec<Mmap>,
}

/// Why a set is not used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{}: {source}", file.display())]
    Manifest { file: PathBuf, source: features::Error },
    #[error("{}: damaged: its bytes do not have the digest that the manifest names", file.display())]
    Damaged { file: PathBuf },
    #[error("{}: it holds {found:?} for {samples} samples where {expected} samples were looked for", file.display())]
    Other { file: PathBuf, found: Vec<u32>, samples: u64, expected: usize },
}

impl FeatureSet {
    /// Opens the set `key` of `samples` samples in `directory`. None where there is none.
    ///
    /// # Errors
    /// When it is damaged, or is not what its name says.
    pub fn open(directory: &Path, key: FeatureKey, samples: usize) -> Result<Option<Self>, Error> {
        let folder = directory.join(key.folder());
        let file = folder.join(MANIFEST_FILE);
        if !file.exists() {
            return Ok(None);
        }
        let bytes = files::read(&file, MAX_MANIFEST_BYTES)?;
        let manifest =
            Manifest::from_bytes(&bytes, key).map_err(|source| Error::Manifest { file: file.clone(), source })?;
        let shape = <[u32; 3]>::try_from(manifest.shape.as_slice()).map(|shape| shape.map(|extent| extent as usize));
        let (Ok(shape), true) = (shape, manifest.samples() == samples as u64) else {
            let samples_found = manifest.samples();
            return Err(Error::Other { file, found: manifest.shape, samples: samples_found, expected: samples });
        };
        let shards = manifest.shards.iter().enumerate().map(|(index, shard)| {
            let file = folder.join(shard_file(index));
            let mapped = files::map(&file, &MmapOptions::new())?;
            if mapped.len() as u64 == shard.bytes && Digest::of(&mapped) == shard.digest {
                Ok(mapped)
            } else {
                Err(Error::Damaged { file })
            }
        });
        let shards = shards.collect::<Result<_, _>>()?;
        Ok(Some(Self { manifest, shape, shards }))
    }

    /// Bytes of all its samples.
    pub fn bytes(&self) -> u64 {
        self.manifest.bytes()
    }

    /// The features of the samples at `positions` in the set, padded with zeros to at least `rows` rows.
    pub fn rows(&self, positions: impl ExactSizeIterator<Item = usize>, rows: usize) -> Rows {
        let sample_bytes = self.manifest.sample_bytes().unwrap_or(0) as usize;
        let rows = rows.max(positions.len());
        let per_shard = self.manifest.samples_per_shard as usize;
        let mut bytes = Vec::with_capacity(rows * sample_bytes);
        for position in positions {
            let start = position % per_shard * sample_bytes;
            bytes.extend_from_slice(&self.shards[position / per_shard][start..start + sample_bytes]);
        }
        bytes.resize(rows * sample_bytes, 0);
        Rows { bytes, rows, shape: self.shape, dtype: self.manifest.dtype }
    }
}

/// Features of some samples, on their way to a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    bytes: Vec<u8>,
    rows: usize,
    shape: [usize; 3],
    dtype: Dtype,
}

impl Rows {
    /// `[rows, channels, height, width]` on `device`, in the float type in which it was computed.
    pub fn tensor(self, device: &Device) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let dtype = match self.dtype {
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
        };
        let data = TensorData::from_bytes_vec(self.bytes, [self.rows, channels, height, width], dtype);
        Tensor::from_data(data, (device, dtype))
    }
}

/// Writes a set.
#[derive(Debug)]
pub struct Maker {
    folder: PathBuf,
    manifest: Manifest,
    /// Bytes that are not yet in a shard.
    open: Vec<u8>,
}

impl Maker {
    /// Begins the set `key` in `directory`, of features `[channels, height, width]`. What lies there under this name is
    /// replaced.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin(directory: &Path, key: FeatureKey, shape: [usize; 3], dtype: DType) -> Result<Self, Error> {
        let folder = directory.join(key.folder());
        // Never a manifest over shards that it does not describe.
        match fs::remove_file(folder.join(MANIFEST_FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(files::at(&folder, "a damaged set cannot be removed")(error).into());
            }
            _ => {}
        }
        fs::create_dir_all(&folder).map_err(files::at(&folder, "cannot be created"))?;
        let dtype = if dtype == DType::BF16 { Dtype::Bf16 } else { Dtype::F32 };
        let sample: usize = shape.iter().product();
        let sample_bytes = sample as u64 * dtype.bytes();
        let samples_per_shard = u32::try_from((SHARD_BYTES / sample_bytes.max(1)).max(1)).unwrap_or(u32::MAX);
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            key,
            shape: shape.iter().map(|extent| *extent as u32).collect(),
            dtype,
            samples_per_shard,
            shards: Vec::new(),
        };
        Ok(Self { folder, manifest, open: Vec::new() })
    }

    /// Adds the first `count` rows of `features` `[rows, channels, height, width]`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn add(&mut self, features: Tensor<4>, count: usize) -> Result<(), Error> {
        let data = features.slice(0..count).into_data();
        self.open.extend_from_slice(data.as_bytes());
        let full = self.manifest.samples_per_shard as usize * self.sample_bytes();
        while self.open.len() >= full {
            let rest = self.open.split_off(full);
            let shard = std::mem::replace(&mut self.open, rest);
            self.write_shard(&shard)?;
        }
        Ok(())
    }

    /// Completes the set.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self) -> Result<(), Error> {
        let rest = std::mem::take(&mut self.open);
        if !rest.is_empty() {
            self.write_shard(&rest)?;
        }
        files::write(&self.folder.join(MANIFEST_FILE), &self.manifest.to_bytes())?;
        Ok(files::sync_folder(&self.folder)?)
    }

    fn sample_bytes(&self) -> usize {
        self.manifest.sample_bytes().unwrap_or(0) as usize
    }

    fn write_shard(&mut self, bytes: &[u8]) -> Result<(), Error> {
        files::write(&self.folder.join(shard_file(self.manifest.shards.len())), bytes)?;
        let samples = bytes.len() / self.sample_bytes();
        self.manifest.shards.push(Shard {
            digest: Digest::of(bytes),
            samples: u32::try_from(samples).unwrap_or(u32::MAX),
            bytes: bytes.len() as u64,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{DeviceName, open};

    const KEY: fn() -> FeatureKey = || FeatureKey(Digest::of(b"a set"));

    fn device() -> Device {
        open(DeviceName::default(), 1).expect("the processor is always there").device
    }

    fn features(rows: usize) -> Tensor<4> {
        let values: Vec<f32> = (0..rows * 6).map(|value| value as f32).collect();
        Tensor::from_data(TensorData::new(values, [rows, 2, 3, 1]), &device())
    }

    fn make(directory: &Path) {
        let mut maker = Maker::begin(directory, KEY(), [2, 3, 1], DType::F32).expect("writable");
        maker.manifest.samples_per_shard = 4;
        maker.add(features(16), 9).expect("writable");
        maker.finish().expect("writable");
    }

    fn first_values(set: &FeatureSet, positions: &[usize], rows: usize) -> Vec<f32> {
        let tensor = set.rows(positions.iter().copied(), rows).tensor(&device());
        let values: Vec<f32> = tensor.into_data().try_into_vec().expect("fp32");
        values.into_iter().step_by(6).collect()
    }

    #[test]
    fn rows_come_back_in_any_order_and_padded() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(FeatureSet::open(folder.path(), KEY(), 9).expect("nothing is wrong with nothing").is_none());
        make(folder.path());
        let set = FeatureSet::open(folder.path(), KEY(), 9).expect("whole").expect("there");
        assert_eq!(first_values(&set, &[8, 0, 4], 0), [48.0, 0.0, 24.0]);
        assert_eq!(first_values(&set, &[1], 3), [6.0, 0.0, 0.0]);
        assert_eq!(set.bytes(), 9 * 24);
    }

    #[test]
    fn damage_is_seen_and_a_damaged_set_is_made_anew() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        make(folder.path());
        let shard = folder.path().join(KEY().folder()).join(shard_file(1));
        let mut bytes = fs::read(&shard).expect("readable");
        bytes[5] ^= 1;
        fs::write(&shard, &bytes).expect("writable");
        assert!(matches!(FeatureSet::open(folder.path(), KEY(), 9), Err(Error::Damaged { file }) if file == shard));
        fs::write(&shard, &bytes[..10]).expect("writable");
        assert!(matches!(FeatureSet::open(folder.path(), KEY(), 9), Err(Error::Damaged { .. })));
        fs::remove_file(&shard).expect("removable");
        assert!(matches!(FeatureSet::open(folder.path(), KEY(), 9), Err(Error::File(_))));
        make(folder.path());
        assert!(FeatureSet::open(folder.path(), KEY(), 9).expect("whole").is_some());
        assert!(matches!(FeatureSet::open(folder.path(), KEY(), 8), Err(Error::Other { samples: 9, .. })));
    }

    #[test]
    fn an_unfinished_set_is_none() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        make(folder.path());
        let mut maker = Maker::begin(folder.path(), KEY(), [2, 3, 1], DType::F32).expect("writable");
        maker.add(features(16), 9).expect("writable");
        drop(maker);
        assert!(FeatureSet::open(folder.path(), KEY(), 9).expect("nothing is wrong").is_none());
    }
}
