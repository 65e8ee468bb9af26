//! From digests to verified files.

use std::path::Path;

use ceteris_proto::fleet::{self, StartAttempt};
use ceteris_shared::{
    checkpoint,
    dataset::{MAX_MANIFEST_BYTES, Manifest},
    digest::Digest,
    trainer::{DatasetFiles, Start},
};

use super::Failure;
use crate::cache::{Cache, patiently};

/// Fetches a data set and checks every file of it.
pub(super) async fn dataset(cache: &Cache, digest: Digest) -> Result<DatasetFiles, Failure> {
    let about =
        |error: &dyn std::fmt::Display| Failure::infrastructure(format!("data set {}: {error}", digest.short()));
    let manifest_file = cache.get(digest, None).await.map_err(|error| about(&error))?;
    let length = tokio::fs::metadata(&manifest_file).await.map_err(|error| about(&error))?.len();
    if length > MAX_MANIFEST_BYTES {
        return Err(about(&format!("its manifest is {length} bytes long; at most {MAX_MANIFEST_BYTES} are read")));
    }
    let bytes = tokio::fs::read(&manifest_file).await.map_err(|error| about(&error))?;
    let manifest = Manifest::from_bytes(&bytes).map_err(|error| about(&error))?;
    let mut shards = Vec::with_capacity(manifest.shards.len());
    for shard in &manifest.shards {
        let bytes = u64::from(shard.samples) * manifest.sample_bytes() as u64;
        shards.push(cache.get(shard.digest, Some(bytes)).await.map_err(|error| about(&error))?);
    }
    Ok(DatasetFiles { manifest: manifest_file, shards })
}

/// Fetches what the weights come from; the parts of a checkpoint go to `folder`.
pub(super) async fn weights(cache: &Cache, start: &StartAttempt, folder: &Path) -> Result<Start, Failure> {
    match start.start {
        fleet::Start::Random => Ok(Start::Random),
        fleet::Start::Weights(digest) => {
            let file = cache.get(digest, None).await;
            let file = file.map_err(|error| Failure::infrastructure(format!("initial weights: {error}")))?;
            Ok(Start::Weights { file })
        }
        fleet::Start::Checkpoint(digest) => checkpoint(cache, start, digest, folder).await,
    }
}

async fn checkpoint(cache: &Cache, start: &StartAttempt, digest: Digest, folder: &Path) -> Result<Start, Failure> {
    let about =
        |error: &dyn std::fmt::Display| Failure::infrastructure(format!("checkpoint {}: {error}", digest.short()));
    let patience = cache.patience();
    let bytes = patiently(patience, || cache.blobs().get_bytes(&digest, checkpoint::MAX_MANIFEST_BYTES)).await;
    let bytes = bytes.map_err(|error| about(&error))?;
    let manifest = checkpoint::Manifest::from_bytes(&bytes).map_err(|error| about(&error))?;
    let (epoch, wanted) = (manifest.epoch, start.work.start());
    if epoch != wanted || manifest.arch != start.work.arch {
        let arch = manifest.arch;
        return Err(about(&format!(
            "it is of {arch:?} after epoch {epoch}, where epoch {wanted} is to be gone on from"
        )));
    }
    let mut files = Vec::with_capacity(manifest.parts.len());
    for part in &manifest.parts {
        let file = folder.join(format!("{}.safetensors", part.digest));
        let bytes = cache.fetch(part.digest, &file).await.map_err(|error| about(&error))?;
        if bytes != part.bytes {
            return Err(about(&format!("part {} is {bytes} bytes long, not {}", part.digest, part.bytes)));
        }
        files.push(file);
    }
    // `Manifest::from_bytes` sees to it that there is one part of each role, in this order.
    let [frozen, trained, optimizer] =
        <[_; 3]>::try_from(files).map_err(|files| about(&format!("it has {} parts", files.len())))?;
    Ok(Start::Checkpoint { frozen, trained, optimizer })
}
