//! Setting aside what is not what was stored, so that it can be stored again.

use ceteris_shared::digest::Digest;
use futures::TryStreamExt as _;
use object_store::{ObjectStoreExt as _, path::Path as Key};
use uuid::Uuid;

use crate::{Blobs, Error, key};

impl Blobs {
    /// Moves an object away from its name if its bytes are not those that the name says: to `damaged/sha256/DIGEST-UUID`,
    /// where it can be looked at. True where it was moved; an object that is whole, or that is not there, is left alone.
    ///
    /// # Errors
    /// When the store fails, or does not let this user move objects.
    pub async fn set_aside(&self, digest: &Digest) -> Result<bool, Error> {
        match self.verify(digest).await {
            Ok(_) | Err(Error::NotFound { .. }) => return Ok(false),
            Err(Error::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        let aside = Key::from_iter(["damaged", "sha256", &format!("{digest}-{}", Uuid::new_v4())]);
        match self.store.rename(&key(digest), &aside).await {
            Ok(()) => {
                tracing::warn!(%digest, place = self.place(), aside = %aside, "a damaged object is set aside");
                Ok(true)
            }
            // Someone else was faster.
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(self.failed(format!("setting {digest} aside"), source)),
        }
    }

    /// Reads an object to its end and throws the bytes away; returns its length.
    ///
    /// # Errors
    /// When there is no such object, it is damaged (read once), or the store fails.
    pub async fn verify(&self, digest: &Digest) -> Result<u64, Error> {
        let mut reader = self.read_stream(digest).await?;
        while reader.try_next().await?.is_some() {}
        Ok(reader.bytes)
    }
}
