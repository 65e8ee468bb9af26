//! Trainer processes: started over a private socket, watched, and described when they end.
//!
//! A trainer exits when its socket closes, so none outlives its agent, however that one ends.

mod lines;
mod log;

use std::{
    io,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use ceteris_shared::{
    checkpoint::Environment,
    trainer::{MAX_LINE_BYTES, Report, Request},
};
use futures::{SinkExt as _, StreamExt as _};
use tokio::{
    net::{UnixListener, UnixStream},
    process::{Child, Command},
};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

pub use log::TrainerLog;

use crate::config::SlotConfig;

/// Longest socket path that every Unix takes (`sun_path` has 104 to 108 bytes).
const MAX_SOCKET_PATH_BYTES: usize = 100;
/// How long a process may take to be gone after its socket closed, and its last words to arrive.
const FAREWELL: Duration = Duration::from_secs(3);
/// Set for a trainer unless the agent's own environment says otherwise. Threads that wait sleep instead of spinning,
/// which costs several times more where others use the machine too; and cuBLAS keeps to one workspace, without which its
/// products differ from run to run.
const TUNING: [(&str, &str); 2] = [("OMP_WAIT_POLICY", "passive"), ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")];

/// Starts one slot's trainers.
#[derive(Debug)]
pub struct Launcher {
    program: PathBuf,
    slot: SlotConfig,
    time_limit: Duration,
    log: Arc<TrainerLog>,
}

/// A trainer that is ready or trains. Dropping it kills it.
#[derive(Debug)]
pub struct Trainer {
    child: Child,
    lines: Framed<UnixStream, LinesCodec>,
    environment: Environment,
    memory_bytes: Option<u64>,
    log: Arc<TrainerLog>,
}

/// Why there is no trainer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(
        "the trainer {} cannot be started: {source}; install it beside ceteris-worker, or tell where it is with --trainer",
        program.display()
    )]
    Spawn { program: PathBuf, source: io::Error },
    #[error("the trainer's socket cannot be made in {}: {source}; set TMPDIR to a writable folder with a short path", folder.display())]
    Socket { folder: PathBuf, source: io::Error },
    #[error(
        "the trainer {} did not become ready on {device}: {cause}.{} If libtorch is missing or does not fit, run `cargo xtask setup` and build \
         the trainer again, or give another with --trainer; `{} check --device {device}` tries it alone",
        program.display(), said(tail), program.display()
    )]
    NotReady { program: PathBuf, device: String, cause: String, tail: String },
    #[error("trainer {how}{}", said(tail))]
    Gone { how: String, tail: String },
    #[error("the trainer said what this agent does not understand ({0}): use a trainer of the agent's version")]
    Protocol(String),
}

fn said(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!(" Its last words: {tail}.") }
}

impl Launcher {
    /// For one slot. What its trainers print goes to `log`.
    pub fn new(program: PathBuf, slot: SlotConfig, time_limit: Duration, log: Arc<TrainerLog>) -> Self {
        Self { program, slot, time_limit, log }
    }

    /// Where this slot's trainers print to.
    pub fn log(&self) -> &Arc<TrainerLog> {
        &self.log
    }

    /// Starts a trainer and waits until it is ready.
    ///
    /// # Errors
    /// When there is no such program, or it ends or takes too long before it is ready.
    pub async fn start(&self) -> Result<Trainer, Error> {
        self.log.clear_tail();
        let folder = private_folder()?;
        let socket = folder.path().join("s");
        let at = |source| Error::Socket { folder: folder.path().to_owned(), source };
        let listener = UnixListener::bind(&socket).map_err(at)?;
        let mut child = Command::new(&self.program)
            .arg("--socket")
            .arg(&socket)
            .args(["--device", &self.slot.device, "--threads", &self.slot.threads.to_string()])
            .envs(TUNING.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is the agent's to handle; its trainers are told over their sockets.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Spawn { program: self.program.clone(), source })?;
        self.log.follow(child.stdout.take(), child.stderr.take());

        let ready = async {
            let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
            let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
            match lines.next().await {
                Some(Ok(line)) => match serde_json::from_str(&line) {
                    Ok(Report::Ready { environment, memory_bytes }) => Ok((lines, environment, memory_bytes)),
                    Ok(other) => Err(format!("it said {other:?} first")),
                    Err(error) => Err(format!("it said {line:.200?}: {error}")),
                },
                Some(Err(error)) => Err(error.to_string()),
                // The process ends by itself in a moment, and its status says more.
                None => std::future::pending().await,
            }
        };
        let cause = tokio::select! {
            result = tokio::time::timeout(self.time_limit, ready) => match result {
                Ok(Ok((lines, environment, memory_bytes))) => {
                    return Ok(Trainer { child, lines, environment, memory_bytes, log: Arc::clone(&self.log) });
                }
                Ok(Err(cause)) => cause,
                Err(_) => format!("it took more than {} s", self.time_limit.as_secs()),
            },
            status = child.wait() => ended(&status),
        };
        drop(child);
        let tail = self.log.farewell(FAREWELL).await;
        Err(Error::NotReady { program: self.program.clone(), device: self.slot.device.clone(), cause, tail })
    }
}

impl Trainer {
    /// What its results depend on.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Bytes of its device's own memory; none where that is the machine's.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn send(&mut self, request: &Request) -> Result<(), Error> {
        let line = serde_json::to_string(request).map_err(|error| Error::Protocol(error.to_string()))?;
        match self.lines.send(line).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.gone().await),
        }
    }

    /// Its next report. May be dropped and asked again without losing one.
    ///
    /// # Errors
    /// When it is gone, or says what is no report.
    pub async fn next(&mut self) -> Result<Report, Error> {
        match self.lines.next().await {
            Some(Ok(line)) => serde_json::from_str(&line).map_err(|error| Error::Protocol(error.to_string())),
            Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                Err(Error::Protocol(format!("a line of more than {MAX_LINE_BYTES} bytes")))
            }
            Some(Err(LinesCodecError::Io(_))) | None => Err(self.gone().await),
        }
    }

    /// Asks it to exit while it is idle, and waits until it is gone; kills it where it does not go.
    pub async fn dismiss(mut self) {
        let left = async {
            if self.send(&Request::Exit).await.is_ok() {
                let _ = self.child.wait().await;
            }
        };
        if tokio::time::timeout(FAREWELL, left).await.is_err() {
            tracing::warn!("an idle trainer did not exit and is killed");
            self.kill().await;
        }
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "a trainer could not be killed");
        }
    }

    /// Waits for the process that closed its socket, and says how it ended.
    async fn gone(&mut self) -> Error {
        let how = match tokio::time::timeout(FAREWELL, self.child.wait()).await {
            Ok(status) => ended(&status),
            Err(_) => {
                if let Err(error) = self.child.kill().await {
                    tracing::warn!(%error, "a trainer could not be killed");
                }
                "closed its socket without exiting".to_owned()
            }
        };
        Error::Gone { how, tail: self.log.farewell(FAREWELL).await }
    }
}

/// A folder that only this user can enter, with a path short enough for a socket.
fn private_folder() -> Result<tempfile::TempDir, Error> {
    let base = std::env::temp_dir();
    let base = if base.as_os_str().len() + 32 > MAX_SOCKET_PATH_BYTES { PathBuf::from("/tmp") } else { base };
    tempfile::Builder::new()
        .prefix("ceteris-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(&base)
        .map_err(|source| Error::Socket { folder: base, source })
}

/// How a process ended, in words.
fn ended(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(9)) => {
                "killed by signal 9 (SIGKILL): by someone, or by the kernel because memory ran out".to_owned()
            }
            (None, Some(signal)) => format!("killed by signal {signal}{}", signal_name(signal)),
            (None, None) => status.to_string(),
        },
        Err(error) => format!("ended in a way that cannot be told: {error}"),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL): its instructions are not this processor's",
        6 => " (SIGABRT)",
        7 => " (SIGBUS): a mapped file became shorter, or its disk failed",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
