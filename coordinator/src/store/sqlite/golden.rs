//! Databases of every schema there was, as text, and that today's program still makes sense of them.
//!
//! `golden/NNNN.sql` is a small database right after migration NNNN: what [`story`] tells, in the tables of then, with the
//! record of the migrations that made them. It is never changed, except that nothing in it may be what that version
//! could not write. A new migration needs a new one: run the tests with `CETERIS_GOLDEN=write`, which writes those that are
//! missing, and look at it before it is committed. Those of migrations 1 to 6 were made so too, after the fact, with
//! what specs and plans had not yet taken out.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use ceteris_scheduler::{Config, Scheduler, State, Timestamp};
use ceteris_shared::dataset::Split;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection, query, query_scalar};
use tempfile::TempDir;
use uuid::Uuid;

use super::{backup::MIGRATOR, *};
use crate::store::contract::story;

fn file(version: i64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/store/sqlite/golden/{version:04}.sql"))
}

fn versions() -> impl Iterator<Item = i64> {
    MIGRATOR.iter().map(|migration| migration.version)
}

async fn connect(place: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(place).create_if_missing(true).foreign_keys(false);
    SqliteConnection::connect_with(&options).await.expect("it opens")
}

async fn texts(connection: &mut SqliteConnection, select: String) -> Vec<String> {
    query_scalar(AssertSqlSafe(select)).fetch_all(connection).await.expect("it is read")
}

async fn execute(connection: &mut SqliteConnection, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.expect("it is valid");
}

#[tokio::test]
async fn every_schema_there_was_is_migrated_and_makes_sense() {
    for version in versions() {
        let folder = TempDir::new().expect("a folder");
        let place = folder.path().join("golden.db");
        if !file(version).exists() && env::var_os("CETERIS_GOLDEN").is_some_and(|wish| wish == "write") {
            fs::write(file(version), write(version).await).expect("it is written");
        }
        let golden = fs::read_to_string(file(version)).unwrap_or_else(|error| {
            panic!("migration {version} has no golden database ({error}): run this with CETERIS_GOLDEN=write")
        });
        let mut connection = connect(&place).await;
        execute(&mut connection, golden).await;
        let last = texts(&mut connection, "SELECT max(version) || '' FROM _sqlx_migrations".to_owned()).await;
        assert_eq!(last, [version.to_string()]);
        connection.close().await.expect("it closes");

        let store = Sqlite::open(&place).await.unwrap_or_else(|error| panic!("schema {version}: {error}"));
        check(&store, version).await;
        store.close().await;
        // A database of any schema can be backed up by this program, before it is migrated and after.
        let old = folder.path().join("old.db");
        let mut connection = connect(&old).await;
        execute(&mut connection, fs::read_to_string(file(version)).expect("it is there")).await;
        connection.close().await.expect("it closes");
        for database in [old, place] {
            let to = folder.path().join("backup");
            let backup = backup::backup(&database, &to, true).await.expect("it is written");
            assert_eq!((backup.contents.experiments, backup.contents.epochs), (if version < 3 { 1 } else { 2 }, 1));
        }
    }
}

/// That everything the story tells is read.
async fn check(store: &Sqlite, version: i64) {
    let snapshot = store.snapshot().await.expect("it is read");
    assert_eq!(snapshot.collected, if version < 6 { vec![] } else { vec![story::collected()] }, "{version}");
    assert_eq!(snapshot.damaged.len(), usize::from(version >= 5), "{version}");
    let root = &snapshot.experiments[0].segments[0];
    assert_eq!((root.attempts, root.committed.len(), root.committed[0].replayed), (2, 1, version >= 5), "{version}");
    let steps = snapshot.experiments[0].segments.iter().filter_map(|segment| segment.step.clone()).count();
    assert_eq!(steps, usize::from(version >= 2), "{version}");
    let restored = Scheduler::restore(Config::default(), Timestamp(1_000_000), snapshot).expect("it is consistent");
    restored.check_invariants().expect("they hold");

    let record = store.find_experiment(story::EXPERIMENT).await.expect("it is there");
    assert_eq!(
        (record.plan.runs.len(), record.plan.arms.len(), record.environment.is_some()),
        (2, 2, true),
        "{version}"
    );
    let segments = store.segments(record.id).await.expect("they are read");
    let ids: Vec<_> = segments.iter().map(|segment| segment.id).collect();
    assert_eq!(ids, record.plan.segments.iter().map(|segment| segment.id).collect::<Vec<_>>(), "{version}");
    let epoch = &segments[0].committed[0];
    assert_eq!((epoch.epoch, epoch.key), (Epoch(1), record.plan.segments[0].work.epochs[0].key));
    assert_eq!((epoch.attempt, epoch.spent.steps, epoch.predictions.len()), (2, 3, 2), "{version}");
    assert_eq!(epoch.weights.is_some(), version >= 5, "{version}");
    check_observed(store, &ids, version).await;

    assert_eq!(store.last_sequence(WorkerId(Uuid::from_u128(50))).await.expect("it is read"), 3);
    assert_eq!(store.workers().await.expect("they are read")[0].name, "w");
    assert_eq!(store.find_dataset("d").await.expect("it is there").patients, Some(5));
    store.find_weights("imagenet").await.expect("they are there");
    if version >= 3 {
        let another = store.find_experiment(story::ANOTHER).await.expect("it is there");
        assert_eq!(another.paused_at.is_some(), version >= 4, "{version}");
        let own = &store.segments(another.id).await.expect("they are read")[0];
        assert_eq!((own.reused().count(), own.attempts.len()), (1, 0), "{version}");
        assert!(matches!(own.state, State::Done(_)), "{version}");
    }
}

async fn check_observed(store: &Sqlite, segments: &[SegmentId], version: i64) {
    let query = |uncommitted| SeriesQuery { segments: segments.to_vec(), names: vec![], uncommitted };
    let read = async |uncommitted| -> Vec<_> {
        let points = store.series(&query(uncommitted)).await.expect("they are read");
        let told = |found: SeriesPoint| (found.point.split, found.point.name, found.point.step, found.point.value);
        points.into_iter().map(told).collect()
    };
    let owned = |(split, name, step, value): (Split, &str, u32, f64)| (split, name.to_owned(), step, value);
    let committed: Vec<_> = story::VALUES.into_iter().map(owned).collect();
    assert_eq!(read(false).await, committed, "{version}");
    assert_eq!(read(true).await, [&committed[..], &[owned(story::LATER)]].concat(), "{version}");
    let logs = store.logs(segments, 0, 10).await.expect("they are read");
    assert_eq!((logs.len(), &logs[0].lines[..]), (1, &story::LOG.map(str::to_owned)[..]), "{version}");
}

/// Tells the story to today's store, and puts what that version knew of it into the tables of then.
async fn write(version: i64) -> String {
    let folder = TempDir::new().expect("a folder");
    let today = folder.path().join("today.db");
    let store = Sqlite::open(&today).await.expect("it opens");
    story::tell(&store, version).await;
    store.close().await;
    let mut connection = connect(&folder.path().join("then.db")).await;
    MIGRATOR.run_to(version, &mut connection).await.expect("they are applied");
    execute(&mut connection, format!("ATTACH '{}' AS today", today.display())).await;
    for table in tables(&mut connection).await {
        if table == "_sqlx_migrations" {
            continue;
        }
        if table == "metrics" {
            let measured = "INSERT INTO metrics SELECT attempt, split, name, epoch, step, value \
                 FROM today.points JOIN today.series ON series.id = points.series ORDER BY 1, 2, 3, 4, 5";
            execute(&mut connection, measured.to_owned()).await;
            continue;
        }
        let then = columns(&mut connection, "main", &table).await;
        let now = columns(&mut connection, "today", &table).await;
        let shared: Vec<_> = then.into_iter().filter(|column| now.contains(column)).collect();
        let shared = shared.join(", ");
        let copy = format!("INSERT INTO main.{table} ({shared}) SELECT {shared} FROM today.{table} ORDER BY rowid");
        // Tables without a rowid are ordered by their key.
        let copy = if table == "points" { copy.replace(" ORDER BY rowid", "") } else { copy };
        execute(&mut connection, copy).await;
    }
    if version < 5 {
        // Specs did not say yet where they may be trained.
        let older = "UPDATE experiments SET spec = json_remove(spec, '$.controls.environment')".to_owned();
        execute(&mut connection, older).await;
    }
    let applied = "UPDATE _sqlx_migrations SET installed_on = '2026-01-01 00:00:00', execution_time = 0".to_owned();
    execute(&mut connection, applied).await;
    dump(&mut connection).await
}

async fn tables(connection: &mut SqliteConnection) -> Vec<String> {
    let select = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
    texts(connection, select.to_owned()).await
}

async fn columns(connection: &mut SqliteConnection, of: &str, table: &str) -> Vec<String> {
    texts(connection, format!("SELECT name FROM pragma_table_info('{table}', '{of}') ORDER BY cid")).await
}

/// Every table with its rows, and then what is made of tables, as statements.
async fn dump(connection: &mut SqliteConnection) -> String {
    let mut text = String::new();
    for table in tables(connection).await {
        let select = format!("SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = '{table}'");
        text += &format!("{};\n", texts(connection, select).await.concat());
        let quoted: Vec<_> =
            columns(connection, "main", &table).await.iter().map(|column| format!("quote({column})")).collect();
        let select = format!("SELECT {} FROM main.{table}", quoted.join(", "));
        for row in query(AssertSqlSafe(select)).fetch_all(&mut *connection).await.expect("they are read") {
            let values: Vec<String> = (0..quoted.len()).map(|index| row.get(index)).collect();
            text += &format!("INSERT INTO {table} VALUES ({});\n", values.join(", "));
        }
    }
    let others = "SELECT sql FROM main.sqlite_schema WHERE type <> 'table' AND sql IS NOT NULL ORDER BY rowid";
    for sql in texts(connection, others.to_owned()).await {
        text += &format!("{sql};\n");
    }
    text
}
