//! Reading: every byte that leaves here was, or at its stream's end is, verified against the object's name.

use std::{io::Write, path::Path};

use bytes::Bytes;
use ceteris_shared::digest::{Digest, Hasher};
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::ObjectStoreExt as _;

use crate::{Blobs, Error, key};

/// An object being read. Its last item is an error where the bytes were not the object's.
pub struct Reader {
    /// The object's length.
    pub bytes: u64,
    stream: BoxStream<'static, Result<Bytes, Error>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Stream for Reader {
    type Item = Result<Bytes, Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.stream.poll_next_unpin(context)
    }
}

impl Blobs {
    /// Reads an object piece by piece. What came before the end is not verified: a damaged object ends in
    /// [`Error::Corrupt`].
    ///
    /// # Errors
    /// When there is no such object, or the store fails.
    pub async fn read_stream(&self, digest: &Digest) -> Result<Reader, Error> {
        let digest = *digest;
        let found = match self.store.get(&key(&digest)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(Error::NotFound { place: self.place().to_owned(), digest });
            }
            Err(source) => return Err(self.failed(format!("reading {digest}"), source)),
        };
        let bytes = found.meta.size;
        let blobs = self.clone();
        let pieces = found.into_stream().map_err(move |source| blobs.failed(format!("reading {digest}"), source));
        let state = (pieces.boxed(), Some(Hasher::default()), self.place().to_owned());
        let stream = futures::stream::try_unfold(state, move |(mut pieces, hasher, place)| async move {
            let Some(mut hasher) = hasher else { return Ok(None) };
            if let Some(piece) = pieces.try_next().await? {
                hasher.update(&piece);
                return Ok(Some((piece, (pieces, Some(hasher), place))));
            }
            let found = hasher.finish();
            if found == digest {
                Ok(None)
            } else {
                Err(Error::Corrupt { place, digest, cause: format!("its bytes have digest {found}") })
            }
        });
        Ok(Reader { bytes, stream: stream.boxed() })
    }

    /// Reads an object of at most `limit` bytes into memory, verified.
    ///
    /// # Errors
    /// When there is no such object, it is longer, it is damaged (read twice), or the store fails.
    pub async fn get_bytes(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        match self.get_once(digest, limit).await {
            Err(Error::Corrupt { .. }) => self.get_once(digest, limit).await,
            result => result,
        }
    }

    async fn get_once(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let mut reader = self.read_stream(digest).await?;
        if reader.bytes > limit {
            let place = self.place().to_owned();
            return Err(Error::TooLarge { place, digest: *digest, bytes: reader.bytes, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(reader.bytes).unwrap_or_default());
        while let Some(piece) = reader.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Fetches an object to the file `to`, which appears whole, verified and durable, or not at all. Its folder must exist.
    ///
    /// # Errors
    /// When there is no such object, it is damaged (fetched twice), the file cannot be written, or the store fails.
    pub async fn fetch(&self, digest: &Digest, to: &Path) -> Result<u64, Error> {
        match self.fetch_once(digest, to).await {
            Err(Error::Corrupt { cause, .. }) => {
                tracing::warn!(%digest, place = self.place(), cause, "a damaged object came; fetching it again");
                self.fetch_once(digest, to).await
            }
            result => result,
        }
    }

    async fn fetch_once(&self, digest: &Digest, to: &Path) -> Result<u64, Error> {
        let failed = |source| Error::File { path: to.to_owned(), source };
        let folder = to.parent().unwrap_or(Path::new("."));
        let mut reader = self.read_stream(digest).await?;
        let mut aside = tempfile::Builder::new().prefix(".fetch-").tempfile_in(folder).map_err(failed)?;
        let mut bytes = 0;
        while let Some(piece) = reader.try_next().await? {
            bytes += piece.len() as u64;
            aside = blocking(to, move || aside.write_all(&piece).map(|()| aside)).await?;
        }
        let (target, folder) = (to.to_owned(), folder.to_owned());
        blocking(to, move || {
            aside.as_file().sync_all()?;
            aside.persist(&target).map_err(|error| error.error)?;
            std::fs::File::open(&folder)?.sync_all()
        })
        .await?;
        Ok(bytes)
    }
}

/// Runs file work where it may wait.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let result = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    result.map_err(|source| Error::File { path: path.to_owned(), source })
}
