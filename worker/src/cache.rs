//! Data sets, weights and parts of checkpoints on the local disk, by digest. A file is trusted only after its bytes were
//! digested again, at the start of every attempt: a disk that forgets would otherwise change results without a trace.
//!
//! What was used last is kept, up to a limit: where it is passed, what was not used for longest goes first, and never what
//! a running attempt uses. Files' times remember the order over restarts. The limit is passed by what running attempts
//! need, and by one object whose length is not known before it is here.

mod folder;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ceteris_blob::{Blobs, digest_file};
use ceteris_shared::digest::Digest;
use tokio::time::Instant;

use crate::backoff;

/// Verified local copies of a store's objects.
#[derive(Debug)]
pub struct Cache {
    blobs: Blobs,
    patience: Duration,
    kept: Arc<Kept>,
    /// One fetch of an object at a time.
    busy: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// The folder, and what must stay in it.
#[derive(Debug)]
struct Kept {
    folder: PathBuf,
    /// Bytes of all files together.
    limit: u64,
    needed: Mutex<Needed>,
}

#[derive(Debug, Default)]
struct Needed {
    /// How many use each file.
    used: HashMap<Digest, usize>,
    /// Bytes that are being fetched.
    coming: u64,
}

/// While it is there, its file is not removed.
#[derive(Debug)]
pub struct Use {
    kept: Arc<Kept>,
    digest: Digest,
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

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

impl Kept {
    fn needed(&self) -> MutexGuard<'_, Needed> {
        self.needed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

impl Use {
    /// The file.
    pub fn path(&self) -> PathBuf {
        self.kept.file(&self.digest)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        // It was used until now. Where that cannot be noted, it only goes sooner.
        let _ = folder::touch(&self.path());
        let mut needed = self.kept.needed();
        if let Some(count) = needed.used.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                needed.used.remove(&self.digest);
            }
        }
    }
}

/// Bytes on their way, counted as if they were there.
struct Coming<'a>(&'a Kept, u64);

impl<'a> Coming<'a> {
    fn new(kept: &'a Kept, bytes: u64) -> Self {
        let mut needed = kept.needed();
        needed.coming = needed.coming.saturating_add(bytes);
        Self(kept, bytes)
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let mut needed = self.0.needed();
        needed.coming = needed.coming.saturating_sub(self.1);
    }
}

impl Cache {
    /// The cache in an existing folder, cut to `limit` bytes. A store that fails is asked again for as long as `patience`.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub async fn open(folder: PathBuf, limit: u64, blobs: Blobs, patience: Duration) -> Result<Self, Error> {
        let kept = Arc::new(Kept { folder, limit, needed: Mutex::default() });
        let cache = Self { blobs, patience, kept, busy: Mutex::default() };
        cache.blocking(|kept| folder::remove_unfinished(&kept.folder)).await?;
        cache.make_room().await?;
        Ok(cache)
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
    pub async fn get(&self, digest: Digest, bytes: Option<u64>) -> Result<Use, Error> {
        let used = self.hold(digest);
        let path = used.path();
        let length = self.alone(digest, self.verified(digest, bytes, &path)).await?;
        folder::touch(&path).map_err(at(&path))?;
        match bytes {
            Some(expected) if expected != length => Err(Error::Length { digest, found: length, expected }),
            _ => Ok(used),
        }
    }

    /// As [`Self::get`], with a second name for the file: `to`, whose folder must exist. What has that name stays, whatever
    /// becomes of the cache.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub async fn link(&self, digest: Digest, bytes: u64, to: &Path) -> Result<(), Error> {
        let used = self.get(digest, Some(bytes)).await?;
        let (from, to) = (used.path(), to.to_owned());
        self.blocking(move |_| folder::link_or_copy(&from, &to)).await
    }

    /// Takes up a file that was stored under this digest, by a second name. That it cannot be is no harm.
    pub(crate) async fn adopt(&self, digest: Digest, file: &Path) {
        let (from, used) = (file.to_owned(), self.hold(digest));
        let to = used.path();
        let linked =
            self.blocking(move |_| if to.exists() { Ok(()) } else { std::fs::hard_link(&from, &to).map_err(at(&to)) });
        let adopted = match linked.await {
            Ok(()) => self.make_room().await,
            Err(error) => Err(error),
        };
        if let Err(error) = adopted {
            tracing::debug!(%digest, %error, "a stored file is not kept here");
        }
    }

    /// Forgets files that nobody will ask for, unless they are used.
    pub(crate) async fn forget(&self, digests: Vec<Digest>) {
        let forgotten =
            self.blocking(move |kept| digests.iter().try_for_each(|digest| kept.remove_unused(digest).map(drop)));
        if let Err(error) = forgotten.await {
            tracing::debug!(%error, "a file stays in the cache");
        }
    }

    /// Keeps a file from being removed, whether it is there or not.
    fn hold(&self, digest: Digest) -> Use {
        *self.kept.needed().used.entry(digest).or_default() += 1;
        Use { kept: Arc::clone(&self.kept), digest }
    }

    /// Does one thing at a time for a digest.
    async fn alone<T>(&self, digest: Digest, work: impl Future<Output = T>) -> T {
        let lock = || self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = Arc::clone(lock().entry(digest).or_default());
        let done = {
            let _one = busy.lock().await;
            work.await
        };
        let mut all = lock();
        // The map's and this one: nobody else waits.
        if Arc::strong_count(&busy) <= 2 {
            all.remove(&digest);
        }
        done
    }

    /// The length of the verified file.
    async fn verified(&self, digest: Digest, bytes: Option<u64>, path: &Path) -> Result<u64, Error> {
        match digest_file(path).await {
            Ok((found, length)) if found == digest => return Ok(length),
            Ok(_) => {
                tracing::warn!(file = %path.display(), "a cached file is damaged; fetching it again");
                tokio::fs::remove_file(path).await.map_err(at(path))?;
            }
            Err(ceteris_blob::Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(ceteris_blob::Error::File { path, source }) => return Err(Error::Io { path, source }),
            Err(error) => return Err(error.into()),
        }
        let length = {
            let _coming = Coming::new(&self.kept, bytes.unwrap_or(0));
            self.make_room().await?;
            patiently(self.patience, || self.blobs.fetch(&digest, path)).await?
        };
        ceteris_crash::here(ceteris_crash::Point::ObjectFetched);
        self.make_room().await?;
        Ok(length)
    }

    /// Removes what is not used and was not for longest, until everything is within the limit.
    async fn make_room(&self) -> Result<(), Error> {
        self.blocking(|kept| {
            let mut files = folder::list(&kept.folder)?;
            let here = files.iter().fold(0_u64, |total, file| total.saturating_add(file.bytes));
            let mut total = here.saturating_add(kept.needed().coming);
            if total <= kept.limit {
                return Ok(());
            }
            files.sort_by_key(|file| file.used);
            for file in files {
                if total <= kept.limit {
                    return Ok(());
                }
                if kept.remove_unused(&file.digest)? {
                    tracing::info!(object = %file.digest.short(), bytes = file.bytes, "removed from the cache");
                    total = total.saturating_sub(file.bytes);
                }
            }
            if total > kept.limit {
                tracing::warn!(
                    bytes = total,
                    limit = kept.limit,
                    "what running attempts use is more than the cache may hold: raise --cache-bytes"
                );
            }
            Ok(())
        })
        .await
    }

    /// Does what may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Kept) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let kept = Arc::clone(&self.kept);
        match tokio::task::spawn_blocking(move || work(&kept)).await {
            Ok(result) => result,
            Err(error) => Err(at(&self.kept.folder)(io::Error::other(error))),
        }
    }
}

impl Kept {
    /// False where it is used or not there. Nobody can begin to use it meanwhile.
    fn remove_unused(&self, digest: &Digest) -> Result<bool, Error> {
        let needed = self.needed();
        if needed.used.contains_key(digest) {
            return Ok(false);
        }
        let path = self.file(digest);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at(&path)(error)),
        }
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
mod tests;
