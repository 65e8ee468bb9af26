//! A database on a PostgreSQL server, as its URL names it, and what goes wrong with one.

use std::{fmt, path::PathBuf, str::FromStr};

use sqlx::{migrate::MigrateError, postgres::PgConnectOptions};
use url::Url;

use crate::store::Error;

/// Parameters of a URL that are understood. Others are refused, since what they were meant to say would not be done.
const PARAMETERS: [&str; 11] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
];
/// How to say where a database is.
const FORM: &str = "write it like postgres://USER@HOST:5432/DATABASE; a password may stand in PGPASSWORD or in the file that \
                    PGPASSFILE names";

/// A database on a PostgreSQL server. Printed without the password.
#[derive(Clone)]
pub struct Server {
    options: PgConnectOptions,
    place: String,
}

/// A URL that names no database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database's URL {problem}; {FORM}")]
pub struct ServerError {
    problem: String,
}

impl Server {
    /// Whether a text is meant to be the URL of one.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// What to connect with, as a process that calls itself `name`.
    pub(super) fn options(&self, name: &str) -> PgConnectOptions {
        // What is committed survives a power cut, and a statement sees what was committed before it, whatever the server's defaults.
        let settings = [
            ("default_transaction_isolation", "read committed"),
            ("synchronous_commit", "on"),
            ("client_min_messages", "warning"),
        ];
        self.options.clone().application_name(name).options(settings)
    }

    pub(super) fn place(&self) -> PathBuf {
        PathBuf::from(&self.place)
    }

    /// The same server's database of another name.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        Self::of(self.options.clone().database(name))
    }

    fn of(options: PgConnectOptions) -> Self {
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let (user, database) = (options.get_username(), options.get_database());
        let place = format!("postgres://{user}@{host}/{}", database.unwrap_or(user));
        Self { options, place }
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        // What is wrong is said without the text: it may hold a password.
        let refuse = |problem: String| Err(ServerError { problem });
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return refuse(format!("cannot be read ({error})")),
        };
        if let Some((unknown, _)) = url.query_pairs().find(|(name, _)| !PARAMETERS.contains(&name.as_ref())) {
            return refuse(format!("has a parameter {unknown:?}, which is none of {}", PARAMETERS.join(", ")));
        }
        match PgConnectOptions::from_str(text) {
            Ok(options) => Ok(Self::of(options)),
            Err(error) => refuse(format!("cannot be used ({error})")),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

/// What PostgreSQL's error codes (<https://www.postgresql.org/docs/current/errcodes-appendix.html>) mean to whoever runs a
/// coordinator.
pub(super) fn sql(place: PathBuf, error: &sqlx::Error) -> Error {
    let Some(answer) = error.as_database_error() else { return no_answer(place, error) };
    let cause = answer.message().to_owned();
    match answer.code().as_deref().unwrap_or_default() {
        "53100" => Error::Full { place },
        "XX001" | "XX002" => Error::Damaged { place, what: cause },
        "25006" | "42501" => Error::NotWritable { place, cause },
        "28000" | "28P01" => {
            let hint =
                "give a user who may, and the password in the URL, in PGPASSWORD or in the file that PGPASSFILE names";
            Error::Unreachable { place, cause, hint }
        }
        "3D000" => Error::Unreachable { place, cause, hint: "make the database with `createdb`, or name another one" },
        "53300" => {
            let hint = "raise its max_connections (a coordinator needs up to 12), or end other programs that use it";
            Error::Unreachable { place, cause, hint }
        }
        code if code.starts_with("57P") || code.starts_with("08") => {
            Error::Unreachable { place, cause, hint: "start the coordinator again when its server is back" }
        }
        _ => Error::Database { place, cause },
    }
}

fn no_answer(place: PathBuf, error: &sqlx::Error) -> Error {
    let cause = error.to_string();
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => {
            Error::Unreachable { place, cause, hint: "start its server, or give the address where that listens" }
        }
        sqlx::Error::Tls(_) => {
            let hint = "name the certificate of its authority with ?sslmode=verify-full&sslrootcert=FILE";
            Error::Unreachable { place, cause, hint }
        }
        _ => Error::Database { place, cause },
    }
}

pub(super) fn migrating(place: PathBuf, error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(migration) => Error::Newer { place, migration },
        MigrateError::VersionMismatch(migration) => {
            Error::Damaged { place, what: format!("its migration {migration} is another one than this program's") }
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => sql(place, &error),
        other => Error::Database { place, cause: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let server: Server = "postgres://me:hunter2@db:6000/studies?password=hunter2".parse().expect("it is a URL");
        assert_eq!(server.to_string(), "postgres://me@db:6000/studies");
        assert!(!format!("{server:?}").contains("hunter2"));
        for wrong in ["postgres://me:hunter2@db:99999999/x", "postgres://me:hunter2@db/x?pasword=hunter2"] {
            let error = wrong.parse::<Server>().expect_err("it is none").to_string();
            assert!(!error.contains("hunter2") && error.contains("PGPASSWORD"), "{error}");
        }
    }
}
