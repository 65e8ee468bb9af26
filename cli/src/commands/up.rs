//! `ceteris up`: everything on one machine. The coordinator runs in this process, the worker is a child of it.

use std::{
    fs::{File, TryLockError},
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ceteris_coordinator::Config;
use clap::Args;

use crate::{
    context::Global,
    failure::Failure,
    service::{self, Service},
    supervisor::{self, Worker},
};

/// Start ceteris on this machine: a coordinator with an embedded store, and a worker.
///
/// Everything lies in one folder and is there again at the next start: data sets, weights, experiments, checkpoints.
/// Training goes on where it was. Ctrl-C stops everything.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris up
  ceteris up --state /data/ceteris --device cuda:0 --device cuda:1
  ceteris up --store s3://bucket/ceteris            with AWS_… credentials in the environment
  ceteris up --listen 127.0.0.1:7500                then: export CETERIS_COORDINATOR=http://…:7500
  ceteris up --listen 127.0.0.1:0 --ready-file url  the file appears when calls are answered

For workers on other machines, start `ceteris coordinator` and `ceteris-worker` instead.")]
pub struct Options {
    /// Where everything is kept [default: $XDG_DATA_HOME/ceteris or ~/.local/share/ceteris].
    #[arg(long, value_name = "FOLDER", env = "CETERIS_STATE", hide_env_values = true)]
    pub state: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "CETERIS_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:7417"
    )]
    pub listen: SocketAddr,
    /// The object store: a folder or s3://BUCKET/PREFIX [default: in the state folder].
    #[arg(long, value_name = "PLACE", env = "CETERIS_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// Where to compute: `cpu`, `cuda:N` once for each GPU, `auto` or `flex` [default: the worker's own].
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// Attempts at once on the processor [default: the worker's own].
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,
    /// Threads of each slot; results depend on it in their last bits [default: the worker's own].
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    /// Write the URL into this file once calls are answered.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// When the state folder is in use or cannot be written, when the port is taken, or when there is no worker program.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        service::log(global, "warn");
        let state = match &self.state {
            Some(state) => state.clone(),
            None => default_state(|name| std::env::var_os(name).map(PathBuf::from))?,
        };
        let worker = supervisor::find_program("ceteris-worker")?;
        let _lock = claim(&state)?;
        let store = self.store.clone().unwrap_or_else(|| state.join("store").display().to_string());
        let started = Service::start(Config {
            listen: self.listen,
            database: state.join("coordinator.db").into(),
            store: store.clone(),
            token: global.token()?,
            lease: Config::LEASE,
            heartbeat: Config::HEARTBEAT,
        })
        .await?;
        let Some(service) = started else { return Ok(()) };
        let worker = Worker {
            program: worker,
            arguments: self.worker_arguments(&service.url, &store),
            state: state.join("worker"),
            pid: state.join("worker.pid"),
            token: global.token()?,
            log: state.join("worker.log"),
        };
        service::announce(self.ready_file.as_deref(), &service.url)?;
        global.note(welcome(&service.url, &state, &worker.log, self.listen.port() == 7417));
        let kept = supervisor::keep(global, &worker, service.asked()).await;
        global.note("stopping");
        kept.and(service.stop().await)
    }

    fn worker_arguments(&self, url: &str, store: &str) -> Vec<String> {
        let mut arguments: Vec<String> = vec!["--coordinator".into(), url.into(), "--store".into(), store.into()];
        arguments.extend(self.device.iter().flat_map(|device| ["--device".to_owned(), device.clone()]));
        let numbers = [("--slots", self.slots), ("--threads", self.threads)];
        let numbers = numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_string())));
        arguments.extend(numbers.flat_map(|(name, value)| [name, value]));
        arguments
    }
}

/// Follows the XDG base directory specification.
fn default_state(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Failure> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("ceteris"))
        .ok_or_else(|| {
            Failure::usage("neither XDG_DATA_HOME nor HOME says where to keep the state")
                .help("name a folder with --state FOLDER")
        })
}

/// Makes the state folder and locks it for as long as the file lives: two coordinators on one state would both schedule.
fn claim(state: &Path) -> Result<File, Failure> {
    let failed = |error: &std::io::Error| Failure::io(format!("use the state folder {}", state.display()), error);
    std::fs::create_dir_all(state).map_err(|error| failed(&error))?;
    let path = state.join("up.lock");
    let mut lock = File::options().create(true).read(true).append(true).open(path).map_err(|error| failed(&error))?;
    match lock.try_lock() {
        Ok(()) => {
            lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(|error| failed(&error))?;
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            std::io::Read::read_to_string(&mut lock, &mut pid).unwrap_or_default();
            Err(Failure::infrastructure(format!(
                "another `ceteris up` (process {}) uses the state folder {}",
                pid.trim(),
                state.display()
            ))
            .help("use the one that runs, or give this one another folder with --state FOLDER"))
        }
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

fn welcome(url: &str, state: &Path, log: &Path, default_port: bool) -> String {
    let variable = if default_port { String::new() } else { format!("  export CETERIS_COORDINATOR={url}\n") };
    format!(
        "ceteris listens on {url}; its state is in {}, the worker's log in {}\nNext, in another terminal:\n{variable}  \
         ceteris data import DIR --name NAME\n  ceteris submit SPEC.toml --follow\nCtrl-C stops it; what is trained stays.",
        state.display(),
        log.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_where_xdg_says() {
        let state = |data: Option<&str>, home: Option<&str>| {
            default_state(|name| match name {
                "XDG_DATA_HOME" => data.map(PathBuf::from),
                _ => home.map(PathBuf::from),
            })
        };
        assert_eq!(state(Some("/d"), Some("/h")), Ok(PathBuf::from("/d/ceteris")));
        assert_eq!(state(Some("relative"), Some("/h")), Ok(PathBuf::from("/h/.local/share/ceteris")));
        assert!(state(None, None).is_err());
    }

    #[test]
    fn a_state_folder_is_used_once() {
        let folder = tempfile::tempdir().unwrap();
        let lock = claim(folder.path()).unwrap();
        let refused = claim(folder.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        drop(lock);
        claim(folder.path()).unwrap();
    }

    #[test]
    fn the_welcome_says_what_to_do_next() {
        insta::assert_snapshot!(welcome("http://127.0.0.1:7500", Path::new("/s"), Path::new("/s/worker.log"), false));
    }
}
