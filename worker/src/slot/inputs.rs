//! From digests to verified files.

use std::path::Path;

use ceteris_proto::fleet::{self, StartAttempt};
use ceteris_shared::{
    checkpoint::{self, Role},
    dataset::{MAX_MANIFEST_BYTES, Manifest},
    digest::Digest,
    trainer::{DatasetFiles, Position, Start},
};

use super::Failure;
use crate::cache::{Cache, Use, patiently};

/// Fetches a data set and checks every file of it. They stay as long as what is added to `used`.
pub(super) async fn dataset(cache: &Cache, digest: Digest, used: &mut Vec<Use>) -> Result<DatasetFiles, Failure> {
    let about =
        |error: &dyn std::fmt::Display| Failure::infrastructure(format!("data set {}: {error}", digest.short()));
    let held = cache.get(digest, None).await.map_err(|error| Failure::of_cache(&error, about))?;
    let manifest_file = held.path();
    used.push(held);
    let length = tokio::fs::metadata(&manifest_file).await.map_err(|error| about(&error))?.len();
    if length > MAX_MANIFEST_BYTES {
        return Err(about(&format!("its manifest is {length} bytes long; at most {MAX_MANIFEST_BYTES} are read")));
    }
    let bytes = tokio::fs::read(&manifest_file).await.map_err(|error| about(&error))?;
    let manifest = Manifest::from_bytes(&bytes).map_err(|error| about(&error))?;
    let mut shards = Vec::with_capacity(manifest.shards.len());
    for shard in &manifest.shards {
        let bytes = u64::from(shard.samples) * manifest.sample_bytes() as u64;
        let held = cache.get(shard.digest, Some(bytes)).await.map_err(|error| Failure::of_cache(&error, about))?;
        shards.push(held.path());
        used.push(held);
    }
    Ok(DatasetFiles { manifest: manifest_file, shards })
}

/// Fetches what the weights come from; the parts of a checkpoint have names in `folder`, the rest stays as long as what is
/// added to `used`.
pub(super) async fn weights(
    cache: &Cache,
    start: &StartAttempt,
    folder: &Path,
    used: &mut Vec<Use>,
) -> Result<Start, Failure> {
    match start.start {
        fleet::Start::Random => Ok(Start::Random),
        fleet::Start::Weights(digest) => {
            let held = cache.get(digest, None).await;
            let about = |error: &dyn std::fmt::Display| Failure::infrastructure(format!("initial weights: {error}"));
            let held = held.map_err(|error| Failure::of_cache(&error, about))?;
            let file = held.path();
            used.push(held);
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
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => return Err(unusable(cache, start, digest, error, about).await),
    };
    let manifest = checkpoint::Manifest::from_bytes(&bytes).map_err(|error| about(&error))?;
    check(&manifest, start).map_err(|problem| about(&problem))?;
    let mut files = Vec::with_capacity(manifest.parts.len());
    for part in &manifest.parts {
        let file = folder.join(match part.role {
            Role::Progress => format!("{}.json", part.digest),
            Role::Frozen | Role::Trained | Role::Optimizer => format!("{}.safetensors", part.digest),
        });
        match cache.link(part.digest, part.bytes, &file).await {
            Ok(()) => {}
            Err(crate::cache::Error::Store(error)) => return Err(unusable(cache, start, digest, error, about).await),
            Err(error) => return Err(about(&error)),
        }
        restore(cache, part.digest, part.bytes, &file).await;
        files.push(file);
    }
    // `Manifest::from_bytes` sees to it that there is one part of each role, in this order.
    let mut files = files.into_iter();
    let (Some(frozen), Some(trained), Some(optimizer)) = (files.next(), files.next(), files.next()) else {
        return Err(about(&"it lacks a part"));
    };
    let position = manifest.step.zip(files.next()).map(|(step, progress)| Position { step, progress });
    Ok(Start::Checkpoint { frozen, trained, optimizer, position })
}

/// Stores a part again that is here, verified, and that the store has lost or has only a piece of. What cannot be stored
/// now is no hindrance here.
async fn restore(cache: &Cache, digest: Digest, bytes: u64, file: &Path) {
    let blobs = cache.blobs();
    let stored = async {
        match blobs.size(&digest).await? {
            Some(found) if found == bytes => return Ok(false),
            Some(_) => drop(blobs.set_aside(&digest).await?),
            None => {}
        }
        blobs.put_file(file, Some(digest)).await?;
        Ok::<_, ceteris_blob::Error>(true)
    };
    match stored.await {
        Ok(false) => {}
        Ok(true) => tracing::warn!(%digest, "the store had lost a checkpoint's part; it is stored again from here"),
        Err(error) => tracing::warn!(%digest, %error, "whether the store still has a checkpoint's part is not known"),
    }
}

/// Why an object of the checkpoint `digest` cannot be had. What is damaged is set aside, so that the same object can be
/// stored again when it is trained again. A store that has not even the data set any more has not lost a checkpoint: it is
/// not there.
async fn unusable(
    cache: &Cache,
    start: &StartAttempt,
    digest: Digest,
    error: ceteris_blob::Error,
    about: impl Fn(&dyn std::fmt::Display) -> Failure,
) -> Failure {
    let blobs = cache.blobs();
    let damaged = match &error {
        ceteris_blob::Error::Corrupt { digest, .. } => match blobs.set_aside(digest).await {
            Ok(true) => true,
            // Whole after all, or set aside by someone else.
            Ok(false) => matches!(blobs.exists(digest).await, Ok(false)),
            Err(error) => {
                tracing::warn!(%error, "a damaged object stays where it is");
                true
            }
        },
        ceteris_blob::Error::NotFound { .. } => matches!(blobs.exists(&start.dataset).await, Ok(true)),
        _ => false,
    };
    Failure { damaged: damaged.then_some(digest), ..Failure::of_store(&error, about) }
}

/// Whether a checkpoint is of the state that the work goes on from: the end of the epoch before, or within its first.
fn check(manifest: &checkpoint::Manifest, start: &StartAttempt) -> Result<(), String> {
    let (arch, work) = (manifest.arch, &start.work);
    if arch != work.arch {
        return Err(format!("it is of {}, where {} is trained", arch.name(), work.arch.name()));
    }
    let (epoch, before, first) = (manifest.epoch, work.start(), work.epochs.first());
    match manifest.step {
        None if epoch == before => Ok(()),
        Some(_) if first.is_some_and(|first| (first.epoch, first.key) == (epoch, manifest.key)) => Ok(()),
        None => Err(format!("it is of the end of epoch {epoch}, where epoch {before} is to be gone on from")),
        Some(step) => Err(format!(
            "it is of step {step} of epoch {epoch} with lineage {}, where epoch {before} or the one after it is to be gone on from",
            manifest.key.short()
        )),
    }
}
