//! Where a coordinator keeps what it remembers: a SQLite file of its own, or a database on a PostgreSQL server, where
//! others may stand by.

use std::{ffi::OsString, fmt, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{
    Error, Sqlite, Store,
    postgres::{Candidate, Member, Server, ServerError, Timing},
};

/// Where a coordinator keeps what it remembers. Printed without a password.
#[derive(Clone)]
pub enum Database {
    /// A SQLite file; made if it is not there.
    Sqlite(PathBuf),
    /// A database on a PostgreSQL server.
    Postgres(Box<Server>),
}

impl Database {
    /// Opens it for a coordinator that will listen on `address`. On PostgreSQL this returns when no other coordinator
    /// leads; none when `until` is cancelled before.
    ///
    /// # Errors
    /// [`Error`] of every kind that says that a place cannot be used.
    pub async fn open(&self, address: SocketAddr, until: &CancellationToken) -> Result<Option<Arc<dyn Store>>, Error> {
        match self {
            Self::Sqlite(place) => Ok(Some(Arc::new(Sqlite::open(place).await?))),
            Self::Postgres(server) => {
                let candidate =
                    Candidate::connect(Server::clone(server), Member::this(address), Timing::default()).await?;
                Ok(candidate.lead(until).await?.map(|store| Arc::new(store) as Arc<dyn Store>))
            }
        }
    }
}

impl From<PathBuf> for Database {
    fn from(place: PathBuf) -> Self {
        Self::Sqlite(place)
    }
}

impl TryFrom<OsString> for Database {
    type Error = ServerError;

    /// A URL of PostgreSQL, or else a path.
    fn try_from(text: OsString) -> Result<Self, ServerError> {
        match text.to_str() {
            Some(url) if Server::is_meant(url) => url.parse().map(Box::new).map(Self::Postgres),
            _ => Ok(Self::Sqlite(text.into())),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(place) => place.display().fmt(f),
            Self::Postgres(server) => server.fmt(f),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}
