//! Decoding on all cores and writing shards, a batch at a time, so that memory does not grow with the data set.

use std::{
    fs::File,
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use ceteris_shared::{
    dataset::{Manifest, SAMPLES_PER_SHARD, SCHEMA, Sample, Shard, Split, TRANSFORM},
    digest::{Digest, Hasher},
};
use rayon::prelude::*;
use tempfile::TempDir;

use super::{Candidate, Error, MAX_FILE_BYTES, Options, Picture, Progress, Refusal, Refused, decode};

/// Decoded pixels that wait to be written.
const BATCH_BYTES: usize = 64 << 20;

/// An image with its split and class settled.
pub struct Placed {
    pub candidate: Candidate,
    pub split: Split,
    /// Index into the classes.
    pub class: u32,
}

impl Placed {
    /// What a manifest's samples are sorted by.
    pub fn key(&self) -> (Split, u32, &str) {
        (self.split, self.class, &self.candidate.file)
    }
}

/// What packing gives.
pub struct Packed {
    pub manifest: Manifest,
    pub shards: Vec<PathBuf>,
    pub refused: Vec<Refused>,
    pub narrow_range: Vec<String>,
    pub folder: TempDir,
}

/// Packs `placed`, which is sorted by [`Placed::key`], in that order.
pub fn pack(
    placed: &[Placed],
    classes: &[String],
    options: &Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Packed, Error> {
    let mut shards = Shards::new(options)?;
    let (mut samples, mut refused, mut narrow_range) = (Vec::with_capacity(placed.len()), Vec::new(), Vec::new());
    let (done, total) = (AtomicU64::new(0), placed.len() as u64);
    let sample_bytes = (options.image_size as usize).pow(2);
    let batch = (BATCH_BYTES / sample_bytes).clamp(rayon::current_num_threads(), SAMPLES_PER_SHARD);
    for batch in placed.chunks(batch) {
        let load = |placed: &Placed| {
            let loaded = load(&options.folder, &placed.candidate, options.image_size);
            progress(Progress { done: done.fetch_add(1, Ordering::Relaxed) + 1, total });
            loaded
        };
        let loaded: Vec<Result<(Digest, Picture), Refusal>> = batch.par_iter().map(load).collect();
        for (placed, loaded) in batch.iter().zip(loaded) {
            let file = placed.candidate.file.clone();
            match loaded {
                Err(reason) => refused.push(Refused { file, reason }),
                Ok((source, picture)) => {
                    shards.push(&picture.pixels)?;
                    if picture.narrow_range {
                        narrow_range.push(file.clone());
                    }
                    let (split, class, patient) = (placed.split, placed.class, placed.candidate.patient.clone());
                    samples.push(Sample { file, split, class, patient, source, pixels: picture.digest() });
                }
            }
        }
    }
    shards.close()?;
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        transform: TRANSFORM.to_owned(),
        image_size: options.image_size,
        classes: classes.to_vec(),
        samples,
        shards: shards.shards,
    };
    Ok(Packed { manifest, shards: shards.paths, refused, narrow_range, folder: shards.folder })
}

/// The file's digest and its picture.
pub fn load(folder: &Path, candidate: &Candidate, size: u32) -> Result<(Digest, Picture), Refusal> {
    let unreadable = |error: std::io::Error| Refusal::Unreadable(error.to_string());
    let file = File::open(folder.join(&candidate.file)).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Refusal::TooLarge);
    }
    let source = Digest::of(&bytes);
    if candidate.digest.is_some_and(|listed| listed != source) {
        return Err(Refusal::WrongDigest);
    }
    Ok((source, decode(&bytes, size)?))
}

/// Writes shards into a temporary folder.
struct Shards {
    folder: TempDir,
    open: Option<Open>,
    shards: Vec<Shard>,
    paths: Vec<PathBuf>,
}

struct Open {
    file: BufWriter<File>,
    hasher: Hasher,
    samples: u32,
}

impl Shards {
    fn new(options: &Options) -> Result<Self, Error> {
        let place = options.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new()
            .prefix("ceteris-import-")
            .tempdir_in(&place)
            .map_err(|source| Error::Scratch { path: place, source })?;
        Ok(Self { folder, open: None, shards: Vec::new(), paths: Vec::new() })
    }

    fn push(&mut self, pixels: &[u8]) -> Result<(), Error> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.create()?,
        };
        open.file.write_all(pixels).map_err(|source| self.broken(source))?;
        open.hasher.update(pixels);
        open.samples += 1;
        let full = open.samples as usize == SAMPLES_PER_SHARD;
        self.open = Some(open);
        if full { self.close() } else { Ok(()) }
    }

    fn create(&mut self) -> Result<Open, Error> {
        let path = self.folder.path().join(format!("shard-{:06}", self.paths.len()));
        let file = File::create_new(&path).map_err(|source| Error::Scratch { path: path.clone(), source })?;
        self.paths.push(path);
        Ok(Open { file: BufWriter::with_capacity(1 << 20, file), hasher: Hasher::default(), samples: 0 })
    }

    fn close(&mut self) -> Result<(), Error> {
        if let Some(mut open) = self.open.take() {
            open.file.flush().map_err(|source| self.broken(source))?;
            self.shards.push(Shard { digest: open.hasher.finish(), samples: open.samples });
        }
        Ok(())
    }

    fn broken(&self, source: std::io::Error) -> Error {
        Error::Scratch { path: self.paths.last().cloned().unwrap_or_default(), source }
    }
}
