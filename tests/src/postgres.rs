//! Databases on the PostgreSQL server that `CETERIS_TEST_POSTGRES` names, made and looked into with its own `psql`: what a
//! test finds there does not come from the programs under test.

use std::{net::SocketAddr, process::Command};

use crate::skip;

/// A database of a test's own, empty at first; it goes with this.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// None, and a line that says so, where the tests are given no server.
    pub fn make(test: &str) -> Option<Self> {
        match std::env::var("CETERIS_TEST_POSTGRES") {
            Ok(server) => Some(Self::on(&server)),
            Err(_) => {
                skip(test, "CETERIS_TEST_POSTGRES, the URL of a PostgreSQL server");
                None
            }
        }
    }

    /// One on the server of this URL, whose own database is another one.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn on(server: &str) -> Self {
        let name = format!("ceteris_test_{}", uuid::Uuid::new_v4().simple());
        ask(server, &format!("CREATE DATABASE {name}"));
        Self { server: server.to_owned(), name }
    }

    /// Its URL.
    ///
    /// # Panics
    /// When the server's URL names no database.
    pub fn url(&self) -> String {
        let (place, _) = self.server.rsplit_once('/').expect("the server's URL ends with a database");
        format!("{place}/{}", self.name)
    }

    /// Its URL for who connects to the server through another address.
    ///
    /// # Panics
    /// When the server's URL names no address.
    pub fn url_at(&self, address: SocketAddr) -> String {
        let url = self.url();
        let (scheme, rest) = url.split_once("://").expect("it is a URL");
        let (authority, database) = rest.split_once('/').expect("it names a database");
        let user = authority.rsplit_once('@').map_or(String::new(), |(user, _)| format!("{user}@"));
        format!("{scheme}://{user}{address}/{database}")
    }

    /// Where its server listens.
    ///
    /// # Panics
    /// When the server's URL names no address.
    pub fn address(&self) -> SocketAddr {
        let (_, rest) = self.server.split_once("://").expect("it is a URL");
        let (authority, _) = rest.split_once('/').expect("the server's URL ends with a database");
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        place.parse().unwrap_or_else(|error| panic!("{place} is no address with a port: {error}"))
    }

    /// The only value that a query gives, as text.
    ///
    /// # Panics
    /// When it is refused.
    pub fn value(&self, query: &str) -> String {
        ask(&self.url(), query)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        ask(&self.server, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

fn ask(url: &str, query: &str) -> String {
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--dbname", url]);
    let output = psql.args(["--command", query]).output().expect("psql is installed with the server");
    let complaint = String::from_utf8_lossy(&output.stderr);
    // A test that fails already must not abort in a destructor.
    assert!(output.status.success() || std::thread::panicking(), "{query}: {complaint}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
