use std::fs;

use super::*;

/// A program that is no trainer.
fn script(folder: &tempfile::TempDir, body: &str) -> PathBuf {
    let path = folder.path().join("trainer");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("it is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is executable");
    path
}

async fn start(program: PathBuf, folder: &tempfile::TempDir) -> String {
    let slot = SlotConfig { device: "cpu".to_owned(), threads: 1 };
    let log = TrainerLog::new(folder.path().join("slot-0.log"));
    let launcher = Launcher::new(program, slot, Duration::from_secs(2), log);
    launcher.start().await.expect_err("it is no trainer").to_string().replace(&*folder.path().to_string_lossy(), "DIR")
}

#[tokio::test]
async fn a_trainer_that_cannot_load_libtorch_is_explained() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let words = "error while loading shared libraries: libtorch_cpu.so: cannot open shared object file";
    let program = script(&folder, &format!("echo 'ceteris-train: {words}' >&2; exit 127"));
    insta::assert_snapshot!(start(program, &folder).await);
}

#[tokio::test]
async fn a_trainer_that_is_not_there_is_explained() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    insta::assert_snapshot!(start(folder.path().join("absent"), &folder).await);
}

#[tokio::test]
async fn a_trainer_that_says_nothing_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = script(&folder, "exec sleep 600");
    insta::assert_snapshot!(start(program, &folder).await);
}

#[test]
fn ends_are_told_in_words() {
    let status = |raw| ended(&Ok(ExitStatus::from_raw(raw)));
    insta::assert_snapshot!([status(0x0300), status(9), status(6), status(11)].join("\n"));
}
