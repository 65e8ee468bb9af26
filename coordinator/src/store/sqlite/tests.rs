//! The contract on SQLite, and what is SQLite's own.

use std::fs;

use tempfile::TempDir;

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

contract! {
    what_is_committed_is_restored,
    the_last_step_is_restored_until_its_epoch_is_committed,
    what_is_trained_again_takes_the_place_of_what_is_damaged,
    every_state_is_stored,
    a_commit_is_all_or_nothing,
    a_pause_is_stored_until_its_end,
    an_epoch_is_read_once,
    what_is_trained_counts_for_another_experiment,
    sequences_only_grow,
    logs_are_read_in_order_from_a_cursor,
    experiments_and_runs_are_found,
    a_name_means_one_thing_for_ever,
    every_character_is_taken,
}

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
    sqlx::query(future).execute(&store.writer).await.expect("it is written");
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
