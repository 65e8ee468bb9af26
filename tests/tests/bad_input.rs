//! Mistakes and broken surroundings: each ends in one paragraph that names the place and the way out, in the right exit
//! code, and with nothing half-done.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use ceteris_shared::{
    dataset::SAMPLES_PER_SHARD,
    document::{Experiments, State},
    trainer::FailureCause,
};
use ceteris_tests::{Cluster, Images, Place, Process, Program, Spec, eventually, run};

const USAGE: i32 = 2;
const INFRASTRUCTURE: i32 = 5;

fn valid() -> String {
    Spec::frozen_and_finetuned().text()
}

#[test]
fn specs_that_cannot_be_meant_are_refused_and_nothing_is_submitted() {
    let cluster = Cluster::start(&Place::Folder);
    cluster.import(Images::TINY);
    let grid = |levels: &str| format!("{}\n[grid]\nbatch_size = [{levels}]\n", valid());
    let many = (1..=4096).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    for (text, words) in [
        (valid().replace("batch_size", "bacth_size"), vec!["bacth_size", "batch_size", "spec.toml"]),
        (valid().replace("epochs = 3\n", "epochs = 4\n"), vec!["frozen", "3", "4"]),
        (valid().replace("\"synthetic\"", "\"sinthetic\""), vec!["sinthetic", "data import"]),
        (valid().replace("\"random\"", "\"imagenet\""), vec!["imagenet", "weights import"]),
        (valid().replace("\"densenet121\"", "\"densenet12\""), vec!["densenet12", "densenet121"]),
        (valid().replace("accept_small_splits = true\n", ""), vec!["val split", "10 NORMAL", "accept_small_splits"]),
        (grid(""), vec!["grid", "batch_size"]),
        (format!("{}lr = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7]\n", grid(&many)), vec!["114688 runs", "100000"]),
    ] {
        let path = cluster.write("spec.toml", &text);
        cluster.ceteris(&["submit", &path]).refused(USAGE, &words);
        cluster.ceteris(&["plan", &path]).refused(USAGE, &words);
    }
    let listed: Experiments = cluster.document(&["ls"]);
    assert_eq!(listed.experiments, []);
}

#[test]
fn data_and_weights_that_cannot_be_meant_are_refused() {
    let cluster = Cluster::start(&Place::Folder);
    let folder = cluster.folder().join("images");
    Images::TINY.write(&folder);
    let path = folder.to_string_lossy().into_owned();
    let import = |cluster: &Cluster| cluster.ceteris(&["data", "import", &path, "--name", "x", "--image-size", "32"]);

    let class = folder.join("test/PNEUMONIA");
    fs::rename(&class, folder.join("aside")).expect("it can be renamed");
    fs::create_dir(&class).expect("it can be made");
    fs::rename(folder.join("aside"), cluster.folder().join("aside")).expect("it can be moved");
    import(&cluster).refused(USAGE, &["PNEUMONIA", "test"]);

    let cut = cluster.write("cut.safetensors", "\u{8}\0\0\0\0\0\0\0{\"a\":");
    cluster.ceteris(&["weights", "import", &cut, "--name", "cut"]).refused(USAGE, &["cut.safetensors"]);
    cluster.ceteris(&["data", "import", "/does/not/exist", "--name", "x"]).refused(USAGE, &["/does/not/exist"]);
}

#[test]
fn a_coordinator_that_is_not_there_is_named() {
    let output = run(Program::Ceteris.command().args(["ls", "--coordinator", "http://127.0.0.1:1"]));
    output.refused(INFRASTRUCTURE, &["http://127.0.0.1:1", "ceteris up"]);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = taken.local_addr().expect("it is bound");
    let (address, port) = (address.to_string(), address.port().to_string());
    let folder = tempfile::tempdir().expect("a temporary folder");
    for verb in ["coordinator", "up"] {
        let mut command = Program::Ceteris.command();
        command.args([verb, "--listen", &address]);
        if verb == "up" {
            command.arg("--state").arg(folder.path().join("state"));
        } else {
            command.arg("--database").arg(folder.path().join("db")).arg("--store").arg(folder.path().join("store"));
        }
        run(&mut command).refused(INFRASTRUCTURE, &[&port, "--listen"]);
    }
}

#[test]
fn a_store_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("it is writable");
    let store = file.join("store").to_string_lossy().into_owned();
    let mut command = Program::Ceteris.command();
    command
        .args(["coordinator", "--listen", "127.0.0.1:0", "--store", &store, "--database"])
        .arg(folder.path().join("db"));
    run(&mut command).refused(INFRASTRUCTURE, &[&store]);

    let cluster = Cluster::start(&Place::Folder);
    let mut worker = Program::Worker.command();
    worker.args(["--coordinator", cluster.url(), "--store", &store, "--state"]).arg(folder.path().join("worker"));
    let output = run(&mut worker);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains(&store) && !output.stderr.contains("panicked"), "{}", output.stderr);
}

/// A trainer that the loader refuses is told of, and takes no work.
#[test]
fn a_trainer_whose_libtorch_does_not_load_is_told_of() {
    let cluster = Cluster::start(&Place::Folder);
    let trainer = cluster.folder().join("trainer");
    let words = "error while loading shared libraries: libtorch_cpu.so: cannot open shared object file";
    fs::write(&trainer, format!("#!/bin/sh\necho 'ceteris-train: {words}' >&2\nexit 127\n")).expect("it is writable");
    fs::set_permissions(&trainer, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut command = cluster.worker_command(0);
    command.arg("--trainer").arg(&trainer);
    let log = cluster.folder().join("worker.log");
    let mut worker = Process::start("the worker", command, &log);
    eventually("the worker to say why its trainer does not start", || {
        let said = worker.log();
        (said.contains(words) || worker.ended().is_some()).then_some(())
    });
    let said = worker.log();
    assert!(said.contains(words) && !said.contains("panicked"), "{said}");
}

#[test]
fn a_damaged_shard_is_refused_and_the_experiment_says_so() {
    let mut cluster = Cluster::start(&Place::Folder);
    cluster.import(Images::TINY);
    let shard = damage_the_only_shard(Path::new(cluster.store()), Images::TINY);
    cluster.start_worker();
    let spec = Spec::long();
    let path = cluster.write("spec.toml", &spec.text());
    cluster.ceteris(&["submit", &path, "--follow"]).refused(INFRASTRUCTURE, &[&shard, "damaged"]);
    assert_eq!(cluster.experiment(spec.name).state, State::Failed);
    let failure = cluster.only_run(spec.name).failure.expect("it says why it failed");
    assert_eq!(failure.cause, FailureCause::Infrastructure);
    assert!(failure.message.contains(&shard), "{}", failure.message);
    assert_eq!(cluster.checkpoints(spec.name).epochs, []);
}

/// Turns one bit of the object that is as long as all pixels, and returns its digest.
fn damage_the_only_shard(store: &Path, images: Images) -> String {
    let samples = 2 * images.per_class.iter().sum::<u32>();
    assert!(samples as usize <= SAMPLES_PER_SHARD);
    let bytes = u64::from(samples * images.size * images.size);
    let mut folders = vec![store.join("blobs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the store can be listed") {
            let path = entry.expect("the store can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::metadata(&path).expect("it is there").len() == bytes {
                let mut pixels = fs::read(&path).expect("it can be read");
                pixels[0] ^= 1;
                fs::write(&path, pixels).expect("it is writable");
                return path.file_name().expect("it has a name").to_string_lossy().into_owned();
            }
        }
    }
    panic!("no object has {bytes} bytes");
}
