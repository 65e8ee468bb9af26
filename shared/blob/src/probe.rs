//! The start-up check: does this store keep to conditions?
//!
//! Some S3-compatible servers answer a conditional PUT with success and overwrite. Nothing here would notice until
//! two processes made different objects under one name, so each store is asked once, at opening.

use std::sync::Arc;

use object_store::{DynObjectStore, Error as StoreError, ObjectStoreExt, PutMode, UpdateVersion, path::Path as Key};
use uuid::Uuid;

use crate::{Error, location::Kind};

/// Writes an object under a name of its own below `probe/`, tries to overwrite it in the ways that must fail, and
/// deletes it.
pub(crate) async fn check(store: &Arc<DynObjectStore>, place: &str, kind: Kind) -> Result<(), Error> {
    let key = Key::from_iter(["probe", &Uuid::new_v4().simple().to_string()]);
    let result = conditions(store, place, kind, &key).await;
    if let Err(error) = store.delete(&key).await
        && !matches!(error, StoreError::NotFound { .. })
    {
        tracing::debug!(%place, %key, %error, "the probe's object stays behind");
    }
    result
}

async fn conditions(store: &Arc<DynObjectStore>, place: &str, kind: Kind, key: &Key) -> Result<(), Error> {
    let put = |text: &'static str, mode: PutMode| store.put_opts(key, text.into(), mode.into());
    let refused = |check| Error::Unconditional { place: place.to_owned(), check };

    let first = put("first", PutMode::Create).await.map_err(|source| first_failed(place, kind, source))?;
    match put("second", PutMode::Create).await {
        Err(StoreError::AlreadyExists { .. }) => {}
        Ok(_) => return Err(refused("it overwrote an object although told to create one (PUT with If-None-Match: *)")),
        Err(source) => return Err(Error::store(place, "a PUT that must fail".to_owned(), source)),
    }
    if kind == Kind::Folder {
        return Ok(());
    }
    let stale = UpdateVersion { e_tag: first.e_tag, version: first.version };
    if stale.e_tag.is_none() {
        return Err(refused("it gives no entity tag (ETag) for an object"));
    }
    put("third", PutMode::Overwrite)
        .await
        .map_err(|source| Error::store(place, "overwriting the probe".to_owned(), source))?;
    match put("fourth", PutMode::Update(stale)).await {
        Err(StoreError::Precondition { .. }) => Ok(()),
        Ok(_) => Err(refused("it overwrote an object that had changed (PUT with If-Match and a stale tag)")),
        Err(source) => Err(Error::store(place, "a PUT that must fail".to_owned(), source)),
    }
}

fn first_failed(place: &str, kind: Kind, source: StoreError) -> Error {
    let place = place.to_owned();
    match (kind, &source) {
        (Kind::Folder, _) | (Kind::S3, StoreError::PermissionDenied { .. }) => {
            Error::NotWritable { place, source: source.into() }
        }
        (Kind::S3, _) => Error::Unreachable { place, source: source.into() },
    }
}
