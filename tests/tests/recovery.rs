//! How soon training goes on after a fault, on the real programs. The seconds are printed: a person waits for them.

use std::time::{Duration, Instant};

use ceteris_shared::document::{State, WorkerState, Workers};
use ceteris_tests::{Cluster, Images, Place, Program, Signal, Spec, Unusual, eventually, signal};

/// Seconds that these clusters believe an attempt alive without a sign of life.
const LEASE: u32 = 3;

/// A long experiment in the middle of an epoch after the first, on one of so many workers.
fn in_the_middle(workers: usize) -> Cluster {
    let mut cluster = Cluster::start_unusual(&Place::Folder, Unusual { lease: Some(LEASE), ..Unusual::default() });
    for _ in 0..workers {
        cluster.start_worker();
    }
    eventually("the workers to connect", || {
        let there = cluster.document::<Workers>(&["workers"]).workers;
        (there.iter().filter(|worker| worker.state == WorkerState::Connected).count() == workers).then_some(())
    });
    cluster.import(Images::SLOW);
    cluster.submit(&Spec::long());
    eventually("an epoch to be committed and steps of the next", || steps(&cluster, 1));
    cluster
}

/// Something as soon as the run's attempt of that number makes steps.
fn steps(cluster: &Cluster, attempt: u32) -> Option<()> {
    let name = Spec::long().name;
    let run = cluster.only_run(name);
    let now = cluster.experiment(name).segments.iter().map(|segment| segment.attempts).max()?;
    let committed = attempt > 1 || run.epoch.0 >= 1;
    (now >= attempt && committed && run.live.is_some_and(|live| live.step > 0)).then_some(())
}

/// Waits for the second attempt's first steps and says how long they took.
fn goes_on(cluster: &Cluster, fault: &str, began: Instant) -> Duration {
    let name = Spec::long().name;
    // The first attempt's steps are shown until the coordinator hears of its end.
    eventually("steps of another attempt", || steps(cluster, 2));
    let took = began.elapsed();
    eprintln!("{fault}: {:.1} s to the first new step", took.as_secs_f64());
    eventually("the experiment to end", || (cluster.experiment(name).state == State::Done).then_some(()));
    took
}

/// The worker that has the experiment's attempt, counted from 0.
fn holder(cluster: &Cluster) -> usize {
    let holder = cluster.experiment(Spec::long().name).segments.into_iter().find_map(|segment| segment.worker);
    let holder = holder.expect("a worker trains");
    holder.strip_prefix("worker-").and_then(|number| number.parse().ok()).expect("workers are numbered")
}

#[test]
fn a_killed_trainer_is_replaced_at_once() {
    let cluster = in_the_middle(1);
    let trainers = cluster.worker(0).children(Program::Trainer);
    let began = Instant::now();
    signal(trainers[0], Signal::KILL);
    eventually("the next trainer", || {
        let now = cluster.worker(0).children(Program::Trainer);
        (!now.is_empty() && now != trainers).then_some(())
    });
    let started = began.elapsed();
    assert!(started < Duration::from_secs(5), "the next trainer is started at once, not after {started:?}");
    goes_on(&cluster, "SIGKILL of the trainer", began);
}

#[test]
fn a_killed_agents_work_goes_to_another_when_its_lease_is_over() {
    let mut cluster = in_the_middle(2);
    let holder = holder(&cluster);
    let began = Instant::now();
    cluster.kill_worker(holder);
    let took = goes_on(&cluster, "SIGKILL of the agent", began);
    assert!(took > Duration::from_secs(1), "the lease is believed: {took:?}");
}

#[test]
fn a_terminated_workers_work_goes_to_another_at_once() {
    let mut cluster = in_the_middle(2);
    let holder = holder(&cluster);
    let began = Instant::now();
    assert_eq!(cluster.stop_worker(holder), Some(0));
    let stopped = began.elapsed();
    assert!(stopped < Duration::from_secs(30), "a worker checkpoints and ends within 30 s, not {stopped:?}");
    goes_on(&cluster, "SIGTERM of the worker", began);
}
