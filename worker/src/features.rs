//! Sets of features on the local disk and in the object store, shared by all trainers ([`ceteris_shared::features`]).
//!
//! A set is had from where it is nearest: the folder, then the store. Whatever goes wrong on the way is a warning, since
//! a trainer can always compute the set itself. What is fetched is verified on the way; what lies in the folder is
//! digested by the trainer that opens it. Where the sets outgrow their limit, those not used for longest are removed,
//! and none that a running attempt uses.

mod folder;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ceteris_blob::{Blobs, digest_file};
use ceteris_shared::{
    digest::Digest,
    features::{self, FeatureKey, MAX_MANIFEST_BYTES, Manifest, NAMESPACE, shard_file},
    trainer::FeatureFolder,
};
use tokio::sync::Semaphore;

use crate::cache::patiently;

/// The sets of one agent. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Features(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    /// Bytes of all sets together.
    limit: u64,
    blobs: Blobs,
    patience: Duration,
    /// How many use each set.
    used: Mutex<HashMap<FeatureKey, usize>>,
    /// One set goes up, and one comes down, at a time.
    up: Semaphore,
    down: Semaphore,
}

/// While it is there, its set is not removed.
#[derive(Debug)]
pub(crate) struct Use {
    of: Arc<Inner>,
    key: FeatureKey,
}

/// Where a set was found. It is in the folder in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It lay in the folder already.
    Here,
    /// It was fetched.
    Fetched,
}

/// Why a set is not had, or not shared.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum Error {
    #[error(transparent)]
    Store(#[from] ceteris_blob::Error),
    #[error(transparent)]
    Manifest(#[from] features::Error),
    #[error("{}: {source}; make the folder writable, and check that its disk has room", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "it has {bytes} bytes and there is room for {room} of {limit}: raise --features-bytes, or wait until attempts that use others have \
         ended"
    )]
    NoRoom { bytes: u64, room: u64, limit: u64 },
    #[error("shard {index} is {found} bytes long, not {expected}")]
    Length { index: usize, found: u64, expected: u64 },
    #[error("it is not complete in the folder")]
    Incomplete,
    #[error(
        "the store has another set of this name, {existing}: two workers of one environment computed different features"
    )]
    Other { existing: Digest },
}

impl Inner {
    fn used(&self) -> MutexGuard<'_, HashMap<FeatureKey, usize>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut used = self.of.used();
        if let Some(count) = used.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.key);
            }
        }
    }
}

impl Features {
    /// The sets in an existing folder; removes what dead trainers left unfinished, and what is above the limit.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub(crate) async fn open(folder: PathBuf, limit: u64, blobs: Blobs, patience: Duration) -> Result<Self, Error> {
        let used = Mutex::default();
        let (up, down) = (Semaphore::new(1), Semaphore::new(1));
        let features = Self(Arc::new(Inner { folder, limit, blobs, patience, used, up, down }));
        features.blocking(|inner| folder::remove_unfinished(&inner.folder)).await?;
        features.make_room(0).await?;
        Ok(features)
    }

    /// What a trainer is told; none where no features are to be kept.
    pub(crate) fn folder(&self) -> Option<FeatureFolder> {
        let Inner { folder, limit, .. } = &*self.0;
        (*limit > 0).then(|| FeatureFolder { directory: folder.clone(), limit_bytes: *limit })
    }

    /// Keeps a set from being removed.
    pub(crate) fn hold(&self, key: FeatureKey) -> Use {
        *self.0.used().entry(key).or_default() += 1;
        Use { of: Arc::clone(&self.0), key }
    }

    /// Whether anyone uses a set.
    #[cfg(test)]
    pub(crate) fn is_used(&self, key: FeatureKey) -> bool {
        self.0.used().contains_key(&key)
    }

    /// Has a set in the folder, if it is there or in the store. The caller holds it.
    pub(crate) async fn find(&self, key: FeatureKey) -> Option<Found> {
        if self.0.limit == 0 {
            return None;
        }
        match self.complete(key).await {
            Ok(_) => return Some(Found::Here),
            Err(Error::Incomplete) => {}
            Err(error) => {
                tracing::warn!(features = %key.short(), %error, "a set of features in the folder is not used")
            }
        }
        match self.fetch(key).await {
            Ok(true) => Some(Found::Fetched),
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(features = %key.short(), %error, "a set of features cannot be fetched; it is computed here");
                None
            }
        }
    }

    /// Takes up a set that a trainer made: makes room for it.
    pub(crate) async fn made(&self, key: FeatureKey) {
        let taken = async {
            self.complete(key).await?;
            self.make_room(0).await
        };
        if let Err(error) = taken.await {
            tracing::warn!(features = %key.short(), %error, "a set of features that was made is not taken up");
        }
    }

    /// Shares a set in the folder with other workers, unless it is shared already. Says what went wrong.
    pub(crate) async fn share(&self, key: FeatureKey) {
        let _held = self.hold(key);
        let _one = self.0.up.acquire().await;
        match self.store(key).await {
            Ok(false) => {}
            Ok(true) => tracing::info!(features = %key.short(), "a set of features is shared"),
            Err(error) => tracing::warn!(features = %key.short(), %error, "a set of features is not shared"),
        }
    }

    /// True where it was not in the store yet.
    async fn store(&self, key: FeatureKey) -> Result<bool, Error> {
        let Inner { blobs, patience, .. } = &*self.0;
        let name = key.folder();
        if patiently(*patience, || blobs.get_name(NAMESPACE, &name)).await?.is_some() {
            return Ok(false);
        }
        let manifest = self.complete(key).await?;
        for (index, shard) in manifest.shards.iter().enumerate() {
            let file = self.set(key).join(shard_file(index));
            patiently(*patience, || blobs.put_file(&file, Some(shard.digest))).await?;
        }
        let bytes = manifest.to_bytes();
        let digest = patiently(*patience, || blobs.put_bytes(&bytes)).await?;
        let existing = patiently(*patience, || blobs.put_name(NAMESPACE, &name, digest)).await?;
        if existing == digest { Ok(true) } else { Err(Error::Other { existing }) }
    }

    /// False where the store does not have it. A trainer waits for this, so nothing is tried for long.
    async fn fetch(&self, key: FeatureKey) -> Result<bool, Error> {
        let blobs = &self.0.blobs;
        let Some(digest) = blobs.get_name(NAMESPACE, &key.folder()).await? else { return Ok(false) };
        let _one = self.0.down.acquire().await;
        let manifest = Manifest::from_bytes(&blobs.get_bytes(&digest, MAX_MANIFEST_BYTES).await?, key)?;
        self.make_room(manifest.bytes()).await?;
        let set = self.set(key);
        let made = tokio::fs::create_dir_all(&set).await;
        made.map_err(|source| Error::Io { path: set.clone(), source })?;
        for (index, shard) in manifest.shards.iter().enumerate() {
            let file = set.join(shard_file(index));
            let there = digest_file(&file).await.is_ok_and(|(found, _)| found == shard.digest);
            let found = if there { shard.bytes } else { blobs.fetch(&shard.digest, &file).await? };
            if found != shard.bytes {
                return Err(Error::Length { index, found, expected: shard.bytes });
            }
        }
        self.blocking(move |_| folder::write_manifest(&set, &manifest.to_bytes())).await?;
        tracing::info!(features = %key.short(), "a set of features was fetched");
        Ok(true)
    }

    /// The manifest of a set that lies in the folder with all its shards, and marks it as used now. Their bytes are not
    /// read.
    async fn complete(&self, key: FeatureKey) -> Result<Manifest, Error> {
        let set = self.set(key);
        self.blocking(move |_| folder::complete(&set, key)).await
    }

    /// Removes what is not used and was not for longest, until there is room for so many bytes.
    async fn make_room(&self, bytes: u64) -> Result<(), Error> {
        self.blocking(move |inner| {
            let mut sets = folder::list(&inner.folder)?;
            sets.sort_by_key(|set| set.used);
            let mut total = sets.iter().fold(0_u64, |total, set| total.saturating_add(set.bytes));
            for set in sets {
                if total.saturating_add(bytes) <= inner.limit {
                    return Ok(());
                }
                if let Some(aside) = inner.set_aside(set.key)? {
                    std::fs::remove_dir_all(&aside).map_err(|source| Error::Io { path: aside, source })?;
                    tracing::info!(features = %set.key.short(), bytes = set.bytes, "a set of features was removed");
                    total = total.saturating_sub(set.bytes);
                }
            }
            let (limit, room) = (inner.limit, inner.limit.saturating_sub(total));
            // What trainers made is there, whether there is room or not.
            if bytes > 0 && bytes > room { Err(Error::NoRoom { bytes, room, limit }) } else { Ok(()) }
        })
        .await
    }

    fn set(&self, key: FeatureKey) -> PathBuf {
        self.0.folder.join(key.folder())
    }

    /// Does what may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(error) => Err(Error::Io { path: self.0.folder.clone(), source: io::Error::other(error) }),
        }
    }
}

impl Inner {
    /// Moves a set out of reach; none where it is used. Nobody can begin to use it meanwhile.
    fn set_aside(&self, key: FeatureKey) -> Result<Option<PathBuf>, Error> {
        let used = self.used();
        if used.contains_key(&key) {
            return Ok(None);
        }
        let (from, to) = (self.folder.join(key.folder()), folder::aside(&self.folder, key));
        std::fs::rename(&from, &to).map_err(|source| Error::Io { path: from, source })?;
        Ok(Some(to))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
