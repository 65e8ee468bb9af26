//! `ceteris coordinator`: the coordinator alone, for a fleet.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use ceteris_coordinator::{Config, Database};
use clap::Args;

use crate::{
    context::Global,
    failure::Failure,
    service::{self, Service},
};

/// Run the coordinator: it plans, schedules, remembers and answers; workers train.
///
/// It keeps its state in a SQLite file or in a PostgreSQL database, and its objects in a folder or an S3-compatible store.
/// Killed and started again, it goes on where it was. On PostgreSQL one coordinator leads; others that are started on the
/// same database stand by, and one of them takes over within seconds when the leader is gone. On any address but this
/// machine's own it asks every caller for a token.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris coordinator --database /var/lib/ceteris/coordinator.db --store /var/lib/ceteris/store
  ceteris coordinator --listen 0.0.0.0:7417 --token-file /etc/ceteris/token \\
      --database /var/lib/ceteris/coordinator.db --store s3://bucket/ceteris
and on each machine that trains:
  ceteris-worker --coordinator http://HEAD:7417 --store s3://bucket/ceteris \\
      --token-file /etc/ceteris/token

With a standby, on each of two machines, and both addresses wherever a coordinator is named:
  ceteris coordinator --listen 0.0.0.0:7417 --token-file /etc/ceteris/token \\
      --database postgres://ceteris@DBHOST:5432/ceteris --store s3://bucket/ceteris
  ceteris ls --coordinator http://HEAD1:7417,http://HEAD2:7417

A database's password stands in CETERIS_DATABASE, in PGPASSWORD, or in the file that PGPASSFILE
names; on a command line every user of the machine could read it.
Credentials of an S3 store stand in AWS_… variables.
CETERIS_LOG filters the log, as in CETERIS_LOG=debug.")]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "CETERIS_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:7417"
    )]
    pub listen: SocketAddr,
    /// Where its state is kept: a SQLite file, made if it is not there, or postgres://USER@HOST:PORT/DATABASE.
    #[arg(long, value_name = "PLACE", env = "CETERIS_DATABASE", hide_env_values = true)]
    pub database: OsString,
    /// The object store: a folder or s3://BUCKET/PREFIX; the workers need the same.
    #[arg(long, value_name = "PLACE", env = "CETERIS_STORE", hide_env_values = true)]
    pub store: String,
    /// How long an attempt is believed alive without a sign of life.
    #[arg(long, value_name = "SECONDS", env = "CETERIS_LEASE", hide_env_values = true, default_value = "30", value_parser = seconds)]
    pub lease: Duration,
    /// How often workers give one; at most half of the lease.
    #[arg(long, value_name = "SECONDS", env = "CETERIS_HEARTBEAT", hide_env_values = true, default_value = "5", value_parser = seconds)]
    pub heartbeat: Duration,
    /// Write the URL into this file once calls are answered.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// When the configuration is refused, the port is taken, or database or store cannot be used.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        service::log(global, "info");
        let database = Database::try_from(self.database).map_err(|error| Failure::usage(error.to_string()))?;
        let started = Service::start(Config {
            listen: self.listen,
            database,
            store: self.store,
            token: global.token()?,
            lease: self.lease,
            heartbeat: self.heartbeat,
        })
        .await?;
        let Some(service) = started else {
            global.note("stopped; another coordinator leads");
            return Ok(());
        };
        service::announce(self.ready_file.as_deref(), &service.url)?;
        global.note(format!("the coordinator listens on {}", service.url));
        service.asked().await;
        global.note("stopping");
        service.stop().await
    }
}

/// A number of seconds, with or without its unit: `30`, `30s`, `0.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim().trim_end_matches('s');
    match number.parse::<f64>() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("write a number of seconds between 0.01 and 86400, such as 30 or 0.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_with_and_without_unit() {
        assert_eq!(seconds("30"), Ok(Duration::from_secs(30)));
        assert_eq!(seconds("0.5s"), Ok(Duration::from_millis(500)));
        for wrong in ["", "0", "-1", "NaN", "1e9", "five"] {
            assert!(seconds(wrong).is_err(), "{wrong:?}");
        }
    }
}
