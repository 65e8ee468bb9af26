//! What is in a store, and taking it out: for collecting garbage and for holding a store against what names its objects.

use std::time::SystemTime;

use ceteris_shared::digest::Digest;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _, path::Path as Key};

use crate::{Blobs, Error, key};

/// Names that are read at once.
const READS: usize = 16;

/// An object as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// When it was stored.
    pub stored_at: SystemTime,
}

impl Blobs {
    /// All objects, in no order, as the store pages through them. What lies there under another name is left out.
    pub fn list(&self) -> impl Stream<Item = Result<Listed, Error>> + Send + 'static {
        self.listing("blobs/sha256").filter_map(|meta| async {
            match meta {
                Ok(meta) => listed(&meta, |name| name.parse().ok()).map(Ok),
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// Objects that were set aside because they were damaged ([`Blobs::set_aside`]), each with the key to
    /// [`Blobs::remove_aside`] it by.
    pub fn list_aside(&self) -> impl Stream<Item = Result<(Listed, String), Error>> + Send + 'static {
        self.listing("damaged/sha256").filter_map(|meta| async {
            let meta = match meta {
                Ok(meta) => meta,
                Err(error) => return Some(Err(error)),
            };
            let found = listed(&meta, |name| name.get(..64)?.parse().ok())?;
            Some(Ok((found, meta.location.filename()?.to_owned())))
        })
    }

    /// What the names of a namespace stand for; those that stand for nothing that can be read are left out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn named(&self, namespace: &str) -> Result<Vec<Digest>, Error> {
        let read = |meta: Result<ObjectMeta, Error>| async move {
            let Some(name) = meta?.location.filename().map(str::to_owned) else { return Ok(None) };
            match self.get_name(namespace, &name).await {
                Err(error @ (Error::DamagedName { .. } | Error::BadName(_))) => {
                    tracing::warn!(%error, "a name is left out");
                    Ok(None)
                }
                found => found,
            }
        };
        let found = self.listing(&format!("names/{namespace}")).map(read).buffer_unordered(READS);
        found.try_filter_map(async |digest| Ok(digest)).try_collect().await
    }

    /// Deletes an object; one that is not there is left alone.
    ///
    /// # Errors
    /// When the store fails, or does not let this user delete.
    pub async fn remove(&self, digest: &Digest) -> Result<(), Error> {
        self.delete(&key(digest), || format!("deleting {digest}")).await
    }

    /// Deletes an object that was set aside.
    ///
    /// # Errors
    /// As for [`Blobs::remove`].
    pub async fn remove_aside(&self, name: &str) -> Result<(), Error> {
        self.delete(&Key::from_iter(["damaged", "sha256", name]), || format!("deleting damaged/sha256/{name}")).await
    }

    async fn delete(&self, key: &Key, operation: impl FnOnce() -> String) -> Result<(), Error> {
        match self.store.delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.failed(operation(), source)),
        }
    }

    fn listing(&self, prefix: &str) -> impl Stream<Item = Result<ObjectMeta, Error>> + Send + 'static {
        let (blobs, prefix) = (self.clone(), prefix.to_owned());
        let found = self.store.list(Some(&Key::from(prefix.as_str())));
        found.map(move |meta| meta.map_err(|source| blobs.failed(format!("listing {prefix}"), source)))
    }
}

fn listed(meta: &ObjectMeta, name: impl FnOnce(&str) -> Option<Digest>) -> Option<Listed> {
    let digest = name(meta.location.filename()?)?;
    Some(Listed { digest, bytes: meta.size, stored_at: meta.last_modified.into() })
}
