//! A leader is killed or stopped while a worker commits epochs; the other coordinator goes on. Nothing that was
//! acknowledged may be missing, and nothing may be there twice.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ceteris_blob::Blobs;
use ceteris_tests::{Coordinator, Database, Signal, Spec, eventually, free_address, signal};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{
    Options,
    worker::{Acknowledged, Worker},
};

/// How long a hand-over is waited for at most.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the worker does in peace between two faults.
const PEACE: Duration = Duration::from_millis(300);
/// Seeds and epochs of the experiment: more than a worker commits meanwhile.
const SEEDS: u32 = 20;
const EPOCHS: u32 = 500;
const STAGES: &str = r#"{ epochs = 500, train = "head" }"#;

/// Alternates between SIGKILL and SIGSTOP, and checks the database in the end.
pub fn run(options: &Options, runtime: &Runtime) -> Result<()> {
    let database = Database::on(options.postgres()?);
    let folder = tempfile::tempdir()?;
    let start = |name: &str, address: &str| {
        Coordinator::start(name, options.program(), folder.path(), &database.url(), address)
    };
    let (mut leader, mut standby) = (start("a", &free_address()), start("b", &free_address()));
    let both = format!("{},{}", leader.url(), standby.url());
    eventually("one of both to lead", || [&leader, &standby].iter().any(|one| one.is_leading()).then_some(()));
    if standby.is_leading() {
        std::mem::swap(&mut leader, &mut standby);
    }
    standby.stands_by();
    let spec = Spec { name: "recovery", epochs: EPOCHS, seeds: SEEDS, arms: vec![("head", STAGES)] };
    options.submit(folder.path(), &both, &spec)?;
    let store = folder.path().join("store").display().to_string();
    let store = runtime.block_on(Blobs::open(&store))?.store_id();
    let urls = both.split(',').map(str::to_owned).collect();
    let mut worker = runtime.block_on(async { Worker::start(urls, store) });
    runtime.block_on(worker.acknowledged_after(Instant::now(), PATIENCE))?;
    for round in 0..options.times {
        std::thread::sleep(PEACE);
        let (fault, name) = if round % 2 == 0 { (Signal::KILL, "kill -9") } else { (Signal::STOP, "SIGSTOP") };
        let at = Instant::now();
        signal(leader.process.id(), fault);
        let acknowledged = runtime.block_on(worker.acknowledged_after(at, PATIENCE));
        let acknowledged = acknowledged.with_context(|| format!("the new leader says:\n{}", standby.process.log()))?;
        let seconds = acknowledged.duration_since(at).as_secs_f64();
        signal(leader.process.id(), Signal::CONT);
        let status = eventually("the former leader to end", || leader.process.ended());
        println!("{}", json!({ "round": round, "fault": name, "seconds": seconds, "exit": status.code() }));
        let address = leader.address.clone();
        leader = std::mem::replace(&mut standby, start(&format!("c{round}"), &address));
        standby.stands_by();
    }
    let acknowledged = runtime.block_on(worker.stop());
    standby.process.stop();
    leader.process.stop();
    check(&database, &acknowledged)
}

/// Holds what the worker knows to be stored against what is, as the server itself says.
fn check(database: &Database, acknowledged: &Acknowledged) -> Result<()> {
    let epochs = database.value("SELECT segment || ' ' || epoch || ' ' || manifest FROM counted");
    let (mut stored, mut doubled) = (BTreeMap::new(), 0);
    for line in epochs.lines() {
        let (key, manifest) = line.rsplit_once(' ').context("a line of two")?;
        doubled += u64::from(stored.insert(key, manifest).is_some());
    }
    let mut lost = 0;
    for ((segment, epoch), manifest) in &acknowledged.epochs {
        let known = stored.remove(format!("{segment} {epoch}").as_str());
        lost += u64::from(known != Some(manifest.to_string().as_str()));
    }
    // All was acknowledged when the worker stopped, so nothing else may count.
    doubled += stored.len() as u64;

    let metrics = database.value(
        "SELECT a.segment || ' ' || m.epoch || ' ' || m.step || ' ' || m.value FROM counted AS c \
         JOIN attempts AS a ON a.segment = c.source AND a.number = c.attempt \
         JOIN metrics AS m ON m.attempt = a.id AND m.epoch = c.epoch",
    );
    let mut values: BTreeMap<&str, f64> = BTreeMap::new();
    for line in metrics.lines() {
        let (key, value) = line.rsplit_once(' ').context("a line of two")?;
        doubled += u64::from(values.insert(key, value.parse()?).is_some());
    }
    let of_committed = acknowledged
        .metrics
        .iter()
        .filter(|((segment, epoch, _), _)| acknowledged.epochs.contains_key(&(*segment, *epoch)));
    let mut metrics = 0;
    for ((segment, epoch, step), value) in of_committed {
        metrics += 1;
        lost += u64::from(values.remove(format!("{segment} {epoch} {step}").as_str()) != Some(*value));
    }
    doubled += values.len() as u64;
    let epochs = acknowledged.epochs.len();
    println!("{}", json!({ "epochs": epochs, "metrics": metrics, "lost": lost, "doubled": doubled }));
    Ok(())
}
