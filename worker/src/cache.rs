//! Data sets and weights on the local disk, by digest. A file is trusted only after its bytes were digested again, at
//! the start of every attempt: a disk that forgets would otherwise change results without a trace.
//!
//! What is kept is what is used again: the parts of checkpoints belong to one attempt and are fetched into its folder.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ceteris_blob::{Blobs, digest_file};
use ceteris_shared::digest::Digest;
use tokio::time::Instant;

use crate::backoff;

/// Verified local copies of a store's objects.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    blobs: Blobs,
    patience: Duration,
    /// One fetch of an object at a time.
    busy: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// Why an object cannot be had.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] ceteris_blob::Error),
    #[error("the cached file {}: {source}; make the folder writable, and check that its disk has room", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the object {digest} is {found} bytes long where {expected} are expected: what names it contradicts it")]
    Length { digest: Digest, found: u64, expected: u64 },
}

impl Cache {
    /// A cache in an existing folder. A store that fails is asked again for as long as `patience`.
    pub fn new(folder: PathBuf, blobs: Blobs, patience: Duration) -> Self {
        Self { folder, blobs, patience, busy: Mutex::default() }
    }

    /// The store behind it.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// How long a store that fails is asked again.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// A local file that has this digest, and `bytes` bytes if told: verified now, fetched if absent or damaged.
    ///
    /// # Errors
    /// When the store does not have it, has it damaged, or fails for too long, or when the disk refuses.
    pub async fn get(&self, digest: Digest, bytes: Option<u64>) -> Result<PathBuf, Error> {
        let busy = Arc::clone(self.busy.lock().unwrap_or_else(PoisonError::into_inner).entry(digest).or_default());
        let _one = busy.lock().await;
        let path = self.folder.join(digest.to_string());
        let length = match digest_file(&path).await {
            Ok((found, length)) if found == digest => length,
            Ok(_) => {
                tracing::warn!(file = %path.display(), "a cached file is damaged; fetching it again");
                let remove = tokio::fs::remove_file(&path).await;
                remove.map_err(|source| Error::Io { path: path.clone(), source })?;
                self.fetch(digest, &path).await?
            }
            Err(ceteris_blob::Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.fetch(digest, &path).await?
            }
            Err(ceteris_blob::Error::File { path, source }) => return Err(Error::Io { path, source }),
            Err(error) => return Err(error.into()),
        };
        match bytes {
            Some(expected) if expected != length => Err(Error::Length { digest, found: length, expected }),
            _ => Ok(path),
        }
    }

    /// Fetches an object to a file that is not kept here; returns its length.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub async fn fetch(&self, digest: Digest, to: &Path) -> Result<u64, Error> {
        Ok(patiently(self.patience, || self.blobs.fetch(&digest, to)).await?)
    }
}

/// Tries again, with growing waits, while the store fails in a way that may pass, for as long as `patience`.
pub(crate) async fn patiently<T, F: Future<Output = Result<T, ceteris_blob::Error>>>(
    patience: Duration,
    mut operation: impl FnMut() -> F,
) -> Result<T, ceteris_blob::Error> {
    let until = Instant::now() + patience;
    let mut failures = 0;
    loop {
        let error = match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        failures += 1;
        let wait = backoff::delay(failures, Duration::from_millis(250), Duration::from_secs(30), backoff::entropy());
        if !error.is_transient() || Instant::now() + wait > until {
            return Err(error);
        }
        tracing::warn!(%error, ?wait, "the store failed; trying again");
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = folder.path().join("store");
        let blobs = Blobs::open(&store.to_string_lossy()).await.expect("it opens");
        let files = folder.path().join("cache");
        std::fs::create_dir(&files).expect("it is made");
        (folder, Cache::new(files, blobs, Duration::from_millis(10)))
    }

    fn stored(folder: &tempfile::TempDir, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        folder.path().join("store/blobs/sha256").join(&name[..2]).join(&name)
    }

    #[tokio::test]
    async fn a_damaged_file_is_fetched_again_then_refused() {
        let (folder, cache) = cache().await;
        let digest = cache.blobs().put_bytes(b"pixels").await.expect("it is stored");
        let path = cache.get(digest, Some(6)).await.expect("it is fetched");
        std::fs::write(&path, b"pixelz").expect("it is damaged");
        let path = cache.get(digest, Some(6)).await.expect("it is fetched again");
        assert_eq!(std::fs::read(&path).expect("it reads"), b"pixels");

        std::fs::write(&path, b"pix").expect("it is damaged");
        std::fs::write(stored(&folder, &digest), b"pixelz").expect("the store too");
        let error = cache.get(digest, Some(6)).await.expect_err("there is no good copy").to_string();
        assert!(error.contains(&digest.to_string()) && error.contains("damaged"), "{error}");
        assert!(!path.exists(), "a damaged file does not stay");
    }

    #[tokio::test]
    async fn a_verified_file_needs_no_store() {
        let (folder, cache) = cache().await;
        let digest = cache.blobs().put_bytes(b"pixels").await.expect("it is stored");
        cache.get(digest, None).await.expect("it is fetched");
        std::fs::remove_file(stored(&folder, &digest)).expect("it is gone");
        cache.get(digest, None).await.expect("it is here");
        assert!(matches!(cache.get(digest, Some(7)).await, Err(Error::Length { found: 6, expected: 7, .. })));
    }

    #[tokio::test]
    async fn what_is_asked_for_twice_at_once_is_had_twice() {
        let (_folder, cache) = cache().await;
        let digest = cache.blobs().put_bytes(&[7; 3_000_000]).await.expect("it is stored");
        let paths = futures::future::join_all((0..4).map(|_| cache.get(digest, None))).await;
        assert!(paths.into_iter().all(|path| path.is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let tries = std::cell::Cell::new(0);
        let result: Result<(), _> = patiently(Duration::from_secs(60), || {
            tries.set(tries.get() + 1);
            async { Err(ceteris_blob::Error::StoreFull { place: "store".to_owned(), operation: "storing".to_owned() }) }
        })
        .await;
        assert!(result.is_err());
        assert!((5..30).contains(&tries.get()), "{} tries in a minute", tries.get());
    }
}
