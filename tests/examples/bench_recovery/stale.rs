//! Commits that come too late: of a coordinator that no longer leads, and of attempts that another one took the place of.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ceteris_blob::Blobs;
use ceteris_coordinator::store::{
    Change, Error, Postgres, Store, WeightsRecord, WorkerRecord,
    postgres::{Candidate, Member, Server, Timing},
};
use ceteris_proto::fleet::{CoordinatorMessage, Event, EventKind, StartAttempt, WorkerMessage};
use ceteris_scheduler::Timestamp;
use ceteris_shared::{
    dataset::Split,
    digest::Digest,
    ids::{Attempt, Epoch, SegmentId, WorkerId},
    spec::Arch,
    trainer::{FailureCause, MetricPoint},
};
use ceteris_tests::{Coordinator, Database, Spec, free_address};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Options, worker};

/// Half of the commits are a deposed leader's, half an older attempt's.
pub fn run(options: &Options, runtime: &Runtime) -> Result<()> {
    let half = options.times / 2;
    runtime.block_on(of_deposed(options, half))?;
    let database = Database::on(options.postgres()?);
    let folder = tempfile::tempdir()?;
    let mut coordinator = Coordinator::start("a", options.program(), folder.path(), &database.url(), &free_address());
    coordinator.leads();
    options.submit(folder.path(), &coordinator.url(), &Spec::long())?;
    let store = folder.path().join("store").display().to_string();
    let store = runtime.block_on(Blobs::open(&store))?.store_id();
    let revoked = runtime.block_on(of_stale_attempt(&coordinator.url(), store, options.times - half))?;
    let accepted: u32 = database.value("SELECT count(*) FROM epochs").parse()?;
    let attempts: u32 = database.value("SELECT max(number) FROM attempts").parse()?;
    ensure!(attempts >= 2, "there was no other attempt");
    coordinator.process.stop();
    println!(
        "{}",
        json!({ "of": "stale attempts", "tried": options.times - half, "refused": revoked, "accepted": accepted })
    );
    Ok(())
}

async fn leader(database: &Database, who: &str) -> Result<Postgres> {
    let server: Server = database.url().parse()?;
    let member = Member { who: who.to_owned(), address: "nowhere".to_owned() };
    let timing = Timing { look: Duration::from_millis(20), ..Timing::default() };
    let candidate = Candidate::connect(server, member, timing).await?;
    candidate.lead(&CancellationToken::new()).await?.context("it was told to stop")
}

async fn of_deposed(options: &Options, times: u32) -> Result<()> {
    let database = Database::on(options.postgres()?);
    let deposed = leader(&database, "a").await?;
    database.value("SELECT pg_terminate_backend(pid) FROM leadership");
    let successor = leader(&database, "b").await?;
    let (mut refused, mut unreachable) = (0, 0);
    for number in 0..times {
        loop {
            match write(&deposed, number).await {
                Err(Error::Deposed { .. }) => refused += 1,
                // Its sessions were ended with its leadership; it gets new ones, and tries again.
                Err(Error::Unreachable { .. }) => {
                    unreachable += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
                Ok(()) => {}
            }
            break;
        }
    }
    let count = "SELECT (SELECT count(*) FROM workers) + (SELECT count(*) FROM weights) + (SELECT count(*) FROM metrics) \
                 + (SELECT count(*) FROM logs)";
    let accepted: u32 = database.value(count).parse()?;
    successor.close().await;
    let lost = unreachable;
    println!(
        "{}",
        json!({ "of": "deposed leaders", "tried": times, "refused": refused, "accepted": accepted, "sessions_lost": lost })
    );
    Ok(())
}

/// One of the ways to write.
async fn write(store: &Postgres, number: u32) -> Result<(), Error> {
    let id = WorkerId(Uuid::from_u128(u128::from(number) + 1));
    let attempt = Attempt { segment: SegmentId(Uuid::from_u128(1)), number: 1 };
    match number % 4 {
        0 => {
            let environment = worker::register(String::new()).environment;
            let (name, version) = ("stale".to_owned(), "1".to_owned());
            let (first_seen, last_seen) = (Timestamp(1), Timestamp(1));
            let record = WorkerRecord { id, name, version, slots: 1, environment, first_seen, last_seen };
            store.commit(&[Change::Worker(record)]).await
        }
        1 => {
            let (name, digest) = (format!("stale-{number}"), Digest::of(&number.to_le_bytes()));
            let record = WeightsRecord { name, digest, arch: Arch::Densenet121, registered_at: Timestamp(1) };
            store.register_weights(&record).await.map(drop)
        }
        2 => {
            let point =
                MetricPoint { epoch: Epoch(1), step: 1, split: Split::Val, name: "loss".to_owned(), value: 0.5 };
            store.append_metrics(id, 1, attempt, &[point]).await.map(drop)
        }
        _ => store.append_log(id, 1, attempt, &["stale".to_owned()]).await.map(drop),
    }
}

/// Fails an attempt, waits for the next one, and commits the first epoch as the former again and again; returns how often
/// that was revoked.
async fn of_stale_attempt(url: &str, store: String, times: u32) -> Result<u32> {
    let (to, mut inbound) = worker::open(url, &worker::register(store)).await?;
    let first = started(&mut inbound).await?;
    let message = "on purpose".to_owned();
    let failed = EventKind::Failed { cause: FailureCause::Infrastructure, message };
    let say = async |sequence: u64, kind| {
        let event = Event { sequence, attempt: first.attempt, kind };
        to.send(WorkerMessage::Event(event).into()).await.context("the stream is gone")
    };
    say(1, failed).await?;
    let second = started(&mut inbound).await?;
    ensure!(second.attempt.segment == first.attempt.segment && second.attempt.number > first.attempt.number);
    let work = first.work.epochs.first().context("a segment has epochs")?;
    let (mut revoked, mut last) = (0, u64::from(times) + 1);
    for number in 0..times {
        let commit = worker::committed(first.attempt, work.epoch, work.key);
        say(2 + u64::from(number), EventKind::EpochCommitted(commit)).await?;
    }
    while last > 0 {
        match worker::next(&mut inbound).await? {
            CoordinatorMessage::Revoke { attempt, .. } if attempt == first.attempt => revoked += 1,
            CoordinatorMessage::Ack(sequence) if sequence >= last => last = 0,
            _ => {}
        }
    }
    Ok(revoked)
}

async fn started(inbound: &mut tonic::Streaming<ceteris_proto::v1::CoordinatorMessage>) -> Result<StartAttempt> {
    loop {
        if let CoordinatorMessage::Start(start) = worker::next(inbound).await? {
            return Ok(*start);
        }
    }
}
