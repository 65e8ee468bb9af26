//! Names: the one thing in a store that is not found by its content. A name stands for one object for ever; who gives it
//! first decides. Keys are `names/<namespace>/<name>`, and what is stored there is the digest's 64 digits and a newline.

use ceteris_shared::digest::Digest;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, path::Path as Key};

use crate::{Blobs, Error};

/// Longest namespace or name.
const MAX_CHARS: usize = 128;
/// More than a digest and a newline.
const MAX_BYTES: u64 = 128;

impl Blobs {
    /// Lets a name stand for an object, unless it stands for one already. Returns what it stands for: another digest than
    /// `digest` where someone else was first. Namespace and name are 1 to 128 of `a-z`, `0-9` and `-`.
    ///
    /// # Errors
    /// When the name is none, stands for nothing that can be read, or the store fails.
    pub async fn put_name(&self, namespace: &str, name: &str, digest: Digest) -> Result<Digest, Error> {
        let key = name_key(namespace, name)?;
        match self.store.put_opts(&key, format!("{digest}\n").into(), PutMode::Create.into()).await {
            Ok(_) => Ok(digest),
            Err(object_store::Error::AlreadyExists { .. }) => {
                let found = self.read_name(&key).await?;
                found.ok_or_else(|| self.damaged_name(&key, "it was there and is gone".to_owned()))
            }
            Err(source) => Err(self.failed(format!("storing the name {key}"), source)),
        }
    }

    /// What a name stands for; none where nobody gave it.
    ///
    /// # Errors
    /// When the name is none, stands for nothing that can be read, or the store fails.
    pub async fn get_name(&self, namespace: &str, name: &str) -> Result<Option<Digest>, Error> {
        self.read_name(&name_key(namespace, name)?).await
    }

    async fn read_name(&self, key: &Key) -> Result<Option<Digest>, Error> {
        let failed = |source| self.failed(format!("reading the name {key}"), source);
        let found = match self.store.get(key).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        if found.meta.size > MAX_BYTES {
            return Err(self.damaged_name(key, format!("it is {} bytes long", found.meta.size)));
        }
        let bytes = found.bytes().await.map_err(failed)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| self.damaged_name(key, error.to_string()))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        text.parse()
            .map(Some)
            .map_err(|error: ceteris_shared::digest::ParseError| self.damaged_name(key, error.to_string()))
    }

    fn damaged_name(&self, key: &Key, cause: String) -> Error {
        Error::DamagedName { place: self.place().to_owned(), key: key.to_string(), cause }
    }
}

/// The name's key; what could lead elsewhere is refused.
fn name_key(namespace: &str, name: &str) -> Result<Key, Error> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    for part in [namespace, name] {
        if part.is_empty() || part.len() > MAX_CHARS || !part.bytes().all(allowed) {
            return Err(Error::BadName(part.chars().take(MAX_CHARS).collect()));
        }
    }
    Ok(Key::from_iter(["names", namespace, name]))
}
