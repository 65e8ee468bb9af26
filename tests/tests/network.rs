//! A network that swallows everything: whoever waits for an answer notices within some 20 s and says so.

use std::time::{Duration, Instant};

use ceteris_tests::{Cluster, Direction, Images, Place, Process, Program, Proxy, Spec, eventually, run};

/// Two intervals of keep-alive, and what a busy machine adds.
const NOTICED: Duration = Duration::from_secs(30);

/// Everything that is sent is swallowed.
fn black_hole(proxy: &Proxy) {
    Direction::BOTH.into_iter().for_each(|direction| proxy.stall(direction));
}

#[test]
fn a_command_does_not_wait_in_a_black_hole() {
    let cluster = Cluster::start(&Place::Folder);
    let proxy = Proxy::to_url(cluster.url());
    let ls = || {
        let mut command = Program::Ceteris.command();
        command.args(["--coordinator", &proxy.url(), "ls"]);
        run(&mut command)
    };
    ls().ok();
    for directions in [&[Direction::ToClient][..], &Direction::BOTH] {
        directions.iter().for_each(|direction| proxy.stall(*direction));
        let began = Instant::now();
        ls().refused(5, &[]);
        let took = began.elapsed();
        assert!(took < NOTICED, "it waited for {took:?}");
        eprintln!("{directions:?} stalled: noticed after {:.1} s", took.as_secs_f64());
        proxy.flow();
    }
    ls().ok();
}

#[test]
fn a_watcher_in_a_black_hole_says_so_and_comes_back() {
    let cluster = Cluster::start(&Place::Folder);
    cluster.import(Images::TINY);
    let spec = Spec::long();
    cluster.submit(&spec);
    let proxy = Proxy::to_url(cluster.url());
    let mut command = Program::Ceteris.command();
    command.args(["--coordinator", &proxy.url(), "watch", spec.name]);
    let watcher = Process::start("the watcher", command, &cluster.folder().join("watcher.log"));
    eventually("the watcher to connect", || (proxy.connections() > 0).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    black_hole(&proxy);
    let began = Instant::now();
    eventually("the watcher to notice", || watcher.log().contains("the coordinator is away").then_some(()));
    let took = began.elapsed();
    assert!(took < NOTICED, "it waited for {took:?}");
    proxy.flow();
    eventually("the watcher to come back", || watcher.log().contains("the coordinator is back").then_some(()));
    eprintln!("a watcher noticed after {:.1} s", took.as_secs_f64());
}

#[test]
fn a_worker_in_a_black_hole_notices_and_comes_back() {
    let cluster = Cluster::start(&Place::Folder);
    let proxy = Proxy::to_url(cluster.url());
    let command = cluster.worker_command_at(0, &proxy.url());
    let worker = Process::start("the worker", command, &cluster.folder().join("worker.log"));
    let connections = || worker.log().matches(" connected").count() - worker.log().matches("not connected").count();
    eventually("the worker to connect", || (connections() == 1).then_some(()));
    black_hole(&proxy);
    let began = Instant::now();
    eventually("the worker to notice", || worker.log().contains("not connected").then_some(()));
    let took = began.elapsed();
    assert!(took < NOTICED, "it waited for {took:?}");
    eprintln!("a worker noticed after {:.1} s", took.as_secs_f64());
    proxy.flow();
    eventually("the worker to come back", || (connections() == 2).then_some(()));
}
