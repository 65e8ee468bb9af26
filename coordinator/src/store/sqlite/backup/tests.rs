//! Backups while the database is used, what they hold, and what is refused.

use std::os::unix::fs::FileExt as _;

use tempfile::TempDir;

use super::*;
use crate::store::{Change, Sqlite, Store as _, contract, contract::story};

/// A folder with a database that tells the story, and the store that has it open.
async fn database() -> (TempDir, PathBuf, Sqlite) {
    let folder = TempDir::new().expect("a folder");
    let place = folder.path().join("c.db");
    let store = Sqlite::open(&place).await.expect("it opens");
    story::tell(&store, i64::MAX).await;
    (folder, place, store)
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_of_a_database_in_use_is_restored_as_it_was() {
    let (folder, place, store) = database().await;
    let to = folder.path().join("backup");
    let made = backup(&place, &to, false).await.expect("it is written");
    let Contents { experiments, segments, epochs, last_commit, migration } = made.contents;
    assert_eq!((experiments, segments, epochs, migration), (2, 6, 1, MIGRATOR.iter().count() as i64));
    assert!(last_commit.is_some() && made.bytes == fs::metadata(&to).expect("it is there").len());
    let again = backup(&place, &to, false).await.expect_err("it is there");
    assert!(matches!(again, Error::Exists { .. }), "{again}");
    assert_eq!(backup(&place, &to, true).await.expect("it is replaced"), made);

    let expected = (store.snapshot().await.expect("it is read"), store.experiments().await.expect("they are read"));
    let elsewhere = folder.path().join("new/folder/d.db");
    let restored = restore(&to, &elsewhere, false).await.expect("nothing is there");
    assert_eq!(restored, Restored { backup: made, replaced: None });
    let other = Sqlite::open(&elsewhere).await.expect("it opens");
    let found = (other.snapshot().await.expect("it is read"), other.experiments().await.expect("they are read"));
    assert_eq!(found, expected);
    assert_eq!(names(&folder), ["backup", "c.db", "c.db-shm", "c.db-wal", "c.db.lock", "new"], "nothing lies about");
}

#[tokio::test]
async fn a_backup_never_takes_the_place_of_a_database_that_is_used() {
    let (folder, place, store) = database().await;
    let other = folder.path().join("other.db");
    let open = Sqlite::open(&other).await.expect("it opens");
    for to in [&place, &other] {
        let refused = backup(&place, to, true).await.expect_err("a coordinator uses it");
        assert!(matches!(&refused, Error::InUse { place } if place == to), "{refused}");
    }
    open.close().await;
    store.close().await;
    assert_eq!(Sqlite::open(&place).await.expect("it is whole").experiments().await.expect("they are read").len(), 2);
}

#[tokio::test]
async fn a_backup_is_one_state_while_a_coordinator_writes() {
    let (folder, place, store) = database().await;
    let writing = async {
        for index in 10..200 {
            let record = contract::experiment(index, "more");
            store.commit(&[Change::Experiment(Box::new(record))]).await.expect("it is stored");
        }
    };
    let backing_up = async {
        let mut before = 0;
        for round in 0..5 {
            let to = folder.path().join(format!("backup-{round}"));
            let made = backup(&place, &to, false).await.expect("it is written").contents;
            assert!(made.experiments >= before && made.segments == 6, "{made:?}");
            before = made.experiments;
        }
    };
    tokio::join!(writing, backing_up);
    assert_eq!(store.experiments().await.expect("they are read").len(), 192);
}

#[tokio::test]
async fn what_a_backup_takes_the_place_of_is_kept_and_told() {
    let (folder, place, store) = database().await;
    let to = folder.path().join("backup");
    backup(&place, &to, false).await.expect("it is written");
    let late = contract::experiment(9, "late");
    store.commit(&[Change::Experiment(Box::new(late.clone()))]).await.expect("it is stored");
    let used = restore(&to, &place, true).await.expect_err("it is in use, and force is not meant for that");
    assert!(matches!(used, Error::Store(store::Error::InUse { .. })), "{used}");
    // As after a kill: what was committed last is in the log alone.
    let unfolded = ["", "-wal"].map(|ending| fs::read(beside(&place, ending)).expect("it is there"));
    store.close().await;
    for (ending, bytes) in ["", "-wal"].into_iter().zip(unfolded) {
        fs::write(beside(&place, ending), bytes).expect("it is written");
    }
    let there = restore(&to, &place, false).await.expect_err("it is there");
    assert!(matches!(there, Error::Exists { .. }), "{there}");

    let replaced = restore(&to, &place, true).await.expect("nobody uses it").replaced.expect("it was there");
    assert_eq!(replaced.lost, Some(Lost { experiments: vec![late.id], ..Lost::default() }));
    let restored = Sqlite::open(&place).await.expect("it opens");
    restored.find_experiment("late").await.expect_err("it came after the backup");
    let kept = Sqlite::open(&replaced.kept).await.expect("it opens");
    assert_eq!(kept.find_experiment("late").await.expect("it is there, though it was only in the log"), late);
    for store in [restored, kept] {
        store.close().await;
    }
    let second = restore(&to, &place, true).await.expect("nobody uses it").replaced.expect("it was there");
    assert_eq!(second.kept, folder.path().join("c.db.replaced-2"));

    fs::write(&place, "no database").expect("it is written");
    let third = restore(&to, &place, true).await.expect("what is damaged is what backups are for");
    assert_eq!(third.replaced.expect("it was there").lost, None);
}

#[tokio::test]
async fn what_is_no_backup_is_refused_by_name() {
    let (folder, place, store) = database().await;
    let target = folder.path().join("d.db");
    let of_its_own = restore(&place, &target, false).await.expect_err("it is a database in use");
    assert!(of_its_own.to_string().contains("a log lies beside it"), "{of_its_own}");
    store.close().await;
    let closed = restore(&place, &target, false).await.expect_err("it has no seal");
    assert!(matches!(closed, Error::NoBackup { .. }) && closed.to_string().contains("no seal"), "{closed}");
    let text = folder.path().join("notes.txt");
    fs::write(&text, "not a database, but long enough to look like one ".repeat(10)).expect("it is written");
    for (place, what) in [(text.clone(), "no SQLite file"), (folder.path().join("none"), "no file")] {
        let error = restore(&place, &target, false).await.expect_err("it is no backup");
        assert!(error.to_string().contains(what), "{error}");
    }
    let missing = backup(&folder.path().join("none"), &target, false).await.expect_err("there is none");
    assert!(matches!(missing, Error::Missing { .. }), "{missing}");
    let foreign = backup(&text, &target, false).await.expect_err("it is no database");
    assert!(matches!(foreign, Error::Foreign { .. }), "{foreign}");
    let nowhere = folder.path().join("no/folder/backup");
    let unwritable = backup(&place, &nowhere, false).await.expect_err("there is no such folder");
    assert!(matches!(unwritable, Error::Io { .. }) && unwritable.to_string().contains("no/folder"), "{unwritable}");
    assert!(!target.exists() && !beside(&target, ".partial").exists());
}

#[tokio::test]
async fn a_backup_of_a_newer_version_is_left_alone() {
    let (folder, place, store) = database().await;
    let future = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', TRUE, x'00', 0)";
    query(future).execute(&store_writer(&store)).await.expect("it is written");
    store.close().await;
    let to = folder.path().join("backup");
    let newer = backup(&place, &to, false).await.expect_err("it is newer");
    assert!(matches!(newer, Error::Store(store::Error::Newer { migration: 9999, .. })), "{newer}");
    let mut connection = open(&place, false).await.expect("it opens");
    query("VACUUM INTO ?").bind(to.display().to_string()).execute(&mut connection).await.expect("it is written");
    seal::seal(&to).expect("it is a file");
    let newer = restore(&to, &folder.path().join("d.db"), false).await.expect_err("it is newer");
    assert!(matches!(newer, Error::Store(store::Error::Newer { migration: 9999, .. })), "{newer}");
}

fn store_writer(store: &Sqlite) -> sqlx::SqlitePool {
    store.writer.pool.clone()
}

/// Every byte of the header, and bytes of every page; every length near the ends of pages.
#[tokio::test]
async fn a_damaged_or_cut_backup_is_never_restored() {
    let (folder, place, store) = database().await;
    let to = folder.path().join("backup");
    let bytes = backup(&place, &to, false).await.expect("it is written").bytes;
    store.close().await;
    let target = folder.path().join("d.db");
    let file = File::options().read(true).write(true).open(&to).expect("it is there");
    let refused = async |what: String| match restore(&to, &target, false).await {
        Err(Error::NoBackup { .. } | Error::Damaged { .. }) if !target.exists() => {}
        other => panic!("{what}: {other:?}"),
    };
    for at in (0..100).chain((100..bytes).step_by(97)) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("it is that long");
        for other in [byte[0] ^ 1, !byte[0]] {
            file.write_all_at(&[other], at).expect("it is written");
            refused(format!("byte {at} was {} and is {other}", byte[0])).await;
        }
        file.write_all_at(&byte, at).expect("it is written");
    }
    let whole = fs::read(&to).expect("it is there");
    for length in (0..bytes).step_by(4096).flat_map(|end| [end, end + 1, end + 4095]).filter(|length| *length < bytes) {
        file.set_len(length).expect("it is cut");
        refused(format!("{length} of {bytes} bytes")).await;
        fs::write(&to, &whole).expect("it is written");
    }
    fs::write(&to, [&whole[..], b"more"].concat()).expect("it is written");
    refused("something follows".to_owned()).await;
    fs::write(&to, &whole).expect("it is written");
    restore(&to, &target, false).await.expect("it is whole again");
}
