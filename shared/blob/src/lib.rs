//! Immutable, content-addressed objects in a folder or an S3-compatible store.
//!
//! An object's name is its SHA-256, so nothing is ever overwritten: storing twice is storing once, what is read is
//! verified, and a store that would overwrite in spite of a condition is refused when it is opened ([`probe`]). Keys are
//! `blobs/sha256/<first two digits>/<64 digits>`; a few objects also have names that are given once ([`Blobs::put_name`]).
//! `store.json` names the store, so that a coordinator and its workers
//! can find out that they do not mean the same one. Caching is not done here, and retries beyond those of one request
//! are the caller's, who knows how long waiting makes sense.

mod aside;
mod error;
mod list;
mod location;
mod name;
mod probe;
mod read;
mod write;

use std::{fmt, sync::Arc};

use ceteris_shared::digest::Digest;
use object_store::{DynObjectStore, ObjectStore as _, ObjectStoreExt as _, PutMode, path::Path as Key};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use error::Error;
pub use list::Listed;
pub use read::Reader;
pub use write::{Writer, digest_file};

/// Schema of `store.json`.
pub const STORE_SCHEMA: &str = "ceteris.store/1";
/// Largest `store.json` that is read.
const MAX_STORE_BYTES: u64 = 4096;

/// An open store. Cloning it is cheap.
#[derive(Clone)]
pub struct Blobs {
    store: Arc<DynObjectStore>,
    /// For people: without credentials.
    place: Arc<str>,
    id: Uuid,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreDocument {
    schema: String,
    id: Uuid,
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blobs").field("place", &self.place).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Blobs {
    /// Opens a folder (a path or `file:///…`; made if absent) or `s3://bucket/prefix` (credentials, endpoint and region
    /// from the environment's `AWS_…`), checks that it is writable and keeps to conditions, and gives it an id the first
    /// time.
    ///
    /// # Errors
    /// When the place is none of these, cannot be reached or written, or overwrites where it must not.
    pub async fn open(place: &str) -> Result<Self, Error> {
        let location = location::Location::parse(place)?;
        let store = location.open()?;
        let place: Arc<str> = location.to_string().into();
        probe::check(&store, &place, location.kind()).await?;
        let id = identify(&store, &place).await?;
        Ok(Self { store, place, id })
    }

    /// The store's identity, made when it was first opened: equal ids are one store, however it is reached.
    pub fn store_id(&self) -> String {
        self.id.to_string()
    }

    /// Where it is, for messages; never holds credentials.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The object's length in bytes, or none where there is no such object.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        match self.store.head(&key(digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed(format!("looking up {digest}"), source)),
        }
    }

    /// True where the object is stored.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn exists(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.size(digest).await?.is_some())
    }

    fn failed(&self, operation: String, source: object_store::Error) -> Error {
        Error::store(&self.place, operation, source)
    }
}

/// The object's key.
fn key(digest: &Digest) -> Key {
    let name = digest.to_string();
    Key::from_iter(["blobs", "sha256", &name[..2], &name])
}

/// Reads the store's id; draws it if the store has none. Of several processes that do so at once, one wins.
async fn identify(store: &Arc<DynObjectStore>, place: &str) -> Result<Uuid, Error> {
    let key = Key::from("store.json");
    let failed = |source| Error::store(place, "reading store.json".to_owned(), source);
    if let Err(object_store::Error::NotFound { .. }) = store.head(&key).await {
        let document = StoreDocument { schema: STORE_SCHEMA.to_owned(), id: Uuid::new_v4() };
        let bytes = serde_json::to_vec_pretty(&document).expect("two strings");
        match store.put_opts(&key, bytes.into(), PutMode::Create.into()).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(source) => return Err(Error::store(place, "writing store.json".to_owned(), source)),
        }
    }
    let found = store.get(&key).await.map_err(failed)?;
    if found.meta.size > MAX_STORE_BYTES {
        return Err(Error::not_ours(place, format!("it is {} bytes long", found.meta.size)));
    }
    let bytes = found.bytes().await.map_err(failed)?;
    let document: StoreDocument =
        serde_json::from_slice(&bytes).map_err(|error| Error::not_ours(place, error.to_string()))?;
    if document.schema != STORE_SCHEMA {
        return Err(Error::not_ours(place, format!("its schema is {:?}, not {STORE_SCHEMA:?}", document.schema)));
    }
    Ok(document.id)
}
