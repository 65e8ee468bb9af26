//! Two coordinators on one PostgreSQL database, of which one leads and the other stands by.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Process, eventually};

/// What a coordinator is told.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Where it listens when it leads.
    pub address: &'a str,
    /// The database's URL.
    pub database: &'a str,
    /// The object store's place.
    pub store: &'a str,
    /// Seconds for which an attempt is believed alive without a sign of life.
    pub lease: u32,
}

/// One of the coordinators.
#[derive(Debug)]
pub struct Coordinator {
    /// Where it listens when it leads.
    pub address: String,
    /// The process.
    pub process: Process,
    ready: PathBuf,
}

impl Coordinator {
    /// Starts one with a store in `folder`; `program` is `ceteris`. Its own files go there, too.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(name: &str, program: Command, folder: &Path, database: &str, address: &str) -> Self {
        let store = folder.join("store").to_string_lossy().into_owned();
        Self::of(name, program, folder, &Settings { address, database, store: &store, lease: 30 })
    }

    /// Starts one; `program` is `ceteris`, and its own files go into `folder`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn of(name: &str, mut program: Command, folder: &Path, settings: &Settings<'_>) -> Self {
        let ready = folder.join(format!("{name}.ready"));
        let _ = fs::remove_file(&ready);
        let Settings { address, database, store, lease } = *settings;
        program.args(["coordinator", "--listen", address, "--database", database, "--store", store]);
        // Heartbeats carry progress: often, so that a test sees the epoch in flight.
        program.args(["--heartbeat", "0.2", "--lease", &lease.to_string()]).arg("--ready-file").arg(&ready);
        let log = folder.join(format!("{name}.log"));
        let _ = fs::remove_file(&log);
        let process = Process::start(name, program, &log);
        Self { address: address.to_owned(), process, ready }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether calls are answered.
    pub fn is_leading(&self) -> bool {
        self.ready.exists()
    }

    /// Waits until calls are answered.
    ///
    /// # Panics
    /// When it ends.
    pub fn leads(&mut self) {
        eventually("a coordinator to lead", || {
            assert!(self.process.ended().is_none(), "it ended:\n{}", self.process.log());
            self.is_leading().then_some(())
        });
    }

    /// Waits until it says that it stands by for another one.
    ///
    /// # Panics
    /// When it ends.
    pub fn stands_by(&mut self) {
        eventually("a coordinator to stand by", || {
            assert!(self.process.ended().is_none(), "it ended:\n{}", self.process.log());
            self.process.log().contains("standing by: ").then_some(())
        });
    }
}

/// A port that nothing uses just now.
///
/// # Panics
/// When there is none.
pub fn free_address() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    free.local_addr().expect("it is bound").to_string()
}
