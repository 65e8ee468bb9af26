//! What can be told, with flags, variables and a file, as it was written.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Deserializer, de};

use super::{Error, refuse};

/// The agent of ceteris: runs on each machine that trains.
///
/// SIGTERM or SIGINT ends it in order, as --on-terminate says, with what was trained stored and what was not handed back
/// to the coordinator, which gives it to another worker; with `finish-epoch` another signal means: checkpoint now. One
/// more signal ends it without waiting; then the steps since the last checkpoint are lost and the coordinator notices at
/// the end of the lease.
///
/// Exit codes: 0 ended in order (a signal, --idle-timeout, --time-limit) · 2 a setting that cannot be meant · 5 the
/// machine, the store or the coordinator refuses · 130 ended by a signal without waiting.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "ceteris-worker",
    version,
    after_help = "Examples:\n  ceteris-worker --store /srv/ceteris/store --state /var/lib/ceteris-worker\n  \
        ceteris-worker --coordinator http://head:7417 --store s3://ceteris/main --device cuda:0 --device cuda:1\n  \
        ceteris-worker --config worker.toml\n  \
        ceteris-worker --store s3://ceteris/main --device cuda:0 --time-limit 3h55m --idle-timeout 10m   in a Slurm job of 4 h\n\n\
        A file has the same names: coordinator, store, state, name, slots, device = [\"cuda:0\"], threads, trainer,\n\
        features_bytes, cache_bytes, spool_bytes, idle_timeout = \"10m\", time_limit, on_terminate, terminate_grace,\n\
        trainer_silence, trainer_idle, token_file, log_format. The token itself may stand in CETERIS_TOKEN; credentials of an S3 store\n\
        stand in AWS_…"
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
    /// Most bytes of data sets, weights and checkpoints to keep in the state folder; what was not used for longest goes
    /// first, and nothing that a running attempt uses [default: 100000000000]
    #[arg(long, env = "CETERIS_CACHE_BYTES", value_name = "BYTES")]
    pub cache_bytes: Option<u64>,
    /// Bytes of events that wait for the coordinator from which attempts stop at their epochs' ends, until it has taken
    /// some [default: 1000000000]
    #[arg(long, env = "CETERIS_SPOOL_BYTES", value_name = "BYTES")]
    pub spool_bytes: Option<u64>,
    /// End with exit code 0 after having had nothing to do for so long, as in `30m`; never while an attempt is here or an
    /// event is not acknowledged [default: never]
    #[arg(long, env = "CETERIS_IDLE_TIMEOUT", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub idle_timeout: Option<Duration>,
    /// End with exit code 0 so long after the start, as in `3h55m`: nothing is begun that could not commit an epoch any
    /// more, and what runs is checkpointed and handed back in time [default: never]
    #[arg(long, env = "CETERIS_TIME_LIMIT", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub time_limit: Option<Duration>,
    /// What SIGTERM and SIGINT do to running attempts [default: checkpoint]
    #[arg(long, env = "CETERIS_ON_TERMINATE", value_name = "WHAT")]
    pub on_terminate: Option<OnTerminate>,
    /// How long `--on-terminate finish-epoch` waits for epochs before it checkpoints [default: 10m]
    #[arg(long, env = "CETERIS_TERMINATE_GRACE", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub terminate_grace: Option<Duration>,
    /// How long a trainer without work keeps its device's memory before it is ended; it is started again when there is
    /// work [default: 15m]
    #[arg(long, env = "CETERIS_TRAINER_IDLE", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub trainer_idle: Option<Duration>,
    /// How long a trainer that trains may report nothing, neither a step nor an epoch, before it is taken for hung, killed,
    /// and the attempt repeated. Longer than scoring all data takes [default: 1h]
    #[arg(long, env = "CETERIS_TRAINER_SILENCE", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub trainer_silence: Option<Duration>,
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

/// What becomes of running attempts when an agent is asked to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OnTerminate {
    /// They checkpoint after the step in flight and are handed back: within 30 s.
    #[default]
    Checkpoint,
    /// They finish the epoch in flight, or checkpoint when the grace is over, and are handed back.
    FinishEpoch,
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
    cache_bytes: Option<u64>,
    spool_bytes: Option<u64>,
    #[serde(deserialize_with = "duration")]
    idle_timeout: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    time_limit: Option<Duration>,
    on_terminate: Option<OnTerminate>,
    #[serde(deserialize_with = "duration")]
    terminate_grace: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    trainer_idle: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    trainer_silence: Option<Duration>,
    token_file: Option<PathBuf>,
    log_format: Option<LogFormat>,
}

/// As the flags have it: `90s`, `1h 30m`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map(Some).map_err(|error| de::Error::custom(format!("{text:?}: {error}")))
}

impl Arguments {
    /// These, completed with what the file that they name says.
    ///
    /// # Errors
    /// When it cannot be read, or says what is no setting.
    pub(super) fn with_file(self) -> Result<Self, Error> {
        let Some(path) = &self.config else { return Ok(self) };
        let file = read_file(path)?;
        Ok(Self {
            config: self.config,
            coordinator: self.coordinator.or(file.coordinator),
            store: self.store.or(file.store),
            state: self.state.or(file.state),
            name: self.name.or(file.name),
            slots: self.slots.or(file.slots),
            device: self.device.or(file.device),
            threads: self.threads.or(file.threads),
            trainer: self.trainer.or(file.trainer),
            features_bytes: self.features_bytes.or(file.features_bytes),
            cache_bytes: self.cache_bytes.or(file.cache_bytes),
            spool_bytes: self.spool_bytes.or(file.spool_bytes),
            idle_timeout: self.idle_timeout.or(file.idle_timeout),
            time_limit: self.time_limit.or(file.time_limit),
            on_terminate: self.on_terminate.or(file.on_terminate),
            terminate_grace: self.terminate_grace.or(file.terminate_grace),
            trainer_idle: self.trainer_idle.or(file.trainer_idle),
            trainer_silence: self.trainer_silence.or(file.trainer_silence),
            token_file: self.token_file.or(file.token_file),
            log_format: self.log_format.or(file.log_format),
        })
    }
}

fn read_file(path: &Path) -> Result<File, Error> {
    let place = || path.display().to_string();
    let text = std::fs::read_to_string(path)
        .or_else(|error| refuse(place(), format!("it cannot be read: {error}; check --config")))?;
    toml::from_str(&text).or_else(|error| refuse(place(), error.to_string()))
}
