//! What an agent is told: flags before environment (`CETERIS_…`) before file, all of it checked before anything starts.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use serde::Deserialize;

/// Where a coordinator on this machine listens.
pub const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7417";
/// Bytes of features that are kept on the local disk, unless it is told.
const FEATURES_BYTES: u64 = 20_000_000_000;
/// Most attempts that one agent runs at once.
const MAX_SLOTS: u32 = 64;
/// Longest token.
const MAX_TOKEN_CHARS: usize = 4096;

/// The agent of ceteris: runs on each machine that trains.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "ceteris-worker",
    version,
    after_help = "Examples:\n  ceteris-worker --store /srv/ceteris/store --state /var/lib/ceteris-worker\n  \
        ceteris-worker --coordinator http://head:7417 --store s3://ceteris/main --device cuda:0 --device cuda:1\n  \
        ceteris-worker --config worker.toml\n\n\
        A file has the same names: coordinator, store, state, name, slots, device = [\"cuda:0\"], threads, trainer,\n\
        features_bytes, token_file, log_format. The token itself may stand in CETERIS_TOKEN; credentials of an S3 store stand in AWS_…"
)]
pub struct Arguments {
    /// A TOML file with settings; flags and the environment go before it
    #[arg(long, env = "CETERIS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the coordinator listens; several addresses with commas between are tried in turn [default: http://127.0.0.1:7417]
    #[arg(long, env = "CETERIS_COORDINATOR", value_name = "URL")]
    pub coordinator: Option<String>,
    /// The object store, the same as the coordinator's: a folder or s3://BUCKET/PREFIX
    #[arg(long, env = "CETERIS_STORE", value_name = "PLACE")]
    pub store: Option<String>,
    /// The agent's own folder: identity, spool, cache, logs. On a local disk
    #[arg(long, env = "CETERIS_STATE", value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// What people see in `ceteris workers` [default: this machine's name]
    #[arg(long, env = "CETERIS_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Attempts at once on the processor; with GPUs it is one for each [default: 1]
    #[arg(long, env = "CETERIS_SLOTS", value_name = "N")]
    pub slots: Option<u32>,
    /// Where to compute: `cpu`, `cuda:N` once for each GPU, `auto` for the first GPU or else the processor, or `flex`, the
    /// processor without libtorch [default: cpu]
    #[arg(long, env = "CETERIS_DEVICE", value_name = "DEVICE", value_delimiter = ',')]
    pub device: Option<Vec<String>>,
    /// Threads of each slot; results depend on it in their last bits [default: processors / slots]
    #[arg(long, env = "CETERIS_THREADS", value_name = "N")]
    pub threads: Option<u32>,
    /// The trainer program [default: ceteris-train beside this program, else on PATH]
    #[arg(long, env = "CETERIS_TRAINER", value_name = "FILE")]
    pub trainer: Option<PathBuf>,
    /// Most bytes of features of frozen parts to keep in the state folder; 0 keeps none [default: 20000000000]
    #[arg(long, env = "CETERIS_FEATURES_BYTES", value_name = "BYTES")]
    pub features_bytes: Option<u64>,
    /// A file that holds the token to show to the coordinator
    #[arg(long, env = "CETERIS_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How messages are printed to stderr [default: text]
    #[arg(long, env = "CETERIS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// How the agent prints its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The same settings in a file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    coordinator: Option<String>,
    store: Option<String>,
    state: Option<PathBuf>,
    name: Option<String>,
    slots: Option<u32>,
    device: Option<Vec<String>>,
    threads: Option<u32>,
    trainer: Option<PathBuf>,
    features_bytes: Option<u64>,
    token_file: Option<PathBuf>,
    log_format: Option<LogFormat>,
}

/// A secret that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The secret, for the request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// One place to train.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotConfig {
    /// `cpu`, `cuda:N`, `auto` or `flex`.
    pub device: String,
    /// Threads within an operation.
    pub threads: u32,
}

/// Sizes and times that nobody has to set.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Size of the spool from which no new epoch is begun.
    pub spool_bytes: u64,
    /// How long a trainer may take to load libtorch and open its device.
    pub trainer_start: Duration,
    /// How long a trainer may take to obey a stop at once, its last checkpoint included, before it is killed.
    pub stop_grace: Duration,
    /// How long what a trainer left may still go up after a stop at once.
    pub upload_grace: Duration,
    /// How long a store that fails is tried again, for one object.
    pub store_patience: Duration,
    /// Longest wait between two tries to reach the coordinator.
    pub reconnect: Duration,
    /// Longest wait before a trainer that crashed is started again.
    pub restart: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            spool_bytes: 1 << 30,
            trainer_start: Duration::from_secs(120),
            stop_grace: Duration::from_secs(15),
            upload_grace: Duration::from_secs(10),
            store_patience: Duration::from_secs(300),
            reconnect: Duration::from_secs(15),
            restart: Duration::from_secs(30),
        }
    }
}

/// An agent's settings, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the coordinator listens: one URL, or several with commas between.
    pub coordinator: String,
    /// The object store.
    pub store: String,
    /// The agent's own folder.
    pub state: PathBuf,
    /// For people.
    pub name: String,
    /// Where to train; at least one.
    pub slots: Vec<SlotConfig>,
    /// The trainer program.
    pub trainer: PathBuf,
    /// Most bytes of features to keep; 0 keeps none.
    pub features_bytes: u64,
    /// What to show to the coordinator.
    pub token: Option<Token>,
    /// How messages are printed.
    pub log_format: LogFormat,
    /// Sizes and times.
    pub limits: Limits,
}

/// What a machine says of itself, where nothing is told.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its processors.
    pub processors: u32,
    /// Where state is kept for this user.
    pub state: Option<PathBuf>,
    /// The folder of the agent's own program.
    pub programs: Option<PathBuf>,
    /// The value of CETERIS_TOKEN.
    pub token: Option<String>,
}

/// A setting that cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {cause}")]
pub struct Error {
    /// The flag or the file's line.
    pub place: String,
    /// What is wrong and the way out.
    pub cause: String,
}

fn refuse<T>(place: impl Into<String>, cause: impl Into<String>) -> Result<T, Error> {
    Err(Error { place: place.into(), cause: cause.into() })
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || folder("HOME").map(|home| home.join(".local/state"));
        Self {
            name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
            state: folder("XDG_STATE_HOME").or_else(home).map(|state| state.join("ceteris/worker")),
            programs: std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned())),
            token: std::env::var("CETERIS_TOKEN").ok(),
        }
    }
}

impl Config {
    /// Completes what was told with the file's settings and the machine's, and checks all of it.
    ///
    /// # Errors
    /// When a file cannot be read or a setting cannot be meant, naming it.
    pub fn load(arguments: Arguments, machine: &Machine) -> Result<Self, Error> {
        let file = arguments.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let coordinator = arguments.coordinator.or(file.coordinator).unwrap_or(DEFAULT_COORDINATOR.to_owned());
        coordinator.split(',').try_for_each(|url| check_coordinator(url.trim()))?;
        let Some(store) = arguments.store.or(file.store).filter(|store| !store.trim().is_empty()) else {
            return refuse(
                "--store",
                "no object store is told; give the coordinator's: a folder or s3://BUCKET/PREFIX",
            );
        };
        let Some(state) = arguments.state.or(file.state).or_else(|| machine.state.clone()) else {
            return refuse("--state", "neither HOME nor XDG_STATE_HOME is set; tell a folder for the agent's state");
        };
        let name = arguments.name.or(file.name).unwrap_or_else(|| machine.name.clone());
        if name.trim().is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
            return refuse("--name", format!("{name:?} is not a name of 1 to 200 printable characters"));
        }
        Ok(Self {
            coordinator,
            store,
            state,
            name,
            slots: slots(
                arguments.device.or(file.device),
                arguments.slots.or(file.slots),
                arguments.threads.or(file.threads),
                machine.processors,
            )?,
            trainer: trainer(arguments.trainer.or(file.trainer), machine)?,
            features_bytes: arguments.features_bytes.or(file.features_bytes).unwrap_or(FEATURES_BYTES),
            token: token(arguments.token_file.or(file.token_file), machine.token.clone())?,
            log_format: arguments.log_format.or(file.log_format).unwrap_or_default(),
            limits: Limits::default(),
        })
    }
}

fn read_file(path: &Path) -> Result<File, Error> {
    let place = || path.display().to_string();
    let text = std::fs::read_to_string(path)
        .or_else(|error| refuse(place(), format!("it cannot be read: {error}; check --config")))?;
    toml::from_str(&text).or_else(|error| refuse(place(), error.to_string()))
}

fn check_coordinator(url: &str) -> Result<(), Error> {
    if url.contains('@') {
        return refuse(
            "--coordinator",
            "credentials do not belong in it; write http://HOST:7417, and see --token-file",
        );
    }
    let Some(rest) = url.strip_prefix("http://") else {
        return refuse("--coordinator", format!("{url:?} does not begin with http://; write http://HOST:7417"));
    };
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains('/') {
        return refuse("--coordinator", format!("{url:?} is not http://HOST:PORT and nothing else"));
    }
    Ok(())
}

fn slots(
    devices: Option<Vec<String>>,
    slots: Option<u32>,
    threads: Option<u32>,
    processors: u32,
) -> Result<Vec<SlotConfig>, Error> {
    let devices = devices.filter(|devices| !devices.is_empty()).unwrap_or_else(|| vec!["cpu".to_owned()]);
    for device in &devices {
        let gpu = device.strip_prefix("cuda:").is_some_and(|index| index.parse::<u32>().is_ok());
        if !gpu && !["cpu", "auto", "flex"].contains(&device.as_str()) {
            return refuse(
                "--device",
                format!("{device:?} is not a device: write cpu, cuda:0 for the first GPU, auto, or flex"),
            );
        }
    }
    // What `auto` finds may be a GPU, which is one slot.
    let is_processor = |device: &String| device == "cpu" || device == "flex";
    let gpus = devices.iter().filter(|device| !is_processor(device)).count();
    let devices = match slots {
        Some(slots) if !(1..=MAX_SLOTS).contains(&slots) => {
            return refuse("--slots", format!("{slots} is not between 1 and {MAX_SLOTS}"));
        }
        Some(slots) if gpus == 0 && devices.len() == 1 => vec![devices[0].clone(); slots as usize],
        Some(slots) if slots as usize != devices.len() => {
            return refuse("--slots", format!("{slots} slots but {} devices; leave --slots out", devices.len()));
        }
        _ => devices,
    };
    let mut sorted: Vec<&String> = devices.iter().filter(|device| !is_processor(device)).collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return refuse("--device", format!("{} is named twice; a GPU is one slot", pair[0]));
    }
    let kind = |device: &String| device.split(':').next().unwrap_or_default().to_owned();
    let kinds: BTreeSet<String> = devices.iter().map(kind).collect();
    if kinds.len() > 1 {
        let kinds = Vec::from_iter(kinds).join(" and ");
        return refuse(
            "--device",
            format!("{kinds} do not give the same bits: run one agent for each, with its own --state"),
        );
    }
    let threads = threads.unwrap_or_else(|| (processors / devices.len() as u32).max(1));
    if !(1..=1024).contains(&threads) {
        return refuse("--threads", format!("{threads} is not between 1 and 1024"));
    }
    Ok(devices.into_iter().map(|device| SlotConfig { device, threads }).collect())
}

fn trainer(told: Option<PathBuf>, machine: &Machine) -> Result<PathBuf, Error> {
    let Some(path) = told else {
        let beside = machine.programs.as_ref().map(|folder| folder.join("ceteris-train"));
        return Ok(beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("ceteris-train")));
    };
    if path.components().count() > 1 && !path.is_file() {
        return refuse("--trainer", format!("there is no program {}", path.display()));
    }
    Ok(path)
}

fn token(file: Option<PathBuf>, variable: Option<String>) -> Result<Option<Token>, Error> {
    let (place, text) = match (file, variable) {
        (Some(path), _) => match std::fs::read_to_string(&path) {
            Ok(text) => ("--token-file", text),
            Err(error) => return refuse("--token-file", format!("{} cannot be read: {error}", path.display())),
        },
        (None, Some(text)) => ("CETERIS_TOKEN", text),
        (None, None) => return Ok(None),
    };
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_TOKEN_CHARS || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return refuse(place, format!("it is not a token of 1 to {MAX_TOKEN_CHARS} printable characters"));
    }
    Ok(Some(Token(text.to_owned())))
}

#[cfg(test)]
mod tests;
