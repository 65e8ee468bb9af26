//! Why the store refused or failed: each message names the place, the cause and the way out.

use std::{error::Error as StdError, io, path::PathBuf};

use ceteris_shared::digest::Digest;

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{place:?} is not a store: {cause}; write a folder's path, or s3://BUCKET/PREFIX")]
    Place { place: String, cause: String },
    #[error(
        "the store {place} is not writable: {source}; give this user the right to write there, or choose another place with --store"
    )]
    NotWritable { place: String, source: Box<dyn StdError + Send + Sync> },
    #[error(
        "the store {place} does not answer as a store should: {source}; check the endpoint (AWS_ENDPOINT_URL), the bucket, AWS_REGION and the \
         credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
    )]
    Unreachable { place: String, source: Box<dyn StdError + Send + Sync> },
    #[error(
        "the store {place} is refused: {check}. Two workers could overwrite each other's objects there. Conditional PUT is kept by AWS S3, \
         SeaweedFS, MinIO and Ceph, and by a folder on a local disk: use one of these"
    )]
    Unconditional { place: String, check: &'static str },
    #[error(
        "{place}/store.json is not a store of this version: {cause}; choose another place with --store, or an empty one"
    )]
    NotOurs { place: String, cause: String },
    #[error("the store {place} has no object {digest}; it was never stored there, or it was deleted")]
    NotFound { place: String, digest: Digest },
    #[error(
        "the object {digest} in the store {place} is damaged: {cause}; it was read twice. A checkpoint is trained again when it is needed; \
         anything else: delete it there and import it again, or restore it from a backup"
    )]
    Corrupt { place: String, digest: Digest, cause: String },
    #[error("the object {digest} in the store {place} is {bytes} bytes long; at most {limit} are read here")]
    TooLarge { place: String, digest: Digest, bytes: u64, limit: u64 },
    #[error("{0:?} is no name in a store: a name is 1 to 128 lower-case letters, digits and hyphens")]
    BadName(String),
    #[error(
        "{key} in the store {place} does not name an object: {cause}; delete it there, or restore it from a backup"
    )]
    DamagedName { place: String, key: String, cause: String },
    #[error("what was sent is not what was announced: {0}")]
    Mismatch(String),
    #[error("the store {place} has no room left ({operation}): free some space there, then try again")]
    StoreFull { place: String, operation: String },
    #[error("{}: {source}{}", path.display(), if is_full(source) { "; free some space there, then try again" } else { "" })]
    File { path: PathBuf, source: io::Error },
    #[error("the store {place} failed at {operation}: {source}")]
    Store { place: String, operation: String, source: object_store::Error },
}

impl Error {
    pub(crate) fn store(place: &str, operation: String, source: object_store::Error) -> Self {
        let place = place.to_owned();
        match io_cause(&source) {
            Some(cause) if is_full(cause) => Self::StoreFull { place, operation },
            _ => Self::Store { place, operation, source },
        }
    }

    pub(crate) fn not_ours(place: &str, cause: String) -> Self {
        Self::NotOurs { place: place.to_owned(), cause }
    }

    /// True where trying again later may help: the store did not answer or could not do it now.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::StoreFull { .. } => true,
            Self::Store { source, .. } => !matches!(
                source,
                object_store::Error::PermissionDenied { .. }
                    | object_store::Error::Unauthenticated { .. }
                    | object_store::Error::InvalidPath { .. }
                    | object_store::Error::NotImplemented { .. }
                    | object_store::Error::NotSupported { .. }
            ),
            Self::Place { .. }
            | Self::NotWritable { .. }
            | Self::Unconditional { .. }
            | Self::NotOurs { .. }
            | Self::NotFound { .. }
            | Self::Corrupt { .. }
            | Self::TooLarge { .. }
            | Self::BadName(_)
            | Self::DamagedName { .. }
            | Self::Mismatch(_)
            | Self::File { .. } => false,
        }
    }
}

/// True where a disk or a quota has no room left.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The operating system's error at the bottom of a chain.
fn io_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        link = error.source();
    }
    None
}
