//! `kill -9`, a full disk, or clocks that jump in the middle of a run: it completes, nothing is counted twice, and the weights are, bit for bit, those of
//! a run that nobody disturbed.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    path::Path,
    thread,
    time::Duration,
};

use ceteris_shared::{document::State, ids::Epoch};
use ceteris_tests::{Clocks, Cluster, Images, Place, Program, Signal, Spec, Trace, Unusual, eventually, signal, skip};

/// What a run of peace leaves behind.
fn undisturbed(spec: &Spec<'_>) -> Trace {
    let cluster = Cluster::with_data(&Place::Folder, Images::SLOW);
    cluster.train(spec);
    Trace::complete(&cluster, spec)
}

/// Trains, lets `disturb` do its worst while an epoch after the first is in flight, and compares with a run of peace.
fn survives(disturb: impl FnOnce(&mut Cluster)) {
    let spec = Spec::long();
    let mut cluster = Cluster::with_data(&Place::Folder, Images::SLOW);
    cluster.submit(&spec);
    eventually("an epoch to be committed and the next to be begun", || {
        let run = cluster.only_run(spec.name);
        (run.epoch >= Epoch(1) && run.live.is_some_and(|live| live.epoch > run.epoch && live.step > 0)).then_some(())
    });
    disturb(&mut cluster);
    let run = cluster.only_run(spec.name);
    assert!(run.epoch < Epoch(spec.epochs), "the disturbance came too late to disturb: {run:?}");
    eventually("the experiment to end", || {
        let state = cluster.experiment(spec.name).state;
        assert!(!matches!(state, State::Failed | State::Cancelled), "it ended as {state:?}");
        (state == State::Done).then_some(())
    });
    assert_eq!(Trace::complete(&cluster, &spec), undisturbed(&spec));
}

#[test]
fn a_killed_trainer_costs_no_more_than_the_epoch_in_flight() {
    survives(|cluster| {
        let trainers = cluster.worker(0).children(Program::Trainer);
        assert_eq!(trainers.len(), 1, "one slot has one trainer");
        signal(trainers[0], Signal::KILL);
        eventually("another trainer to be started", || {
            let now = cluster.worker(0).children(Program::Trainer);
            (!now.is_empty() && now != trainers).then_some(())
        });
    });
}

#[test]
fn a_killed_agent_goes_on_where_it_was() {
    survives(|cluster| {
        let trainers = cluster.worker(0).children(Program::Trainer);
        cluster.kill_and_restart_worker(0);
        eventually("the dead agent's trainer to end with it", || {
            trainers.iter().all(|id| !Path::new(&format!("/proc/{id}")).exists()).then_some(())
        });
    });
}

#[test]
fn a_paused_run_stops_after_its_epoch_and_goes_on_where_it_was() {
    survives(|cluster| {
        let name = Spec::long().name;
        cluster.ceteris(&["pause", name]).ok();
        eventually("the worker to be free", || {
            cluster.experiment(name).segments.iter().all(|segment| segment.worker.is_none()).then_some(())
        });
        let paused = cluster.experiment(name);
        assert!(paused.paused);
        let run = cluster.only_run(name);
        let why = cluster.ceteris(&["explain", &run.run.to_string()]).ok().stdout;
        assert!(why.contains("ceteris resume"), "{why}");
        thread::sleep(Duration::from_secs(2));
        assert_eq!(cluster.only_run(name).epoch, run.epoch, "nothing goes on meanwhile");
        cluster.ceteris(&["resume", name]).ok();
    });
}

#[test]
fn a_killed_coordinator_goes_on_where_it_was() {
    survives(|cluster| {
        cluster.kill_coordinator();
        cluster.start_coordinator();
    });
}

/// As many epochs of the whole network as outlast the coordinator's absence, and as many for the soak.
const STAGES: [&str; 2] = [r#"{ epochs = 12, train = "all" }"#, r#"{ epochs = 90, train = "all" }"#];

/// Bytes of all files in a folder.
fn bytes_in(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("it lists").flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

#[test]
fn training_goes_on_while_the_coordinator_is_away() {
    const LEASE: u32 = 3;
    // Longer than several leases; as long as a restart after a failure may take where there is time for that.
    let soak = env::var_os("CETERIS_TEST_SOAK").is_some();
    let (away, epochs) = if soak { (Duration::from_secs(60), 90) } else { (Duration::from_secs(8), 12) };
    let spec = Spec { epochs, arms: vec![("all", STAGES[usize::from(soak)])], ..Spec::long() };
    let mut cluster = Cluster::start_unusual(&Place::Folder, Unusual { lease: Some(LEASE), ..Unusual::default() });
    cluster.start_worker();
    cluster.import(Images::SLOW);
    cluster.submit(&spec);
    eventually("an epoch to be committed", || (cluster.only_run(spec.name).epoch >= Epoch(1)).then_some(()));

    let trainers = cluster.worker(0).children(Program::Trainer);
    let spool = cluster.worker_state(0).join("spool");
    cluster.kill_coordinator();
    let before = bytes_in(&spool);
    thread::sleep(away);
    let during = bytes_in(&spool);
    assert!(during > before + 1000, "epochs are kept meanwhile: {before} bytes before, {during} after");
    cluster.start_coordinator();
    let reached = cluster.only_run(spec.name).epoch;
    assert!(reached < Epoch(epochs), "the coordinator came back too late to matter: epoch {reached}");
    eventually("the gap to be filled", || (cluster.only_run(spec.name).epoch > reached.next().next()).then_some(()));
    assert_eq!(cluster.worker(0).children(Program::Trainer), trainers, "the trainer noticed nothing");
    eventually("the experiment to end", || (cluster.experiment(spec.name).state == State::Done).then_some(()));
    let attempts: Vec<u32> = cluster.experiment(spec.name).segments.iter().map(|segment| segment.attempts).collect();
    assert_eq!(attempts, [1], "the attempt was adopted");
    eventually("everything to be acknowledged", || (bytes_in(&spool) == 0).then_some(()));
    eprintln!("{} s without a coordinator: the spool grew from {before} to {during} bytes", away.as_secs());

    assert_eq!(Trace::complete(&cluster, &spec), undisturbed(&spec));
}

/// Waits for more epochs than there are.
fn goes_on(cluster: &Cluster, spec: &Spec<'_>) {
    let reached = cluster.only_run(spec.name).epoch;
    eventually("another epoch to be committed", || (cluster.only_run(spec.name).epoch > reached).then_some(()));
}

/// The experiment ends well, by its first attempt, and with what a run of peace leaves behind.
fn ends_as_in_peace(cluster: &Cluster, spec: &Spec<'_>) {
    eventually("the experiment to end", || (cluster.experiment(spec.name).state == State::Done).then_some(()));
    let attempts: Vec<u32> = cluster.experiment(spec.name).segments.iter().map(|segment| segment.attempts).collect();
    assert_eq!(attempts, [1], "no attempt was given up");
    assert_eq!(Trace::complete(cluster, spec), undisturbed(spec));
}

/// Leaves no room on a disk; the file that takes it.
fn fill(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).expect("there is room for a file");
    for bytes in [4096, 1] {
        while file.write_all(&vec![0; bytes]).is_ok() {}
    }
    path
}

#[test]
fn a_coordinator_whose_disk_is_full_ends_and_loses_nothing() {
    const TIMES: u32 = 3;
    const INFRASTRUCTURE: i32 = 5;
    let Some(small) = env::var_os("CETERIS_TEST_SMALL_DISK") else {
        skip(
            "a_coordinator_whose_disk_is_full_ends_and_loses_nothing",
            "CETERIS_TEST_SMALL_DISK, a folder with under 9 MB free",
        );
        return;
    };
    let small = tempfile::tempdir_in(small).expect("a temporary folder");
    let spec = Spec { epochs: 16, arms: vec![("all", r#"{ epochs = 16, train = "all" }"#)], ..Spec::long() };
    let unusual = Unusual { database: Some(small.path()), ..Unusual::default() };
    let mut cluster = Cluster::start_unusual(&Place::Folder, unusual);
    cluster.start_worker();
    cluster.import(Images::SLOW);
    cluster.submit(&spec);
    for _ in 0..TIMES {
        goes_on(&cluster, &spec);
        let filler = fill(small.path());
        let (code, log) = cluster.coordinator_ends();
        assert_eq!(code, Some(INFRASTRUCTURE), "{log}");
        assert!(log.contains("full"), "{log}");
        let (code, _) = cluster.start_coordinator_in_vain();
        assert_eq!(code, Some(INFRASTRUCTURE), "there is no room yet");
        fs::remove_file(filler).expect("it is there");
        cluster.start_coordinator();
        let reached = cluster.only_run(spec.name).epoch;
        assert!(reached < Epoch(spec.epochs), "there was room too late to matter: epoch {reached}");
    }
    ends_as_in_peace(&cluster, &spec);
}

#[test]
fn clocks_that_jump_change_nothing() {
    const DAY: i64 = 86_400;
    let Some(clocks) = Clocks::find("clocks_that_jump_change_nothing") else { return };
    let spec = Spec { epochs: 12, arms: vec![("all", STAGES[0])], ..Spec::long() };
    let unusual = Unusual { clocks: Some(&clocks), ..Unusual::default() };
    let mut cluster = Cluster::start_unusual(&Place::Folder, unusual);
    cluster.start_worker();
    cluster.import(Images::SLOW);
    cluster.submit(&spec);
    goes_on(&cluster, &spec);
    let [coordinator, workers] = cluster.clocks().clone();
    for (clock, seconds) in [(&coordinator, DAY), (&workers, -DAY), (&workers, DAY), (&coordinator, -DAY)] {
        clock.set(seconds);
        goes_on(&cluster, &spec);
    }
    // What was written in days to come is read by one whose clock has gone back.
    cluster.kill_coordinator();
    cluster.start_coordinator();
    let reached = cluster.only_run(spec.name).epoch;
    assert!(reached < Epoch(spec.epochs), "it is over before the clock went back: epoch {reached}");
    ends_as_in_peace(&cluster, &spec);
}
