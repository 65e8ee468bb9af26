//! The contract on SQLite, and what is SQLite's own.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ceteris_scheduler::{Change as Decision, State, Timestamp};
use ceteris_shared::dataset::Split;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::store::contract;

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                let folder = TempDir::new().expect("a folder");
                let store = Sqlite::open(&folder.path().join("sub/folder/c.db")).await.expect("it opens");
                contract::$name(&store).await;
            }
        )*
    };
}

contract::all!(contract);

#[tokio::test]
async fn a_closed_database_is_opened_again_with_all_that_was_committed() {
    let folder = TempDir::new().expect("a folder");
    let place = folder.path().join("c.db");
    let record = contract::experiment(1, "kept");
    let store = Sqlite::open(&place).await.expect("it opens");
    store.commit(&[Change::Experiment(Box::new(record.clone()))]).await.expect("it is stored");
    let second = Sqlite::open(&place).await.expect_err("it is in use");
    assert!(matches!(second, Error::InUse { .. }), "{second}");
    store.close().await;
    let again = Sqlite::open(&place).await.expect("it opens again");
    assert_eq!(again.find_experiment("kept").await.expect("it is there"), record);
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let folder = TempDir::new().expect("a folder");
    let place = folder.path().join("c.db");
    let store = Sqlite::open(&place).await.expect("it opens");
    let future = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', TRUE, x'00', 0)";
    sqlx::query(future).execute(&store.writer.pool).await.expect("it is written");
    store.close().await;
    let error = Sqlite::open(&place).await.expect_err("it is newer");
    assert!(matches!(error, Error::Newer { migration: 9999, .. }), "{error}");
    assert!(error.to_string().contains("newer version of ceteris"), "{error}");
}

#[tokio::test]
async fn what_is_no_database_is_refused_by_name() {
    let folder = TempDir::new().expect("a folder");
    let place = folder.path().join("notes.txt");
    fs::write(&place, "not a database, but long enough to look like one ".repeat(100)).expect("it is written");
    let error = Sqlite::open(&place).await.expect_err("it is no database");
    assert!(matches!(error, Error::Damaged { .. }) && error.to_string().contains("notes.txt"), "{error}");
    let within = Sqlite::open(&place.join("c.db")).await.expect_err("a file is no folder");
    assert!(matches!(within, Error::NotWritable { .. }), "{within}");
    let folder = Sqlite::open(folder.path()).await.expect_err("a folder is no file");
    assert!(matches!(folder, Error::NotWritable { .. }), "{folder}");
}

#[tokio::test]
async fn the_log_is_folded_back_while_readers_read() {
    let folder = TempDir::new().expect("a folder");
    let place = folder.path().join("c.db");
    let store = Sqlite::open(&place).await.expect("it opens");
    let source = "x".repeat(20_000);
    for index in 1..=600 {
        let record = ExperimentRecord { source: source.clone(), ..contract::experiment(index, "e") };
        store.commit(&[Change::Experiment(Box::new(record))]).await.expect("it is stored");
        if index % 20 == 0 {
            store.experiments().await.expect("they are read");
            store.find_experiment("e").await.expect("it is there");
        }
    }
    let wal = fs::metadata(folder.path().join("c.db-wal")).expect("it is there").len();
    let database = fs::metadata(&place).expect("it is there").len();
    assert!(database > 10 << 20 && wal < 8 << 20, "the log has {wal} bytes beside a database of {database}");
}

/// Workers, each with an attempt of its own.
async fn workers(store: &Sqlite, count: u128) -> Vec<(WorkerId, Attempt)> {
    let mut given = Vec::new();
    for index in 1..=count {
        let record = contract::experiment(index, "e");
        let (segment, worker) = (record.plan.segments[0].id, WorkerId(Uuid::from_u128(index)));
        let attempt = Attempt { segment, number: 1 };
        let state = State::Queued { not_before: Timestamp(0) };
        let (environment, at) = (contract::environment(), Timestamp(1));
        let decisions = [
            Decision::SegmentAdded { segment, experiment: record.id, position: 0, state },
            Decision::AttemptAssigned { attempt, worker, environment, replays: 0, at },
        ];
        let mut changes = vec![
            Change::Worker(WorkerRecord { id: worker, ..contract::worker() }),
            Change::Experiment(Box::new(record)),
        ];
        changes.extend(decisions.map(Change::Scheduler));
        store.commit(&changes).await.expect("it is stored");
        given.push((worker, attempt));
    }
    given
}

fn losses(attempt: Attempt, sequence: u64, values: &[f64]) -> Observed {
    let point = |(step, &value): (usize, &f64)| MetricPoint {
        epoch: Epoch(sequence as u32),
        step: step as u32,
        split: Split::Train,
        name: "loss".to_owned(),
        value,
    };
    Observed { sequence, attempt, what: Observation::Metrics(values.iter().enumerate().map(point).collect()) }
}

async fn steps(store: &Sqlite, attempt: Attempt) -> Vec<(u32, u32)> {
    let query = SeriesQuery { segments: vec![attempt.segment], names: vec![], uncommitted: true };
    let found = store.series(&query).await.expect("they are read");
    found.iter().map(|at| (at.point.epoch.0, at.point.step)).collect()
}

#[tokio::test]
async fn what_cannot_be_stored_takes_no_neighbour_with_it_and_nothing_goes_past_it() {
    let folder = TempDir::new().expect("a folder");
    let store = Sqlite::open(&folder.path().join("c.db")).await.expect("it opens");
    let workers = workers(&store, 4).await;
    // Columns take no value that is not a number; the wire's conversion refuses it long before.
    let poisoned =
        |attempt| vec![losses(attempt, 1, &[0.5; 9]), losses(attempt, 2, &[0.5, f64::NAN]), losses(attempt, 3, &[0.5])];
    let sound = |attempt| vec![losses(attempt, 1, &[0.5; 600]), losses(attempt, 2, &[0.5; 9])];
    let parts = workers.iter().enumerate().map(|(index, &(worker, attempt))| {
        store.append(worker, if index == 1 { poisoned(attempt) } else { sound(attempt) })
    });
    let stored = futures::future::join_all(parts).await;
    for (index, (stored, (worker, attempt))) in stored.into_iter().zip(&workers).enumerate() {
        let (points, last) = if index == 1 { (9, 1) } else { (609, 2) };
        assert_eq!(stored.is_err(), index == 1, "{stored:?}");
        assert_eq!(steps(&store, *attempt).await.len(), points);
        assert_eq!(store.last_sequence(*worker).await.expect("it is read"), last);
    }
}

#[tokio::test]
async fn who_was_a_stranger_once_is_none_when_it_is_given_the_attempt() {
    let folder = TempDir::new().expect("a folder");
    let store = Sqlite::open(&folder.path().join("c.db")).await.expect("it opens");
    let (worker, first) = workers(&store, 1).await[0];
    let second = Attempt { number: 2, ..first };
    let early = store.append(worker, vec![losses(second, 1, &[0.5; 9])]).await;
    assert_eq!(early.expect("it is answered"), [false], "nobody has it yet");
    let (environment, at) = (contract::environment(), Timestamp(2));
    let given = Decision::AttemptAssigned { attempt: second, worker, environment, replays: 0, at };
    store.commit(&[Change::Scheduler(given)]).await.expect("it is stored");
    let told = store.append(worker, vec![losses(second, 2, &[0.5; 9])]).await;
    assert_eq!(told.expect("it is stored"), [true]);
    assert_eq!(steps(&store, second).await.len(), 9);
}

#[tokio::test]
async fn what_was_made_ready_during_a_transaction_that_failed_is_made_anew() {
    let folder = TempDir::new().expect("a folder");
    let store = Sqlite::open(&folder.path().join("c.db")).await.expect("it opens");
    let (worker, attempt) = workers(&store, 1).await[0];
    // More than a transaction takes, and in the end what undoes it and the series that it made.
    let mut poisoned = vec![0.5; 20_000];
    poisoned.push(f64::NAN);
    let (first, second) = tokio::join!(
        store.append(worker, vec![losses(attempt, 1, &poisoned)]),
        store.append(worker, vec![losses(attempt, 2, &[0.5; 9])]),
    );
    first.expect_err("a value that is no number is not stored");
    second.expect("it is stored");
    assert_eq!(steps(&store, attempt).await.len(), 9);
}

#[tokio::test]
async fn many_workers_share_commits_and_the_driver_gets_its_turn() {
    let folder = TempDir::new().expect("a folder");
    let place = folder.path().join("c.db");
    let store = Sqlite::open(&place).await.expect("it opens");
    let workers = workers(&store, 16).await;
    let sending = workers.iter().map(async |&(worker, attempt)| {
        for sequence in 1..=20 {
            let values: Vec<f64> = (0..200).map(|step| f64::from(step) / 3.0).collect();
            store.append(worker, vec![losses(attempt, sequence, &values)]).await.expect("it is stored");
        }
    });
    let driver = async {
        for index in 100..110 {
            let record = contract::experiment(index, "meanwhile");
            store.commit(&[Change::Experiment(Box::new(record))]).await.expect("it is stored");
        }
    };
    tokio::join!(futures::future::join_all(sending), driver);
    store.close().await;
    let again = Sqlite::open(&place).await.expect("it opens again");
    for (worker, attempt) in workers {
        let expected: Vec<_> = (1..=20).flat_map(|epoch| (0..200).map(move |step| (epoch, step))).collect();
        assert_eq!(steps(&again, attempt).await, expected);
        assert_eq!(again.last_sequence(worker).await.expect("it is read"), 20);
    }
}

/// Readers that overlap, so that at every moment one reads: SQLite alone would never begin its log anew.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_stays_bounded_while_workers_send_and_readers_never_pause() {
    let folder = TempDir::new().expect("a folder");
    let place = folder.path().join("c.db");
    let store = Arc::new(Sqlite::open(&place).await.expect("it opens"));
    let workers = workers(&store, 4).await;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(10 * reader)).await;
                while !done.load(Ordering::Relaxed) {
                    let mut reading = store.reading().await.expect("there is one left");
                    sqlx::query("SELECT count(*) FROM workers").fetch_one(&mut *reading).await.expect("it is read");
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            })
        })
        .collect();
    let watch = {
        let (place, done) = (place.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut longest = 0;
            while !done.load(Ordering::Relaxed) {
                longest = longest.max(writer::log_bytes(&place));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            longest
        })
    };
    let line = "x".repeat(40_000);
    let sending = workers.iter().map(async |&(worker, attempt)| {
        for sequence in 1..=800 {
            let log = Observed { sequence: 2 * sequence, attempt, what: Observation::Log(vec![line.clone()]) };
            store.append(worker, vec![losses(attempt, 2 * sequence - 1, &[0.5; 50]), log]).await.expect("it is stored");
        }
    });
    futures::future::join_all(sending).await;
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("it reads");
    }
    let longest = watch.await.expect("it watches");
    let database = fs::metadata(&place).expect("it is there").len();
    assert!(database > 7 * writer::LONG, "the database has {database} bytes");
    // Where readers that a loaded machine holds up keep the log from being folded back, it is tried again after as much again.
    assert!(longest < 5 * writer::LONG, "the log had {longest} bytes beside a database of {database}");
}
