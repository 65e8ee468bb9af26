//! What an agent is told: flags before environment (`CETERIS_…`) before file, all of it checked before anything starts.

mod arguments;
mod limits;

use std::{collections::BTreeSet, fmt, path::PathBuf, time::Duration};

pub use arguments::{Arguments, LogFormat, OnTerminate};
pub use limits::Limits;

/// Where a coordinator on this machine listens.
pub const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7417";
/// Bytes of features that are kept on the local disk, unless it is told.
const FEATURES_BYTES: u64 = 20_000_000_000;
/// Bytes of data sets, weights and checkpoints that are kept on the local disk, unless it is told.
const CACHE_BYTES: u64 = 100_000_000_000;
/// Smallest spool: one that a few epochs' points do not fill.
const LEAST_SPOOL_BYTES: u64 = 1_000_000;
/// How long the epochs in flight may take when an agent that finishes them is asked to end, unless it is told.
const TERMINATE_GRACE: Duration = Duration::from_secs(600);
/// Most attempts that one agent runs at once.
const MAX_SLOTS: u32 = 64;
/// Longest token.
const MAX_TOKEN_CHARS: usize = 4096;

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
    /// Most bytes of other objects to keep.
    pub cache_bytes: u64,
    /// After having had nothing to do for so long the agent ends.
    pub idle_timeout: Option<Duration>,
    /// So long after its start the agent has ended.
    pub time_limit: Option<Duration>,
    /// What becomes of running attempts when it is asked to end.
    pub on_terminate: OnTerminate,
    /// How long it then waits for epochs, where it does.
    pub terminate_grace: Duration,
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
        let arguments = arguments.with_file()?;
        let limits = limits(&arguments)?;
        let coordinator = arguments.coordinator.unwrap_or(DEFAULT_COORDINATOR.to_owned());
        coordinator.split(',').try_for_each(|url| check_coordinator(url.trim()))?;
        let Some(store) = arguments.store.filter(|store| !store.trim().is_empty()) else {
            return refuse(
                "--store",
                "no object store is told; give the coordinator's: a folder or s3://BUCKET/PREFIX",
            );
        };
        let Some(state) = arguments.state.or_else(|| machine.state.clone()) else {
            return refuse("--state", "neither HOME nor XDG_STATE_HOME is set; tell a folder for the agent's state");
        };
        let name = arguments.name.unwrap_or_else(|| machine.name.clone());
        if name.trim().is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
            return refuse("--name", format!("{name:?} is not a name of 1 to 200 printable characters"));
        }
        Ok(Self {
            coordinator,
            store,
            state,
            name,
            slots: slots(arguments.device, arguments.slots, arguments.threads, machine.processors)?,
            trainer: trainer(arguments.trainer, machine)?,
            features_bytes: arguments.features_bytes.unwrap_or(FEATURES_BYTES),
            cache_bytes: arguments.cache_bytes.unwrap_or(CACHE_BYTES),
            idle_timeout: arguments.idle_timeout,
            time_limit: arguments.time_limit,
            on_terminate: arguments.on_terminate.unwrap_or_default(),
            terminate_grace: arguments.terminate_grace.unwrap_or(TERMINATE_GRACE),
            token: token(arguments.token_file, machine.token.clone())?,
            log_format: arguments.log_format.unwrap_or_default(),
            limits,
        })
    }
}

/// The limits that can be told, and whether the agent can keep to them.
fn limits(arguments: &Arguments) -> Result<Limits, Error> {
    let mut limits = Limits::default();
    limits.spool_bytes = arguments.spool_bytes.unwrap_or(limits.spool_bytes);
    limits.trainer_silence = arguments.trainer_silence.unwrap_or(limits.trainer_silence);
    limits.trainer_idle = arguments.trainer_idle.unwrap_or(limits.trainer_idle);
    if limits.spool_bytes < LEAST_SPOOL_BYTES {
        let told = limits.spool_bytes;
        return refuse("--spool-bytes", format!("{told} is less than the {LEAST_SPOOL_BYTES} that a few epochs take"));
    }
    if let Some(limit) = arguments.time_limit
        && limit <= limits.hand_back()
    {
        let (limit, least) = (humantime::format_duration(limit), humantime::format_duration(limits.hand_back()));
        return refuse(
            "--time-limit",
            format!("{limit} leaves no time to train: handing attempts back may take {least}; give more"),
        );
    }
    if arguments.idle_timeout.is_some_and(|timeout| timeout.is_zero()) {
        return refuse("--idle-timeout", "an agent has nothing to do when it starts; give it some time, as in 10m");
    }
    Ok(limits)
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
