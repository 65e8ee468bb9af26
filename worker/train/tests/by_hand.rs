//! `ceteris-train run`, as a person starts it: the real program on a small data set.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use ceteris_shared::{
    dataset::{Manifest, SCHEMA, Sample, Shard, Split, TRANSFORM},
    digest::Digest,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const SIZE: u32 = 32;

/// A folder with a packed data set of two classes, six images of each to train on and two in each other split.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut samples, mut pixels) = (Vec::new(), Vec::new());
        for (split, count) in [(Split::Train, 6), (Split::Val, 2), (Split::Test, 2)] {
            for class in 0..2 {
                for number in 0..count {
                    let grey = |place: u32| (place * 7 + number * 31 + split as u32 * 13) % 90 + class * 120;
                    let image: Vec<u8> = (0..SIZE * SIZE).map(|place| grey(place) as u8).collect();
                    let digest = Digest::of(&image);
                    let file = format!("{split}/{class}/{number}.png");
                    samples.push(Sample { file, split, class, patient: None, source: digest, pixels: digest });
                    pixels.extend(image);
                }
            }
        }
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            transform: TRANSFORM.to_owned(),
            image_size: SIZE,
            classes: ["NORMAL", "PNEUMONIA"].map(str::to_owned).to_vec(),
            shards: vec![Shard { digest: Digest::of(&pixels), samples: samples.len() as u32 }],
            samples,
        };
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("manifest.json"), manifest.to_bytes()).unwrap();
        fs::write(data.join("shard-0000"), pixels).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `run` of a spec with one arm of so many epochs of the head, and what `more` adds to the spec.
    fn run(&self, out: &str, epochs: u32, more: &str) -> Command {
        let spec = self.path("spec.toml");
        let text = format!(
            "name = 'x'\ndata = {{ dataset = 'd' }}\nmodel = {{ init = 'random' }}\nbudget = {{ epochs = {epochs} }}\n\
             seeds = {{ values = [3, 5] }}\ncontrols = {{ batch_size = 4 }}\n{more}\n\
             [[arm]]\nname = 'only'\nstages = [{{ epochs = {epochs}, train = 'head' }}]\n"
        );
        fs::write(&spec, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ceteris-train"));
        command.args(["run", "--threads", "1", "--seed", "3", "--spec"]).arg(spec);
        command.arg("--data").arg(self.path("data")).arg("--out").arg(self.path(out));
        command.arg("--features").arg(self.path("features")).env_remove("RUST_LOG");
        command
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What a failed run says, without this test's paths.
    fn refusal(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let said = said(&output).replace(&self.folder.path().display().to_string(), "[folder]");
        let (_, message) = said.split_once("ERROR ceteris_train: ").unwrap_or_else(|| panic!("{said}"));
        message.trim_end().to_owned()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    output
}

/// The epochs of the lines on stdout.
fn epochs(output: &Output) -> Vec<u64> {
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["epoch"].as_u64().unwrap()).collect()
}

#[test]
fn a_run_prints_a_line_for_each_epoch_and_leaves_its_checkpoints() {
    let place = Place::new();
    let output = succeeds(&mut place.run("out", 2, ""));
    assert_eq!(epochs(&output), [1, 2]);
    let last: Value = serde_json::from_slice(output.stdout.split(|byte| *byte == b'\n').nth(1).unwrap()).unwrap();
    for (split, name) in [("train", "loss"), ("val", "loss"), ("val", "accuracy"), ("val", "auc")] {
        assert!(last["metrics"][split][name].is_f64(), "{split} {name}: {last}");
    }
    assert_eq!((last["steps"].as_u64(), last["samples"].as_u64()), (Some(3), Some(12)), "{last}");
    assert!(said(&output).contains("epoch 2: step 3 of 3, loss "), "{}", said(&output));
    for file in ["frozen", "trained", "optimizer", "predictions-val", "predictions-test"] {
        place.file(&format!("out/epoch-2/{file}.safetensors"));
    }
    insta::assert_snapshot!(place.refusal(&mut place.run("out", 2, "")), @"[folder]/out is not empty; name another folder as --out, or go on in this one with --resume");
    insta::assert_snapshot!(place.refusal(place.run("out", 3, "").arg("--resume")), @"");
    let again = succeeds(place.run("out", 2, "").arg("--resume"));
    assert_eq!(epochs(&again), [0; 0]);
    assert!(said(&again).contains("all epochs are trained"), "{}", said(&again));
}

#[test]
fn a_run_that_is_not_there_is_told_with_those_that_are() {
    let place = Place::new();
    let grid = "grid = { lr = [0.1, 0.01] }";
    insta::assert_snapshot!(place.refusal(&mut place.run("out", 1, grid)), @"");
    insta::assert_snapshot!(place.refusal(place.run("out", 1, grid).args(["--arm", "other"])), @"");
    insta::assert_snapshot!(place.refusal(place.run("out", 1, "").args(["--seed", "4"])), @"");
    insta::assert_snapshot!(place.refusal(place.run("out", 1, "").args(["--weights", "w"])), @"");
    assert!(!place.path("out").exists());
}

/// Starts a run, waits for its first epoch and sends a signal.
fn interrupted(place: &Place, signal: Signal) -> Option<i32> {
    let mut child = place.run("out", 30, "execution = { checkpoint_every_steps = 1 }");
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    kill_process(Pid::from_child(&child), signal).unwrap();
    child.wait().unwrap().code()
}

fn resumes_to_the_bit(place: &Place) -> Output {
    let every = "execution = { checkpoint_every_steps = 1 }";
    let resumed = succeeds(place.run("out", 30, every).arg("--resume"));
    assert!(said(&resumed).contains("going on from "), "{}", said(&resumed));
    let told = epochs(&resumed);
    assert!(told.first().is_some_and(|first| *first > 1) && told.last() == Some(&30), "{told:?}");
    succeeds(&mut place.run("straight", 30, every));
    for file in ["trained", "optimizer", "predictions-test"] {
        let file = format!("epoch-30/{file}.safetensors");
        assert!(place.file(&format!("out/{file}")) == place.file(&format!("straight/{file}")), "{file} differs");
    }
    resumed
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let place = Place::new();
    assert_eq!(interrupted(&place, Signal::KILL), None, "a signal ends it");
    resumes_to_the_bit(&place);
}

#[test]
fn an_interrupted_run_says_so_and_goes_on_where_it_stopped() {
    let place = Place::new();
    assert_eq!(interrupted(&place, Signal::INT), Some(130));
    resumes_to_the_bit(&place);
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_one_before_taken() {
    let place = Place::new();
    succeeds(&mut place.run("out", 3, ""));
    let whole = place.file("out/epoch-3/trained.safetensors");
    fs::write(place.path("out/epoch-3/trained.safetensors"), &whole[..whole.len() / 2]).unwrap();
    fs::remove_file(place.path("out/epoch-2/metrics.json")).unwrap();
    let output = succeeds(place.run("out", 3, "").arg("--resume"));
    let said = said(&output).replace(&place.folder.path().display().to_string(), "[folder]");
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("out/epoch-")).collect();
    insta::assert_snapshot!(lines.join("\n"), @"");
    assert_eq!(epochs(&output), [2, 3]);
    assert!(place.file("out/epoch-3/trained.safetensors") == whole);
}
