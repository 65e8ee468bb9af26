//! What people write for a store, and the client for it.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, DynObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    local::LocalFileSystem,
    path::Path as Key,
    prefix::PrefixStore,
};
use url::Url;

use crate::Error;

/// A store's place, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Folder(PathBuf),
    S3 { bucket: String, prefix: String },
}

/// What can be asked of a store: a folder has no entity tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    S3,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl Location {
    pub(crate) fn parse(place: &str) -> Result<Self, Error> {
        let refuse = |cause: &str| Err(Error::Place { place: redacted(place), cause: cause.to_owned() });
        if place.trim().is_empty() {
            return refuse("nothing is written");
        }
        let Some((scheme, _)) = place.split_once("://") else {
            return Ok(Self::Folder(PathBuf::from(place)));
        };
        let url = match Url::parse(place) {
            Ok(url) => url,
            Err(error) => return refuse(&error.to_string()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("credentials do not belong in it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("it has a `?` or a `#`");
        }
        match scheme {
            "file" => match url.to_file_path() {
                Ok(path) => Ok(Self::Folder(path)),
                Err(()) => refuse("a file URL has three slashes and an absolute path: file:///srv/ceteris"),
            },
            "s3" => match url.host_str() {
                Some(bucket) if !bucket.is_empty() => {
                    Ok(Self::S3 { bucket: bucket.to_owned(), prefix: url.path().trim_matches('/').to_owned() })
                }
                _ => refuse("it names no bucket"),
            },
            other => refuse(&format!("{other}:// is not known")),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Folder(_) => Kind::Folder,
            Self::S3 { .. } => Kind::S3,
        }
    }

    pub(crate) fn open(&self) -> Result<Arc<DynObjectStore>, Error> {
        match self {
            Self::Folder(path) => {
                let place = self.to_string();
                std::fs::create_dir_all(path)
                    .map_err(|source| Error::NotWritable { place: place.clone(), source: source.into() })?;
                let store = LocalFileSystem::new_with_prefix(path)
                    .map_err(|source| Error::NotWritable { place, source: source.into() })?;
                Ok(Arc::new(store.with_fsync(true)))
            }
            Self::S3 { bucket, prefix } => self.open_s3(bucket, prefix),
        }
    }

    fn open_s3(&self, bucket: &str, prefix: &str) -> Result<Arc<DynObjectStore>, Error> {
        let refuse = |cause: String| Error::Place { place: self.to_string(), cause };
        let builder = AmazonS3Builder::from_env();
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
        let allow_http = std::env::var("AWS_ALLOW_HTTP").is_ok_and(|value| matches!(value.as_str(), "true" | "1"));
        if endpoint.starts_with("http://") && !allow_http {
            return Err(refuse(
                "its endpoint (AWS_ENDPOINT_URL) is http, which is not encrypted; set AWS_ALLOW_HTTP=true to use it"
                    .to_owned(),
            ));
        }
        // A part of a large object has five minutes; silence has one. What takes longer is retried by the caller.
        let client = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            .with_read_timeout(Duration::from_secs(60))
            .with_timeout(Duration::from_secs(300))
            .with_allow_http(allow_http);
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: 4, retry_timeout: Duration::from_secs(20) };
        let store = builder
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(retry)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .build()
            .map_err(|error| refuse(error.to_string()))?;
        if prefix.is_empty() {
            return Ok(Arc::new(store));
        }
        let prefix = Key::parse(prefix).map_err(|error| refuse(error.to_string()))?;
        Ok(Arc::new(PrefixStore::new(store, prefix)))
    }
}

/// The place without whatever stands between `://` and `@`.
fn redacted(place: &str) -> String {
    match (place.find("://"), place.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://…@{}", &place[..scheme], &place[at + 1..]),
        _ => place.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_understood() {
        let folder = |path: &str| Location::Folder(PathBuf::from(path));
        let s3 = |bucket: &str, prefix: &str| Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        for (text, expected) in [
            ("store", folder("store")),
            ("/srv/ceteris", folder("/srv/ceteris")),
            ("file:///srv/a%20b", folder("/srv/a b")),
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/a/b/", s3("bucket", "a/b")),
        ] {
            assert_eq!(Location::parse(text).expect(text), expected);
        }
    }

    #[test]
    fn what_is_no_place_is_refused_and_secrets_are_not_repeated() {
        for text in
            ["", " ", "s3://", "gs://bucket", "file://host/path", "s3://bucket/a?b", "s3://KEY:hunter2@bucket/a"]
        {
            let message = Location::parse(text).expect_err(text).to_string();
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
