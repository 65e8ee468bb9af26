use clap::Parser as _;

use super::*;

fn machine() -> Machine {
    Machine {
        name: "node".to_owned(),
        processors: 8,
        state: Some(PathBuf::from("/state")),
        programs: None,
        token: None,
    }
}

fn load(arguments: &[&str], machine: &Machine) -> Result<Config, Error> {
    let arguments = ["ceteris-worker"].iter().chain(arguments);
    Config::load(Arguments::try_parse_from(arguments).expect("the flags exist"), machine)
}

fn refused(arguments: &[&str]) -> String {
    load(arguments, &machine()).expect_err("it is refused").to_string()
}

#[test]
fn defaults_are_this_machine() {
    let config = load(&["--store", "store"], &machine()).expect("it is enough");
    assert_eq!(config.coordinator, DEFAULT_COORDINATOR);
    assert_eq!((config.name.as_str(), config.state), ("node", PathBuf::from("/state")));
    assert_eq!(config.slots, [SlotConfig { device: "cpu".to_owned(), threads: 8 }]);
    assert_eq!(config.trainer, PathBuf::from("ceteris-train"));
    assert_eq!((config.features_bytes, config.cache_bytes), (20_000_000_000, 100_000_000_000));
    assert_eq!((config.idle_timeout, config.time_limit, config.on_terminate), (None, None, OnTerminate::Checkpoint));
}

#[test]
fn a_duration_that_cannot_be_read_names_file_and_line() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "store = \"s\"\nidle_timeout = \"soon\"\n").expect("it is written");
    let message = refused(&["--config", &file.path().to_string_lossy()]);
    assert!(message.contains("line 2") && message.contains("\"soon\""), "{message}");
}

#[test]
fn processors_are_divided_and_gpus_are_slots() {
    let config = load(&["--store", "s", "--slots", "3"], &machine()).expect("three slots");
    assert_eq!(config.slots, vec![SlotConfig { device: "cpu".to_owned(), threads: 2 }; 3]);
    let config = load(&["--store", "s", "--device", "cuda:0,cuda:1"], &machine()).expect("two GPUs");
    assert_eq!(config.slots.iter().map(|slot| slot.device.as_str()).collect::<Vec<_>>(), ["cuda:0", "cuda:1"]);
    let config = load(&["--store", "s", "--device", "flex", "--slots", "2"], &machine()).expect("two slots");
    assert_eq!(config.slots, vec![SlotConfig { device: "flex".to_owned(), threads: 4 }; 2]);
    let config = load(&["--store", "s", "--device", "auto"], &machine()).expect("one slot");
    assert_eq!(config.slots, [SlotConfig { device: "auto".to_owned(), threads: 8 }]);
}

#[test]
fn flags_go_before_the_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(
        file.path(),
        "store = \"from-file\"\nname = \"from-file\"\nslots = 2\nlog_format = \"json\"\nfeatures_bytes = 7\n\
         cache_bytes = 8\nspool_bytes = 9000000\nidle_timeout = \"10m\"\ntime_limit = \"3h 55m\"\n\
         on_terminate = \"finish-epoch\"\nterminate_grace = \"90s\"\ntrainer_idle = \"1h\"\n",
    )
    .expect("it is written");
    let path = file.path().to_string_lossy();
    let config = load(&["--config", &path, "--name", "flag"], &machine()).expect("it is complete");
    assert_eq!((config.store.as_str(), config.name.as_str(), config.slots.len()), ("from-file", "flag", 2));
    assert_eq!((config.log_format, config.features_bytes), (LogFormat::Json, 7));
    assert_eq!((config.cache_bytes, config.limits.spool_bytes), (8, 9_000_000));
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!((config.idle_timeout, config.time_limit), (seconds(600), seconds(14_100)));
    assert_eq!((config.on_terminate, config.terminate_grace), (OnTerminate::FinishEpoch, Duration::from_secs(90)));
    assert_eq!(config.limits.trainer_idle, Duration::from_secs(3600));
    let flags = ["--features-bytes", "0", "--cache-bytes", "0", "--spool-bytes", "2000000", "--idle-timeout", "5s"];
    let more =
        ["--time-limit", "1h", "--on-terminate", "checkpoint", "--terminate-grace", "1s", "--trainer-idle", "0s"];
    let arguments = [&["--config", &path][..], &flags, &more].concat();
    let config = load(&arguments, &machine()).expect("it is complete");
    assert_eq!((config.features_bytes, config.cache_bytes, config.limits.spool_bytes), (0, 0, 2_000_000));
    assert_eq!((config.idle_timeout, config.time_limit), (seconds(5), seconds(3600)));
    assert_eq!((config.on_terminate, config.terminate_grace), (OnTerminate::Checkpoint, Duration::from_secs(1)));
    assert_eq!(config.limits.trainer_idle, Duration::ZERO);
}

#[test]
fn a_misspelled_key_names_file_and_line() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "store = \"s\"\nslot = 2\n").expect("it is written");
    let message = refused(&["--config", &file.path().to_string_lossy()]);
    assert!(message.contains("line 2") && message.contains("`slot`") && message.contains("`slots`"), "{message}");
}

#[test]
fn what_cannot_be_meant_is_refused_by_flag() {
    let with_store = |more: &[&'static str]| -> String {
        let mut arguments = vec!["--store", "s"];
        arguments.extend_from_slice(more);
        refused(&arguments)
    };
    let messages = [
        refused(&[]),
        with_store(&["--coordinator", "head:7417"]),
        with_store(&["--coordinator", "http://user:secret@head"]),
        with_store(&["--device", "gpu"]),
        with_store(&["--device", "cuda:0,cuda:0"]),
        with_store(&["--device", "cpu,cuda:0"]),
        with_store(&["--device", "cuda:0", "--slots", "2"]),
        with_store(&["--device", "auto", "--slots", "2"]),
        with_store(&["--device", "auto,auto"]),
        with_store(&["--device", "auto,flex"]),
        with_store(&["--slots", "0"]),
        with_store(&["--threads", "0"]),
        with_store(&["--trainer", "/nowhere/ceteris-train"]),
        with_store(&["--name", ""]),
        with_store(&["--spool-bytes", "1000"]),
        with_store(&["--time-limit", "27s"]),
        with_store(&["--idle-timeout", "0s"]),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_token_is_read_and_never_printed() {
    let machine = Machine { token: Some("hunter2\n".to_owned()), ..machine() };
    let config = load(&["--store", "s"], &machine).expect("it is complete");
    assert_eq!(config.token.as_ref().map(Token::reveal), Some("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let machine = Machine { token: Some("two words".to_owned()), ..machine };
    let message = load(&["--store", "s"], &machine).expect_err("no token").to_string();
    assert!(message.contains("CETERIS_TOKEN") && !message.contains("words"), "{message}");
}
