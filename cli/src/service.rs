//! The coordinator in this process: started for `up` and `coordinator`, told to stop by a signal, stopped in order.

use std::{
    io::{IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use ceteris_coordinator::{
    Config,
    serve::{Error, start},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{context::Global, failure::Failure};

/// The environment variable that filters the log.
const LOG_VARIABLE: &str = "CETERIS_LOG";

/// A coordinator that listens.
#[derive(Debug)]
pub struct Service {
    /// Where clients on this machine reach it.
    pub url: String,
    /// Ready when a signal asked for a stop, or when the coordinator ended by itself.
    asked: CancellationToken,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Service {
    /// Starts a coordinator; when this returns, calls are answered. None when a signal asked for a stop while it stood by for
    /// another coordinator.
    ///
    /// # Errors
    /// When the configuration is refused, the port is taken, or a store cannot be used.
    pub async fn start(config: Config) -> Result<Option<Self>, Failure> {
        let signals = signals()?;
        let (asked, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let asking = asked.clone();
        tokio::spawn(async move {
            signals.await;
            asking.cancel();
        });
        let starting = start(config, shutdown.clone());
        tokio::pin!(starting);
        let running = tokio::select! {
            running = &mut starting => running,
            () = asked.cancelled() => {
                shutdown.cancel();
                starting.await
            }
        };
        let running = match running {
            Ok(running) => running,
            Err(Error::Stopped) => return Ok(None),
            Err(error) => return Err(refused(error)),
        };
        let url = url(running.address());
        let ended = asked.clone();
        let task = tokio::spawn(async move {
            let result = running.wait().await;
            ended.cancel();
            result
        });
        Ok(Some(Self { url, asked, shutdown, task }))
    }

    /// Ready when everything is to stop.
    pub fn asked(&self) -> impl Future<Output = ()> + use<> {
        self.asked.clone().cancelled_owned()
    }

    /// Stops the coordinator and waits for its end.
    ///
    /// # Errors
    /// When it had ended by itself, with the reason.
    pub async fn stop(self) -> Result<(), Failure> {
        self.shutdown.cancel();
        self.task
            .await
            .map_err(|error| Failure::infrastructure(format!("the coordinator ended unexpectedly: {error}")))?
            .map_err(refused)
    }
}

/// Ready at the first Ctrl-C or `kill`.
fn signals() -> Result<impl Future<Output = ()> + Send, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::io("listen for signals", &error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// A coordinator that listens everywhere is reached here, too.
fn url(address: SocketAddr) -> String {
    let here = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(here, address.port()))
}

fn refused(error: Error) -> Failure {
    match error {
        Error::Config(error) => Failure::usage(error.to_string()),
        Error::PortInUse { address } => {
            Failure::infrastructure(format!("port {} of {} is in use", address.port(), address.ip())).help(
                "another `ceteris up` may be running: use it or stop it, or listen elsewhere with --listen \
                 127.0.0.1:PORT (port 0 takes a free one)",
            )
        }
        error => Failure::infrastructure(error.to_string()),
    }
}

/// Sends the coordinator's log to stderr: what `CETERIS_LOG` says, else `level`, else what -q and -v say.
pub fn log(global: &Global, level: &'static str) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => level,
        (false, 1) => "info,ceteris=debug",
        (false, _) => "debug,ceteris=trace,h2=info,hyper=info,tower=info",
    };
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
    // A second logger in one process is impossible: commands run once.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}

/// Writes the URL where scripts wait for it: the file appears with all of its content.
///
/// # Errors
/// When it cannot be written.
pub fn announce(file: Option<&Path>, url: &str) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut aside = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(aside, "{url}")?;
        aside.persist(file).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error: std::io::Error| Failure::io(format!("write {}", file.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_to_this_machine() {
        let at = |address: &str| url(address.parse().unwrap());
        assert_eq!(at("0.0.0.0:7417"), "http://127.0.0.1:7417");
        assert_eq!(at("[::]:1"), "http://[::1]:1");
        assert_eq!(at("10.0.0.2:80"), "http://10.0.0.2:80");
    }

    #[test]
    fn a_taken_port_names_the_port_and_the_way_out() {
        insta::assert_snapshot!(refused(Error::PortInUse { address: "127.0.0.1:7417".parse().unwrap() }));
    }

    #[test]
    fn the_ready_file_appears_with_the_url() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ready");
        announce(Some(&file), "http://127.0.0.1:1").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "http://127.0.0.1:1\n");
        assert!(announce(Some(&folder.path().join("no/such")), "x").is_err());
    }
}
