//! What goes wrong within a store, before its place is added to it.

use super::Error;

/// What goes wrong within a store.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(sqlx::Error),
    /// A value that was never written so.
    Damaged(String),
    Refused(Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}
