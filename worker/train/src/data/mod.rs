//! A packed data set on local disk, mapped into memory, and the batches made of it.

mod batch;
mod loader;
mod plan;
mod pool;
mod reading;

use std::path::PathBuf;

use ceteris_shared::{
    dataset::{self, MAX_MANIFEST_BYTES, Manifest, SAMPLES_PER_SHARD, Split},
    digest::Digest,
    trainer::DatasetFiles,
};
use memmap2::{Mmap, MmapOptions};

pub use batch::{Assembler, Batch, Mixed, batches};
pub use loader::{Batches, PREFETCH, Plan, load};
pub use plan::threads_for;
pub use pool::{Buffer, Pool};
pub use reading::read_repeatedly;

use crate::files;

/// A data set whose shards are mapped.
#[derive(Debug)]
pub struct Dataset {
    manifest: Manifest,
    shards: Vec<Mmap>,
    files: Vec<PathBuf>,
    pool: Pool,
}

/// Why a data set cannot be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{file}: {source}")]
    Manifest { file: String, source: dataset::Error },
    #[error("the data set's manifest lists {listed} shards, and {given} files were given")]
    ShardCount { listed: usize, given: usize },
    #[error(
        "{file}: {found} bytes; a shard of {samples} samples has {expected}: delete the file, so that it is fetched again"
    )]
    ShardSize { file: String, found: usize, samples: u32, expected: usize },
    #[error(
        "{file}: shard {shard} of the data set is damaged, its SHA-256 is {found} and the manifest's {listed}: delete the file, so that it is fetched again"
    )]
    ShardDigest { file: String, shard: usize, found: Digest, listed: Digest },
}

impl Dataset {
    /// Opens a data set.
    ///
    /// # Errors
    /// When the manifest is refused, or a shard is missing or not as long as the manifest says.
    pub fn open(given: &DatasetFiles) -> Result<Self, Error> {
        let bytes = files::read(&given.manifest, MAX_MANIFEST_BYTES)?;
        let manifest = Manifest::from_bytes(&bytes)
            .map_err(|source| Error::Manifest { file: given.manifest.display().to_string(), source })?;
        if manifest.shards.len() != given.shards.len() {
            return Err(Error::ShardCount { listed: manifest.shards.len(), given: given.shards.len() });
        }
        let shards = manifest.shards.iter().zip(&given.shards).map(|(shard, file)| {
            let mapped = files::map(file, &MmapOptions::new())?;
            let expected = shard.samples as usize * manifest.sample_bytes();
            if mapped.len() == expected {
                Ok(mapped)
            } else {
                let file = file.display().to_string();
                Err(Error::ShardSize { file, found: mapped.len(), samples: shard.samples, expected })
            }
        });
        let shards = shards.collect::<Result<_, Error>>()?;
        Ok(Self { manifest, shards, files: given.shards.clone(), pool: Pool::default() })
    }

    /// Reads every shard and compares it with its digest in the manifest.
    ///
    /// # Errors
    /// With the first shard that is not what the manifest says.
    pub fn verify(&self) -> Result<(), Error> {
        for (shard, ((mapped, file), listed)) in
            self.shards.iter().zip(&self.files).zip(&self.manifest.shards).enumerate()
        {
            let (found, listed) = (Digest::of(mapped), listed.digest);
            if found != listed {
                return Err(Error::ShardDigest { file: file.display().to_string(), shard, found, listed });
            }
        }
        Ok(())
    }

    /// Where the buffers of its batches come from.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What the data set is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Height and width of its images in pixels.
    pub fn image_size(&self) -> usize {
        self.manifest.image_size as usize
    }

    /// Indices of the samples of `split`, ascending.
    pub fn split(&self, split: Split) -> Vec<u32> {
        self.manifest.split(split).collect()
    }

    /// Indices of all samples.
    pub fn all(&self) -> Vec<u32> {
        (0..).zip(&self.manifest.samples).map(|(index, _)| index).collect()
    }

    /// The class of a sample.
    pub fn label(&self, sample: u32) -> u32 {
        self.manifest.samples[sample as usize].class
    }

    /// The grey pixels of a sample, row by row.
    pub fn pixels(&self, sample: u32) -> &[u8] {
        let (shard, place) = (sample as usize / SAMPLES_PER_SHARD, sample as usize % SAMPLES_PER_SHARD);
        let bytes = self.manifest.sample_bytes();
        &self.shards[shard][place * bytes..][..bytes]
    }
}

#[cfg(test)]
mod tests;
